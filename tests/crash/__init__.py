"""What the catalog holds after the server died at any moment."""
