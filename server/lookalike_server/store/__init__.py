"""The durable catalogue: the truth that every index is a cache of."""
