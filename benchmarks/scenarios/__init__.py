"""What is measured and how it is judged: one file per kind of query."""
