"""From an image to its embedding: decode, batch, run."""
