"""The gallery: a web page for a Lookalike server, which it calls through the Python client only."""
