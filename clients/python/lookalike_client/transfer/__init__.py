"""Imports from and exports to files."""
