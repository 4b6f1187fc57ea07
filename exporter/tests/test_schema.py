"""Folders of schema version 1 are read as those of the current version.

golden/v1 was written by the last exporter of version 1: `full` with every block of a manifest, `plain` without the
optional ones, and `server`, a manifest of the server's tests that does not say how it was made.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from folders import draw_images, manifest_of

from lookalike_exporter.cli.main import main
from lookalike_exporter.errors import ExportError
from lookalike_exporter.graph.runner import Runner
from lookalike_exporter.images import generate_images
from lookalike_exporter.output.folder import read_folder
from lookalike_exporter.output.schema import SCHEMA_VERSION, V1_KEYS, upgrade

GOLDEN = Path(__file__).parent / "golden" / "v1"


def keys(manifest: Any) -> set[str]:
    """Collect the keys of a manifest at every depth."""
    if not isinstance(manifest, dict):
        return set()
    return set(manifest).union(*map(keys, manifest.values()))


@pytest.fixture
def v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the golden folders, the working directory, with the images that `full` was made with."""
    copy = tmp_path / "v1"
    shutil.copytree(GOLDEN, copy)
    draw_images(copy / "images", 200)
    monkeypatch.chdir(copy)
    return copy


def test_every_block_is_upgraded() -> None:
    """Each value is found under its new key, and the arguments have the new options."""
    old, new = manifest_of(GOLDEN / "full"), upgrade(manifest_of(GOLDEN / "full"))
    assert new["schema_version"] == SCHEMA_VERSION
    for block in ("name", "backbone", "weights", "graph", "preprocess", "precision", "parity", "tools"):
        assert new[block] == old[block]
    assert new["input"] == {
        "height": 16, "width": 20, "layout": "NHWC", "dtype": "uint8", "color": "RGB", "resize": "bilinear",
        "color_management": "none",
    }  # fmt: skip
    assert new["output"] == {"dim": 24, "pooling": "flatten", "metric": "cosine", "normalized": True}
    projection, variant = old["projection"], old["reduced"]
    assert new["projection"] == {
        "input_dim": projection["numbers"],
        "explained_energy": projection["explained_energy"],
        "centered": projection["centred"],
        "whitened": projection["whitened"],
        "images": projection["images"],
        "images_sha256": projection["images_sha256"],
        "quality": {
            "images": 200,
            "cosine_min": None,
            "cosine_p1": None,
            "cosine_median": None,
            "recall_at_10": projection["quality"]["top10_overlap"],
            "recall_at_1": projection["quality"]["same_nearest"],
        },
    }
    assert new["variant"]["quality"]["recall_at_10"] == variant["quality"]["top10_overlap"] == 1.0
    assert new["variant"]["fp32_nodes"] == variant["kept"] == ["0004_Conv", "0006_Conv"]
    assert (new["variant"]["percentile"], new["variant"]["images"]) == (99.999, 64)
    assert new["arguments"] == [
        *("--model", "tiny.keras", "--preprocess", "tf", "--pooling", "flatten", "--pca-dim", "24"),
        *("--pca-images", "images", "--center", "--whiten", "--precision", "int8", "--calibration-images", "images"),
        *("--eval-images", "images", "--min-recall", "0.1", "--allow-quality-drop"),
        *("--color-management", "none"),
    ]


@pytest.mark.parametrize("name", ["full", "plain", "server"])
def test_upgrade_is_pure_and_done_once(name: str) -> None:
    """The version-1 manifest is left alone, and one of the current version comes back as it is."""
    old = manifest_of(GOLDEN / name)
    new = upgrade(old)
    assert old == manifest_of(GOLDEN / name)
    assert upgrade(new) == new
    assert not keys(new) & set(V1_KEYS)


@pytest.mark.parametrize("version", [0, 4, "2", None])
def test_unknown_version(version: object) -> None:
    """A version that is not known is rejected with those that are."""
    with pytest.raises(ExportError, match=f"schema_version is {version!r}, this exporter reads 1 to 3; export the"):
        upgrade({"schema_version": version})


def test_a_folder_of_version_1_is_read(v1: Path) -> None:
    """Its graph, digest and arguments are there; one that does not say how it was made is rejected for that."""
    folder = read_folder(v1 / "full")
    assert (folder.precision, folder.arguments[6:8]) == ("int8", ("--pca-dim", "24"))
    assert folder.digest == manifest_of(v1 / "full")["graph"]["sha256"]
    shutil.copy(v1 / "plain" / "model.onnx", v1 / "server")
    manifest = manifest_of(v1 / "server")
    manifest["graph"]["sha256"] = manifest_of(v1 / "plain")["graph"]["sha256"]
    (v1 / "server" / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="arguments is missing or empty"):
        read_folder(v1 / "server")


def test_a_folder_of_version_1_is_reproduced(v1: Path) -> None:
    """What is exported again has the same digest, so that catalogs embedded with the old folder stay valid."""
    result = CliRunner().invoke(main, ["reproduce", "plain", "--out", "again"])
    before, again = manifest_of(v1 / "plain"), manifest_of(v1 / "again")
    # Another release of the libraries may write another graph: then `reproduce` must say so.
    assert result.exit_code == (0 if again["graph"] == before["graph"] else 1), result.output
    if again["tools"] == before["tools"]:
        assert again["graph"] == before["graph"]
    graphs = [(v1 / folder / "model.onnx").read_bytes() for folder in ("plain", "again")]
    metadata = [{each.key: each.value for each in onnx.load_from_string(graph).metadata_props} for graph in graphs]
    assert metadata[0] == metadata[1]
    images = generate_images(16, 20)
    np.testing.assert_allclose(Runner(graphs[1]).run(images), Runner(graphs[0]).run(images), atol=1e-5)


@pytest.mark.slow
def test_old_options_are_reproduced(v1: Path) -> None:
    """A projection and int8 of version 1 are made again by the options' new names, to the same dimensions."""
    result = CliRunner().invoke(main, ["reproduce", "full", "--out", "again"])
    before, again = upgrade(manifest_of(v1 / "full")), manifest_of(v1 / "again")
    # Sums in another order, on another processor, may give another graph: then `reproduce` must say so.
    assert result.exit_code == (0 if again["graph"] == before["graph"] else 1), result.output
    since = {"parity_bounds": again.pop("parity_bounds"), "runtimes": again.pop("runtimes")}
    assert None not in since.values()
    assert keys(again) == keys(before)
    for block in ("weights", "input", "preprocess", "output", "precision"):
        assert again[block] == before[block]
    # paths are from the model folder since; those of version 1 were from the folder of the export
    assert [each.removeprefix("../") for each in again["arguments"]] == before["arguments"]


def test_a_folder_of_version_1_is_verified(v1: Path) -> None:
    """`verify` compares it with Keras."""
    result = CliRunner().invoke(main, ["verify", str(v1 / "plain"), "--images", "images", "--max-images", "40"])
    assert result.exit_code == 0, result.output
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [
        *("graph", "fp32 vs Keras", "fp32 vs Keras", "fp32 vs fp32")
    ]
