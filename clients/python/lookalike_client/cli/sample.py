"""`sample`: draw a catalogue to try things with."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike_client.cli.session import CommandFailed, Session, pass_session


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=7, show_default=True, help="Another seed draws the same products differently.")
@pass_session
def sample(session: Session, folder: Path, seed: int) -> None:
    """Draw a sample catalogue, CSV and pictures, into FOLDER."""
    try:
        # here and not above: it needs Pillow, which nothing else does
        from lookalike_client.sample import write_sample
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise CommandFailed(
            "drawing pictures needs Pillow, which is not installed: pip install 'lookalike-client[sample]'"
        ) from error
    try:
        count = write_sample(folder, seed=seed)
    except OSError as error:
        raise CommandFailed(str(error)) from error
    catalog = folder / "catalog.csv"
    if session.as_json:
        session.print_json({"catalog": str(catalog), "products": count})
    else:
        session.out.print(f"{count} products in {catalog}", soft_wrap=True)
