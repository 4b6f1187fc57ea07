"""Measures the catalog: search, writes, start-up and memory, beside raw HNSW, SQLite alone and other indexes."""
