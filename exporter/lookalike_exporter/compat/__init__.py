"""Patches of other people's code, each with the version it is for."""
