"""Runs `lookalike load`: preparation, load with progress, report, also after Ctrl-C."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click

from lookalike_client.cli.interrupt import on_interrupt
from lookalike_client.cli.server import warn_of_random_weights
from lookalike_client.cli.session import INTERRUPTED, CommandFailed, Session, printable
from lookalike_loadtest.cli.print_summary import print_summary
from lookalike_loadtest.cli.progress import LoadProgress
from lookalike_loadtest.plan import Arrivals, Kind, Phase, Shares
from lookalike_loadtest.report import Outcome, Report, make_report
from lookalike_loadtest.runs import CapacityGoal, LoadRunner
from lookalike_loadtest.transports import GrpcOverTls, GrpcTransport
from lookalike_loadtest.worker_messages import WorkerConfig
from lookalike_loadtest.worker_pool import WorkerPool, WorkerPoolError
from lookalike_loadtest.workload import Workload, WorkloadError, WorkloadOptions, prepare_workload

_RATE = 10.0
_DURATION, _WARMUP = 30.0, 5.0
_STEP, _STEP_WARMUP = 10.0, 2.0


@dataclass(frozen=True)
class LoadOptions:
    """The command's options, as `lookalike load --help` describes them; None where they were not given."""

    rate: float | None
    arrivals: Arrivals
    concurrency: int | None
    find_capacity: bool
    p99: float | None
    max_failures: float | None
    budget: float | None
    workload: dict[str, float] | None
    images: Path | None
    max_images: int
    raw: bool
    bust_cache: bool
    vectors: Path | None
    category: str
    all_categories: bool
    k: int
    duration: float | None
    warmup: float | None
    deadline: float
    processes: int
    max_outstanding: int
    seed: int
    out: tuple[Path, ...]
    force: bool

    def workload_options(self) -> WorkloadOptions:
        """Return what to send."""
        shares: Shares | None = None
        if self.workload is not None:
            shares = {Kind(name): share for name, share in self.workload.items()}
        elif self.images is not None:
            shares = {Kind.SEARCH_IMAGE: 1.0}
        return WorkloadOptions(
            shares=shares,
            k=self.k,
            category=self.category,
            all_categories=self.all_categories,
            folder=self.images,
            max_images=self.max_images,
            raw=self.raw,
            bust_cache=self.bust_cache,
            vectors=self.vectors,
            seed=self.seed,
        )

    def phase(self) -> Phase:
        """Return how to send it; in a capacity search, how each rate is tried."""
        seconds, warmup = (_STEP, _STEP_WARMUP) if self.find_capacity else (_DURATION, _WARMUP)
        return Phase(
            seconds=seconds if self.duration is None else self.duration,
            warmup=warmup if self.warmup is None else self.warmup,
            deadline=self.deadline,
            rate=None if self.concurrency else self.rate or _RATE,
            arrivals=self.arrivals,
            concurrency=self.concurrency,
            seed=self.seed,
            max_outstanding=self.max_outstanding,
        )

    def goal(self) -> CapacityGoal | None:
        """Return the goal of a capacity search, if it is one."""
        if not self.find_capacity:
            return None
        assert self.p99 is not None  # noqa: S101 - the command has checked it
        goal = CapacityGoal(self.p99, start=self.rate)
        failed = goal.failed_share if self.max_failures is None else self.max_failures / 100
        return CapacityGoal(self.p99, failed, budget=self.budget or goal.budget, start=self.rate)


class Interrupt:
    """Whether Ctrl-C was pressed; a second one ends the process at once.

    The workers live in sessions of their own, so the terminal does not signal them; they end with this process.
    """

    def __init__(self) -> None:
        self.seen = False

    def __bool__(self) -> bool:
        return self.seen

    def handled(self) -> AbstractContextManager[None]:
        """Handle Ctrl-C until the block ends, unless the process was started with it ignored."""
        return on_interrupt(self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.seen:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.seen = True
        # not through a stream, which may be in the middle of a line of its own
        os.write(2, b"\nno more calls are sent; the report comes soon (Ctrl-C again: stop at once, without it)\n")


def run_load(session: Session, options: LoadOptions) -> None:
    """Run a load test; exit with code 0 where calls were answered, 130 after Ctrl-C, else 1."""
    reject_unwritable(options.out, force=options.force)
    workload_options = options.workload_options()
    try:
        with session.client() as client:
            workload = prepare_workload(client, workload_options)
    except WorkloadError as error:
        raise CommandFailed(printable(str(error))) from error
    _note(session, workload, workload_options)
    interrupt = Interrupt()
    try:
        with interrupt.handled():
            report = _test(session, options, workload_options, workload, interrupt)
            _write(report, options.out)
    except WorkerPoolError as error:
        raise CommandFailed(str(error)) from error
    if session.as_json:
        session.print_json(report)
    else:
        print_summary(session, report)
    for path in options.out:
        session.err.print(f"wrote {path}", soft_wrap=True)
    measured = report["measurement"]
    if interrupt:
        click.get_current_context().exit(INTERRUPTED)
    if report["lost_processes"] or not measured or not measured["answered"]:
        click.get_current_context().exit(1)


def _test(
    session: Session,
    options: LoadOptions,
    workload_options: WorkloadOptions,
    workload: Workload,
    interrupt: Interrupt,
) -> Report:
    # no image carries a number of another test
    connection = session.connection
    config = WorkerConfig(
        connection.server,
        workload.requests(),
        connection.token,
        first_number=secrets.randbits(62),
        transport=GrpcOverTls(connection.tls) if connection.tls else GrpcTransport,
    )
    phase, goal = options.phase(), options.goal()
    started = datetime.now(UTC)
    with WorkerPool(options.processes) as pool, LoadProgress(session.err) as progress:
        pool.connect(config)
        runner = LoadRunner(pool, list(workload.shares), progress.show, lambda: interrupt.seen)
        capacity = runner.find_capacity(phase, goal) if goal else None
        measured = runner.measure(phase) if not capacity else capacity.best.measurement if capacity.best else None
    return make_report(
        Outcome(
            server=session.server,
            options=workload_options,
            workload=workload,
            phase=phase,
            processes=options.processes,
            started=started,
            measurement=measured,
            capacity=capacity,
            lost=pool.lost,
            interrupted=interrupt.seen,
        )
    )


def _note(session: Session, workload: Workload, options: WorkloadOptions) -> None:
    """Print what the user may not expect, before the load."""
    for each in workload.skipped:
        session.err.print(printable(f"{each.name} is skipped: {each.reason}"), soft_wrap=True)
    if options.shares is None and Kind.SEARCH_ID in workload.shares:
        session.err.print(
            "the server stores no images of its products, so the searches are by id (--images sends images)"
        )
    if workload.model.is_random:
        warn_of_random_weights(session, workload.model.weights)


def reject_unwritable(paths: Sequence[Path], *, force: bool) -> None:
    """Reject reports that cannot be written, before the load.

    Raises:
        CommandFailed: One exists, has no folder, or cannot be written.
    """
    for path in paths:
        if path.exists() and not force:
            raise CommandFailed(f"{path} exists; --force overwrites it")
        if not path.parent.is_dir():
            raise CommandFailed(f"{path}: the folder {path.parent} does not exist")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise CommandFailed(f"{path} cannot be written")


def _write(report: Report, paths: Sequence[Path]) -> None:
    for path in paths:
        if path.suffix.lower() == ".html":
            # not at the top: it needs matplotlib, which takes long to import
            from lookalike_loadtest.html_report import render

            text = render(report)
        else:
            text = json.dumps(report, ensure_ascii=False, indent=1)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandFailed(f"{path}: {error.strerror}") from error
