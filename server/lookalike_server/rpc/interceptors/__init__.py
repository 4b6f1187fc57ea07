"""What happens around every call; `calls` has the order."""
