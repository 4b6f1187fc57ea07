"""The recipes' own commands on real images return what Keras and a comparison with every image return.

ImageNet's ResNet50 cannot be downloaded everywhere, and not on a machine without the internet. Instead the tests take
ResNet50 with random weights, of the same shape and cost (`--weights random --seed 7` in the same command). With random
weights all images are nearly alike, so the food recipe is also run with SqueezeNet and real weights. scikit-learn is
not installed here; its `euclidean_distances` is sqrt(sum((a - b)^2)) and its `cosine_distances` 1 - a.b / (|a| |b|),
written below in float64.

The images and SqueezeNet are not part of the repository; where they are not beside the checkout the tests are skipped.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest

from e2e.recipes.page import Outcome, Query, Recipe
from support.paths import ROOT, SHARED

EXPORTER = ROOT / ".venv-exporter" / "bin" / "python"
SQUEEZENET = SHARED / "models" / "squeezenet_imagenet.keras"
FEATURES = Path(__file__).parent / "keras_features.py"
SEED = 7
GROUP_SIZE = 9  # images of each dish or gender in the catalog; one more, which is not in it, is the query

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # above the limits of the processes that a test runs, which end what hangs
    pytest.mark.skipif(not (SHARED / "food").exists(), reason="the food images (../shared/food) are not here"),
    pytest.mark.skipif(not (SHARED / "catalog").exists(), reason="the fashion images (../shared/catalog) are not here"),
    pytest.mark.skipif(not SQUEEZENET.exists(), reason="the real network (../shared/models) is not here"),
    pytest.mark.skipif(not EXPORTER.exists(), reason="the exporter's environment (.venv-exporter) is not here"),
]

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
RANDOM = {"--weights imagenet": f"--weights random --seed {SEED}"}
REAL = {"--backbone resnet50 --weights imagenet": f"--model {SQUEEZENET}"}


@dataclass(frozen=True)
class Case:
    """A recipe, run with a network.

    Attributes:
        recipe: The name of its page.
        network: Words of its export command, and their replacements.
        category: The words of its query that name the category.
        distances: scikit-learn's function, from rows to one row.
        tolerance: The largest relative difference of a distance.
        model: The Keras file; None for ResNet50 with random weights.
        preprocess: `caffe` or `rescale`.
        pooled: Whether the feature map is averaged.
    """

    recipe: str
    network: Mapping[str, str] = field(repr=False)
    category: str
    distances: Callable[[Floats, Floats], Floats]
    tolerance: float
    model: Path | None
    preprocess: str
    pooled: bool


def euclidean(rows: Floats, row: Floats) -> Floats:
    """Return distances [n]."""
    return np.asarray(np.sqrt(((rows - row) ** 2).sum(axis=1)))


def cosine(rows: Floats, row: Floats) -> Floats:
    """Return distances [n]."""
    return np.asarray(1 - rows @ row / (np.linalg.norm(rows, axis=1) * np.linalg.norm(row)))


CASES = {
    "food": Case("food", RANDOM, "food", cosine, 1e-3, None, "caffe", pooled=True),
    "food-real-weights": Case("food", REAL, "food", cosine, 1e-3, SQUEEZENET, "caffe", pooled=True),
    "fashion": Case("fashion", RANDOM, '"$GENDER"', euclidean, 1e-3, None, "rescale", pooled=False),
}


@dataclass(frozen=True)
class Images:
    """The input of a recipe: the products by id, each with its image and category, the queries, and the variables."""

    products: Mapping[str, tuple[Path, str]]
    queries: Sequence[Query]
    variables: Mapping[str, Path | str]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Images]:
    """Provide some images of each recipe where its page expects them."""
    return {"food": _food(tmp_path_factory.mktemp("food")), "fashion": _fashion(tmp_path_factory.mktemp("fashion"))}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, images: Mapping[str, Images]) -> Mapping[str, Floats]:
    """Compute the features of each case with Keras: of the products in their order, then of the queries."""
    folder = tmp_path_factory.mktemp("features")
    jobs = [
        {
            "model": case.model and str(case.model),
            "seed": SEED,
            "pooled": case.pooled,
            "preprocess": case.preprocess,
            "images": [str(path) for path in _files(images[case.recipe])],
            "out": str(folder / f"{name}.npy"),
        }
        for name, case in CASES.items()
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    subprocess.run([EXPORTER, FEATURES, folder / "jobs.json"], check=True, capture_output=True, timeout=400)
    return {name: np.load(folder / f"{name}.npy").astype(np.float64) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_recipe_returns_what_keras_and_scikit_learn_return(
    name: str, images: Mapping[str, Images], features: Mapping[str, Floats], tmp_path: Path
) -> None:
    """The same ids in order, and the same distances."""
    case, given = CASES[name], images[CASES[name].recipe]
    variables = {**given.variables, "MODEL": tmp_path / "model", "DATA": tmp_path / "data"}
    if "CATALOG" not in variables:
        variables["CATALOG"] = tmp_path / "catalog.csv"
    outcome = Recipe(case.recipe).run(tmp_path, case.network, variables, given.queries, case.category)
    ids, rows = list(given.products), features[name]
    for number, query in enumerate(given.queries):
        inside = [at for at, (_, category) in enumerate(given.products.values()) if category == query.category]
        distances = case.distances(rows[inside], rows[len(ids) + number])
        order = np.argsort(distances)[: outcome.k]
        expected = [(ids[inside[at]], float(distances[at])) for at in order]
        _compare(_result(outcome, number), expected, case.tolerance)
    _check_table(outcome)
    _check_cost(case, tmp_path, given)


def _compare(result: Sequence[tuple[str, float]], expected: Sequence[tuple[str, float]], tolerance: float) -> None:
    distances = [distance for _, distance in expected]
    np.testing.assert_allclose([distance for _, distance in result], distances, rtol=tolerance)
    assert min(after - before for before, after in pairwise(distances)) > 0
    assert [name for name, _ in result] == [name for name, _ in expected]


def _result(outcome: Outcome, number: int) -> list[tuple[str, float]]:
    return [(each["product"]["id"], each["distance"]) for each in outcome.results[number]["neighbors"]]


def _check_table(outcome: Outcome) -> None:
    """Check that the page's own query printed the first result, with as many products as it asks for."""
    printed, result = outcome.table(), _result(outcome, 0)
    assert len(printed) == outcome.k
    assert [name for name, _ in printed] == [name for name, _ in result]
    np.testing.assert_allclose([distance for _, distance in printed], [distance for _, distance in result], atol=5.1e-5)


def _check_cost(case: Case, folder: Path, given: Images) -> None:
    """Check that the catalog takes as much disk as the page says: the embeddings, and the images as they were sent."""
    dim = json.loads((folder / "model" / "model.json").read_text("utf-8"))["output"]["dim"]
    if case.model is None:
        page = (ROOT / "docs" / "recipes" / f"{case.recipe}.md").read_text(encoding="utf-8")
        assert f"{dim:,} dimensions" in " ".join(page.split())
        assert re.search(rf"^\| SQLite[^|]*\| {4 * dim // 1000} KB ", page, re.MULTILINE)
    image_bytes = sum(path.stat().st_size for path, _ in given.products.values())
    embedding_bytes = (folder / "data" / "catalog.sqlite").stat().st_size - image_bytes
    assert embedding_bytes == pytest.approx(4 * dim * len(given.products), rel=0.05, abs=500_000)


def _files(given: Images) -> list[Path]:
    return [*(path for path, _ in given.products.values()), *(query.image for query in given.queries)]


def _food(folder: Path) -> Images:
    dishes = sorted(path for path in (SHARED / "food").iterdir() if path.is_dir())
    products, queries = {}, []
    for dish in dishes:
        query, *chosen = sorted(dish.glob("*.jpg"))[: GROUP_SIZE + 1]
        queries.append(Query(query, "food"))
        (folder / dish.name).mkdir()
        for image in chosen:
            (folder / dish.name / image.name).symlink_to(image)
            products[f"{dish.name}-{image.stem}"] = (image, "food")
    return Images(products, queries, {"IMAGES": folder, "IMAGE": queries[0].image})


def _fashion(folder: Path) -> Images:
    catalog = SHARED / "catalog"
    with (catalog / "duplicates.csv").open(encoding="utf-8") as file:
        duplicates = {row["product_id"] for row in csv.DictReader(file)}
    with (catalog / "catalog.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["product_id"] not in duplicates]
    by_gender: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_gender.setdefault(row["gender"], []).append(row)
    queries, chosen = [], []
    for gender, (query, *others) in by_gender.items():
        queries.append(Query(catalog / query["image"], gender))
        chosen.append(others[:GROUP_SIZE])
    listed = list(chain.from_iterable(chosen))
    for row in listed:  # copied, because links out of the folder are rejected
        (folder / row["image"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(catalog / row["image"], folder / row["image"])
    with (folder / "catalog.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    products = {row["product_id"]: (folder / row["image"], row["gender"]) for row in listed}
    variables: dict[str, Path | str] = {
        "CATALOG": folder / "catalog.csv",
        "IMAGE": queries[0].image,
        "GENDER": queries[0].category,
    }
    return Images(products, queries, variables)
