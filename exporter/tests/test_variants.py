"""fp16 and int8: on real weights and images drawn for the purpose, what they keep, what they cost, what is rejected."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from folders import draw_images, manifest_of
from networks import Run

from lookalike_exporter.cli.main import main
from lookalike_exporter.evaluation.quality import Quality, measure_quality, nearest
from lookalike_exporter.evaluation.quality_gate import MIN_RECALL, check_gate

Exported = Callable[[str], Path]


def command(*arguments: str | Path) -> Result:
    """`lookalike-exporter` with these arguments."""
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred drawn images, larger than the network's input."""
    return draw_images(tmp_path_factory.mktemp("images") / "drawn", 100, height=130, width=120)


@pytest.fixture(scope="module")
def exported(run: Run, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """SqueezeNet with real weights and a small input in a precision, each made once."""
    made: dict[str, Path] = {}

    def export(precision: str) -> Path:
        if precision not in made:
            out = tmp_path_factory.mktemp(precision) / "model"
            more = ("--calibration-images", images) if precision == "int8" else ("--eval-images", images)
            result = run(
                *("--backbone", "squeezenet", "--weights", "imagenet", "--input-size", "96x96"),
                *("--precision", precision, *more, "--min-recall", "0.5", "--out", out),
            )
            assert result.exit_code == 0, result.output
            made[precision] = out
            (out.parent / "output.txt").write_text(result.output)
        return made[precision]

    return export


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_variant_keeps_the_results(exported: Exported, precision: str) -> None:
    """It keeps the results, and model.json records how many."""
    manifest = manifest_of(exported(precision))
    quality = manifest["variant"]["quality"]
    assert manifest["precision"] == precision
    assert quality["recall_at_10"] >= (0.99 if precision == "fp16" else 0.7)
    assert quality["cosine_min"] > (0.9999 if precision == "fp16" else 0.97)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_variant_is_measured_in_each_runtime(exported: Exported, precision: str) -> None:
    """The table has it and fp32 in each runtime, then says what to take; model.json has the same figures."""
    manifest = manifest_of(exported(precision))
    runtimes, recall = manifest["runtimes"], manifest["variant"]["quality"]["recall_at_10"]
    rows = runtimes["rows"]
    installed = ["onnxruntime", "openvino"] if importlib.util.find_spec("openvino") else ["onnxruntime"]
    measured = [(row["variant"], row["runtime"]) for row in rows]
    assert measured == [(variant, runtime) for variant in ("fp32", precision) for runtime in installed]
    assert (len(runtimes["missing"]) == 0) == ("openvino" in installed)
    for row in rows:
        assert row["latency_ms"] > 0
        assert row["images_per_second"] > 0
        assert row["recall_at_10"] >= (0.99 if row["variant"] == "fp32" else recall - 0.05)
    floats = {"fp32", "bf16"}
    assert {row["precision"] for row in rows if row["variant"] == "fp32"} <= floats
    if precision == "int8":
        assert {row["precision"] for row in rows if row["variant"] == "int8"} <= {f"int8+{each}" for each in floats}
    assert rows[0]["recall_at_10"] == 1.0
    assert next(row for row in rows if row["variant"] == precision)["recall_at_10"] == recall
    output = (exported(precision).parent / "output.txt").read_text().splitlines()
    printed = [re.split(r" {2,}", line) for line in output]
    begin = printed.index(["variant", "runtime", "precision", "one image, ms", "images/s", "recall@10"]) + 1
    assert printed[begin : begin + len(rows)] == [
        [
            *(row["variant"], row["runtime"], row["precision"]),
            *(f"{row['latency_ms']:.1f}", f"{row['images_per_second']:.1f}", f"{row['recall_at_10']:.3f}"),
        ]
        for row in rows
    ]
    chosen = runtimes["recommended"]
    line = next(line for line in output if line.startswith("on this machine take the "))
    assert line.startswith(f"on this machine take the {chosen['variant']} folder")
    assert line.endswith(f" with {chosen['runtime']}: {chosen['reason']}")


def test_an_int8_graph_computes_in_int8(exported: Exported) -> None:
    """Convolutions take quantized weights, a scale a channel; what was left in fp32 is named; its file is small."""
    folder = exported("int8")
    graph = onnx.load(folder / "model.onnx").graph
    variant = manifest_of(folder)["variant"]
    kinds = Counter(node.op_type for node in graph.node)
    scales = {tensor.name: tensor.dims for tensor in graph.initializer}
    weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[1] in scales]
    assert kinds["QuantizeLinear"] > 20
    assert sum(list(scales[node.input[1]]) not in ([], [1]) for node in weights) >= kinds["Conv"] - 2
    assert (folder / "model.onnx").stat().st_size < 1_000_000  # 2.9 MB in fp32
    assert (variant["images"], variant["percentile"]) == (50, 99.999)
    assert set(variant["fp32_nodes"]) <= {"0004_Conv", "0062_Conv"}


def test_an_fp16_graph_keeps_its_ends(exported: Exported) -> None:
    """It takes uint8 and gives float32; its weights are half as many bytes."""
    model = onnx.load(exported("fp16") / "model.onnx")
    ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert ends == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    assert Counter(tensor.data_type for tensor in model.graph.initializer)[onnx.TensorProto.FLOAT16] > 40


def test_reproduce_gives_the_same_graph(exported: Exported, tmp_path: Path) -> None:
    """The manifest alone is enough to make the same graph again, calibration and all."""
    result = command("reproduce", exported("int8"), "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert "the same graph" in result.stdout
    assert manifest_of(tmp_path / "again")["graph"] == manifest_of(exported("int8"))["graph"]


def test_reproduce_reports_a_change(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Other images to fit to give another graph, which the exit status reports."""
    images = draw_images(tmp_path / "images", 60)
    arguments = (
        *("--model", tiny, "--preprocess", "tf", "--pca-dim", "4", "--pca-images", images),
        "--allow-quality-drop",
    )
    assert run(*arguments, "--out", tmp_path / "mine").exit_code == 0
    (images / "000.png").unlink()
    result = command("reproduce", tmp_path / "mine", "--out", tmp_path / "again")
    assert result.exit_code == 1
    assert "another graph" in result.stderr


@pytest.mark.slow
def test_a_gate_of_zero_is_reproduced(run: Run, tiny: Path, tmp_path: Path) -> None:
    """--min-recall 0 is a choice like another: the manifest keeps it, or reproduce would be rejected."""
    images = draw_images(tmp_path / "images", 60)
    arguments = ("--model", tiny, "--preprocess", "tf", "--pca-dim", "1", "--pca-images", images, "--min-recall", "0")
    assert run(*arguments, "--out", tmp_path / "mine").exit_code == 0
    assert manifest_of(tmp_path / "mine")["arguments"][-2:] == ["--min-recall", "0.0"]
    result = command("reproduce", tmp_path / "mine", "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("min_recall", "exit_code"), [pytest.param("0.5", 0, marks=pytest.mark.slow), ("1", 1)])
def test_verify(exported: Exported, images: Path, min_recall: str, exit_code: int) -> None:
    """The folder is compared with Keras and with its fp32 variant; below a gate the exit status is 1."""
    arguments = ("verify", exported("int8"), "--images", images, "--max-images", "40")
    result = command(*arguments, "--min-recall", min_recall)
    assert result.exit_code == exit_code, result.output
    rows = [re.split(r" {2,}", line) for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == ["graph", "fp32 vs Keras", "int8 vs Keras", "int8 vs fp32"]
    assert rows[1][-1] == "0.999"
    assert ("keeps too little" in result.stderr) == (exit_code == 1)


def test_verify_needs_a_folder_of_this_exporter(exported: Exported, images: Path, tmp_path: Path) -> None:
    """A folder that is none, a graph that was changed, or a manifest that does not say how: rejected in one line."""
    result = command("verify", images, "--images", images)
    assert (result.exit_code, "not a model folder's manifest" in result.stderr) == (1, True)
    copy = tmp_path / "copy"
    copy.mkdir()
    source = exported("fp16")
    (copy / "model.json").write_text((source / "model.json").read_text())
    (copy / "model.onnx").write_bytes((source / "model.onnx").read_bytes() + b"\\0")
    result = command("verify", copy, "--images", images)
    assert (result.exit_code, "is not the one that model.json describes" in result.stderr) == (1, True)
    manifest = manifest_of(source)
    (copy / "model.onnx").write_bytes((source / "model.onnx").read_bytes())
    (copy / "model.json").write_text(json.dumps(manifest | {"arguments": ["--no-such"]}))
    result = command("verify", copy, "--images", images)
    assert (result.exit_code, "cannot be used here" in result.stderr) == (1, True)


@pytest.mark.parametrize("option", ["--calibration-images", "--eval-images"])
def test_folders_that_cannot_be_used(run: Run, tiny: Path, tmp_path: Path, option: str) -> None:
    """Without an image, or with too few, the folder is named and nothing is written."""
    empty = tmp_path / "empty"
    empty.mkdir()
    few = draw_images(tmp_path / "few", 8)
    precision = "int8" if option == "--calibration-images" else "fp16"
    for folder, message in ((empty, "it has no image"), (few, "there are")):
        result = run(
            *("--model", tiny, "--preprocess", "tf", "--precision", precision),
            *(option, folder, "--out", tmp_path / "out"),
        )
        assert result.exit_code == 1, result.output
        last = result.stderr.splitlines()[-1]
        assert last.startswith("Error: ")
        assert message in last
        assert f"{folder}" in last
        assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_decoded_is_left_out(run: Run, tiny: Path, tmp_path: Path) -> None:
    """One bad file among many is named and left out."""
    images = draw_images(tmp_path / "images", 100)
    (images / "050.png").write_text("not an image")
    result = run(
        *(
            "--model",
            tiny,
            "--preprocess",
            "tf",
            "--precision",
            "int8",
            "--calibration-images",
            images,
            "--allow-quality-drop",
        ),
        *("--out", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    assert f"left out: {images / '050.png'} cannot be decoded" in result.stderr


def test_fp16_without_images_is_evaluated_by_cosines(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Neighbors among generated images mean nothing, so they are left out."""
    result = run("--model", tiny, "--preprocess", "tf", "--precision", "fp16", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    quality = manifest_of(tmp_path / "out")["variant"]["quality"]
    assert (quality["recall_at_10"], quality["recall_at_1"]) == (None, None)
    assert quality["cosine_min"] > 0.999


def test_quality_of_results() -> None:
    """Counted by hand: rows on a line, of which one is moved to the other end."""
    line = np.arange(20, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    assert measure_quality(line, line, "euclidean").recall_at_10 == 1
    assert nearest(line, "euclidean", 3)[5].tolist() == [4, 6, 3]
    moved = line.copy()
    moved[0] = 100
    quality = measure_quality(line, moved, "euclidean")
    expected, actual = nearest(line, "euclidean", 10), nearest(moved, "euclidean", 10)
    by_hand = np.mean([len(set(a) & set(b)) for a, b in zip(expected.tolist(), actual.tolist(), strict=True)]) / 10
    assert quality.recall_at_10 == pytest.approx(by_hand)
    assert quality.recall_at_1 == pytest.approx(18 / 20)  # not of the moved one, nor of its neighbor
    assert measure_quality(line + 1, line + 1, "cosine").cosine_min == pytest.approx(1)
    assert measure_quality(line, line[:, :2], "euclidean").cosine_min is None


@pytest.mark.parametrize("name", MIN_RECALL)
def test_gates(name: str) -> None:
    """At the gate is enough, below it is not, and another gate may be set."""
    at = Quality(100, 1.0, 1.0, 1.0, MIN_RECALL[name], 1.0)
    below = Quality(100, 1.0, 1.0, 1.0, MIN_RECALL[name] - 0.001, 1.0)
    assert "is required" in check_gate(name, at, None, allow_quality_drop=False)
    assert "is required" in check_gate(name, below, 0.1, allow_quality_drop=False)
    assert "BELOW ITS GATE" in check_gate(name, below, None, allow_quality_drop=True)
    with pytest.raises(Exception, match="nothing was written"):
        check_gate(name, below, None, allow_quality_drop=False)
