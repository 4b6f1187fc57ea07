"""The server itself: `model` and `wait`."""

from __future__ import annotations

import click

from lookalike_client.cli.session import Session, pass_session, printable, table
from lookalike_client.types import BatchProfile


@click.command()
@pass_session
def model(session: Session) -> None:
    """Print which model answers, and how fast it was at start-up."""
    with session.client() as client:
        found = client.model()
    if session.as_json:
        session.print_json(found)
        return
    lines = {
        "name": found.name,
        "backbone": found.backbone,
        "weights": found.weights,
        "input": f"{found.input_width} x {found.input_height} pixels, {found.resize}",
        "pooling": found.pooling,
        "embedding": f"{found.dim} numbers, {found.metric} distance",
        "precision": found.precision,
        "provider": found.provider,
        "digest": found.digest,
        "batches": ", ".join(map(_profile_line, found.batch_profiles)),
    }
    rows = table("", "")
    rows.show_header = False
    for name, value in lines.items():
        rows.add_row(name, printable(value))
    session.out.print(rows)
    if found.is_random:
        warn_of_random_weights(session, found.weights)


def _profile_line(profile: BatchProfile) -> str:
    side_by_side = f" ({profile.concurrency} at once)" if profile.concurrency > 1 else ""
    return f"{profile.batch_size} in {profile.latency_ms:.1f} ms{side_by_side}"


def warn_of_random_weights(session: Session, weights: str) -> None:
    """Say loudly that the answers mean nothing."""
    session.err.print(
        f"WARNING: this model's weights are {printable(weights)}: nobody trained it, and its answers mean nothing.",
        style="bold red",
        soft_wrap=True,
    )


@click.command()
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="How long to wait at most.",
)
@pass_session
def wait(session: Session, timeout: float) -> None:
    """Wait until the server is ready to answer."""
    with session.client() as client:
        client.wait_until_ready(timeout)
    if session.as_json:
        session.print_json({"server": session.server, "ready": True})
    else:
        session.out.print(f"{session.server} is ready")
