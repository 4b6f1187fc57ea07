"""The durable catalog: the truth that every index is a cache of."""
