"""The report as one self-contained HTML file; every text of the report is data and is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from lookalike_loadtest import charts
from lookalike_loadtest.histogram import FEW
from lookalike_loadtest.summary import milliseconds

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2329; --soft: #5c6670; --rule: #c9d0d6;
  --first: #1668b0; --second: #b06a12; --bad: #c22f3d; --note: #fff5dc; }
@media (prefers-color-scheme: dark) { :root { --paper: #15191d; --ink: #e4e8eb; --soft: #9aa5ae; --rule: #3c454d;
  --first: #6bb3f2; --second: #e5a352; --bad: #f2717d; --note: #332b17; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem; }
.when, .soft, figcaption { color: var(--soft); } .summary { font-size: 1.15rem; margin: 1rem 0; }
.notes { background: var(--note); border-radius: 6px; margin: 1rem 0; padding: .6rem 1rem .6rem 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { border-bottom: 1px solid var(--rule); padding: .25rem .9rem .25rem 0; text-align: right; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child, .facts td,
.messages td:last-child, .messages th:last-child { text-align: left; }
td { white-space: nowrap; } .facts td, td:last-child { overflow-wrap: anywhere; white-space: normal; }
.bad { color: var(--bad); } .weak { color: var(--soft); font-style: italic; }
figure { margin: 1.2rem 0; } svg { height: auto; max-width: 100%; width: 100%; }
""".strip()

_PERCENTILES = ("50", "90", "95", "99", "99.9", "99.99")

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(report: dict[str, Any]) -> str:
    """Render a report as a page."""
    settings, measured, capacity = report["settings"], report["measurement"], report["capacity"]
    parts = [
        f"<h1>Load test of {escape(report['server']['address'])}</h1>",
        f'<p class="when">{escape(report["started"])}, {escape(report["server"]["model"]["name"])},'
        f" lookalike {escape(report['tool']['version'])}</p>",
        f'<p class="summary">{escape(report["summary"])}</p>',
        _notes(report["warnings"]),
    ]
    if capacity:
        parts.append(_capacity(capacity))
    if measured:
        title = f"At the highest rate that met the goal: {measured['rate']:,.1f}/s" if capacity else "Latency"
        parts += [_latency(title, settings, measured), _calls(measured), _over_time(measured)]
        parts += [_response_stats(measured["stats"], measured), _tester(measured["tester"])]
    parts.append(_facts(report))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Load test of {escape(report['server']['address'])}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _latency(title: str, settings: dict[str, Any], measured: dict[str, Any]) -> str:
    if not measured["latency"]:
        return ""
    is_open = settings["loop"] != "closed"
    rows: list[tuple[str, dict[str, Any] | None, int]] = [("all answers", measured["latency"], measured["failed"])]
    if len(measured["kinds"]) > 1:
        rows += [(name, kind["latency"], kind["failed"]) for name, kind in measured["kinds"].items()]
    if is_open:
        rows.append(("all, from the actual send", measured["service"], measured["failed"]))
    head = ("", "answers", *(f"p{each}" for each in _PERCENTILES), "slowest", "mean", "failed")
    if is_open:
        note = "Latency counts from when a call was meant to be sent, not from when it was: waiting is part of it."
    else:
        note = "Latency counts from when a call was sent, which was when the previous one had been answered."
    weak = f' <span class="weak">In italics</span>: fewer than {FEW} calls lie beyond it, so it says little.'
    table = _table(head, [_times(*row) for row in rows])
    drawn = _figure(charts.percentiles(measured), "The higher the percentile, the farther right.")
    return f'<h2>{escape(title)}</h2><p class="soft">{note}{weak}</p>{table}{drawn}'


def _times(name: str, times: dict[str, Any] | None, failed: int) -> list[str]:
    if times is None:
        return [escape(name), "0", *[""] * (len(_PERCENTILES) + 2), _count(failed, bad=True)]
    cells = [_percentile(times["percentiles"][each]) for each in _PERCENTILES]
    ends = [milliseconds(times["max"]), milliseconds(times["mean"]), _count(failed, bad=True)]
    return [escape(name), f"{times['count']:,}", *cells, *ends]


def _percentile(point: dict[str, Any]) -> str:
    text = milliseconds(point["ms"])
    return f'<span class="weak">{text}</span>' if point["calls_beyond"] < FEW else text


def _count(count: int, *, bad: bool = False) -> str:
    return f'<span class="bad">{count:,}</span>' if bad and count else f"{count:,}"


def _calls(measured: dict[str, Any]) -> str:
    rows = [
        [escape(name), _count(code["calls"], bad=name != "OK"), escape(code["first_message"])]
        for name, code in measured["codes"].items()
    ]
    failures = measured["failures"]
    note = ""
    if failures:
        note = (
            f"<p>Half of the failures took at most {milliseconds(failures['percentiles']['50']['ms'])}, 99 % at most"
            f" {milliseconds(failures['percentiles']['99']['ms'])}. They are not among the latencies above.</p>"
        )
    table = _table(("code", "calls", "first message"), rows, "messages")
    return f"<h2>Status codes</h2>{table}{note}"


def _over_time(measured: dict[str, Any]) -> str:
    series = measured["series"]
    if not series:
        return ""
    latency = _figure(charts.latency_over_time(series), "Of the calls that were meant to be sent in each second.")
    caption = "In each second; answers that came after the last call are in the seconds after it."
    counts = _figure(charts.throughput_over_time(series), caption)
    return f"<h2>Over time</h2>{latency}{counts}"


def _response_stats(stats: dict[str, Any] | None, measured: dict[str, Any]) -> str:
    if not stats:
        return ""
    total = stats["stages"]["total"]
    rows = [
        [escape(name), f"{stage['count']:,}", milliseconds(stage["mean"]), *_two(stage), f"{stage['share']:.0%}"]
        for name, stage in stats["stages"].items()
        if stage
    ]
    batches = ", ".join(f"{escape(size)}: {count:,}" for size, count in stats["batch_sizes"].items())
    outside = measured["service"]["mean"] - (total["mean"] if total else 0)
    notes = [
        f"From the response stats of {stats['read']:,} answers.",
        f"Between the server's total and the measured time lie {milliseconds(outside)} on average: the network, gRPC at"
        " both ends, and the load test.",
    ]
    if batches:
        notes.append(f"Images by the size of their batch: {batches}.")
    if stats["cache_hit_share"] is not None:
        notes.append(f"{stats['cache_hit_share']:.1%} of the images were in the server's cache.")
    table = _table(("stage", "answers", "mean", "p50", "p99", "share of the total"), rows)
    return f'<h2>Where the time went</h2><p class="soft">{" ".join(notes)}</p>{table}'


def _two(stage: dict[str, Any]) -> list[str]:
    return [milliseconds(stage["percentiles"][each]["ms"]) for each in ("50", "99")]


def _tester(tester: dict[str, Any]) -> str:
    lag = tester["lag"]
    rows = []
    if lag:
        rows.append(["calls were sent late by (p50, p99, max)", ", ".join([*_two(lag), milliseconds(lag["max"])])])
    rows.append(["calls that could not be sent", _count(tester["not_sent"], bad=True)])
    rows.append(
        ["share of a core, each worker process", ", ".join(f"{share:.0%}" for share in tester["cpu_shares"]) or "-"]
    )
    return f"<h2>The load test itself</h2>{_table((), rows, 'facts')}"


def _capacity(capacity: dict[str, Any]) -> str:
    rows = [
        [
            f"{step['rate']:,.1f}",
            "yes" if step["met"] else '<span class="bad">no</span>',
            milliseconds(step["p50"]),
            milliseconds(step["p99"]),
            f"{step['failed_share']:.2%}",
            f"{step['calls']:,}",
            f"{step['seconds']:.1f} s",
            escape(step["reason"]) + (" (load test late)" if step["was_late"] else ""),
        ]
        for step in capacity["steps"]
    ]
    head = ("calls a second", "goal met", "p50", "p99", "failed", "calls", "for", "why not")
    drawn = (
        _figure(charts.latency_over_rate(capacity), "")
        if any(step["p99"] is not None for step in capacity["steps"])
        else ""
    )
    goal = capacity["goal"]
    note = (
        f"Each rate was tried for at least {goal['calls_per_step']:,} calls, and once more where it missed the goal; a"
        f" hopeless try was cut short. The search ended because {escape(capacity['ended_because'])}."
    )
    return f'<h2>Latency over rate</h2><p class="soft">{note}</p>{drawn}{_table(head, rows, "messages")}'


def _facts(report: dict[str, Any]) -> str:
    model, server, settings, tool = report["server"]["model"], report["server"], report["settings"], report["tool"]
    batch_profiles = ", ".join(
        f"{each['batch_size']} in {each['latency_ms']:.1f} ms" for each in model["batch_profiles"]
    )
    rows = [
        ["model", f"{model['name']}: {model['backbone']}, weights {model['weights']}, {model['precision']}"],
        ["digest", model["digest"]],
        [
            "embedding",
            f"{model['dim']:,} dimensions, {model['metric']},"
            f" from {model['input_width']} x {model['input_height']} pixels",
        ],
        ["provider", model["provider"]],
        ["batches", batch_profiles],
        ["products", f"{server['products']:,}"],
        ["categories", f"{server['categories']:,}"],
        *([name.replace("_", " "), _fact(value)] for name, value in settings.items() if value is not None),
        ["load test", f"lookalike {tool['version']}, grpcio {tool['grpcio']}, Python {tool['python']}"],
    ]
    table = _table((), [[escape(cell) for cell in row] for row in rows], "facts")
    return f"<h2>Server and settings</h2>{table}"


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_fact(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_fact, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], look: str = "") -> str:
    """Render a table of cells that are HTML already."""
    top = f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="{look}">{top}{body}</table></div>'


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>"
