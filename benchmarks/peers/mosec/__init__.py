"""mosec: an HTTP front in Rust, workers in Python."""
