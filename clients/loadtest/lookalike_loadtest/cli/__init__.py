"""The `lookalike load` command."""
