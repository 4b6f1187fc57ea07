"""gRPC: an adapter to the engine, which knows nothing of RPCs."""
