"""What is measured and how it is judged: one module for each kind of scenario."""
