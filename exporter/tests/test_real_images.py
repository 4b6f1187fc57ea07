"""What variants keep on real images, by a network with real weights; random ones, or drawn images, prove nothing."""

from pathlib import Path

import pytest
from folders import manifest_of
from networks import Run

from lookalike_exporter.evaluation.parity import compare_embeddings, embed_by_keras
from lookalike_exporter.evaluation.quality import measure_quality
from lookalike_exporter.graph.convert import to_onnx, wrap
from lookalike_exporter.graph.runner import Runner
from lookalike_exporter.images import Pixels, find_images
from lookalike_exporter.networks.backbone import build_backbone
from lookalike_exporter.request import KnownNetwork
from lookalike_exporter.specs import InputSpec

SHARED = Path(__file__).parents[3] / "shared"
FASHION, FOOD = SHARED / "catalog", SHARED / "food"
SPEC = InputSpec(224, 224, "nearest")
NETWORK = ("--backbone", "squeezenet", "--weights", "imagenet", "--resize", "nearest")

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        not (FASHION.is_dir() and FOOD.is_dir()),
        reason="there is no shared/catalog and shared/food beside this checkout",
    ),
]


@pytest.fixture(scope="module")
def food() -> Pixels:
    """64 images: [64, 224, 224, 3] uint8 RGB."""
    return next(find_images(FOOD, SPEC, 64, print).batches(64))


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_parity_with_keras(food: Pixels, pooling: str, metric: str) -> None:
    """The fp32 graph gives what Keras gives: every cosine 0.999999 or more, whatever the pooling and the metric."""
    backbone = build_backbone(KnownNetwork("squeezenet", "imagenet", 0))
    embedder = wrap(backbone, pooling=pooling, metric=metric)
    parity = compare_embeddings(
        embed_by_keras(backbone, embedder, food), Runner(to_onnx(embedder, {})).run(food), len(food)
    )
    assert parity.images == 64
    assert parity.cosine_min >= 0.999999


def test_fp16_keeps_the_neighbors(run: Run, tmp_path: Path) -> None:
    """0.99 of the ten nearest among food images."""
    result = run(*NETWORK, "--precision", "fp16", "--eval-images", FOOD, "--out", tmp_path / "half")
    assert result.exit_code == 0, result.output
    quality = manifest_of(tmp_path / "half")["variant"]["quality"]
    assert quality["images"] == 500
    assert quality["recall_at_10"] >= 0.99


def test_int8_keeps_the_neighbors(run: Run, tmp_path: Path) -> None:
    """0.90 on the catalog it was calibrated on, but other images of it, and 0.88 on images of another kind."""
    result = run(*NETWORK, "--precision", "int8", "--calibration-images", FASHION, "--out", tmp_path / "int8")
    assert result.exit_code == 0, result.output
    assert manifest_of(tmp_path / "int8")["variant"]["quality"]["recall_at_10"] >= 0.90
    assert run(*NETWORK, "--out", tmp_path / "full").exit_code == 0
    images = find_images(FOOD, SPEC, 300, print)
    full, int8 = (Runner((tmp_path / name / "model.onnx").read_bytes()).embed(images) for name in ("full", "int8"))
    quality = measure_quality(full, int8, "cosine")
    assert quality.recall_at_10 is not None
    assert quality.recall_at_10 >= 0.88


def test_half_the_dimensions_keep_the_neighbors(run: Run, tmp_path: Path) -> None:
    """512 become 256: in the catalog that it was fitted on 0.97 of the ten nearest stay."""
    arguments = (*NETWORK, "--resize", "bilinear", "--pca-dim", "256", "--pca-images", FASHION)
    result = run(*arguments, "--eval-images", FASHION, "--out", tmp_path / "half")
    assert result.exit_code == 0, result.output
    projection = manifest_of(tmp_path / "half")["projection"]
    assert projection["input_dim"] == 512
    assert projection["explained_energy"] > 0.98
    assert projection["quality"]["recall_at_10"] >= 0.97
