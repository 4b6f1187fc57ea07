"""A sample catalogue drawn by our own code: a few hundred products of a shop that does not exist.

It gives a new user something to search, and tests something to judge, without downloading anybody's photos.
The same seed gives the same CSV bytes and, under one version of Pillow, the same picture bytes.
"""

from lookalike_client.sample.writer import COLUMNS, write_sample

__all__ = ["COLUMNS", "write_sample"]
