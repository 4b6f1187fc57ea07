"""What an error of a GPU means for those who run batches on it.

ONNX Runtime's exceptions have neither a common base nor codes, so that only their texts tell. Those here are of its
sources: `CudaCall` in core/providers/cuda/cuda_call.cc ("CUDA failure 700: an illegal memory access was encountered ;
GPU=0 ; ...", and the same with CUBLAS and CUDNN), and `BFCArena` in core/framework/bfc_arena.cc. `CudaError` has CUDA's
names.
"""

from __future__ import annotations

import re
from enum import Enum

from lookalike_server.domain.errors import Code, LookalikeError, Rejection, exhausted, unavailable
from lookalike_server.inference.gpu_problems import LITTLE_MEMORY, gpu_problem

STICKY_ERRORS = {
    # "This leaves the process in an inconsistent state and any further CUDA work will return the same error. To
    # continue using CUDA, the process must be terminated and relaunched."
    226: "cudaErrorContained",
    700: "cudaErrorIllegalAddress",
    702: "cudaErrorLaunchTimeout",
    710: "cudaErrorAssert",
    714: "cudaErrorHardwareStackError",
    715: "cudaErrorIllegalInstruction",
    716: "cudaErrorMisalignedAddress",
    717: "cudaErrorInvalidAddressSpace",
    718: "cudaErrorInvalidPc",
    719: "cudaErrorLaunchFailure",
    721: "cudaErrorTensorMemoryLeak",
    810: "cudaErrorMpsClientTerminated",
    911: "cudaErrorExternalDevice",
    # Of these it says no such thing, but a GPU that a process has used and that then says so is lost to it.
    46: "cudaErrorDevicesUnavailable",
    100: "cudaErrorNoDevice",
    214: "cudaErrorECCUncorrectable",
    220: "cudaErrorNvlinkUncorrectable",
    709: "cudaErrorContextIsDestroyed",
    999: "cudaErrorUnknown",
}
"""Codes and names of `cudaError_t` after which a process cannot use its GPU any more.

From the CUDA Runtime API, section Data types used by CUDA Runtime.
"""

_RETRY_SECONDS = 1.0  # where memory was short; when others free theirs is unknown
_CODE = re.compile(r"\bCUDA failure (\d+): ")
_NAME = re.compile(r"\bcudaError\w+")


class GpuFailure(Enum):
    """What can be done about an error."""

    OUT_OF_MEMORY = "out of memory"
    """There was too little memory for this batch; a smaller one may fit."""

    STICKY = "sticky"
    """This process cannot use the GPU any more; another one may."""


def gpu_failure(error: Exception) -> GpuFailure | None:
    """Classify what a run, a copy or an allocation raised, or an error whose message has theirs; None for others."""
    text = str(error)
    if any(int(code) in STICKY_ERRORS for code in _CODE.findall(text)):
        return GpuFailure.STICKY
    if not set(_NAME.findall(text)).isdisjoint(STICKY_ERRORS.values()):
        return GpuFailure.STICKY
    return GpuFailure.OUT_OF_MEMORY if gpu_problem(text) is LITTLE_MEMORY else None


def error_of_batch(failure: GpuFailure | None) -> LookalikeError:
    """Return the error of each caller of a batch that failed so.

    That is RESOURCE_EXHAUSTED or UNAVAILABLE with the time after which a retry makes sense, or INTERNAL.
    """
    if failure is GpuFailure.OUT_OF_MEMORY:
        text = "too little memory is free to run the model on this image's batch; try again later"
        return exhausted(text, _RETRY_SECONDS, Rejection.MEMORY)
    if failure is GpuFailure.STICKY:
        return unavailable("the GPU failed and the server is being restarted; try again", Rejection.ENGINE_LOST)
    return LookalikeError(Code.INTERNAL, "the model failed on this batch")
