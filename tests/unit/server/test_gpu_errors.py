"""What ONNX Runtime's errors on a GPU mean."""

from __future__ import annotations

import pytest

from lookalike_server.inference.gpu_errors import GpuFailure, gpu_failure
from support.fake_device import ILLEGAL_ADDRESS, OUT_OF_MEMORY

CONV = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Status Message: "

MEMORY = [
    OUT_OF_MEMORY,
    CONV + "CUDA failure 2: out of memory ; GPU=0 ; hostname=gpu ; file=x.cc ; line=1 ; expr=cudaMalloc(&p, size); ",
    CONV + "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=gpu ; expr=cublasCreate(&handle);",
    CONV + "CUDNN failure 2: CUDNN_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=gpu ; expr=cudnnCreate(&handle);",
    CONV + "CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0 ; hostname=gpu",
    CONV + "Available memory of 0 is smaller than requested bytes of 512",
    CONV + "Failed to find a free memory block despite calling Extend. rounded_bytes=512",
]
STICKY = [
    ILLEGAL_ADDRESS,
    CONV + "CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=gpu ; expr=cudaGetLastError();",
    CONV + "CUDA failure 214: uncorrectable ECC error encountered ; GPU=0 ; hostname=gpu",
    CONV + "CUDA failure 46: all CUDA-capable devices are busy or unavailable ; GPU=0 ; hostname=gpu",
    # where memory was short because the GPU is lost
    ILLEGAL_ADDRESS + " " + OUT_OF_MEMORY,
]
OTHERS = [
    CONV + "CUDA failure 1: invalid argument ; GPU=0 ; hostname=gpu",
    CONV + "CUDA failure 701: too many resources requested for launch ; GPU=0 ; hostname=gpu",
    CONV + "CUDA failure 900: operation not permitted when stream is capturing ; GPU=0 ; hostname=gpu",
    CONV + "CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0 ; hostname=gpu",
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: images",
    "the model returned 2 rows for 3 images in 4 rows",
]


@pytest.mark.parametrize(
    ("texts", "failure"), [(MEMORY, GpuFailure.OUT_OF_MEMORY), (STICKY, GpuFailure.STICKY), (OTHERS, None)]
)
def test_errors_are_classified(texts: list[str], failure: GpuFailure | None) -> None:
    """Texts of ONNX Runtime are of their kind, also as the reason in another error."""
    assert {gpu_failure(RuntimeError(text)) for text in texts} == {failure}
    assert {gpu_failure(ValueError(f"cannot load model.onnx: {text}")) for text in texts} == {failure}
