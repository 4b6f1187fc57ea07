"""`lookalike-server doctor`: checks a machine before it serves, and says what to do.

Each check is a function from what it is given to one `Finding`; `checks` calls them with the settings and the machine.
"""
