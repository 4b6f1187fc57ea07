"""`image`: write an image of a product to a file."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike_client.cli.session import CommandFailed, Session, pass_session, printable

_STDOUT = "-"


@click.command()
@click.argument("product_id", metavar="ID")
@click.option("--index", type=click.IntRange(0, 7), default=0, show_default=True, help="The image's index, from 0.")
@click.option(
    "--out",
    # not a Path, which would normalize "./-" to "-"
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    required=True,
    help="Where to write it; - for standard output.",
)
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@pass_session
def image(session: Session, product_id: str, index: int, out: str, force: bool) -> None:
    """Write an image of a product to a file, as it was sent."""
    if session.as_json and out == _STDOUT:
        raise click.UsageError("--json and --out - both need standard output.")
    with session.client() as client:
        stored = client.image(product_id, index)
    if out == _STDOUT:
        click.echo(stored.data, nl=False)
    else:
        _write(Path(out), stored.data, force=force)
    session.err.print(printable(f"{stored.media_type}, {len(stored.data):,} bytes"), soft_wrap=True)
    if session.as_json:
        about = {"media_type": stored.media_type, "bytes": len(stored.data), "sha256": stored.sha256}
        session.print_json({"file": out, **about})


def _write(path: Path, data: bytes, *, force: bool) -> None:
    try:
        with path.open("wb" if force else "xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise CommandFailed(f"{path} exists; --force overwrites it") from error
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from error
