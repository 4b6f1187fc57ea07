"""The peers: each in an environment of its own, made on demand, with a server program of about a page."""
