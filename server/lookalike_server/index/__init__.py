"""Nearest products by category, in memory: a cache of the store."""
