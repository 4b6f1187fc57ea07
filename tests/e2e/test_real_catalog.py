"""The whole way on real input: 2,906 images through the commands, with a small real network, against brute force.

The images and the network are not part of the project; where they are not beside the checkout these tests are skipped.
"""

from __future__ import annotations

import csv
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lookalike_client import Client, Equals
from support.paths import ROOT, SHARED
from support.processes import server_process

COLOR = "colour"  # codespell:ignore - a column of the real catalog

CATALOG = SHARED / "catalog" / "catalog.csv"
NETWORK = SHARED / "models" / "squeezenet_imagenet.keras"
LOOKALIKE = Path(sys.executable).parent / "lookalike"
EXPORTER = ROOT / ".venv-exporter" / "bin" / "lookalike-exporter"
AUTO = ("--provider", "auto")  # as users start it

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CATALOG.exists(), reason="the real catalog (../shared/catalog) is not here"),
    pytest.mark.skipif(not NETWORK.exists(), reason="the real network (../shared/models) is not here"),
]


@dataclass(frozen=True)
class Imported:
    """A catalog that was imported, and the vectors its store holds."""

    model: Path
    data: Path
    report: str
    rows: list[dict[str, str]]
    ids: dict[str, list[str]]
    vectors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]

    def nearest(self, product_id: str, k: int) -> list[tuple[str, float]]:
        """By brute force: the k products of the same category with the greatest cosine, ties by id."""
        category = next(category for category, ids in self.ids.items() if product_id in ids)
        vectors = self.vectors[category]
        distances = 1 - vectors @ vectors[self.ids[category].index(product_id)]
        # Equal rows may differ in their last bit here, depending on where they stand in the matrix.
        found = sorted(zip(distances.round(12).tolist(), self.ids[category], strict=True))
        return [(name, distance) for distance, name in found if name != product_id][:k]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """Export the network, serve it, and import every product through the API with the command line client."""
    folder = tmp_path_factory.mktemp("real")
    model, data = folder / "squeezenet", folder / "data"
    subprocess.run(
        [EXPORTER, "export", "--model", NETWORK, "--preprocess", "caffe", "--out", model], check=True, timeout=300
    )
    with server_process(model, data, *AUTO) as server:
        done = subprocess.run(
            [LOOKALIKE, "--server", server.address, "import", CATALOG],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert server.stop(signal.SIGTERM) == 0
    ids: dict[str, list[str]] = {}
    blobs: dict[str, list[bytes]] = {}
    connection = sqlite3.connect(data / "catalog.sqlite")
    for category, product_id, blob in connection.execute(
        "SELECT category, id, vector FROM products JOIN embeddings ON product_id = id ORDER BY category, id"
    ):
        ids.setdefault(category, []).append(product_id)
        blobs.setdefault(category, []).append(blob)
    connection.close()
    vectors = {}
    for category, rows in blobs.items():
        matrix = np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), -1).astype(np.float64)
        vectors[category] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    with CATALOG.open(encoding="utf-8") as file:
        return Imported(model, data, done.stdout + done.stderr, list(csv.DictReader(file)), ids, vectors)


@pytest.fixture(scope="module")
def client(imported: Imported) -> Iterator[Client]:
    """A server on the imported catalog, started again: nothing is imported again."""
    with server_process(imported.model, imported.data, *AUTO) as server, Client(server.address) as one:
        yield one


def test_everything_is_in(imported: Imported, client: Client) -> None:
    """All 2,906 products are stored with their facts, each in the category of its gender."""
    assert "imported 2,906 " in imported.report
    stored = {product.id: product for product in client.products()}
    assert len(stored) == len(imported.rows) == 2906
    for row in imported.rows:
        product = stored[row["product_id"]]
        assert (product.category, product.title) == (row["gender"], row["title"])
        assert product.attributes == {name: row[name] for name in ("category", "sub_category", "product_type", COLOR)}
    counts = {category.name: category.count for category in client.categories()}
    assert counts == {"Men": 811, "Women": 769, "Boys": 759, "Girls": 567}


def test_neighbors_are_those_of_brute_force(imported: Imported, client: Client) -> None:
    """For 100 products drawn by a fixed seed, ids in order and distances equal a brute-force search in NumPy."""
    drawn = random.Random(13683).sample(sorted(row["product_id"] for row in imported.rows), 100)  # noqa: S311
    for product_id in drawn:
        answer = client.search(product_id=product_id, k=10)
        expected = imported.nearest(product_id, 10)
        assert [neighbor.product.id for neighbor in answer.neighbors] == [name for name, _ in expected]
        np.testing.assert_allclose(
            [neighbor.distance for neighbor in answer.neighbors], [distance for _, distance in expected], atol=1e-6
        )
        assert answer.stats.exact


def test_known_product(client: Client) -> None:
    """Product 13683 has five neighbors, all of its own gender."""
    own = client.get("13683").product.category
    neighbors = client.search(product_id="13683", k=5).neighbors
    assert len(neighbors) == 5
    assert {neighbor.product.category for neighbor in neighbors} == {own}


def test_same_image_is_found_first(imported: Imported, client: Client) -> None:
    """A byte-identical image under another id is the first neighbor, at distance 0."""
    with (SHARED / "catalog" / "duplicates.csv").open(encoding="utf-8") as file:
        groups: dict[str, list[str]] = {}
        for row in csv.DictReader(file):
            groups.setdefault(row["group"], []).append(row["product_id"])
    for first, *others in list(groups.values())[::10]:
        found = client.search(product_id=first, k=len(others)).neighbors
        assert sorted(neighbor.product.id for neighbor in found) == sorted(others)
        assert all(neighbor.distance == pytest.approx(0, abs=1e-5) for neighbor in found)


def test_same_images_are_one_answer(imported: Imported, client: Client) -> None:
    """Collapsed, a whole category shows each image once, and each group of duplicates is one answer."""
    with (SHARED / "catalog" / "duplicates.csv").open(encoding="utf-8") as file:
        group_of = {row["product_id"]: row["group"] for row in csv.DictReader(file)}
    category = "Men"
    query = client.embed(SHARED / "catalog" / imported.rows[0]["image"]).values
    shown = client.search(vector=query, category=category, k=1000, collapse_duplicates=True).neighbors
    together = [[each.product.id, *(twin.id for twin in each.duplicates)] for each in shown]
    assert sorted(name for names in together for name in names) == sorted(imported.ids[category])
    by_group: dict[str, set[str]] = {}
    for names in together:
        groups = {group_of.get(name, name) for name in names}
        assert len(groups) == 1, f"{names} were made one and are of {groups}"
        for name in names:
            by_group.setdefault(group_of.get(name, name), set()).add(names[0])
    assert all(len(firsts) == 1 for firsts in by_group.values())


def test_filters_leave_the_nearest(imported: Imported, client: Client) -> None:
    """With a filter the answers are the nearest of the products that meet it, by brute force, and k of them."""
    attributes = {row["product_id"]: row for row in imported.rows}
    for product_id in random.Random(5).sample(sorted(attributes), 20):  # noqa: S311
        color, category = attributes[product_id][COLOR], attributes[product_id]["gender"]
        right = [name for name, _ in imported.nearest(product_id, 3000) if attributes[name][COLOR] == color]
        found = client.search(product_id=product_id, category=category, k=10, filters=[Equals(COLOR, color)])
        assert [neighbor.product.id for neighbor in found.neighbors] == right[:10]


def test_images_come_back_as_they_were_sent(imported: Imported, client: Client) -> None:
    """Every hundredth image is read back byte for byte."""
    for row in imported.rows[::100]:
        assert client.image(row["product_id"]).data == (CATALOG.parent / row["image"]).read_bytes()


def test_image_asks_what_the_product_asks(imported: Imported, client: Client) -> None:
    """A product's image, sent alone, has the embedding that its import in a batch stored, and finds it first."""
    for row in random.Random(7).sample(imported.rows, 16):  # noqa: S311
        image = CATALOG.parent / row["image"]
        position = imported.ids[row["gender"]].index(row["product_id"])
        stored = imported.vectors[row["gender"]][position]
        assert float(client.embed(image).values @ stored) >= 0.99999
        answer = client.search(image=image, category=row["gender"], k=1)
        assert answer.neighbors[0].distance == pytest.approx(0, abs=1e-5)


def test_restart_gives_the_same_answers(imported: Imported, tmp_path: Path) -> None:
    """After a restart the same answers come back, bit for bit, without importing again."""
    data = shutil.copytree(imported.data, tmp_path / "data")  # the others' server has the catalog's own folder
    drawn = random.Random(4).sample([row["product_id"] for row in imported.rows], 20)  # noqa: S311
    answers = []
    for _ in range(2):
        with server_process(imported.model, data, *AUTO) as server, Client(server.address) as one:
            answers.append([one.search(product_id=product_id, k=10).neighbors for product_id in drawn])
            assert server.stop(signal.SIGTERM) == 0
    assert answers[0] == answers[1]
