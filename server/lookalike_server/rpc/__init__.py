"""gRPC: an adapter over the engine, which does not know that RPC exists."""
