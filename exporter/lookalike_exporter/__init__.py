"""Turns a Keras image backbone into a model folder: a self-contained `model.onnx` and its `model.json`.

The only distribution of the project that imports TensorFlow. It meets the server at a folder on disk, never
at an import. Importing this package costs nothing: TensorFlow is imported by the modules that need it, and
the settings that must stand before that import are made here.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would report what is run to its maker
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# oneDNN picks its order of summation by the machine it finds; without it a seed gives the same numbers more
# widely, and TensorFlow's remark about it, which no log level hides, stays away.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

__version__ = "0.1.0"
