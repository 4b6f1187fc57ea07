"""Projections: what is fitted is what principal component analysis says, and what comes out keeps the answers."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from networks import Run

from lookalike_exporter.errors import ExportError
from lookalike_exporter.photos import generated_photos
from lookalike_exporter.projection import fit
from pictures import picture_folder


def rows(count: int, dim: int, directions: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Rows that lie in a few directions but for a little noise, off the origin: [count, dim] float32."""
    rng = np.random.default_rng(4)
    spread = rng.normal(size=(count, directions)) * np.linspace(4, 1, directions)
    noisy = spread @ rng.normal(size=(directions, dim)) + 3 + 0.01 * rng.normal(size=(count, dim))
    return noisy.astype(np.float32)


@pytest.mark.parametrize("dim", [40, 9000])
def test_directions_are_those_of_the_singular_vectors(dim: int) -> None:
    """They span what NumPy's decomposition gives, have length 1, and the energy is the squares' share."""
    data = rows(100, dim, 6)
    _, sizes, right = np.linalg.svd(data.astype(np.float64), full_matrices=False)
    projection = fit(data, 5, centre=False, whiten=False)
    np.testing.assert_allclose(np.abs(right[:5] @ projection.basis), np.eye(5), atol=1e-4)
    assert projection.energy == pytest.approx(float((sizes[:5] ** 2).sum() / (sizes**2).sum()), rel=1e-6)
    assert not projection.offset.any()


def test_centred_and_whitened() -> None:
    """What comes out has mean 0 and, whitened, variance 1 in every direction."""
    data = rows(200, 40, 6)
    projection = fit(data, 5, centre=True, whiten=True)
    out = data @ projection.basis + projection.offset
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-3)
    assert projection.energy > 0.97  # all but one of six directions is left, and the mean does not count
    plain = fit(data, 5, centre=True, whiten=False)
    spreads = (data @ plain.basis + plain.offset).std(axis=0)
    assert spreads.tolist() == sorted(spreads.tolist(), reverse=True)
    np.testing.assert_allclose(plain.basis / spreads, projection.basis, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "components", "centre", "said"),
    [
        (3, 256, False, "256 components need 256 pictures or more, there are 3"),
        (20, 20, True, "20 components need 21 pictures or more, there are 20"),
        (600, 512, False, "the embeddings have only 512 numbers"),
    ],
)
def test_too_few_of_something(count: int, components: int, said: str, *, centre: bool) -> None:
    """Too few pictures, or too few numbers to begin with, are refused with how many there should be."""
    with pytest.raises(ExportError, match=said):
        fit(rows(count, 512, 4), components, centre=centre, whiten=False)


def test_pictures_that_do_not_differ() -> None:
    """The same picture over and over has one direction, and is told so."""
    with pytest.raises(ExportError, match="differ in 1 directions only"):
        fit(np.repeat(rows(1, 32, 2), 20, axis=0), 4, centre=False, whiten=False)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("more", [[], ["--center", "--whiten"]])
def test_it_is_in_the_graph(run: Run, tiny: Path, tmp_path: Path, metric: str, more: list[str]) -> None:
    """The graph gives as many numbers, of length 1 for cosine, and model.json says what they were fitted to."""
    photos = picture_folder(tmp_path / "photos", 200)
    result = run(
        *("--model", tiny, "--preprocess", "tf", "--pooling", "flatten", "--metric", metric, "--project", "24"),
        *("--fit-on", photos, *more, "--min-overlap", "0.3", "--out", tmp_path / "mine"),
    )
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "mine" / "model.json").read_text())
    kept = manifest["projection"]
    assert manifest["output"] == {"dim": 24, "pooling": "flatten", "metric": metric, "normalised": metric == "cosine"}
    assert (kept["numbers"], kept["images"], kept["centred"], kept["whitened"]) == (480, 160, bool(more), bool(more))
    assert 0.5 < kept["explained_energy"] <= 1
    assert kept["quality"]["images"] == 40
    assert kept["quality"]["cosine_min"] is None  # of other lengths
    session = onnxruntime.InferenceSession(tmp_path / "mine" / "model.onnx", providers=["CPUExecutionProvider"])
    (embeddings,) = session.run(["embeddings"], {"images": generated_photos(32, 40)})
    assert embeddings.shape == (16, 24)
    lengths = np.linalg.norm(embeddings, axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == (metric == "cosine")


def test_three_pictures_for_many_components(run: Run, tiny: Path, tmp_path: Path) -> None:
    """The command says how many there are and how many it takes, and writes nothing."""
    photos = picture_folder(tmp_path / "photos", 3)
    result = run(
        *("--model", tiny, "--preprocess", "tf", "--pooling", "flatten", "--project", "256", "--fit-on", photos),
        *("--out", tmp_path / "mine"),
    )
    assert result.exit_code == 1
    assert "256 components need 256 pictures or more, there are 3" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "mine").exists()


def test_a_projection_under_its_gate(run: Run, tiny: Path, tmp_path: Path) -> None:
    """One number cannot keep the answers: it is not written, unless it is said to."""
    photos = picture_folder(tmp_path / "photos", 120)
    arguments = ("--model", tiny, "--preprocess", "tf", "--project", "1", "--fit-on", photos, "--metric", "euclidean")
    result = run(*arguments, "--out", tmp_path / "mine")
    assert result.exit_code == 1
    assert "--accept-worse goes on" in result.stderr
    assert not (tmp_path / "mine").exists()
    result = run(*arguments, "--accept-worse", "--out", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    assert "UNDER ITS GATE" in result.output
