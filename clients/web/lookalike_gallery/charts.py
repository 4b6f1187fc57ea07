"""The charts, in the page's own colors. Their fields have fixed names: what others wrote is a label and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import streamlit as st

from lookalike_client import BatchProfile, ResponseStats
from lookalike_gallery.response_stats import Answered, stages

_BAR_HEIGHT = 22
_COLUMN_WIDTH = 44
_MAX_LABEL = 180
STAGES = ["decode", "queue", "inference", "search", "rest"]


def show_counts(rows: Sequence[tuple[str, str, int]], alt_text: str) -> None:
    """Bars of (name, part, count): a bar a name in the given order, its parts in colors of their own."""
    names = list(dict.fromkeys(name for name, _, _ in rows))
    parts = list(dict.fromkeys(part for _, part, _ in rows))
    bars = [{"name": name, "part": part, "count": count} for name, part, count in rows]
    chart = (
        _chart(bars, height=alt.Step(_BAR_HEIGHT))
        .mark_bar()
        .encode(
            x=alt.X("count:Q", title="products", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=_MAX_LABEL)),
            color=alt.Color(
                "part:N", sort=parts, title=None, legend=alt.Legend(orient="top") if len(parts) > 1 else None
            ),
            tooltip=["name:N", "part:N", "count:Q"],
        )
    )
    st.altair_chart(chart, alt=alt_text)


def show_numbers(rows: Sequence[tuple[float, str, int]], title: str, alt_text: str) -> None:
    """Bars of how many products have a number within equal steps, from (number, part, count)."""
    parts = list(dict.fromkeys(part for _, part, _ in rows))
    bars = [{"number": number, "part": part, "count": count} for number, part, count in rows]
    chart = (
        _chart(bars, height=280)
        .mark_bar()
        .encode(
            x=alt.X("number:Q", bin=alt.Bin(maxbins=20), title=title.replace("_", " ")),
            y=alt.Y("sum(count):Q", title="products"),
            color=alt.Color(
                "part:N", sort=parts, title=None, legend=alt.Legend(orient="top") if len(parts) > 1 else None
            ),
        )
    )
    st.altair_chart(chart, alt=alt_text)


def show_ladder(batch_profiles: Sequence[BatchProfile]) -> None:
    """What a batch costs at each size, and how many images a second that makes."""
    rows = [
        {
            "batch": f"{profile.batch_size} x {profile.concurrency}",
            "ms": profile.milliseconds,
            "rate": profile.batch_size * profile.concurrency / profile.milliseconds * 1000
            if profile.milliseconds
            else 0,
        }
        for profile in batch_profiles
    ]
    batches = alt.X("batch:N", sort=None, title="images in a batch x batches side by side", axis=alt.Axis(labelAngle=0))
    bars = _chart(rows, height=200).mark_bar(size=_COLUMN_WIDTH)
    tooltip = ["batch:N", alt.Tooltip("ms:Q", format=".1f"), alt.Tooltip("rate:Q", format=".0f")]
    cost, rate = st.columns(2)
    cost.altair_chart(
        bars.encode(x=batches, y=alt.Y("ms:Q", title="ms a batch"), tooltip=tooltip),
        alt="Milliseconds a batch takes, by its size",
    )
    rate.altair_chart(
        bars.encode(x=batches, y=alt.Y("rate:Q", title="images a second"), tooltip=tooltip),
        alt="Images a second, by the size of the batch",
    )


def show_stages(stats: ResponseStats) -> None:
    """One answer's time in the server as a bar of its stages."""
    spent = stages(stats)
    rows = [{"answer": "", "stage": name, "ms": ms, "place": place} for place, (name, ms) in enumerate(spent)]
    chart = (
        _chart(rows, height=alt.Step(2 * _BAR_HEIGHT))
        .mark_bar()
        .encode(
            x=alt.X("ms:Q", title="milliseconds"),
            y=alt.Y("answer:N", axis=None),
            color=alt.Color("stage:N", sort=STAGES, title=None, legend=alt.Legend(orient="top")),
            order=alt.Order("place:Q"),
            tooltip=["stage:N", alt.Tooltip("ms:Q", format=".2f")],
        )
    )
    words = ", ".join(f"{name} {ms:.1f} ms" for name, ms in spent)
    st.altair_chart(chart, alt=f"Stages of the last answer: {words}")


def show_latencies(answers: Sequence[Answered]) -> None:
    """The answers' times, in the server and as the gallery saw them."""
    rows = [
        {"number": each.number, "ms": spent, "where": where}
        for each in answers
        for where, spent in (("in the server", each.stats.total_us / 1000), ("round trip", each.round_trip_ms))
    ]
    chart = (
        _chart(rows, height=280)
        .mark_line(point=alt.OverlayMarkDef(size=24))
        .encode(
            x=alt.X("number:Q", title="answer", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False)),
            y=alt.Y("ms:Q", title="milliseconds"),
            color=alt.Color("where:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["number:Q", "where:N", alt.Tooltip("ms:Q", format=".1f")],
        )
    )
    st.altair_chart(chart, alt=f"Time of the last {len(answers)} answers, in milliseconds")


def show_batches(answers: Sequence[Answered]) -> None:
    """How many answers shared a batch with how many others."""
    counts: dict[int, int] = {}
    for each in answers:
        counts[each.stats.batch_size] = counts.get(each.stats.batch_size, 0) + 1
    rows = [{"batch": str(size) if size else "no batch", "count": counts[size]} for size in sorted(counts)]
    chart = (
        _chart(rows, height=280)
        .mark_bar(size=_COLUMN_WIDTH)
        .encode(
            x=alt.X("batch:N", sort=None, title="images in the batch", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("count:Q", title="answers", axis=alt.Axis(tickMinStep=1, format="d")),
            tooltip=["batch:N", "count:Q"],
        )
    )
    words = ", ".join(f"{row['batch']}: {row['count']}" for row in rows)
    st.altair_chart(chart, alt=f"Answers by the size of their batch: {words}")


def _chart(rows: Sequence[dict[str, Any]], height: int | alt.Step) -> alt.Chart:
    return alt.Chart(alt.Data(values=list(rows)), height=height)  # type: ignore[no-untyped-call]
