"""A soak: servers under mixed load for long, and the judge of whether they keep something of each call."""
