"""The server on a GPU: measured unattended, without a network, and within a given time."""
