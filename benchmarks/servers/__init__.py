"""What is measured: one file per system, each of which can be started, reached and stopped."""
