"""The unmodified client of Triton's users, in an environment of its own."""
