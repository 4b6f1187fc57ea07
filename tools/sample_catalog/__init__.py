"""A sample catalog drawn by our own code: a few hundred products of a shop that does not exist.

It gives new users something to search, and tests something to check, without downloading images.
The same seed gives the same CSV bytes and, under one version of Pillow, the same image bytes.
"""

from tools.sample_catalog.writer import COLUMNS, write_sample

__all__ = ["COLUMNS", "write_sample"]
