"""Which embeddings count as those of one model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from lookalike_server.domain.inference import Floats, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.manifest import PARITY_BOUNDS
from lookalike_server.inference.parity import measure_parity, parity_images
from support.bf16_graph import compute_in_bf16
from support.paths import ROOT, SHARED

MODEL = ROOT / "models" / "squeezenet-imagenet"
CATALOG = SHARED / "catalog" / "catalog.csv"
SIDE = 224
NEAREST = 10
SAME_DISTANCE = 1e-3
"""Distances that differ by less count as equal, as in ANN-Benchmarks: rows that near each other have no order."""

needs_squeezenet = pytest.mark.skipif(
    not MODEL.exists(), reason="models/squeezenet-imagenet is missing; `make run` or `make test` exports it"
)


def vectors(seed: int) -> Floats:
    """Return sixteen embeddings of length 1: float32 [16, 64]."""
    drawn = np.random.default_rng(seed).normal(size=(16, 64))
    normalized: Floats = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return normalized


def embed(graph: Path, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Floats:
    """Run a graph in ONNX Runtime, a few images at a time."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    batches = [session.run(None, {"images": images[at : at + 8]})[0] for at in range(0, len(images), 8)]
    embeddings: Floats = np.concatenate(batches)
    return embeddings


def test_equal_embeddings_are_within() -> None:
    """The same embeddings have cosine 1 and share all neighbors."""
    parity = measure_parity(vectors(0), vectors(0), PARITY_BOUNDS)
    assert parity.min_cosine == pytest.approx(1.0)
    assert (parity.overlap, parity.within_bounds) == (1.0, True)


def test_the_worst_image_counts() -> None:
    """One embedding that is another one is outside, however near the others are."""
    found = vectors(0)
    found[3] = vectors(1)[3]
    parity = measure_parity(vectors(0), found, PARITY_BOUNDS)
    assert parity.min_cosine < 0.9
    assert not parity.within_bounds


def test_lengths_count() -> None:
    """An embedding of another length is another embedding: euclidean distances would be wrong."""
    assert not measure_parity(vectors(0), vectors(0) * np.float32(1.1), PARITY_BOUNDS).within_bounds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_outside(value: float) -> None:
    """A runtime that computes NaN or infinity does not compute these embeddings."""
    found = vectors(0)
    found[0, 0] = value
    assert not measure_parity(vectors(0), found, PARITY_BOUNDS).within_bounds


def test_an_order_that_changes_counts() -> None:
    """Embeddings near each of their own, but whose neighbors differ, are outside."""
    crowded = vectors(0) * np.float32(1e-3) + np.float32(1 / 8)
    noise = vectors(1) * np.float32(1e-3)
    parity = measure_parity(crowded, crowded + noise, PARITY_BOUNDS)
    assert parity.min_cosine >= PARITY_BOUNDS.min_cosine
    assert parity.overlap < PARITY_BOUNDS.min_overlap
    assert not parity.within_bounds


def test_the_images_are_sixteen_real_ones() -> None:
    """The images that are shipped decode to the model's input, and no two are alike."""
    images = parity_images(ImageDecoder(32, 48, Resize.BILINEAR, 1 << 20, 1 << 20))
    assert images.shape == (16, 32, 48, 3)
    assert len({image.tobytes() for image in images}) == 16
    assert images.std(axis=(1, 2, 3)).min() > 5


@needs_squeezenet
def test_bf16_of_real_weights_is_within(tmp_path: Path) -> None:
    """SqueezeNet's ImageNet weights in bf16 are within the bounds."""
    images = parity_images(ImageDecoder(SIDE, SIDE, Resize.BILINEAR, 1 << 20, 1 << 20))
    compute_in_bf16(MODEL / "model.onnx", tmp_path / "bf16.onnx")
    expected, found = embed(MODEL / "model.onnx", images), embed(tmp_path / "bf16.onnx", images)
    assert not np.allclose(expected, found, atol=1e-5)  # or nothing was rounded
    assert measure_parity(expected, found, PARITY_BOUNDS).within_bounds


@pytest.mark.nightly
@needs_squeezenet
@pytest.mark.skipif(not CATALOG.exists(), reason="the 2,906 real products lie beside the checkout; they are not here")
def test_a_catalog_in_bf16_is_searched_in_fp32(tmp_path: Path) -> None:
    """Over real products, in each category: of ten neighbors in fp32, 99 % are found in a catalog that is in bf16."""
    with CATALOG.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = np.stack([_decoded(CATALOG.parent / row["image"]) for row in rows])
    compute_in_bf16(MODEL / "model.onnx", tmp_path / "bf16.onnx")
    queries, catalog = embed(MODEL / "model.onnx", images), embed(tmp_path / "bf16.onnx", images)
    categories = np.array([row["gender"] for row in rows])
    found = np.concatenate(
        [_found(queries[members], catalog[members]) for members in (categories == name for name in set(categories))]
    )
    assert len(found) == len(rows)
    assert found.mean() >= 0.99


def _decoded(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _found(queries: Floats, catalog: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the share of each query's neighbors in the catalog that are among its true ones."""
    true, approximate = queries @ queries.T, queries @ catalog.T
    np.fill_diagonal(true, -1.0)
    np.fill_diagonal(approximate, -1.0)
    limit = -np.sort(-true, axis=1)[:, NEAREST - 1] - SAME_DISTANCE
    top = np.argsort(-approximate, axis=1, kind="stable")[:, :NEAREST]
    share: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = (
        np.take_along_axis(true, top, axis=1) >= limit[:, np.newaxis]
    ).mean(axis=1)
    return share
