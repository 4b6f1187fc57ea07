"""First stage: build or load a Keras network with its weights."""
