"""What is wrong with a GPU, and what to do about it, by the words in which CUDA and ONNX Runtime say that it fails."""

from __future__ import annotations

from dataclasses import dataclass

NO_DRIVER = "cudaDriverGetVersion returns 0"
"""Without a driver CUDA says only that it is too old; this says that there is none."""


@dataclass(frozen=True, slots=True)
class GpuProblem:
    """Why a GPU cannot run the model.

    Attributes:
        message: What is wrong.
        remedy: What to do.
        signs: What a text of this problem contains. ONNX Runtime writes a kernel's error by its name in cudaError_t
            ("CUDA error cudaErrorMemoryAllocation:..."), and a failed call's by its number ("CUDA failure 2: ...").
        has_gpu: Whether there is a GPU, so that running on the CPU is not what anybody meant.
    """

    message: str
    remedy: str
    signs: tuple[str, ...]
    has_gpu: bool = True


_GIVE_IT = "in a container, give it the GPU (--gpus all, or the device plugin of Kubernetes)"

LITTLE_MEMORY = GpuProblem(
    "the GPU has too little free memory for the model",
    "end other processes that use it (nvidia-smi lists them), lower --max-batch-size, export the model in fp16, or set"
    " --provider cpu",
    (
        "cudaErrorMemoryAllocation",
        "CUDA failure 2:",
        # ONNX Runtime's own allocator, the last by the provider's gpu_mem_limit
        "Failed to allocate memory for requested buffer",
        "Failed to find a free memory block despite calling Extend",
        "is smaller than requested bytes of",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
        "_ALLOCATION_FAILED",  # cuDNN 9, which says on which side: device or host
    ),
)

_PROBLEMS = (
    LITTLE_MEMORY,
    GpuProblem("there is no driver of NVIDIA's", f"install it; {_GIVE_IT}", (NO_DRIVER,), has_gpu=False),
    GpuProblem(
        "NVIDIA's driver is too old for this build of ONNX Runtime",
        "install a newer one; CUDA 13 needs 580",
        ("cudaErrorInsufficientDriver", "CUDA failure 35:"),
    ),
    GpuProblem(
        "the driver has no GPU that this process can see",
        f"look at CUDA_VISIBLE_DEVICES; {_GIVE_IT}",
        ("cudaErrorNoDevice", "CUDA failure 100:"),
        has_gpu=False,
    ),
    GpuProblem(
        "another process has the GPU to itself, or its compute mode is prohibited",
        "end that process (nvidia-smi lists it), or let processes share the GPU: nvidia-smi -c DEFAULT",
        ("cudaErrorDevicesUnavailable", "CUDA failure 46:"),
    ),
    GpuProblem(
        "this build of ONNX Runtime has no code for the architecture of this GPU",
        "use a GPU that it supports, or --provider cpu; where the build was cut to another architecture,"
        " pip install --force-reinstall onnxruntime-gpu",
        (
            "cudaErrorNoKernelImageForDevice",
            "CUDA failure 209:",
            "CUBLAS_STATUS_ARCH_MISMATCH",
            "CUDNN_STATUS_ARCH_MISMATCH",
        ),
    ),
    GpuProblem(
        "the GPU is not ready, because the fabric manager of its NVSwitch does not run",
        "start nvidia-fabricmanager, in the driver's version",
        ("cudaErrorSystemNotReady", "CUDA failure 802:"),
    ),
    GpuProblem(
        "the driver's libraries and its kernel module have different versions",
        "restart the machine, as after every update of the driver",
        ("cudaErrorSystemDriverMismatch", "CUDA failure 803:"),
    ),
)


def gpu_problem(text: str) -> GpuProblem | None:
    """Return what is wrong with the GPU, by an error's text; None where the text says nothing of it."""
    return next((problem for problem in _PROBLEMS if _sign(problem, text)), None)


def explain(text: str) -> str:
    """Say what is wrong and what to do, with CUDA's words; a text that says nothing of a GPU stays as it is."""
    problem = gpu_problem(text)
    if problem is None:
        return text
    # ONNX Runtime's texts begin with paths of its sources, and end with the host, the line and the expression.
    words = text[text.index(_sign(problem, text)) :].partition(" ;")[0].splitlines()[0].strip()
    return f"{problem.message}: {problem.remedy} ({words})"


def _sign(problem: GpuProblem, text: str) -> str:
    """Return the problem's sign that the text contains; empty where it contains none."""
    return next((sign for sign in problem.signs if sign in text), "")
