"""Lookalike's server: batched image embeddings and nearest products by category, over gRPC."""

__version__ = "0.1.0"
