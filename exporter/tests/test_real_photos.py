"""What variants keep on real photos, by a network with real weights; random ones, or drawn pictures, prove nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from networks import Run

from lookalike_exporter.convert import to_onnx, wrap
from lookalike_exporter.embed import Runner
from lookalike_exporter.export import built
from lookalike_exporter.manifest import Input
from lookalike_exporter.parity import compare, reference
from lookalike_exporter.photos import Photos, readable_pictures
from lookalike_exporter.quality import compare_answers
from lookalike_exporter.request import KnownNetwork

SHARED = Path(__file__).parents[3] / "shared"
FASHION, FOOD = SHARED / "catalog", SHARED / "food"
GIVEN = Input(224, 224, "NHWC", "uint8", "RGB", "nearest")
NETWORK = ("--backbone", "squeezenet", "--weights", "imagenet", "--resize", "nearest")

pytestmark = pytest.mark.skipif(not (FASHION.is_dir() and FOOD.is_dir()), reason="the real photos are not here")


@pytest.fixture(scope="module")
def food() -> Photos:
    """64 photos: [64, 224, 224, 3] uint8 RGB."""
    return next(readable_pictures(FOOD, GIVEN, 64, print).batches(64))


def reduced(folder: Path) -> dict[str, Any]:
    """What model.json says of the variant."""
    manifest: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return manifest


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_parity_with_keras(food: Photos, pooling: str, metric: str) -> None:
    """The fp32 graph gives what Keras gives: every cosine 0.999999 or more, whatever the pooling and the metric."""
    backbone = built(KnownNetwork("squeezenet", "imagenet", 0))
    embedder = wrap(backbone, pooling=pooling, metric=metric)
    parity = compare(reference(backbone, embedder, food), Runner(to_onnx(embedder, {})).run(food), len(food))
    assert parity.images == 64
    assert parity.cosine_min >= 0.999999


def test_fp16_keeps_the_neighbours(run: Run, tmp_path: Path) -> None:
    """0.99 of the ten nearest among food photos."""
    result = run(*NETWORK, "--precision", "fp16", "--judge-on", FOOD, "--out", tmp_path / "half")
    assert result.exit_code == 0, result.output
    quality = reduced(tmp_path / "half")["reduced"]["quality"]
    assert quality["images"] == 500
    assert quality["top10_overlap"] >= 0.99


def test_int8_keeps_the_neighbours(run: Run, tmp_path: Path) -> None:
    """0.90 on the catalogue it was calibrated on, but other photos of it, and 0.88 on photos of another kind."""
    result = run(*NETWORK, "--precision", "int8", "--calibrate-on", FASHION, "--out", tmp_path / "int8")
    assert result.exit_code == 0, result.output
    assert reduced(tmp_path / "int8")["reduced"]["quality"]["top10_overlap"] >= 0.90
    assert run(*NETWORK, "--out", tmp_path / "full").exit_code == 0
    pictures = readable_pictures(FOOD, GIVEN, 300, print)
    full, int8 = (Runner((tmp_path / name / "model.onnx").read_bytes()).embed(pictures) for name in ("full", "int8"))
    quality = compare_answers(full, int8, "cosine")
    assert quality.top10_overlap is not None
    assert quality.top10_overlap >= 0.88


def test_half_the_numbers_keep_the_neighbours(run: Run, tmp_path: Path) -> None:
    """512 become 256: in the catalogue that it was fitted on 0.97 of the ten nearest stay."""
    arguments = (*NETWORK, "--resize", "bilinear", "--project", "256", "--fit-on", FASHION)
    result = run(*arguments, "--judge-on", FASHION, "--out", tmp_path / "half")
    assert result.exit_code == 0, result.output
    projection = reduced(tmp_path / "half")["projection"]
    assert projection["numbers"] == 512
    assert projection["explained_energy"] > 0.98
    assert projection["quality"]["top10_overlap"] >= 0.97
