"""The server itself: `model` and `wait`."""

from __future__ import annotations

import click

from lookalike_client.cli.session import Session, pass_session, printable, table
from lookalike_client.types import BatchProfile, Model


@click.command()
@pass_session
def model(session: Session) -> None:
    """Print the server's model, and its speed as measured at startup."""
    with session.client() as client:
        served = client.model()
    if session.as_json:
        session.print_json(served)
        return
    lines = [
        ("name", served.name),
        ("backbone", served.backbone),
        ("weights", served.weights),
        ("input", f"{served.input_width} x {served.input_height} pixels, {served.resize}"),
        ("pooling", served.pooling),
        ("embedding", f"{served.dim} dimensions, {served.metric} distance"),
        ("precision", served.precision),
        *_runtime_lines(served),
        ("digest", served.digest),
        ("batches", ", ".join(map(_profile_line, served.batch_profiles))),
    ]
    rows = table("", "")
    rows.show_header = False
    for name, value in lines:
        rows.add_row(name, printable(value))
    session.out.print(rows)
    if served.is_random:
        warn_of_random_weights(session, served.weights)


def _runtime_lines(served: Model) -> list[tuple[str, str]]:
    """Say what runs the model, and what else might have."""
    runtime = served.runtime
    if runtime is None:
        return [("provider", served.provider)]
    lines = [("runtime", f"{runtime.library} in {runtime.precision} ({served.provider})")]
    if parity := runtime.parity:
        compared = f"least cosine {parity.min_cosine:.6f}, overlap@10 {parity.overlap:.3f}"
        lines.append(("parity", f"{compared} with ONNX Runtime"))
    return lines + [("skipped", reason) for reason in runtime.skipped]


def _profile_line(profile: BatchProfile) -> str:
    concurrently = f" ({profile.concurrency} at a time)" if profile.concurrency > 1 else ""
    return f"{profile.batch_size} in {profile.latency_ms:.1f} ms{concurrently}"


def warn_of_random_weights(session: Session, weights: str) -> None:
    """Warn that results are meaningless."""
    session.err.print(
        f"WARNING: this model's weights are {printable(weights)}: it is not trained, and its results are meaningless.",
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
    help="How long to wait.",
)
@pass_session
def wait(session: Session, timeout: float) -> None:
    """Wait until the server is ready."""
    with session.client() as client:
        client.wait_until_ready(timeout)
    if session.as_json:
        session.print_json({"server": session.server, "ready": True})
    else:
        session.out.print(f"{session.server} is ready")
