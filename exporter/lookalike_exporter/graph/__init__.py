"""Second stage: one ONNX graph from pixels to embedding."""
