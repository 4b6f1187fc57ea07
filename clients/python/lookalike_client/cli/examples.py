"""The examples at the end of each command's `--help`."""

from __future__ import annotations

PROGRAM = (
    (
        "A server elsewhere, with TLS and a key:",
        "lookalike --server search.example:50051 --token-file token --tls model",
    ),
    ("What a command can do:", "lookalike wait --help"),
)

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "wait": (("Before a script goes on:", "lookalike wait --timeout 60"),),
    "import": (
        ("The products of a CSV, from their images:", "lookalike import catalog.csv"),
        (
            "Only what is new or changed, and without what the file no longer has:",
            "lookalike import catalog.csv --changed-only --delete-missing --yes",
        ),
        (
            "Vectors that were computed elsewhere:",
            "lookalike import --vectors vectors.npy --ids ids.npy --category Men",
        ),
    ),
    "quickstart": (("Import a catalog, and ask one example:", "lookalike quickstart --catalog catalog.csv"),),
    "search": (
        (
            "Seven products of a category that look like an image:",
            "lookalike search --image shoe.jpg --category Men -k 7",
        ),
        (
            "Red or blue ones up to a price, in every category, that look like a product:",
            "lookalike search --id S0001 --all-categories --where 'color=red|blue' --where 'price<=50'",
        ),
        (
            "The left half of the image, and the best product of each color:",
            "lookalike search --image shoe.jpg --region 0,0,0.5,1 --category Men --group-by color",
        ),
    ),
    "embed": (
        ("Print the first values:", "lookalike embed shoe.jpg"),
        ("Save an embedding, which `search --vector` reads:", "lookalike embed shoe.jpg --out vector.npy"),
    ),
    "export": (
        ("The whole catalog as NumPy arrays and a CSV:", "lookalike export --out exported"),
        ("One category as a Parquet file:", "lookalike export --category Men --out men.parquet"),
    ),
    "get": (("A product, for a script:", "lookalike --json get S0001"),),
    "image": (("The first image of a product, as it was sent:", "lookalike image S0001 --out S0001.jpg"),),
    "update": (("Set an attribute and remove another:", "lookalike update S0001 sale=yes --clear pattern"),),
    "categories": (("Categories, their products and their attributes:", "lookalike categories"),),
    "model": (("What the server runs, for a script:", "lookalike --json model"),),
    "delete": (("Delete two products:", "lookalike delete S0001 S0002"),),
    "load": (
        ("Ten searches a second for half a minute:", "lookalike load --rate 10 --duration 30"),
        (
            "The highest rate at which 99 of 100 answers take at most 50 ms, with a report:",
            "lookalike load --find-capacity --p99 50ms --out report.html",
        ),
    ),
}
"""By command: what it is for, and the command line. A test runs them in this order."""


def epilog(command: str | None = None) -> str | None:
    """Return the end of a command's help, of the whole program without one; None where there are no examples."""
    examples = EXAMPLES.get(command, ()) if command else PROGRAM
    lines = [f"  {what}\n    {line}" for what, line in examples]
    return "\n".join(["\b", "Examples:", *lines]) if lines else None
