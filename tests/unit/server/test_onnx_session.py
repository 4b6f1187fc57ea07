"""The session on ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lookalike_server.config_loading import load_settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.providers import PROVIDERS, CudaOptions, unavailable_reason
from support.paths import MODELS

LOAD = """
import sys
from pathlib import Path
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession

OnnxSession(read_model_folder(Path(sys.argv[1])), "cpu", 1)
"""


def test_no_telemetry_is_sent(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry is off: it leaves nothing in the user's home directory, where it would keep a file."""
    without = {
        key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    subprocess.run(
        (sys.executable, "-c", LOAD, str(MODELS / "tiny")),
        env={**without, "HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert list(tmp_path.rglob("*")) == []


class FakeOrt:
    """Fakes the module `onnxruntime` in a build with these providers, of which only some start."""

    def __init__(
        self, providers: Sequence[str], starting: Sequence[str] | None = None, raising: str | None = None
    ) -> None:
        """Take providers by the settings' names; all start, unless `starting` has others or `raising` fails."""
        self.raising = PROVIDERS[raising] if raising else None
        self._providers = [PROVIDERS[name] for name in providers]
        self._starting = [PROVIDERS[name] for name in (providers if starting is None else starting)]
        self.sessions: list[tuple[list[str], list[dict[str, str]]]] = []
        """Providers and their options of each session that was created."""

    def get_available_providers(self) -> list[str]:
        """List what the build has."""
        return self._providers

    class SessionOptions:
        """Accepts any option."""

        def add_session_config_entry(self, key: str, value: str) -> None:
            """Accept it."""

    class RunOptions:
        """Accepts any option."""

        def add_run_config_entry(self, key: str, value: str) -> None:
            """Accept it."""

    def InferenceSession(  # noqa: N802 - the name is ONNX Runtime's
        self,
        path: str,
        options: object,
        *,
        providers: list[str],
        provider_options: list[dict[str, str]],
        enable_fallback: int,
    ) -> Any:
        """Create a session, which runs on the CPU where its provider does not start, as ONNX Runtime does."""
        assert enable_fallback == 0  # or it would run on the CPU where a GPU fails
        self.sessions.append((providers, provider_options))
        if self.raising == providers[0]:
            raise RuntimeError("no engine can be built")
        running = providers if providers[0] in self._starting else [PROVIDERS["cpu"]]
        return SimpleNamespace(
            get_providers=lambda: running,
            get_inputs=lambda: [SimpleNamespace(name="images", type="tensor(uint8)", shape=["n", 32, 32, 3])],
            get_outputs=lambda: [SimpleNamespace(name="embeddings", type="tensor(float)", shape=["n", 48])],
            run=lambda *_: [np.zeros((1, 48), np.float32)],
        )


def test_the_cpu_has_no_options() -> None:
    """`auto` takes the first provider that starts, with a reason for each skipped one; the CPU has no options."""
    ort = FakeOrt(["cuda", "cpu"], starting=["cpu"])
    session = OnnxSession(read_model_folder(MODELS / "tiny"), "auto", 0, ort=ort, unavailable_reason=available_in_build)
    assert ort.sessions[-1] == (["CPUExecutionProvider"], [{}])
    assert session.gains_from_concurrency
    assert [reason.partition(":")[0] for reason in session.skipped] == ["tensorrt", "cuda"]
    assert "did not start" in session.skipped[1]


@pytest.mark.parametrize("starting", [["cpu"], []])
def test_a_named_provider_that_is_not_available(starting: list[str]) -> None:
    """The error says what to install, or that no device was found; nothing runs instead."""
    built = ["cpu"] if starting else ["cuda", "cpu"]
    missing = unavailable_reason if starting else available_in_build
    with pytest.raises(LookalikeError) as caught:
        OnnxSession(
            read_model_folder(MODELS / "tiny"), "cuda", 0, ort=FakeOrt(built, starting), unavailable_reason=missing
        )
    assert caught.value.code is Code.FAILED_PRECONDITION
    reason = "pip install 'lookalike-server[gpu]'" if starting else "did not start (no usable device)"
    assert reason in caught.value.message


def available_in_build(ort: Any, name: str) -> str | None:
    """Fake the check for libraries and GPUs: what the build has is available."""
    return None if PROVIDERS[name] in ort.get_available_providers() else f"{name}: not in this build"


@pytest.mark.parametrize(
    ("build", "starting", "raising", "runs", "skipped"),
    [
        (["tensorrt", "cuda", "cpu"], ["tensorrt", "cuda"], None, "tensorrt", []),
        (["tensorrt", "cuda", "cpu"], ["cuda"], None, "cuda", ["tensorrt"]),
        (["tensorrt", "cuda", "cpu"], ["cuda"], "tensorrt", "cuda", ["tensorrt"]),
        (["cuda", "cpu"], ["cpu"], None, "cpu", ["tensorrt", "cuda"]),
        (["cpu"], ["cpu"], None, "cpu", ["tensorrt", "cuda"]),
    ],
)
def test_auto_takes_the_first_that_starts(
    build: list[str], starting: list[str], raising: str | None, runs: str, skipped: list[str]
) -> None:
    """TensorRT, CUDA, OpenVINO, CPU, in this order, with a reason for each skipped one."""
    ort = FakeOrt(build, starting, raising)
    session = OnnxSession(read_model_folder(MODELS / "tiny"), "auto", 0, ort=ort, unavailable_reason=available_in_build)
    assert session.provider == PROVIDERS[runs]
    assert [reason.partition(":")[0] for reason in session.skipped] == skipped
    assert session.fixed_shapes == (runs in ("tensorrt", "cuda"))
    assert session.gains_from_concurrency == (runs == "cpu")


def test_a_missing_gpu_is_an_error() -> None:
    """`cuda` by name, in a build that has it, is an error where ONNX Runtime would fall back to the CPU."""
    ort = FakeOrt(["cuda", "cpu"], ["cpu"])
    with pytest.raises(LookalikeError, match=r"cuda: CUDAExecutionProvider did not start \(no usable device\)"):
        OnnxSession(read_model_folder(MODELS / "tiny"), "cuda", 0, ort=ort, unavailable_reason=available_in_build)


def test_gpu_providers_get_their_options(tmp_path: Path) -> None:
    """CUDA gets all four; TensorRT batch sizes and its engine cache, with CUDA as fallback, without graphs."""
    options = CudaOptions(
        graphs=True,
        conv_algo_search="exhaustive",
        prefer_nhwc=True,
        use_tf32=False,
        max_batch_size=8,
        engine_dir=tmp_path / "engines",
    )
    expected = {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "enable_cuda_graph": "1",
        "prefer_nhwc": "1",
        "use_tf32": "0",
    }
    folder = read_model_folder(MODELS / "tiny")
    ort = FakeOrt(["tensorrt", "cuda", "cpu"])
    session = OnnxSession(folder, "cuda", 0, cuda=options, ort=ort, unavailable_reason=available_in_build)
    assert session.records_graphs
    assert ort.sessions[-1] == (["CUDAExecutionProvider"], [expected])
    session = OnnxSession(folder, "tensorrt", 0, cuda=options, ort=ort, unavailable_reason=available_in_build)
    assert not session.records_graphs
    providers, (tensorrt, cuda) = ort.sessions[-1]
    assert providers == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert cuda == expected | {"enable_cuda_graph": "0"}
    assert tensorrt == {
        "trt_profile_min_shapes": "images:1x32x32x3",
        "trt_profile_opt_shapes": "images:8x32x32x3",
        "trt_profile_max_shapes": "images:8x32x32x3",
        "trt_fp16_enable": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path / "engines"),
    }
    assert (tmp_path / "engines").is_dir()


def test_bf16_is_the_default() -> None:
    """OpenVINO may compute in bf16 by default; the setting changes that to fp32 only."""
    model = {"model": MODELS / "tiny"}
    assert load_settings(model).inference_precision == "bf16"
    assert load_settings(model | {"inference_precision": "fp32"}).inference_precision == "fp32"
    with pytest.raises(LookalikeError, match="inference_precision: must be one of 'bf16' or 'fp32'"):
        load_settings(model | {"inference_precision": "f16"})
