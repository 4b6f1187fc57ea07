"""A sample catalog drawn by our own code: a few hundred products of a shop that does not exist.

It gives a new user something to search, and tests something to judge, without downloading anybody's images.
The same seed gives the same CSV bytes and, under one version of Pillow, the same image bytes.
"""

from tools.sample_catalog.writer import COLUMNS, write_sample

__all__ = ["COLUMNS", "write_sample"]
