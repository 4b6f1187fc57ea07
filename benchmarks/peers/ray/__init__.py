"""Ray Serve: its gRPC ingress and its `@serve.batch`."""
