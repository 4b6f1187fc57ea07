"""`python -m tools.sample_catalog FOLDER [--seed N]`: draw the sample catalog, CSV and images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.sample_catalog import write_sample


def main() -> int:
    """Draw it; exit status 1 where FOLDER cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m tools.sample_catalog", description="Draw a sample catalog.")
    parser.add_argument("folder", type=Path, help="where catalog.csv and images/ go; created if missing")
    parser.add_argument("--seed", type=int, default=7, help="another seed draws the same products differently")
    options = parser.parse_args()
    try:
        count = write_sample(options.folder, seed=options.seed)
    except OSError as error:
        print(f"sample_catalog: {error}", file=sys.stderr)
        return 1
    print(f"{count} products in {options.folder / 'catalog.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
