"""Projections: they are those of principal component analysis, and what comes out keeps the search results."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from folders import draw_images, manifest_of
from networks import Run

from lookalike_exporter.errors import ExportError
from lookalike_exporter.images import generate_images
from lookalike_exporter.variants.pca import fit


def rows(count: int, dim: int, directions: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Make rows of a few directions and a little noise, off the origin: [count, dim] float32."""
    rng = np.random.default_rng(4)
    spread = rng.normal(size=(count, directions)) * np.linspace(4, 1, directions)
    noisy = spread @ rng.normal(size=(directions, dim)) + 3 + 0.01 * rng.normal(size=(count, dim))
    return noisy.astype(np.float32)


@pytest.mark.parametrize("dim", [40, 9000])
def test_directions_are_those_of_the_singular_vectors(dim: int) -> None:
    """They span what NumPy's decomposition gives, have length 1, and the energy is the squares' share."""
    data = rows(100, dim, 6)
    _, sizes, right = np.linalg.svd(data.astype(np.float64), full_matrices=False)
    projection = fit(data, 5, center=False, whiten=False)
    np.testing.assert_allclose(np.abs(right[:5] @ projection.basis), np.eye(5), atol=1e-4)
    assert projection.energy == pytest.approx(float((sizes[:5] ** 2).sum() / (sizes**2).sum()), rel=1e-6)
    assert not projection.offset.any()


def test_centered_and_whitened() -> None:
    """What comes out has mean 0 and, whitened, variance 1 in every direction."""
    data = rows(200, 40, 6)
    projection = fit(data, 5, center=True, whiten=True)
    out = data @ projection.basis + projection.offset
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-3)
    assert projection.energy > 0.97  # all but one of six directions is left, and the mean does not count
    plain = fit(data, 5, center=True, whiten=False)
    spreads = (data @ plain.basis + plain.offset).std(axis=0)
    assert spreads.tolist() == sorted(spreads.tolist(), reverse=True)
    np.testing.assert_allclose(plain.basis / spreads, projection.basis, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "components", "center", "message"),
    [
        (3, 256, False, "256 components need 256 images or more, there are 3"),
        (20, 20, True, "20 components need 21 images or more, there are 20"),
        (600, 512, False, "the embeddings have only 512 dimensions"),
    ],
)
def test_too_few_of_something(count: int, components: int, message: str, *, center: bool) -> None:
    """Too few images, or too few dimensions to begin with, are rejected with how many there should be."""
    with pytest.raises(ExportError, match=message):
        fit(rows(count, 512, 4), components, center=center, whiten=False)


def test_images_that_do_not_differ() -> None:
    """The same image over and over has one direction, which the error says."""
    with pytest.raises(ExportError, match="differ in 1 directions only"):
        fit(np.repeat(rows(1, 32, 2), 20, axis=0), 4, center=False, whiten=False)


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("cosine", []),
        ("euclidean", ["--center", "--whiten"]),
        pytest.param("euclidean", [], marks=pytest.mark.slow),
        pytest.param("cosine", ["--center", "--whiten"], marks=pytest.mark.slow),
    ],
)
def test_it_is_in_the_graph(run: Run, tiny: Path, tmp_path: Path, metric: str, more: list[str]) -> None:
    """The graph gives as many dimensions, of length 1 for cosine, and model.json records what they were fitted to."""
    images = draw_images(tmp_path / "images", 200)
    result = run(
        *("--model", tiny, "--preprocess", "tf", "--pooling", "flatten", "--metric", metric, "--pca-dim", "24"),
        *("--pca-images", images, *more, "--min-recall", "0.3", "--out", tmp_path / "mine"),
    )
    assert result.exit_code == 0, result.output
    manifest = manifest_of(tmp_path / "mine")
    kept = manifest["projection"]
    assert manifest["output"] == {"dim": 24, "pooling": "flatten", "metric": metric, "normalized": metric == "cosine"}
    assert (kept["input_dim"], kept["images"], kept["centered"], kept["whitened"]) == (480, 160, bool(more), bool(more))
    assert 0.5 < kept["explained_energy"] <= 1
    assert kept["quality"]["images"] == 40
    assert kept["quality"]["cosine_min"] is None  # of other lengths
    session = onnxruntime.InferenceSession(tmp_path / "mine" / "model.onnx", providers=["CPUExecutionProvider"])
    (embeddings,) = session.run(["embeddings"], {"images": generate_images(32, 40)})
    assert embeddings.shape == (16, 24)
    lengths = np.linalg.norm(embeddings, axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == (metric == "cosine")


def test_three_images_for_many_components(run: Run, tiny: Path, tmp_path: Path) -> None:
    """The error says how many there are and how many it takes, and nothing is written."""
    images = draw_images(tmp_path / "images", 3)
    result = run(
        *("--model", tiny, "--preprocess", "tf", "--pooling", "flatten", "--pca-dim", "256", "--pca-images", images),
        *("--out", tmp_path / "mine"),
    )
    assert result.exit_code == 1
    assert "256 components need 256 images or more, there are 3" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "mine").exists()


def test_a_projection_below_its_gate(run: Run, tiny: Path, tmp_path: Path) -> None:
    """One dimension cannot keep the results: it is not written, unless a drop is allowed."""
    images = draw_images(tmp_path / "images", 120)
    arguments = (
        "--model",
        tiny,
        "--preprocess",
        "tf",
        "--pca-dim",
        "1",
        "--pca-images",
        images,
        "--metric",
        "euclidean",
    )
    result = run(*arguments, "--out", tmp_path / "mine")
    assert result.exit_code == 1
    assert "--allow-quality-drop writes it" in result.stderr
    assert not (tmp_path / "mine").exists()
    result = run(*arguments, "--allow-quality-drop", "--out", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    assert "BELOW ITS GATE" in result.output
