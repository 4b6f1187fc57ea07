"""The recipes' own commands on real images answer what Keras and a comparison with every image answer.

ImageNet's ResNet50 cannot be had everywhere, and not on a machine without the internet: its place takes ResNet50 with
random weights, of the same shape and cost (`--weights random --seed 7` in the very command). With random weights all
images are nearly alike, so the food recipe is tried with SqueezeNet and real weights too. scikit-learn is not here; its
`euclidean_distances` is sqrt(sum((a - b)^2)), its `cosine_distances` 1 - a.b / (|a| |b|), and so they are written
below, in float64.

The images and SqueezeNet are not part of the project; where they are not beside the checkout the tests are skipped.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest

from e2e.recipes.page import Outcome, Question, Recipe
from support.paths import ROOT, SHARED

EXPORTER = ROOT / ".venv-exporter" / "bin" / "python"
SQUEEZENET = SHARED / "models" / "squeezenet_imagenet.keras"
FEATURES = Path(__file__).parent / "keras_features.py"
SEED = 7
A_GROUP = 9  # images of each dish or gender in the catalog; one more, that is not in it, asks

pytestmark = [
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
    """A recipe with a network.

    Attributes:
        recipe: Its page.
        network: Words of its export command, and what stands for them here.
        category: What its query names as the category.
        distances: What scikit-learn computes: of rows to one row.
        off: By how much a distance may differ, at the distance of the farthest that is answered.
        model: The Keras file; None for ResNet50 with random weights.
        preprocess: `caffe` or `rescale`.
        pooled: Whether over the feature map.
    """

    recipe: str
    network: Mapping[str, str] = field(repr=False)
    category: str
    distances: Callable[[Floats, Floats], Floats]
    off: float
    model: Path | None
    preprocess: str
    pooled: bool


def euclidean(rows: Floats, row: Floats) -> Floats:
    """Distances [n]."""
    return np.asarray(np.sqrt(((rows - row) ** 2).sum(axis=1)))


def cosine(rows: Floats, row: Floats) -> Floats:
    """Distances [n]."""
    return np.asarray(1 - rows @ row / (np.linalg.norm(rows, axis=1) * np.linalg.norm(row)))


CASES = {
    "food": Case("food", RANDOM, "food", cosine, 1e-3, None, "caffe", pooled=True),
    "food-real-weights": Case("food", REAL, "food", cosine, 1e-3, SQUEEZENET, "caffe", pooled=True),
    "fashion": Case("fashion", RANDOM, '"$GENDER"', euclidean, 1e-3, None, "rescale", pooled=False),
}


@dataclass(frozen=True)
class Images:
    """What a recipe is given: the products by id, each with its image and its category, and what is asked."""

    products: Mapping[str, tuple[Path, str]]
    questions: Sequence[Question]
    places: Mapping[str, Path | str]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Images]:
    """Some images of each recipe, where its page looks for them; links, so that nothing is copied."""
    return {"food": _food(tmp_path_factory.mktemp("food")), "fashion": _fashion(tmp_path_factory.mktemp("fashion"))}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, images: Mapping[str, Images]) -> Mapping[str, Floats]:
    """By Keras, of each case: of the products in their order, then of the queries."""
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
def test_recipe_answers_what_keras_and_scikit_learn_answer(
    name: str, images: Mapping[str, Images], features: Mapping[str, Floats], tmp_path: Path
) -> None:
    """The same ids in order, and the same distances."""
    case, given = CASES[name], images[CASES[name].recipe]
    places = {**given.places, "MODEL": tmp_path / "model", "DATA": tmp_path / "data"}
    if "CATALOG" not in places:
        places["CATALOG"] = tmp_path / "catalog.csv"
    outcome = Recipe(case.recipe).run(tmp_path, case.network, places, given.questions, case.category)
    ids, rows = list(given.products), features[name]
    for number, question in enumerate(given.questions):
        inside = [at for at, (_, category) in enumerate(given.products.values()) if category == question.category]
        distances = case.distances(rows[inside], rows[len(ids) + number])
        order = np.argsort(distances)[: outcome.neighbors]
        expected = [(ids[inside[at]], float(distances[at])) for at in order]
        _compare(_answered(outcome, number), expected, case.off)
    _check_table(outcome)
    _check_cost(case, tmp_path, given)


def _compare(answered: Sequence[tuple[str, float]], expected: Sequence[tuple[str, float]], off: float) -> None:
    far = [distance for _, distance in expected]
    np.testing.assert_allclose([distance for _, distance in answered], far, rtol=off)
    assert min(after - before for before, after in pairwise(far)) > 0
    assert [name for name, _ in answered] == [name for name, _ in expected]


def _answered(outcome: Outcome, number: int) -> list[tuple[str, float]]:
    return [(each["product"]["id"], each["distance"]) for each in outcome.answers[number]["neighbors"]]


def _check_table(outcome: Outcome) -> None:
    """What the page's own query printed is the first answer, with as many neighbors as it asks for."""
    printed = outcome.table()
    assert len(printed) == outcome.neighbors
    assert [name for name, _ in printed] == [name for name, _ in _answered(outcome, 0)]
    np.testing.assert_allclose(
        [distance for _, distance in printed], [distance for _, distance in _answered(outcome, 0)], atol=5.1e-5
    )


def _check_cost(case: Case, folder: Path, given: Images) -> None:
    """The catalog takes what the page says: the embeddings, and the images as they were sent."""
    numbers = json.loads((folder / "model" / "model.json").read_text("utf-8"))["output"]["dim"]
    if case.model is None:
        page = (ROOT / "docs" / "recipes" / f"{case.recipe}.md").read_text(encoding="utf-8")
        assert f"{numbers:,} numbers" in page
        assert re.search(rf"^\| SQLite[^|]*\| {4 * numbers // 1000} KB ", page, re.MULTILINE)
    rest = sum(path.stat().st_size for path, _ in given.products.values())
    kept = (folder / "data" / "catalog.sqlite").stat().st_size - rest
    assert kept == pytest.approx(4 * numbers * len(given.products), rel=0.05, abs=500_000)


def _files(given: Images) -> list[Path]:
    return [*(path for path, _ in given.products.values()), *(question.image for question in given.questions)]


def _food(folder: Path) -> Images:
    dishes = sorted(path for path in (SHARED / "food").iterdir() if path.is_dir())
    products, questions = {}, []
    for dish in dishes:
        asked, *chosen = sorted(dish.glob("*.jpg"))[: A_GROUP + 1]
        questions.append(Question(asked, "food"))
        (folder / dish.name).mkdir()
        for image in chosen:
            (folder / dish.name / image.name).symlink_to(image)
            products[f"{dish.name}-{image.stem}"] = (image, "food")
    return Images(products, questions, {"IMAGES": folder, "IMAGE": questions[0].image})


def _fashion(folder: Path) -> Images:
    catalog = SHARED / "catalog"
    with (catalog / "duplicates.csv").open(encoding="utf-8") as file:
        twins = {row["product_id"] for row in csv.DictReader(file)}
    with (catalog / "catalog.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["product_id"] not in twins]
    by_gender: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_gender.setdefault(row["gender"], []).append(row)
    questions, chosen = [], []
    for gender, (asked, *others) in by_gender.items():
        questions.append(Question(catalog / asked["image"], gender))
        chosen.append(others[:A_GROUP])
    listed = [{**row, "image": str(catalog / row["image"])} for row in chain.from_iterable(chosen)]
    with (folder / "catalog.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    products = {row["product_id"]: (Path(row["image"]), row["gender"]) for row in listed}
    places: dict[str, Path | str] = {
        "CATALOG": folder / "catalog.csv",
        "IMAGE": questions[0].image,
        "GENDER": questions[0].category,
    }
    return Images(products, questions, places)
