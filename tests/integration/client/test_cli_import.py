"""`lookalike import` and `quickstart`."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from grpc import StatusCode
from rich.console import Console

from lookalike.v1 import embedding_service_pb2
from lookalike_client import Client, LookalikeError
from lookalike_client.cli.import_run import ImportReport, print_report
from lookalike_client.cli.progress import INTERVAL_S, ProgressBar, ProgressLines, duration
from lookalike_client.cli.session import Session
from lookalike_client.connection_options import ConnectionOptions
from lookalike_client.transfer.catalog_error import FailedRow
from lookalike_client.transfer.importer import ImportProgress
from support.catalogs import good_row, put, stored, write_catalog, write_products
from support.scripted_server import Rejection, ScriptedServer

Lookalike = Callable[..., Result]


def test_an_import_reports_what_became_of_the_rows(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Counts, rate and each failed row with its reason on standard output; exit status 1, the others are in."""
    path = write_catalog(
        tmp_path, [good_row(tmp_path, "a"), ("b", "Men", "t", "none.jpg", ""), good_row(tmp_path, "c")]
    )
    result = lookalike("import", path)
    assert result.exit_code == 1
    first, _, failure = result.stdout.splitlines()
    assert re.fullmatch(r"imported 2 of 3 rows in [\d.]+ s \([\d.]+/s\): skipped 0, failed 1", first)
    assert failure.split(maxsplit=2) == ["3", "b", "image none.jpg: No such file or directory"]
    assert sorted(stored(real)) == ["a", "c"]


def test_an_import_of_good_rows_is_exit_code_0(lookalike: Lookalike, server: ScriptedServer, tmp_path: Path) -> None:
    """All in: one line."""
    result = lookalike("import", write_products(tmp_path, *"abc"), "--batch", "1", "--concurrency", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    assert len(server.requests("UpsertProducts")) == 3


def test_an_import_as_json(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """`--json` prints the report as one value."""
    put(real, "a")
    path = write_products(tmp_path, *"ab")
    report = json.loads(lookalike("--json", "import", path, "--skip-existing").stdout)
    assert (report["imported"], report["skipped"], report["failed"], report["failures"]) == (1, 1, 0, [])
    assert report["stopped"] is None


def test_a_header_that_will_not_do_is_one_line(lookalike: Lookalike, tmp_path: Path) -> None:
    """Missing columns are named, exit status 1, before any call."""
    result = lookalike("import", write_catalog(tmp_path, [], columns=("product_id", "sex", "title", "image")))
    assert result.exit_code == 1
    assert "lacks the column gender" in result.stderr


def test_another_category_column(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """`--category-column` partitions by it."""
    lookalike("import", write_products(tmp_path, "a"), "--category-column", "color")
    assert stored(real)["a"].category == "red"


def test_an_import_that_stops_prints_how_to_continue(
    lookalike: Lookalike, server: ScriptedServer, tmp_path: Path
) -> None:
    """The report so far, why it stopped, how many rows are imported, and --skip-existing; exit status 1."""
    server.hooks["UpsertProducts"] = lambda: server.rejections.append(Rejection(StatusCode.UNAUTHENTICATED, "no token"))
    result = lookalike("import", write_products(tmp_path, *"abcd"), "--batch", "2", "--concurrency", "1")
    assert result.exit_code == 1
    assert result.stdout.startswith("imported 2 ")
    assert result.stderr == (
        "lookalike: import stopped: UNAUTHENTICATED: no token. 2 rows are imported; "
        "run the same command with --skip-existing to continue.\n"
    )


def test_progress_is_lines_where_there_is_no_terminal() -> None:
    """A line when the last one is some seconds old, with rows, rate and time left; rejections no more often."""
    now = [0.0]
    written = io.StringIO()
    lines = ProgressLines(Console(file=written, width=160), 1000, clock=lambda: now[0])
    for seconds, done in ((1.0, 50), (INTERVAL_S, 250), (INTERVAL_S + 1, 300), (2 * INTERVAL_S, 500)):
        now[0] = seconds
        lines.advanced(ImportProgress(imported=done))
    busy = LookalikeError(StatusCode.RESOURCE_EXHAUSTED, "queue full")
    lines.rejected(busy, 2.5)
    lines.rejected(busy, 5.0)
    assert written.getvalue().splitlines() == [
        "250 of 1,000 rows, 50.0/s, about 15 s left",
        "500 of 1,000 rows, 50.0/s, about 10 s left",
        "the server is busy (queue full); retrying in 2.5 s",
    ]


def test_progress_is_a_bar_on_a_terminal() -> None:
    """A bar with counts, and rejections above it."""
    written = io.StringIO()
    with ProgressBar(Console(file=written, force_terminal=True, width=100, highlight=False), 4) as bar:
        bar.advanced(ImportProgress(imported=3))
        bar.rejected(LookalikeError(StatusCode.UNAVAILABLE, "gone"), 1.0)
    assert "3/4" in written.getvalue()
    assert "the server is unavailable (gone); retrying in 1.0 s" in written.getvalue()


def test_durations_are_in_seconds_minutes_or_hours() -> None:
    """Seconds, then minutes, then hours."""
    assert [duration(seconds) for seconds in (3, 600, 7200)] == ["3 s", "10 min", "2.0 h"]


def test_a_long_list_of_failures_ends_with_a_count() -> None:
    """Failures beyond the listed ones are counted in the report."""
    out = io.StringIO()
    console = Console(file=out, width=100)
    session = Session(ConnectionOptions("s:1"), 1.0, as_json=False, out=console, err=console)
    print_report(session, ImportReport(0, 0, 7, 1.0, 0.0, [FailedRow(2, "a", "bad")]))
    assert out.getvalue().endswith("... and 6 more; --failed-rows FILE.csv has all\n")


def test_quickstart_imports_and_runs_a_query(lookalike: Lookalike, server: ScriptedServer, tmp_path: Path) -> None:
    """The model, the import, the query with the first red striped product, its results, two commands."""
    rows = [list(good_row(tmp_path, product_id)) for product_id in "abcdefg"]
    rows[2][2] = rows[3][2] = "Red striped T-shirt"
    result = lookalike("quickstart", "--catalog", write_catalog(tmp_path, rows))
    assert result.exit_code == 0, result.output
    assert "model tiny: tiles, weights none, 48 dimensions, CPUExecutionProvider" in result.stdout
    assert "imported 7 " in result.stdout
    assert "Products similar to 'Red striped T-shirt' (c, Men):" in result.stdout.splitlines()
    results = re.findall(r"^ +\d  ([a-g])  ", result.stdout, flags=re.MULTILINE)
    assert len(results) == 5
    assert "c" not in results
    assert f"lookalike --server {server.address} search --id c -k 5" in result.stdout
    assert 'grpcurl -plaintext -d \'{"product_id": "c", "k": 5}\' ' in result.stdout
    assert f"{server.address} lookalike.v1.SearchService/Search" in result.stdout


def test_quickstart_a_second_time_has_nothing_to_import(
    lookalike: Lookalike, server: ScriptedServer, tmp_path: Path
) -> None:
    """Existing products are not imported again; without a red striped product the query is the first one."""
    path = write_products(tmp_path, *"abc")
    lookalike("quickstart", "--catalog", path)
    result = lookalike("quickstart", "--catalog", path)
    assert "nothing to import: all 3 products of the catalog exist" in result.stdout
    assert "'Product a' (a, Men):" in result.stdout
    assert len(server.requests("UpsertProducts")) == 1


def test_quickstart_warns_of_random_weights(lookalike: Lookalike, server: ScriptedServer, tmp_path: Path) -> None:
    """Results of an untrained model come with a warning."""
    server.respond("GetModel", embedding_service_pb2.GetModelResponse(name="tiny", weights="random(seed=1)"))
    assert "WARNING" in lookalike("quickstart", "--catalog", write_products(tmp_path, *"ab")).stderr


def test_quickstart_waits_for_the_server(lookalike: Lookalike, server: ScriptedServer, tmp_path: Path) -> None:
    """While the model loads it prints that it waits, and continues when the server is ready."""
    server.set_serving(serving=False)

    def look() -> None:
        # later than the quick first look lasts, so that quickstart has to wait in earnest
        threading.Timer(1.5, server.set_serving, kwargs={"serving": True}).start()

    server.on_watch = look
    result = lookalike("quickstart", "--catalog", write_products(tmp_path, *"ab"))
    assert result.exit_code == 0, result.output
    assert f"waiting for the server at {server.address}" in result.stderr


def test_quickstart_continues_when_some_rows_are_invalid(lookalike: Lookalike, tmp_path: Path) -> None:
    """Bad rows are listed, and the query runs all the same."""
    path = write_catalog(tmp_path, [good_row(tmp_path, "a"), ("b", "Men", "t", "none.jpg", "")])
    result = lookalike("quickstart", "--catalog", path)
    assert result.exit_code == 0
    assert "image none.jpg" in result.stdout
    assert "Products similar to" in result.stdout
