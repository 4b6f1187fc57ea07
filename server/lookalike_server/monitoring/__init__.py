"""What monitoring systems ask over HTTP: the metrics, whether the process lives, and whether it serves."""
