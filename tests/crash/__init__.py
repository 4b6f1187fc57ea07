"""What the catalogue holds after the server died at any moment."""
