"""From a photo to its embedding: decode, batch, run."""
