"""The results as Markdown, which gives a verdict by itself: targets, defaults, what limits, and everything measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.defaults import Verdict, verdicts

Steps = Mapping[str, Mapping[str, Any]]

NOT_MEASURED = "not measured"
_NO_GPU = "there was no GPU"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached.

    Attributes:
        metric: What it is, for people.
        bound: What it should be.
        step: The step that measures it.
        results: The names of its results.
    """

    metric: str
    bound: str
    step: str
    results: Sequence[str]


TARGETS = (
    Target(
        "images/s through the server, raw, over bare ONNX Runtime at its best", ">= 0.90", "serve", ["images/s, raw"]
    ),
    Target(
        "16 concurrent calls, search included",
        "> 2,571/s, p99 <= 6.4 ms",
        "serve",
        ["concurrency 16, search included: calls/s", "concurrency 16, search included: p99, ms"],
    ),
    Target(
        "128 concurrent calls, search included",
        "> 5,412/s, p99 <= 26 ms",
        "serve",
        ["concurrency 128, search included: calls/s", "concurrency 128, search included: p99, ms"],
    ),
    Target("JPEG over raw", ">= 0.8", "serve", ["images/s, JPEG"]),
    Target("added p50, one caller, ms", "<= 1", "serve", ["added p50, one call at a time, ms"]),
    Target("images/s with 4 front-end processes over none", "reported", "frontends", ["images/s, raw, 4 front ends"]),
    Target("images/s with 8 front-end processes over none", "reported", "frontends", ["images/s, raw, 8 front ends"]),
    Target(
        "exact search of 1,000,000 x 2,048 fp16, 1 query, p50 in ms",
        "<= 4",
        "search",
        ["search of 1,000,000 x 2,048, 1 query: p50, ms"],
    ),
    Target(
        "exact search of 1,000,000 x 2,048 fp16, 64 queries, p50 in ms",
        "<= 8",
        "search",
        ["search of 1,000,000 x 2,048, 64 queries: p50, ms"],
    ),
    Target(
        "answers marked exact that equal brute force",
        "1",
        "search",
        ["search of 1,000,000 x 2,048: exact answers that equal brute force"],
    ),
)


def report(machine: Mapping[str, Any], steps: Steps, seconds: float) -> str:
    """Return everything as Markdown, the verdicts first."""
    gpu, on_gpu = machine["gpu"], machine["settings"].get("provider") != "cpu"
    lines = [
        f"# {gpu['name']}",
        "",
        f"Driver {gpu.get('driver_version', 'none')}; {machine['cpu']}, {machine['cores']} cores; {machine['date']}; "
        f"commit {machine['commit'][:10]}; {seconds:.0f} s.",
    ]
    if not on_gpu:
        lines += ["", "**A rehearsal on the CPU: nothing here says anything about a GPU.**"]
    lines += ["", "## Targets", "", *_targets(steps, on_gpu=on_gpu)]
    lines += ["", "## Defaults", "", *_defaults(verdicts(steps), on_gpu=on_gpu)]
    lines += ["", "## What limits", "", *_limits(steps)]
    lines += ["", "## Exact search", "", *_searches(steps)]
    lines += ["", "## Results", "", *_results(steps)]
    skipped = [f"- {step}: {name}: {why}" for step, each in steps.items() for name, why in each["skipped"].items()]
    return "\n".join([*lines, "", "## Skipped", "", *(skipped or ["Nothing."])]) + "\n"


def _targets(steps: Steps, *, on_gpu: bool) -> list[str]:
    rows = [_target(target, steps, on_gpu=on_gpu) for target in TARGETS]
    return ["| metric | target | measured | |", "|---|---|---|---|", *rows]


def _target(target: Target, steps: Steps, *, on_gpu: bool) -> str:
    step = steps.get(target.step)
    by_name = {result["name"]: result for result in step["results"]} if step else {}
    found = [by_name[name] for name in target.results if name in by_name]
    if on_gpu and len(found) == len(target.results):
        met = {"met" if all(each["met"] for each in found) else "**missed**"} if found[0]["met"] is not None else {""}
        values = ", ".join(f"{each['value']['median']:,.4g}" for each in found)
        return f"| {target.metric} | {target.bound} | {values} | {met.pop()} |"
    if not on_gpu:
        reason = _NO_GPU
    elif step is None:
        reason = f"the step {target.step} was not run"
    else:
        reason = "; ".join(step["skipped"].values()) or "the step did not measure it"
    return f"| {target.metric} | {target.bound} | {NOT_MEASURED}: {_cell(reason)} | |"


def _defaults(found: Sequence[Verdict], *, on_gpu: bool) -> list[str]:
    lines = ["| setting | model | default | tried | over the default | embeddings kept | should be |"]
    lines.append("|---|---|---|---|---|---|---|")
    for each in found:
        gain = (
            NOT_MEASURED
            if each.gain is None
            else f"{each.gain.median:.3f} [{each.gain.low:.3f} .. {each.gain.high:.3f}]"
        )
        winner = f"{NOT_MEASURED}: {_NO_GPU if not on_gpu else each.reason}"
        if on_gpu and each.gain is not None:
            winner = "neither keeps the embeddings" if each.winner is None else f"`{each.winner}`"
        parity = " / ".join({True: "yes", False: "**no**", None: "-"}[fits] for fits in each.parity)
        lines.append(
            f"| `{each.setting}` | {each.model} | `{each.default}` | `{each.tried}` | {gain} | {parity} | {winner} |"
        )
    return lines if found else [f"{NOT_MEASURED}: the step bare has no results"]


def _limits(steps: Steps) -> list[str]:
    profiles = [profile for step in steps.values() for profile in step["profiles"]]
    shares = ("gpu", "event_loop", "decode", "processor", "load_generators", "copies")
    numbers = ("run_ms", "queue_ms", "batch_size", "padding", "loop_lag_ms")
    lines = [f"| scenario | {' | '.join((*shares, *numbers))} |", f"|---{'|---' * (len(shares) + len(numbers))}|"]
    lines += [
        f"| {each['scenario']} | {' | '.join(f'{each[name]:.2f}' for name in (*shares, *numbers))} |"
        for each in profiles
    ]
    ideas = [f"- {each['scenario']}: {each['limit'] or 'no'} limit; next: {each['idea']}" for each in profiles]
    return [*lines, "", *ideas] if profiles else [f"{NOT_MEASURED}: the server was not measured"]


def _searches(steps: Steps) -> list[str]:
    shares = {
        "device_p50_ms": "of it the device's, ms",
        "gb_per_s": "GB/s",
        "bandwidth_share": "of the data sheet's",
        "more_candidates_share": "with more candidates",
        "device_memory_mib": "device memory, MiB",
    }
    lines = [f"| search | p50, ms | {' | '.join(shares.values())} |", f"|---{'|---' * (len(shares) + 1)}|"]
    found = [each for step in steps.values() for each in step["results"] if "gb_per_s" in each["details"]]
    for each in found:
        values = [each["value"]["median"], *(each["details"][name] for name in shares)]
        cells = ["-" if value is None else f"{value:,.4g}" for value in values]
        lines.append(f"| {each['name']} | {' | '.join(cells)} |")
    return lines if found else [f"{NOT_MEASURED}: the step search has no results"]


def _results(steps: Steps) -> list[str]:
    lines = ["| result | model | front ends | median | quartiles | target | |", "|---|---|---|---|---|---|---|"]
    for result in (result for step in steps.values() for result in step["results"]):
        value, details = result["value"], result["details"]
        met = {True: "met", False: "**missed**", None: ""}[result["met"]]
        name = f"{result['name']} over {result['versus']}" if result["versus"] else result["name"]
        lines.append(
            f"| {name} | {details['model']} | {details['frontends']} | {value['median']:,.5g} "
            f"| {value['low']:,.5g} .. {value['high']:,.5g} | {result['bound']} | {met} |"
        )
    return lines


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]
