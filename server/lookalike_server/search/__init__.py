"""Searches: queries are coalesced, resolved by the store and the index, and postprocessed into results."""
