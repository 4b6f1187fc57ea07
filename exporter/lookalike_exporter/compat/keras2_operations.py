"""Operations of TensorFlow that Keras 2 recorded in a model as layers, and its hard sigmoid, which Keras 3 has not.

Keras 2.4 to 2.16 makes a `TFOpLambda` of `x / 127.5` or `tf.concat`, a `SlicingOpLambda` of `x[..., ::-1]`; the file
holds the function's name. The functions that may be called are listed here: TensorFlow has some that read and write
files.
"""

from typing import Any

import keras
import tensorflow as tf

OPERATION_LAYERS = ("TFOpLambda", "SlicingOpLambda")
"""The classes of Keras 2."""

_GETITEM = "__operators__.getitem"

# Without side effects, of tensors and plain values, one tensor out.
OPERATIONS = frozenset(
    {
        _GETITEM,
        *("__operators__.add", "math.add", "math.subtract", "math.multiply", "math.truediv", "math.divide"),
        *("math.pow", "math.negative", "math.abs", "math.square", "math.sqrt", "math.rsqrt", "math.exp", "math.log"),
        *("math.maximum", "math.minimum", "math.tanh", "math.sigmoid", "math.softplus", "math.l2_normalize"),
        *("math.reduce_mean", "math.reduce_max", "math.reduce_min", "math.reduce_sum", "math.add_n"),
        *("nn.bias_add", "nn.relu", "nn.relu6", "nn.leaky_relu", "nn.elu", "nn.selu", "nn.silu", "nn.swish", "nn.gelu"),
        *("nn.softmax", "nn.sigmoid", "nn.tanh", "nn.softplus", "nn.l2_normalize", "linalg.l2_normalize"),
        *("nn.avg_pool2d", "nn.max_pool2d", "nn.depth_to_space", "nn.space_to_depth", "linalg.matmul"),
        *(
            "cast",
            "clip_by_value",
            "concat",
            "expand_dims",
            "identity",
            "pad",
            "reshape",
            "reverse",
            "squeeze",
            "stack",
        ),
        *("transpose", "compat.v1.transpose", "compat.v1.squeeze", "compat.v1.pad", "image.resize", "tile"),
    }
)
"""Names below `tf`, as Keras 2 writes them."""

# The operators' own functions are not public.
_PUBLIC = {"__operators__.add": "math.add"}

HARD_SIGMOID = "keras2_hard_sigmoid"
"""The name that `hard_sigmoid` has in a migrated description."""


def hard_sigmoid(x: Any) -> Any:
    """Compute Keras 2's: 0.2 x + 0.5, clipped to [0, 1]; that of Keras 3 is x / 6 + 0.5."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


class Keras2Operation(keras.layers.Layer):  # type: ignore[misc]
    """One of `OPERATIONS`, called with the arguments that the file has.

    Raises:
        ValueError: Another function.
    """

    def __init__(self, function: str, **settings: Any) -> None:
        super().__init__(**settings, activity_regularizer=None)
        if function not in OPERATIONS:
            raise ValueError(f"TensorFlow's {function} is not an operation that can be loaded")
        self._allow_non_tensor_positional_args = True  # of 1 - x the first argument is a number
        self._convert_input_args = False
        self.function = function

    def call(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function."""
        if self.function == _GETITEM:
            return arguments[0][tuple(_index(each) for each in keywords["slice_spec"])]
        function: Any = tf
        for part in _PUBLIC.get(self.function, self.function).split("."):
            function = getattr(function, part)
        return function(*arguments, **keywords)

    def get_config(self) -> dict[str, Any]:
        """Return the settings, the function's name among them."""
        return {**super().get_config(), "function": self.function}


def _index(described: Any) -> Any:
    """Make an index of its description: a number, None, an ellipsis or a slice."""
    if not isinstance(described, dict):
        return described
    if "class_name" in described:
        return Ellipsis
    return slice(described["start"], described["stop"], described["step"])
