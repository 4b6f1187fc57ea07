"""`python -m tools.sample_catalog FOLDER`: draw the sample catalog, CSV and images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.sample_catalog import write_sample


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the catalog, and return the exit status: 1 if the folder cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m tools.sample_catalog", description="Draw a sample catalog.")
    parser.add_argument("folder", type=Path, help="the folder for catalog.csv and images/; created if missing")
    parser.add_argument("--seed", type=int, default=7, help="another seed draws the same products differently")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier sample catalog")
    options = parser.parse_args(arguments)
    try:
        count = write_sample(options.folder, seed=options.seed, overwrite=options.overwrite)
    except OSError as error:
        print(f"sample_catalog: {error}", file=sys.stderr)
        return 1
    print(f"{count} products in {options.folder / 'catalog.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
