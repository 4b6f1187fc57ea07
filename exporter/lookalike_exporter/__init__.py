"""Export a Keras image backbone as a model folder: a self-contained `model.onnx` and its `model.json`.

An export is a straight pipeline (`pipeline.py`): `networks` -> `graph` -> `variants` -> `evaluation` -> `output`.

The only distribution of the project that imports TensorFlow. It meets the server at a folder on disk, never
at an import. Importing this package costs nothing: TensorFlow is imported by the modules that need it, and
the settings that must be in place before that import are set here.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would report usage to its vendor
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# `import openvino` would report to its vendor through this package, at once and from other threads. Where it cannot be
# imported, openvino takes a stub that does nothing (openvino/tools/ovc/telemetry_stub.py).
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# oneDNN picks its order of summation by the machine; without it a seed gives the same values on more machines,
# and TensorFlow's notice about it, which no log level hides, does not appear.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

__version__ = "0.1.0"
