"""fp16 and int8: on real weights and photos drawn for the purpose, what they keep, what they cost, what is refused."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from networks import Run

from lookalike_exporter.__main__ import main
from lookalike_exporter.gates import OVERLAP, check_gate
from lookalike_exporter.quality import Quality, compare_answers, nearest
from pictures import picture_folder

Exported = Callable[[str], Path]


def command(*arguments: str | Path) -> Result:
    """`lookalike-exporter` with the given arguments."""
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred drawn pictures, larger than the network's input."""
    return picture_folder(tmp_path_factory.mktemp("photos") / "drawn", 100, height=260, width=240)


@pytest.fixture(scope="module")
def exported(run: Run, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """SqueezeNet with real weights in a precision, each made once."""
    made: dict[str, Path] = {}

    def export(precision: str) -> Path:
        if precision not in made:
            out = tmp_path_factory.mktemp(precision) / "model"
            more = ("--calibrate-on", photos) if precision == "int8" else ("--judge-on", photos)
            result = run(
                *("--backbone", "squeezenet", "--weights", "imagenet", "--precision", precision, *more),
                *("--min-overlap", "0.5", "--out", out),
            )
            assert result.exit_code == 0, result.output
            made[precision] = out
            (out.parent / "said.txt").write_text(result.output)
        return made[precision]

    return export


def manifest_of(folder: Path) -> dict[str, Any]:
    """A model folder's model.json."""
    manifest: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return manifest


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_variant_and_its_table(exported: Exported, precision: str) -> None:
    """It keeps the answers, model.json says how many, and the table shows it beside fp32."""
    folder = exported(precision)
    manifest = manifest_of(folder)
    quality = manifest["reduced"]["quality"]
    assert manifest["precision"] == precision
    assert quality["top10_overlap"] >= (0.99 if precision == "fp16" else 0.7)
    assert quality["cosine_min"] > (0.9999 if precision == "fp16" else 0.97)
    rows = {line.split()[0]: line.split() for line in (folder.parent / "said.txt").read_text().splitlines() if line}
    assert [float(cell) > 0 for cell in rows["fp32"][1:3]] == [True, True]
    assert rows[precision][-2:] == [f"{quality['top10_overlap']:.3f}", f"{quality['same_nearest']:.3f}"]


def test_an_int8_graph_computes_in_int8(exported: Exported) -> None:
    """Convolutions take quantised weights, a scale a channel; what was kept in fp32 is named; its file is small."""
    folder = exported("int8")
    graph = onnx.load(folder / "model.onnx").graph
    reduced = manifest_of(folder)["reduced"]
    kinds = Counter(node.op_type for node in graph.node)
    scales = {tensor.name: tensor.dims for tensor in graph.initializer}
    weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[1] in scales]
    assert kinds["QuantizeLinear"] > 20
    assert sum(list(scales[node.input[1]]) not in ([], [1]) for node in weights) >= kinds["Conv"] - 2
    assert (folder / "model.onnx").stat().st_size < 1_000_000  # 2.9 MB in fp32
    assert (reduced["images"], reduced["percentile"]) == (50, 99.999)
    assert set(reduced["kept"]) <= {"0004_Conv", "0062_Conv"}


def test_an_fp16_graph_keeps_its_ends(exported: Exported) -> None:
    """It takes uint8 and gives float32; its weights are half as many bytes."""
    model = onnx.load(exported("fp16") / "model.onnx")
    ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert ends == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    assert Counter(tensor.data_type for tensor in model.graph.initializer)[onnx.TensorProto.FLOAT16] > 40


def test_repeat_gives_the_same_graph(exported: Exported, tmp_path: Path) -> None:
    """The manifest alone is enough to make the same graph again, calibration and all."""
    result = command("repeat", exported("int8"), "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert "the same graph" in result.stdout
    assert manifest_of(tmp_path / "again")["graph"] == manifest_of(exported("int8"))["graph"]


def test_repeat_tells_where_something_changed(run: Run, tiny: Path, tmp_path: Path) -> None:
    """With other pictures to fit to another graph comes of it, and the exit status says so."""
    photos = picture_folder(tmp_path / "photos", 60)
    arguments = ("--model", tiny, "--preprocess", "tf", "--project", "4", "--fit-on", photos, "--accept-worse")
    assert run(*arguments, "--out", tmp_path / "mine").exit_code == 0
    (photos / "000.png").unlink()
    result = command("repeat", tmp_path / "mine", "--out", tmp_path / "again")
    assert result.exit_code == 1
    assert "another graph" in result.stderr


def test_a_gate_of_nothing_is_repeated(run: Run, tiny: Path, tmp_path: Path) -> None:
    """--min-overlap 0 is a choice like another: the manifest keeps it, or repeat would be refused."""
    photos = picture_folder(tmp_path / "photos", 60)
    arguments = ("--model", tiny, "--preprocess", "tf", "--project", "1", "--fit-on", photos, "--min-overlap", "0")
    assert run(*arguments, "--out", tmp_path / "mine").exit_code == 0
    assert manifest_of(tmp_path / "mine")["arguments"][-2:] == ["--min-overlap", "0.0"]
    result = command("repeat", tmp_path / "mine", "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output


def test_verify(exported: Exported, photos: Path) -> None:
    """The folder is compared with Keras and with its fp32 variant; under a gate the exit status is 1."""
    arguments = ("verify", exported("int8"), "--images", photos, "--most", "40")
    result = command(*arguments, "--min-overlap", "0.5")
    assert result.exit_code == 0, result.output
    rows = [re.split(r" {2,}", line) for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == ["graph", "fp32 by Keras", "int8 by Keras", "int8 by fp32"]
    assert rows[1][-1] == "0.999"
    result = command(*arguments, "--min-overlap", "1")
    assert result.exit_code == 1
    assert "keeps too little" in result.stderr


def test_verify_wants_a_folder_of_ours(exported: Exported, photos: Path, tmp_path: Path) -> None:
    """A folder that is none, a graph that was changed, or a manifest that does not say how: told in one line."""
    result = command("verify", photos, "--images", photos)
    assert (result.exit_code, "not a model folder's manifest" in result.stderr) == (1, True)
    copy = tmp_path / "copy"
    copy.mkdir()
    source = exported("fp16")
    (copy / "model.json").write_text((source / "model.json").read_text())
    (copy / "model.onnx").write_bytes((source / "model.onnx").read_bytes() + b"\\0")
    result = command("verify", copy, "--images", photos)
    assert (result.exit_code, "is not the one that model.json describes" in result.stderr) == (1, True)
    manifest = manifest_of(source)
    (copy / "model.onnx").write_bytes((source / "model.onnx").read_bytes())
    (copy / "model.json").write_text(json.dumps(manifest | {"arguments": ["--no-such"]}))
    result = command("verify", copy, "--images", photos)
    assert (result.exit_code, "cannot be followed here" in result.stderr) == (1, True)


@pytest.mark.parametrize("option", ["--calibrate-on", "--judge-on"])
def test_folders_that_cannot_be_used(run: Run, tiny: Path, tmp_path: Path, option: str) -> None:
    """Without a picture, or with too few, the folder is named and nothing is written."""
    empty = tmp_path / "empty"
    empty.mkdir()
    few = picture_folder(tmp_path / "few", 8)
    precision = "int8" if option == "--calibrate-on" else "fp16"
    for folder, said in ((empty, "no picture in it"), (few, "there are")):
        result = run(
            *(
                "--model",
                tiny,
                "--preprocess",
                "tf",
                "--precision",
                precision,
                option,
                folder,
                "--out",
                tmp_path / "out",
            )
        )
        assert result.exit_code == 1, result.output
        last = result.stderr.splitlines()[-1]
        assert last.startswith("Error: ")
        assert said in last
        assert f"{folder}" in last
        assert not (tmp_path / "out").exists()


def test_a_picture_that_cannot_be_decoded_is_left_out(run: Run, tiny: Path, tmp_path: Path) -> None:
    """One bad file among many is named and left out."""
    photos = picture_folder(tmp_path / "photos", 100)
    (photos / "050.png").write_text("not a picture")
    result = run(
        *("--model", tiny, "--preprocess", "tf", "--precision", "int8", "--calibrate-on", photos, "--accept-worse"),
        *("--out", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    assert f"left out: {photos / '050.png'} cannot be decoded" in result.stderr


def test_fp16_without_photos_is_judged_by_cosines(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Neighbours among generated pictures mean nothing, so they are left out."""
    result = run("--model", tiny, "--preprocess", "tf", "--precision", "fp16", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    quality = manifest_of(tmp_path / "out")["reduced"]["quality"]
    assert (quality["top10_overlap"], quality["same_nearest"]) == (None, None)
    assert quality["cosine_min"] > 0.999


def test_quality_of_answers() -> None:
    """Counted by hand: rows on a line, of which one is moved to the other end."""
    line = np.arange(20, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    assert compare_answers(line, line, "euclidean").top10_overlap == 1
    assert nearest(line, "euclidean", 3)[5].tolist() == [4, 6, 3]
    moved = line.copy()
    moved[0] = 100
    found = compare_answers(line, moved, "euclidean")
    right, given = nearest(line, "euclidean", 10), nearest(moved, "euclidean", 10)
    by_hand = np.mean([len(set(a) & set(b)) for a, b in zip(right.tolist(), given.tolist(), strict=True)]) / 10
    assert found.top10_overlap == pytest.approx(by_hand)
    assert found.same_nearest == pytest.approx(18 / 20)  # not of the moved one, nor of its neighbour
    assert compare_answers(line + 1, line + 1, "cosine").cosine_min == pytest.approx(1)
    assert compare_answers(line, line[:, :2], "euclidean").cosine_min is None


@pytest.mark.parametrize("what", OVERLAP)
def test_gates(what: str) -> None:
    """At the gate is enough, under it is not, and another gate may be set."""
    at = Quality(100, 1.0, 1.0, 1.0, OVERLAP[what], 1.0)
    under = Quality(100, 1.0, 1.0, 1.0, OVERLAP[what] - 0.001, 1.0)
    assert "is demanded" in check_gate(what, at, None, accept_worse=False)
    assert "is demanded" in check_gate(what, under, 0.1, accept_worse=False)
    assert "UNDER ITS GATE" in check_gate(what, under, None, accept_worse=True)
    with pytest.raises(Exception, match="nothing was written"):
        check_gate(what, under, None, accept_worse=False)
