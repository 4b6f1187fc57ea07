"""Runs a load test from the shell: set-up, load with progress, report, also after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click

from lookalike_client.cli.server import warn_of_random_weights
from lookalike_client.cli.session import INTERRUPTED, CommandFailed, Session, printable
from lookalike_loadtest.cli.print_summary import print_summary
from lookalike_loadtest.cli.progress import LoadProgress
from lookalike_loadtest.html_report import render
from lookalike_loadtest.plan import Arrivals, Kind, Mix, Phase
from lookalike_loadtest.report import Outcome, Report, report_of
from lookalike_loadtest.requests import stock_of
from lookalike_loadtest.runs import Goal, Tester
from lookalike_loadtest.worker_pool import Crew, CrewError
from lookalike_loadtest.workload import Supplies, SupplyError, Wish, gather

_RATE = 10.0
_DURATION, _WARMUP = 30.0, 5.0
_STEP, _STEP_WARMUP = 10.0, 2.0


@dataclass(frozen=True)
class LoadOptions:
    """The command's options, as `lookalike load --help` describes them; None where they were not given."""

    rate: float | None
    arrivals: Arrivals
    callers: int | None
    ramp: bool
    p99: float | None
    max_failures: float | None
    budget: float | None
    mix: dict[str, float] | None
    images: Path | None
    max_images: int
    raw: bool
    unique: bool
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

    def wish(self) -> Wish:
        """What is to be asked."""
        mix: Mix | None = None if self.mix is None else {Kind(name): share for name, share in self.mix.items()}
        if mix is None and self.images is not None:
            mix = {Kind.SEARCH_IMAGE: 1.0}
        return Wish(
            mix=mix,
            k=self.k,
            category=self.category,
            all_categories=self.all_categories,
            folder=self.images,
            max_images=self.max_images,
            raw=self.raw,
            unique=self.unique,
            vectors=self.vectors,
            seed=self.seed,
        )

    def phase(self) -> Phase:
        """How it is sent; of a ramp, how each rate is tried."""
        seconds, warmup = (_STEP, _STEP_WARMUP) if self.ramp else (_DURATION, _WARMUP)
        return Phase(
            seconds=seconds if self.duration is None else self.duration,
            warmup=warmup if self.warmup is None else self.warmup,
            deadline=self.deadline,
            rate=None if self.callers else self.rate or _RATE,
            arrivals=self.arrivals,
            callers=self.callers,
            seed=self.seed,
            max_outstanding=self.max_outstanding,
        )

    def goal(self) -> Goal | None:
        """What a ramp keeps to."""
        if not self.ramp:
            return None
        assert self.p99 is not None  # noqa: S101 - the command has seen to it
        goal = Goal(self.p99, start=self.rate)
        failed = goal.failed_share if self.max_failures is None else self.max_failures / 100
        return Goal(self.p99, failed, budget=self.budget or goal.budget, start=self.rate)


class Interrupt:
    """Ctrl-C as a query: the first one is remembered, the second one ends the process at once.

    The client processes live in sessions of their own, so the terminal does not tell them; they end with this one.
    """

    def __init__(self) -> None:
        self.seen = False

    def __bool__(self) -> bool:
        return self.seen

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take Ctrl-C until the block ends; who started the process with it ignored has a reason."""
        before = signal.getsignal(signal.SIGINT)
        if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.seen:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.seen = True
        # not through a stream, which may be in the middle of a line of its own
        os.write(2, b"\nno more calls are sent; the report comes soon (Ctrl-C again: at once and without)\n")


def run_load(session: Session, options: LoadOptions) -> None:
    """Do it, and leave with exit code 0 where calls were answered, 130 after Ctrl-C, else 1."""
    reject_unwritable(options.out, force=options.force)
    wish = options.wish()
    try:
        with session.client() as client:
            supplies = gather(client, wish)
    except SupplyError as error:
        raise CommandFailed(printable(str(error))) from error
    _note(session, supplies, wish)
    interrupt = Interrupt()
    try:
        with interrupt.taken():
            report = _test(session, options, wish, supplies, interrupt)
            _write(report, options.out)
    except CrewError as error:
        raise CommandFailed(str(error)) from error
    if session.as_json:
        session.print_json(report)
    else:
        print_summary(session, report)
    for path in options.out:
        session.err.print(f"report in {path}", soft_wrap=True)
    measured = report["measurement"]
    if interrupt:
        click.get_current_context().exit(INTERRUPTED)
    if report["lost_processes"] or not measured or not measured["answered"]:
        click.get_current_context().exit(1)


def _test(session: Session, options: LoadOptions, wish: Wish, supplies: Supplies, interrupt: Interrupt) -> Report:
    stock = stock_of(session.server, session.token, supplies.mix, supplies.questions)
    phase, goal = options.phase(), options.goal()
    started = datetime.now(UTC)
    with Crew(stock, options.processes) as crew, LoadProgress(session.err) as progress:
        tester = Tester(crew, stock.kinds, progress.look, lambda: interrupt.seen)
        ramp = tester.ramp(phase, goal) if goal else None
        measured = tester.measure(phase) if not ramp else ramp.best.measurement if ramp.best else None
    return report_of(
        Outcome(
            server=session.server,
            wish=wish,
            supplies=supplies,
            phase=phase,
            processes=options.processes,
            started=started,
            measurement=measured,
            ramp=ramp,
            lost=crew.lost,
            interrupted=interrupt.seen,
        )
    )


def _note(session: Session, supplies: Supplies, wish: Wish) -> None:
    """Say what the user may not expect, before the load."""
    for each in supplies.left_out:
        session.err.print(printable(f"{each.name} is left out: {each.reason}"), soft_wrap=True)
    if wish.mix is None and Kind.SEARCH_ID in supplies.mix:
        session.err.print("the server keeps no images of its products, so only their ids are asked with (--images)")
    if supplies.model.is_random:
        warn_of_random_weights(session, supplies.model.weights)


def reject_unwritable(paths: Sequence[Path], *, force: bool) -> None:
    """Find out before the load whether the reports can be written after it."""
    for path in paths:
        if path.exists() and not force:
            raise CommandFailed(f"{path} exists; --force overwrites it")
        if not path.parent.is_dir():
            raise CommandFailed(f"{path}: there is no folder {path.parent}")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise CommandFailed(f"{path} cannot be written")


def _write(report: Report, paths: Sequence[Path]) -> None:
    for path in paths:
        text = render(report) if path.suffix.lower() == ".html" else json.dumps(report, ensure_ascii=False, indent=1)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandFailed(f"{path}: {error.strerror}") from error
