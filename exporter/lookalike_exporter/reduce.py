"""From an fp32 graph to the one that is written: a projection fitted, a precision made, both judged on photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lookalike_exporter.embed import BATCH, Embeddings, Runner, images_per_second
from lookalike_exporter.errors import ExportError
from lookalike_exporter.gates import Row
from lookalike_exporter.manifest import Fitted, Input, Reduced
from lookalike_exporter.photos import Photos, Pictures, generated_photos, readable_pictures, spread
from lookalike_exporter.projection import PICTURES, Projection, fit
from lookalike_exporter.quality import TOP, Quality, compare_answers
from lookalike_exporter.request import Projected
from lookalike_exporter.variants import PERCENTILE, Int8, to_fp16

CALIBRATION = 64
"""Pictures that int8 is calibrated on, at most."""

_JUDGED = 500
_LEAST_JUDGED = 32
_LEAST_CALIBRATION = 16
_CHANCE = 0.005  # of an overlap

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Judge:
    """What variants are judged on: pictures, or generated ones where there are none, and the metric of the search."""

    pictures: Pictures | None
    given: Input
    metric: str

    def embed(self, runner: Runner) -> Embeddings:
        """Embed what they are judged on: [N, dim]."""
        if self.pictures is None:
            return runner.run(self.batch)
        return runner.embed(self.pictures)

    @property
    def batch(self) -> Photos:
        """Some photos to time: [N, height, width, 3] uint8 RGB."""
        if self.pictures is None:
            return generated_photos(self.given.height, self.given.width)
        return next(self.pictures.batches(BATCH))

    def compare(self, reference: Embeddings, found: Embeddings) -> Quality:
        """Judge embeddings of them."""
        return compare_answers(reference, found, self.metric, real=self.pictures is not None)


def split(folder: Path, given: Input, *, used: int, judged: int, report: Report) -> tuple[Pictures, Pictures]:
    """The pictures of a folder to make a variant with, and others to judge it on; the same where there are too few.

    Args:
        folder: Where to look.
        given: What they are resized to.
        used: The most to make it with.
        judged: The most to judge it on.
        report: Told what is left out, and where the two are the same.

    Raises:
        ExportError: No picture.
    """
    found = readable_pictures(folder, given, used + judged, report)
    # What is made with thousands is judged on the smaller part; what needs a hundred, on the larger.
    others = set(spread(found.paths, min(judged, len(found) // (5 if used > judged else 2))))
    if len(others) < _LEAST_JUDGED:
        report(f"{folder}: {len(found)} pictures are too few to judge on others than those that it is made with")
        return Pictures(found.paths[:used], given), Pictures(found.paths[:judged], given)
    rest = [path for path in found.paths if path not in others]
    return Pictures(spread(rest, used), given), Pictures([path for path in found.paths if path in others], given)


def judge_of(folder: Path, given: Input, metric: str, report: Report) -> Judge:
    """Judges on the pictures of a folder.

    Raises:
        ExportError: No picture, or not more than are compared.
    """
    return _judge(readable_pictures(folder, given, _JUDGED, report), metric)


def fitted(graph: bytes, chosen: Projected, judge: Judge | None, given: Input, metric: str, report: Report) -> Fit:
    """Fit a projection to the embeddings that a graph gives.

    Args:
        graph: Serialised, without a projection.
        chosen: Onto what.
        judge: On what; None for pictures of the same folder.
        given: What pictures are resized to.
        metric: By which they are searched.
        report: Takes lines.

    Raises:
        ExportError: No picture, or too few.
    """
    if judge is None:
        pictures, others = split(chosen.fit_on, given, used=PICTURES, judged=_JUDGED, report=report)
        if len(pictures) <= chosen.components:  # rather judged on the same ones than not at all
            pictures = readable_pictures(chosen.fit_on, given, PICTURES, lambda _: None)
    else:
        pictures = others = readable_pictures(chosen.fit_on, given, PICTURES, report)
    runner = Runner(graph)
    embeddings = runner.embed(pictures)
    projection = fit(embeddings, chosen.components, centre=chosen.centre, whiten=chosen.whiten)
    judge = judge or _judge(others, metric)
    return Fit(projection, embeddings.shape[1], pictures, judge, judge.embed(runner))


def enough(pictures: Pictures) -> Pictures:
    """The pictures, where they are more than the neighbours that are compared.

    Raises:
        ExportError: They are not.
    """
    if len(pictures) <= TOP:
        where = pictures.paths[0].parent
        raise ExportError(f"{where}: {TOP} neighbours of each picture are compared, there are only {len(pictures)}")
    return pictures


def _judge(pictures: Pictures, metric: str) -> Judge:
    return Judge(enough(pictures), pictures.given, metric)


@dataclass(frozen=True, slots=True)
class Fit:
    """A projection, what it was fitted to, and what it is judged by: the embeddings of `judge` without it."""

    projection: Projection
    numbers: int
    pictures: Pictures
    judge: Judge
    whole: Embeddings

    def judged(self, graph: bytes) -> Fitted:
        """What the graph that has the projection keeps of the answers of the one without."""
        return Fitted(
            numbers=self.numbers,
            explained_energy=self.projection.energy,
            centred=self.projection.centred,
            whitened=self.projection.whitened,
            images=len(self.pictures),
            images_sha256=self.pictures.digest,
            quality=self.judge.compare(self.whole, self.judge.embed(Runner(graph))),
        )


def to_half(graph: bytes, judge: Judge) -> tuple[bytes, Reduced]:
    """The fp16 variant, and what it keeps."""
    half = to_fp16(graph)
    return half, Reduced(judge.compare(judge.embed(Runner(graph)), judge.embed(Runner(half))))


def to_int8(
    graph: bytes, calibrate_on: Path, judge: Judge | None, given: Input, metric: str, report: Report
) -> tuple[bytes, Reduced, Judge]:
    """The int8 variant that keeps most: with the first layer, the last, both or none of them left in fp32.

    Raises:
        ExportError: Too few pictures to calibrate on.
    """
    if judge is None:
        pictures, others = split(calibrate_on, given, used=CALIBRATION, judged=_JUDGED, report=report)
    else:
        pictures = others = readable_pictures(calibrate_on, given, CALIBRATION, report)
    if len(pictures) < _LEAST_CALIBRATION:
        raise ExportError(f"--calibrate-on {calibrate_on}: {_LEAST_CALIBRATION} pictures or more are needed, there are "
                          f"{len(pictures)}")  # fmt: skip
    judge = judge or _judge(others, metric)
    calibrated = Int8(graph, pictures)
    reference = judge.embed(Runner(graph))
    found: list[tuple[bytes, Quality, tuple[str, ...]]] = []
    for kept in calibrated.choices():
        variant = calibrated.quantised(kept)
        quality = judge.compare(reference, judge.embed(Runner(variant)))
        report(f"int8, kept in fp32: {', '.join(kept) or 'nothing'}: top 10 kept {quality.top10_overlap:.3f}")
        found.append((variant, quality, kept))
    most = max(quality.top10_overlap or 0.0 for _, quality, _ in found)
    # Less than this is chance: then the fewest layers in fp32 are the better choice.
    best, quality, kept = next(each for each in found if (each[1].top10_overlap or 0.0) >= most - _CHANCE)
    return best, Reduced(quality, kept, PERCENTILE, len(pictures), pictures.digest), judge


def measured(graphs: dict[str, bytes], qualities: dict[str, Quality], judge: Judge) -> list[Row]:
    """Speed on the CPU by batches of 1 and 8, side by side, and quality where there is one."""
    runners = {name: Runner(graph) for name, graph in graphs.items()}
    batch = judge.batch
    one, several = images_per_second(runners, batch[:1]), images_per_second(runners, batch[:BATCH])
    return [Row(name, {1: one[name], BATCH: several[name]}, qualities.get(name)) for name in graphs]
