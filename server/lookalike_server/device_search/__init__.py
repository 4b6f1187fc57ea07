"""Exact search in a GPU's memory: the rows of large categories in half precision, compared by ONNX Runtime."""
