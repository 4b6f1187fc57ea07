"""The contents of the catalog after the server crashed at any moment."""
