"""`lookalike get`, `delete`, `categories`, `model`, `wait` and `sample`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from lookalike_client import Client, ProductInput
from support.fake_server import FakeServer
from support.fake_state import image_file

Lookalike = Callable[..., Result]


@pytest.fixture
def stocked(fake: FakeServer) -> FakeServer:
    """A server with three products."""
    with Client(fake.address) as client:
        client.upsert(
            [
                ProductInput(name, "Men", f"Product {name}", f"{name}.jpg", {"color": color}, [image_file(name)])
                for name, color in (("a", "red"), ("b", "red"), ("c", "blue"))
            ]
        )
    return fake


def test_get_prints_a_product(lookalike: Lookalike, stocked: FakeServer) -> None:
    """Every field and attribute is shown; as JSON it is StoredProduct."""
    shown = lookalike("get", "a").stdout
    for text in ("Men", "Product a", "a.jpg", "color", "red"):
        assert text in shown
    assert json.loads(lookalike("--json", "get", "a").stdout) == {
        "product": {
            "id": "a",
            "category": "Men",
            "title": "Product a",
            "image_uri": "a.jpg",
            "attributes": {"color": "red"},
        },
        "image_count": 1,
    }


def test_titles_cannot_drive_the_terminal(lookalike: Lookalike, fake: FakeServer) -> None:
    """ControlChannel characters in a title are shown as replacement characters."""
    fake.put("a", title="evil \x1b[2J title")
    shown = lookalike("get", "a").stdout
    assert "\x1b" not in shown
    assert "evil \N{REPLACEMENT CHARACTER}[2J title" in shown


def test_delete_tells_each_outcome(lookalike: Lookalike, stocked: FakeServer) -> None:
    """One unknown id makes the exit code 1, and the others are deleted all the same."""
    result = lookalike("delete", "a", "x", "b")
    assert result.exit_code == 1
    assert result.stdout == "a: deleted\nx: not deleted: NOT_FOUND: no product 'x'\nb: deleted\n"
    assert sorted(stocked.products) == ["c"]
    assert lookalike("delete", "c").exit_code == 0


def test_delete_as_json(lookalike: Lookalike, stocked: FakeServer) -> None:
    """`--json` prints the statuses with the codes' names."""
    result = lookalike("--json", "delete", "a", "x")
    assert [(each["id"], each["code"]) for each in json.loads(result.stdout)] == [("a", "OK"), ("x", "NOT_FOUND")]


def test_categories_with_and_without_attributes(lookalike: Lookalike, stocked: FakeServer) -> None:
    """Counts and index kind of each category; with --attributes the values too."""
    plain = lookalike("categories").stdout
    assert plain.splitlines()[1].split() == ["Men", "3", "flat"]
    assert "color" not in plain
    assert "red (2), blue (1)" in lookalike("categories", "--attributes").stdout
    (category,) = json.loads(lookalike("--json", "categories", "--attributes").stdout)
    assert category["attributes"][0]["top_values"][0] == {"value": "red", "count": 2}


def test_no_categories_is_said(lookalike: Lookalike) -> None:
    """An empty server is a line, not an empty table."""
    assert lookalike("categories").stdout == "no category holds a product\n"


def test_model_tells_what_a_batch_takes(lookalike: Lookalike) -> None:
    """The batches that were measured are listed, with how many of them run at once."""
    assert "1 in 1.5 ms, 2 in 2.2 ms (2 at once)" in lookalike("model").stdout


def test_model_warns_of_random_weights(lookalike: Lookalike, fake: FakeServer) -> None:
    """A model that nobody trained is named as such on standard error; a trained one is not."""
    assert lookalike("model").stderr == ""
    fake.weights = "random(seed=7)"
    result = lookalike("model")
    assert "random(seed=7)" in result.stdout
    assert "its answers mean nothing" in result.stderr


def test_wait_returns_when_ready_and_fails_when_not(lookalike: Lookalike, fake: FakeServer) -> None:
    """`wait` is exit code 0 when SERVING; else 1 after its timeout."""
    assert lookalike("wait").stdout == f"{fake.address} is ready\n"
    fake.set_serving(serving=False)
    result = lookalike("wait", "--timeout", "0.3")
    assert result.exit_code == 1
    assert "not ready within 0.3 s" in result.stderr


def test_sample_without_pillow_says_what_to_install(
    lookalike: Lookalike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow is needed by `sample` alone, and its absence is a line with the remedy."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "PIL" or ".sample" in each]:
        if name != "tools.sample_catalog.__main__":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = lookalike("sample", tmp_path / "shop")
    assert result.exit_code == 1
    assert "pip install 'lookalike-client[sample]'" in result.stderr


def test_sample_does_not_overwrite(lookalike: Lookalike, tmp_path: Path) -> None:
    """A folder with other files in it is rejected in one line."""
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    result = lookalike("sample", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "mine.txt").exists()
