"""The operations of the server, free of gRPC."""
