"""The packages with the runtimes: which build of ONNX Runtime is installed, and whether it is only one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from lookalike_server.doctor.finding import Finding, error, ok
from lookalike_server.inference.providers import ON_GPU

_BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")
_OPENVINO = "openvino"


def installed_packages() -> dict[str, str]:
    """Return the versions of the packages that run models, without importing any."""
    found = {}
    for name in (*_BUILDS, _OPENVINO):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_packages(provider: str, packages: Mapping[str, str]) -> Finding:
    """Check that one build of ONNX Runtime is installed, and the one that the provider needs.

    Args:
        provider: The setting.
        packages: Versions by name, of `installed_packages`.
    """
    builds = [name for name in packages if name != _OPENVINO]
    facts = {name: packages.get(name) for name in ("onnxruntime", "onnxruntime-gpu", _OPENVINO)}
    extra = "gpu" if provider in ON_GPU or "onnxruntime-gpu" in builds else "cpu"
    named = ", ".join(f"{name} {version}" for name, version in packages.items())
    if len(builds) > 1:
        # Both have the same files, and whichever was installed last has overwritten the other's.
        return error(
            "packages",
            f"{' and '.join(builds)} are installed, which overwrite each other's files",
            f"pip uninstall {' '.join(builds)}, then pip install 'lookalike-server[{extra}]'",
            **facts,
        )
    if not builds and not (provider == "openvino" and _OPENVINO in packages):
        return error("packages", "ONNX Runtime is not installed", f"pip install 'lookalike-server[{extra}]'", **facts)
    if provider in ON_GPU and "onnxruntime-gpu" not in builds:
        return error(
            "packages",
            f"{named}: this build of ONNX Runtime has no {provider}",
            f"pip uninstall {' '.join(builds)}, then pip install 'lookalike-server[gpu]'",
            **facts,
        )
    if provider == "openvino" and _OPENVINO not in packages:
        return error("packages", f"{named}: OpenVINO is not installed", "pip install openvino", **facts)
    return ok("packages", named, **facts)
