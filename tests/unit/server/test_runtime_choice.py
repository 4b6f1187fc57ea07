"""Which runtime runs the model: the faster one that computes the same embeddings, and what is said about the other."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.engine.runtime_choice import PlannedModel, plan_model
from lookalike_server.inference.autotune_cache import FILE
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from support.odd_models import fails_on_white, saturates, takes_determinants
from support.paths import MODELS
from support.serving import noise

WITHOUT_OPENVINO = """
import sys
from pathlib import Path

sys.modules["openvino"] = None  # its import fails, as where it is not installed
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.config import Settings
from lookalike_server.engine.runtime_choice import plan_model
from lookalike_server.inference.manifest import read_model_folder

model, data, provider = sys.argv[1:]
try:
    planned = plan_model(read_model_folder(Path(model)), Settings(model=model, data_dir=data, provider=provider))
    print(planned.runtime.provider, *planned.runtime.skipped)
except LookalikeError as error:
    print(error.code.name, error.message)
"""


ON_SMALL_GPU = """
import sys
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import structlog

provider, images, model, data = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
session, cuda = onnxruntime.InferenceSession, "CUDAExecutionProvider"


class OnSmallGpu:
    # Runs on the CPU, as on a GPU whose memory suffices for so many images at a time.
    def __new__(cls, path, options, providers, **others):
        if providers != [cuda]:
            return session(path, options, providers=providers, **others)
        return super().__new__(cls)

    def __init__(self, path, options, providers, provider_options, **others):
        self._session = session(path, options, providers=["CPUExecutionProvider"])

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_providers(self):
        return [cuda]

    def run(self, outputs, inputs, options=None):
        (batch,) = inputs.values()
        if len(batch) > images:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 4096")
        return self._session.run(outputs, inputs)


onnxruntime.InferenceSession = OnSmallGpu
onnxruntime.get_available_providers = lambda: [cuda, "CPUExecutionProvider"]

from lookalike_server.inference import onnx_session, providers

providers.cuda_runtime = lambda ort: SimpleNamespace(memory=lambda: (2**30, 2**34))  # there is a GPU
onnx_session.OnnxSession.gpu = lambda self: None  # without memory of its own
from lookalike_server.config import Settings
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.engine.runtime_choice import plan_model
from lookalike_server.inference.manifest import read_model_folder

settings = Settings(model=model, data_dir=data, provider=provider, max_batch_size=8, preferred_batch_size=8)
with structlog.testing.capture_logs() as log:
    try:
        runtime = plan_model(read_model_folder(Path(model)), settings).runtime
        print(runtime.provider, runtime.batch_profiles[-1].batch_size, *runtime.skipped)
    except LookalikeError as error:
        print(error.code.name, error.message)
print(*[f"{line['event']} {line.get('max_batch_size', '')}" for line in log if line["log_level"] == "warning"], sep=",")
"""


@pytest.fixture
def tiny() -> ModelFolder:
    """Return the tiny model, which every runtime can run."""
    return read_model_folder(MODELS / "tiny")


def settings_of(data: Path, **changes: Any) -> Settings:
    """Return settings with a catalog's folder of their own."""
    chosen: dict[str, Any] = {"model": MODELS / "tiny", "data_dir": data, "max_batch_size": 4} | changes
    return Settings(**chosen)


def plan(folder: ModelFolder, data: Path, **changes: Any) -> tuple[PlannedModel, list[Any]]:
    """Plan the model; return what runs it, closed, and the log."""
    with structlog.testing.capture_logs() as log:
        planned = plan_model(folder, settings_of(data, **changes))
    planned.plan.close()
    return planned, log


def skipped(planned: PlannedModel, name: str) -> str:
    """Return why something does not run the model."""
    (reason,) = [each for each in planned.runtime.skipped if each.startswith(name)]
    return reason


def test_auto_measures_both(tiny: ModelFolder, tmp_path: Path) -> None:
    """On a CPU `auto` runs one of the two, and says what the other one reached and that GPUs are missing."""
    planned, log = plan(tiny, tmp_path)
    runtime = planned.runtime
    other = {"OpenVINO": "ONNX Runtime", "CPUExecutionProvider": "OpenVINO"}[runtime.provider]
    assert [reason.partition(":")[0] for reason in runtime.skipped[:-1]] == ["tensorrt", "cuda"]
    assert "images/s" in runtime.skipped[-1]
    assert other in runtime.skipped[-1]
    assert (runtime.parity is not None) == (runtime.provider == "OpenVINO")
    (line,) = [event for event in log if event["event"] == "providers_skipped"]
    assert (line["log_level"], line["reasons"]) == ("debug", list(runtime.skipped))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_openvino_by_name(tiny: ModelFolder, tmp_path: Path, precision: str) -> None:
    """`openvino` runs it, in the precision that the processor has, and says how near its embeddings are."""
    planned, _ = plan(tiny, tmp_path, provider="openvino", inference_precision=precision)
    runtime = planned.runtime
    assert runtime.provider == "OpenVINO"
    assert runtime.precision in ("fp32", precision)
    assert runtime.parity is not None
    assert runtime.parity.within_bounds
    assert runtime.parity.min_cosine > 0.999
    assert runtime.skipped == ()


def test_onnx_runtime_by_name(tiny: ModelFolder, tmp_path: Path) -> None:
    """`cpu` is ONNX Runtime, without a look at OpenVINO."""
    runtime = plan(tiny, tmp_path, provider="cpu")[0].runtime
    assert (runtime.provider, runtime.precision, runtime.parity) == ("CPUExecutionProvider", "fp32", None)
    assert runtime.skipped == ()


def test_other_embeddings_are_not_served(tmp_path: Path) -> None:
    """A graph that OpenVINO reads differently runs in ONNX Runtime; a warning and GetModel say so."""
    planned, log = plan(saturates(tmp_path / "odd"), tmp_path / "data")
    assert planned.runtime.provider == "CPUExecutionProvider"
    reason = skipped(planned, "openvino")
    assert "computes other embeddings than ONNX Runtime: least cosine 0." in reason
    (warning,) = [event for event in log if event["log_level"] == "warning"]
    assert warning["event"] == "runtime_parity_failed"
    assert warning["reason"] in reason


def test_other_embeddings_by_name(tmp_path: Path) -> None:
    """Where the settings name the runtime that computes other embeddings, it is an error that says what to set."""
    with pytest.raises(LookalikeError, match=r"computes other embeddings .*set --provider cpu") as caught:
        plan(saturates(tmp_path / "odd"), tmp_path / "data", provider="openvino")
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_an_operator_that_openvino_lacks(tmp_path: Path) -> None:
    """`auto` runs such a graph in ONNX Runtime, and the reason names the operator; by name it is an error."""
    folder = takes_determinants(tmp_path / "odd")
    assert "Det" in skipped(plan(folder, tmp_path / "data")[0], "openvino")
    with pytest.raises(LookalikeError, match="Det"):
        plan(folder, tmp_path / "data", provider="openvino")


def test_a_model_that_cannot_be_compared(tmp_path: Path) -> None:
    """Where the runs of a comparison fail, `auto` stays with ONNX Runtime and says why; by name it is an error."""
    folder = fails_on_white(tmp_path / "odd", white=200)  # some of the images that are compared are as bright
    assert "embeddings cannot be compared" in skipped(plan(folder, tmp_path / "data")[0], "openvino")
    with pytest.raises(LookalikeError, match="embeddings cannot be compared"):
        plan(folder, tmp_path / "data", provider="openvino")


def test_bounds_of_the_folder_count(tmp_path: Path) -> None:
    """A model.json with bounds of its own sets what counts as the same embedding."""
    folder = saturates(tmp_path / "odd")
    manifest = json.loads((tmp_path / "odd" / "model.json").read_text(encoding="utf-8"))
    manifest["parity_bounds"] = {"min_cosine": -1.0, "min_overlap": 0.0}
    (tmp_path / "odd" / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    planned, _ = plan(read_model_folder(tmp_path / "odd"), tmp_path / "data", provider="openvino")
    assert planned.runtime.provider == "OpenVINO"
    assert planned.runtime.parity is not None
    assert planned.runtime.parity.min_cosine < folder.parity_bounds.min_cosine


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("auto", "CPUExecutionProvider tensorrt: "),
        ("openvino", "FAILED_PRECONDITION OpenVINO cannot be loaded; on x86-64, `pip install 'lookalike-server[cpu]'`"),
    ],
)
def test_without_openvino(tmp_path: Path, provider: str, expected: str) -> None:
    """Without the package `auto` is ONNX Runtime, and `openvino` an error; both say what to install."""
    arguments = (sys.executable, "-c", WITHOUT_OPENVINO, str(MODELS / "tiny"), str(tmp_path), provider)
    output = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout
    last = output.strip().splitlines()[-1]
    assert last.startswith(expected)
    assert "pip install 'lookalike-server[cpu]'" in last


def test_the_other_runtime_is_unloaded(tiny: ModelFolder, tmp_path: Path) -> None:
    """When the choice is made only the chosen runtime has threads: as many as where it was the only one."""

    def threads(provider: str) -> int:
        planned = plan_model(tiny, settings_of(tmp_path / provider, provider=provider, max_concurrent_batches=1))
        gc.collect()
        count = len(list(Path("/proc/self/task").iterdir()))
        chosen[provider] = planned.runtime.provider
        planned.plan.close()
        return count

    chosen: dict[str, str] = {}
    for warm in ("cpu", "openvino"):
        threads(warm)  # what each library starts once per process
    alone = {"CPUExecutionProvider": threads("cpu"), "OpenVINO": threads("openvino")}
    assert threads("auto") <= alone[chosen["auto"]]  # threads of earlier tests may end meanwhile


def test_a_batch_limit_below_the_best(tiny: ModelFolder, tmp_path: Path) -> None:
    """The largest batch that the settings allow is never exceeded, whatever would be faster."""
    for provider in ("auto", "openvino", "cpu"):
        planned, _ = plan(tiny, tmp_path / provider, provider=provider, max_batch_size=3)
        assert [profile.batch_size for profile in planned.plan.profiles][-1] <= 3


def test_the_next_start_measures_nothing(tiny: ModelFolder, tmp_path: Path) -> None:
    """The same start again has the plan of the first, and runs the same model the same way."""
    first, _ = plan(tiny, tmp_path)
    changed = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    changed["idle"]["seconds"] = 123.0  # nothing measures that
    (tmp_path / FILE).write_text(json.dumps(changed), encoding="utf-8")
    planned = plan_model(tiny, settings_of(tmp_path))
    assert planned.plan.idle.seconds == 123.0
    assert planned.plan.profiles == first.plan.profiles
    assert planned.plan.max_concurrent_batches == first.plan.max_concurrent_batches
    assert (planned.runtime.library, planned.runtime.parity) == (first.runtime.library, first.runtime.parity)
    assert planned.runtime.skipped == first.runtime.skipped
    assert planned.plan.throughput_session.run(noise(1)[np.newaxis]).shape == (1, 48)
    planned.plan.close()


@pytest.mark.parametrize(
    "changes",
    [{"max_batch_size": 3}, {"inference_precision": "fp32"}, {"provider": "cpu"}, {"intra_op_threads": 1}],
)
def test_other_settings_are_measured_again(tiny: ModelFolder, tmp_path: Path, changes: dict[str, Any]) -> None:
    """What was measured with other settings does not count."""
    plan(tiny, tmp_path)
    before = (tmp_path / FILE).read_bytes()
    plan(tiny, tmp_path, **changes)
    assert (tmp_path / FILE).read_bytes() != before


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"key": 1}'])
def test_a_damaged_file_is_measured_again(tiny: ModelFolder, tmp_path: Path, content: bytes) -> None:
    """A file that is not what was written is replaced."""
    (tmp_path / FILE).write_bytes(content)
    plan(tiny, tmp_path)
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["provider"]


def test_nothing_is_remembered_where_the_settings_say_so(tiny: ModelFolder, tmp_path: Path) -> None:
    """With autotune_cache off no file is written, and none is read."""
    plan(tiny, tmp_path, autotune_cache=False)
    assert not (tmp_path / FILE).exists()


def test_a_folder_that_cannot_be_written(tiny: ModelFolder, tmp_path: Path) -> None:
    """Where nothing can be remembered the start goes on, with a warning."""
    (tmp_path / "data").write_text("a file", encoding="utf-8")
    _, log = plan(tiny, tmp_path / "data")
    assert [event["event"] for event in log if event["log_level"] == "warning"] == ["autotune_cache_failed"]


def test_fewer_cores_than_threads(tiny: ModelFolder, tmp_path: Path) -> None:
    """On one core nothing runs at once, by either runtime."""
    for provider in ("cpu", "openvino"):
        planned, _ = plan(tiny, tmp_path / provider, provider=provider, intra_op_threads=1)
        assert planned.plan.max_concurrent_batches == 1
    assert len(os.sched_getaffinity(0)) >= 1


@pytest.mark.parametrize(
    ("provider", "images", "expected", "warnings"),
    [
        ("cuda", 3, r"^CUDAExecutionProvider 2$", "max_batch_size_reduced 4,max_batch_size_reduced 2"),
        ("auto", 3, r"^CUDAExecutionProvider 2 tensorrt: ", "max_batch_size_reduced 4,max_batch_size_reduced 2"),
        (
            *("cuda", 0, r"^FAILED_PRECONDITION .*cuda: the GPU has too little free memory .*Failed to allocate"),
            "max_batch_size_reduced 4,max_batch_size_reduced 2,max_batch_size_reduced 1",
        ),
        ("auto", 0, r"^(CPUExecutionProvider|OpenVINO) 8 .*cuda: the GPU has too little free memory", "gpu_unusable "),
    ],
)
def test_a_gpu_with_little_memory(tmp_path: Path, provider: str, images: int, expected: str, warnings: str) -> None:
    """Batches are halved until they fit; where not one image does, `auto` takes the CPU and `cuda` is an error."""
    arguments = (sys.executable, "-c", ON_SMALL_GPU, provider, str(images), str(MODELS / "tiny"), str(tmp_path))
    output = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout
    result, log = output.splitlines()[-2:]
    assert re.search(expected, result)
    assert log == warnings
