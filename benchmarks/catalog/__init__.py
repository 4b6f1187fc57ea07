"""Measures the catalog: searching, writing, starting and memory, beside raw HNSW, SQLite alone and other indexes."""
