"""PyTriton: Triton Inference Server with a Python function as its model."""
