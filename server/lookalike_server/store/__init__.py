"""The durable catalog, of which every index is a cache."""
