"""Graphs in OpenVINO: the same embeddings as in ONNX Runtime; where it is missing, an export goes on without it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from folders import draw_images, manifest_of
from networks import Run

from lookalike_exporter.evaluation import speed
from lookalike_exporter.evaluation.quality import measure_quality
from lookalike_exporter.evaluation.speed import measure_rates
from lookalike_exporter.graph.openvino_runner import OpenVinoError, OpenVinoRunner
from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.graph.runner import GraphRunner, Runner
from lookalike_exporter.images import Pixels, generate_images

GRAPH = (Path(__file__).parent / "golden" / "v1" / "plain" / "model.onnx").read_bytes()


@pytest.mark.parametrize("streams", [1, 2])
def test_embeddings_are_those_of_onnx_runtime(streams: int) -> None:
    """Alone and in batches, whatever a later run gives; what it says it computes in is what the processor has."""
    pytest.importorskip("openvino")
    images, runner = generate_images(16, 20), OpenVinoRunner(GRAPH, streams)
    expected, actual = Runner(GRAPH).run(images), runner.run(images)
    alone = [runner.run(image[None]) for image in images]
    assert runner.precision in {"fp32", "bf16"}
    for embeddings in (actual, np.concatenate(alone)):
        assert embeddings.dtype == np.float32
        quality = measure_quality(expected, embeddings, "cosine", real=False)
        assert (quality.cosine_min or 0) > (0.999999 if runner.precision == "fp32" else 0.999)


def test_openvino_reports_nothing_to_its_vendor() -> None:
    """Importing openvino imports nothing of its package that sends."""
    pytest.importorskip("openvino")
    program = (
        "import sys, lookalike_exporter, openvino\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__ == 'openvino.tools.ovc.telemetry_stub'\n"
        "assert [name for name in sys.modules if name.startswith('openvino_telemetry')] == ['openvino_telemetry']\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_graph_that_openvino_rejects() -> None:
    """It is one error of one line, without the lines of OpenVINO's sources."""
    pytest.importorskip("openvino")
    with pytest.raises(OpenVinoError, match=r"^Unable to read the model\.[^\n]*$"):
        OpenVinoRunner(b"not a graph")


def test_export_without_openvino(run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has ONNX Runtime's rows and says why there are no others."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    images = draw_images(tmp_path / "images", 60)
    arguments = ("--precision", "fp16", "--eval-images", images, "--out", tmp_path / "out")
    result = run("--model", tiny, "--preprocess", "tf", *arguments, "--allow-quality-drop")
    assert result.exit_code == 0, result.output
    runtimes = manifest_of(tmp_path / "out")["runtimes"]
    assert [(row["variant"], row["runtime"]) for row in runtimes["rows"]] == [
        ("fp32", "onnxruntime"), ("fp16", "onnxruntime"),
    ]  # fmt: skip
    (line,) = runtimes["missing"]
    assert line.startswith("OpenVINO was not measured: openvino cannot be imported: ")
    assert line in result.stdout.splitlines()
    assert runtimes["recommended"]["runtime"] == "onnxruntime"


def test_export_of_a_graph_that_openvino_rejects(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row less for each graph that it rejects, and the reason; the export goes on."""
    pytest.importorskip("openvino")
    rejected = OpenVinoRunner.__init__

    def reject(runner: OpenVinoRunner, _graph: bytes, streams: int = 1) -> None:
        rejected(runner, b"not a graph", streams)

    monkeypatch.setattr(OpenVinoRunner, "__init__", reject)
    result = run("--model", tiny, "--preprocess", "tf", "--precision", "fp16", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    runtimes = manifest_of(tmp_path / "out")["runtimes"]
    assert [row["runtime"] for row in runtimes["rows"]] == ["onnxruntime", "onnxruntime"]
    for name, line in zip(("fp32", "fp16"), runtimes["missing"], strict=True):
        assert line.startswith(f"{name} in OpenVINO was not measured: Unable to read the model.")
        assert line in result.stdout.splitlines()


class Counted(GraphRunner):
    """Counts the batches it runs."""

    version = "1.0"

    def __init__(self) -> None:
        self.runs = 0

    def run(self, images: Pixels) -> Embeddings:
        """Embed to zeros."""
        self.runs += 1
        return np.zeros((len(images), 4), np.float32)


def test_slow_graphs_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time for all rounds, none begins; each graph had one, and one run before it."""
    monkeypatch.setattr(speed, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.0)
    runners = {"a": Counted(), "b": Counted()}
    rates = measure_rates(runners, generate_images(4, 4), 2)
    assert set(rates) == {"a", "b"}
    assert [runner.runs for runner in runners.values()] == [4, 4]
