"""Peers that misuse HTTP/2 and gRPC, the honest callers beside them, and the memory of a process."""
