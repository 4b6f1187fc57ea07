"""What the results say about each default of the server: which value won, by how much, and whether it may win."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.comparison import fastest
from benchmarks.gpu.ways import ALTERNATIVES, CONCURRENT, DEFAULTS, Trial, setting_of
from benchmarks.rounds import Spread

_WORTH = 1.02
"""How much faster another value is, in three of four rounds at least, before it is worth a change of the default."""

_NOT_RUN = "it was not run"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One setting, for one model.

    Attributes:
        setting: Its name in the server's settings.
        model: The model it was measured with.
        default: The server's default.
        tried: The other value.
        gain: Images a second with that over those with the default, of each round; None where it was not measured.
        parity: Whether each value keeps the embeddings, the default first; None where it was not measured.
        reason: Why something was not measured.
    """

    setting: str
    model: str
    default: Any
    tried: Any
    gain: Spread | None = None
    parity: tuple[bool | None, bool | None] = (None, None)
    reason: str = ""

    @property
    def winner(self) -> Any:
        """The value that should be the default: the faster one, if it keeps the embeddings; None where unknown."""
        if self.gain is None:
            return None
        default_fits, tried_fits = (fits is not False for fits in self.parity)
        if default_fits and tried_fits:
            return self.tried if self.gain.median >= _WORTH and self.gain.low > 1 else self.default
        return self.default if default_fits else self.tried if tried_fits else None


def verdicts(steps: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Judge each default by what the steps `smoke` and `bare` have written."""
    ways: Sequence[Mapping[str, Any]] = steps.get("bare", {}).get("ways", [])
    parity = {
        (result["details"]["precision"], *sorted(result["details"]["variant"].items())): result["details"]["parity"]
        for result in steps.get("smoke", {}).get("results", [])
        if not result["details"]["strict"]
    }
    found: list[Verdict] = []
    for model in dict.fromkeys(way["model"] for way in ways):
        own = [way for way in ways if way["model"] == model]
        if best := fastest(own):
            found += _of_model(model, own[0]["precision"], own, best, parity)
    return found


def _of_model(
    model: str,
    precision: str,
    ways: Sequence[Mapping[str, Any]],
    best: Trial,
    parity: Mapping[tuple[Any, ...], Sequence[Mapping[str, Any]]],
) -> Iterator[Verdict]:
    """Compare on the fastest way: each setting with its default, all others as they are there."""

    def keeps(*variant: tuple[str, Any]) -> bool | None:
        measured = parity.get((precision, *variant))
        return all(each["within_bounds"] for each in measured) if measured else None

    rest = dict(best.variant)
    size = DEFAULTS["max_batch_size"]
    gain = _gain(ways, Trial(rest, size), best)
    yield Verdict("max_batch_size", model, size, best.batch, gain, reason="" if gain else f"no run of {size} images")
    for concurrent in CONCURRENT:
        if concurrent != (usual := DEFAULTS["max_concurrent_batches"]):
            gain = _gain(ways, Trial(rest, best.batch, usual), Trial(rest, best.batch, concurrent))
            reason = "" if gain else _NOT_RUN
            yield Verdict("max_concurrent_batches", model, usual, concurrent, gain, reason=reason)
    for name, value in ALTERNATIVES.items():
        others = {key: each for key, each in rest.items() if key != name}
        gain = _gain(ways, Trial(others, best.batch), Trial({**others, name: value}, best.batch))
        fits = keeps(), keeps((name, value))
        reason = "" if gain else "fp16 has no use for it" if name == "use_tf32" and precision != "fp32" else _NOT_RUN
        yield Verdict(setting_of(name), model, DEFAULTS[name], value, gain, fits, reason)


def _gain(ways: Sequence[Mapping[str, Any]], default: Trial, tried: Trial) -> Spread | None:
    """Return the images a second of one way over those of another, of the rounds in which both ran; 1 for one way."""
    for stage in ("best", "grid"):
        rates = {Trial.of(way).key: way["rates"] for way in ways if way["stage"] == stage}
        if default.key in rates and tried.key in rates:
            both = zip(rates[default.key], rates[tried.key], strict=False)  # the last round may have been cut short
            return Spread.of([after / before for before, after in both])
    return None
