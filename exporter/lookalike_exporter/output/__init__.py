"""Last stage: the model folder and its manifest, written and read."""
