"""The gallery: a page that shows what a Lookalike server answers. It knows the server through its client only."""
