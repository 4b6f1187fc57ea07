"""The Open Inference Protocol's tensors: from requests to images, and from embeddings to responses. Pure.

The one place where the values of such requests are checked; every function that takes one raises `LookalikeError`.
Parameters for what is not supported are rejected; unknown parameters are ignored, as the protocol says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.inference import inference_service_pb2 as pb
from lookalike_server.domain.errors import Code, LookalikeError, Resource, invalid
from lookalike_server.domain.inference import EmbedResult, EncodedImage, Image, Model, Pixels, RawImage
from lookalike_server.rpc.v1 import to_pb
from lookalike_server.rpc.v1.fields_from_pb import MAX_ITEMS

IMAGE, ENCODED, EMBEDDING = "image", "encoded", "embedding"
VERSION = "1"
"""A model folder has no versions, but the protocol needs one."""

_CONTENTS = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}
_LENGTH_BYTES = 4  # before each element of BYTES
_NOT_SUPPORTED = ("shared_memory_region", "classification")
_MAX_QUOTED, _MAX_SIDES = 64, 8  # characters of a caller's text and sides of its shape that an error repeats
_STATS = ("decode_us", "queue_us", "inference_us", "total_us", "batch_size", "padded_size")


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """The images of one call.

    Attributes:
        count: How many there are.
        images: The images.
        is_slow: Whether iterating takes milliseconds per image, and may raise `LookalikeError`.
        timeout: Seconds from the call's arrival, in which the response is useful; None for the call's own deadline.
    """

    count: int
    images: Iterable[Image]
    is_slow: bool
    timeout: float | None


def is_model(name: str, version: str, model: Model) -> bool:
    """Whether this is the name of the model; the version may be empty."""
    return name == model.name and version in ("", VERSION)


def metadata_response(request: pb.ModelMetadataRequest, model: Model) -> pb.ModelMetadataResponse:
    """Describe the model's inputs and outputs."""
    _check_model(request.name, request.version, model)
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[VERSION],
        platform="onnxruntime_onnx",
        inputs=_inputs(model).values(),
        outputs=[_tensor(EMBEDDING, "FP32", -1, model.dim)],
    )


def image_batch(request: pb.ModelInferRequest, model: Model, max_images: int) -> ImageBatch:
    """Read the images of a ModelInferRequest, of which the embeddings of `max_images` fit into one response."""
    _check_model(request.model_name, request.model_version, model)
    _check_outputs(request.outputs)
    timeout = _timeout(request.parameters)
    known = _inputs(model)
    tensor = _only_input(request.inputs, known)
    count = _count(tensor, known[tensor.name], max(1, min(MAX_ITEMS, max_images)))
    raw = _is_raw(request, tensor)
    if tensor.name == ENCODED:
        files = _split(request.raw_input_contents[0], count) if raw else _files(tensor.contents, count)
        encoded = [EncodedImage(file, None, f"{ENCODED}[{i}]") for i, file in enumerate(files)]
        return ImageBatch(count, encoded, is_slow=False, timeout=timeout)
    shape = (count, model.height, model.width, 3)
    pixels = _raw_pixels(request.raw_input_contents[0], shape) if raw else _typed_pixels(tensor.contents, shape)
    images = (RawImage(each, None, f"{IMAGE}[{i}]") for i, each in enumerate(pixels))
    return ImageBatch(count, images, is_slow=not raw, timeout=timeout)


def infer_response(request_id: str, model: Model, results: Sequence[EmbedResult]) -> pb.ModelInferResponse:
    """Make the response of ModelInfer: the embeddings, and of each statistic the maximum over the images."""
    vectors = np.stack([each.vector for each in results])
    all_stats = [to_pb.stats(each.stats) for each in results]
    maxima = {name: max(int(getattr(stats, name)) for stats in all_stats) for name in _STATS}
    maxima["cache_hits"] = sum(stats.cache_hit for stats in all_stats)
    parameters = {name: pb.InferParameter(int64_param=value) for name, value in maxima.items()}
    parameters["model_digest"] = pb.InferParameter(string_param=model.digest)
    return pb.ModelInferResponse(
        model_name=model.name,
        model_version=VERSION,
        id=request_id,
        parameters=parameters,
        outputs=[pb.ModelInferResponse.InferOutputTensor(name=EMBEDDING, datatype="FP32", shape=vectors.shape)],
        raw_output_contents=[vectors.astype("<f4", copy=False).tobytes()],
    )


def _inputs(model: Model) -> dict[str, pb.ModelMetadataResponse.TensorMetadata]:
    image = _tensor(IMAGE, "UINT8", -1, model.height, model.width, 3)
    return {IMAGE: image, ENCODED: _tensor(ENCODED, "BYTES", -1)}


def _tensor(name: str, datatype: str, *shape: int) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=shape)


def _check_model(name: str, version: str, model: Model) -> None:
    if is_model(name, version, model):
        return
    # Scripts for Triton look for the first four words.
    wanted = _quoted(name) + (f" in version {_quoted(version)}" if version else "")
    raise LookalikeError(
        Code.NOT_FOUND,
        f"Request for unknown model: there is no {wanted} here, only {model.name!r} in version {VERSION}",
        resource=Resource("model", name[:_MAX_QUOTED]),
    )


def _check_outputs(outputs: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]) -> None:
    for position, output in enumerate(outputs):
        if output.name != EMBEDDING:
            raise invalid(
                f"outputs[{position}].name",
                f"is {_quoted(output.name)}; the only output of this model is {EMBEDDING!r}",
            )
        _check_supported(output.parameters, f"outputs[{position}]")


def _check_supported(parameters: Mapping[str, pb.InferParameter], field: str) -> None:
    for name in _NOT_SUPPORTED:
        if name in parameters:
            raise invalid(f"{field}.parameters[{name!r}]", "is not supported; send whole tensors in the messages")


def _timeout(parameters: Mapping[str, pb.InferParameter]) -> float | None:
    if "timeout" not in parameters:
        return None
    value = parameters["timeout"]
    microseconds = value.uint64_param if value.WhichOneof("parameter_choice") == "uint64_param" else value.int64_param
    if value.WhichOneof("parameter_choice") not in ("int64_param", "uint64_param") or microseconds < 0:
        raise invalid("parameters['timeout']", "must be a whole number of microseconds, 0 for none, in int64_param")
    return microseconds / 1e6 if microseconds else None


def _only_input(
    inputs: Sequence[pb.ModelInferRequest.InferInputTensor], known: Iterable[str]
) -> pb.ModelInferRequest.InferInputTensor:
    names: list[str] = []
    for position, tensor in enumerate(inputs):
        if tensor.name not in known:
            raise invalid(
                f"inputs[{position}].name", f"is {_quoted(tensor.name)}; the inputs of this model are {_either(known)}"
            )
        if tensor.name in names:
            raise invalid(f"inputs[{position}].name", f"is {tensor.name!r}, which appears twice; send each input once")
        names.append(tensor.name)
    if len(names) != 1:
        raise invalid("inputs", f"has {' and '.join(names) or 'no entry'}; send one of {_either(known)}")
    return inputs[0]


def _count(
    tensor: pb.ModelInferRequest.InferInputTensor, expected: pb.ModelMetadataResponse.TensorMetadata, max_images: int
) -> int:
    """Check the datatype and the shape, and return the number of images."""
    if tensor.datatype != expected.datatype:
        message = f"of input {tensor.name!r} is {_quoted(tensor.datatype)}; expected {expected.datatype}"
        raise invalid("inputs[0].datatype", message)
    inner = list(tensor.shape[1:])
    if not tensor.shape or (inner != expected.shape[1:] and (tensor.name, inner) != (ENCODED, [1])):
        wanted = _shape(expected.shape) + (" or [-1,1]" if tensor.name == ENCODED else "")
        message = (
            f"of input {tensor.name!r} is {_shape(tensor.shape)}; expected {wanted}, where -1 is the number of images"
        )
        raise invalid("inputs[0].shape", message)
    if not 1 <= tensor.shape[0] <= max_images:
        message = f"of input {tensor.name!r} is {_shape(tensor.shape)}; send 1 to {max_images} images in one call"
        raise invalid("inputs[0].shape", message)
    return tensor.shape[0]


def _is_raw(request: pb.ModelInferRequest, tensor: pb.ModelInferRequest.InferInputTensor) -> bool:
    """Whether the elements are in raw_input_contents rather than in typed contents; it must be one of the two."""
    _check_supported(tensor.parameters, "inputs[0]")
    if request.raw_input_contents:
        if tensor.HasField("contents"):
            raise invalid("inputs[0].contents", "is set, and so is raw_input_contents; send one of them")
        if len(request.raw_input_contents) != 1:
            raise invalid(
                "raw_input_contents", f"has {len(request.raw_input_contents)} entries; send 1 for the 1 input"
            )
        return True
    if not tensor.HasField("contents"):
        raise invalid("inputs[0].contents", "is not set, nor is raw_input_contents; send one of them")
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if filled != [_CONTENTS[tensor.datatype]]:
        message = f"has {' and '.join(filled) or 'nothing'}; send {tensor.datatype} in {_CONTENTS[tensor.datatype]}"
        raise invalid("inputs[0].contents", message)
    return False


def _raw_pixels(data: bytes, shape: tuple[int, ...]) -> Pixels:
    """View the bytes as images, without a copy."""
    _check_length(len(data), shape, "raw_input_contents[0]", "bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _typed_pixels(contents: pb.InferTensorContents, shape: tuple[int, ...]) -> Iterator[Pixels]:
    """Convert each image's integers to pixels."""
    field, values = "inputs[0].contents.uint_contents", contents.uint_contents
    _check_length(len(values), shape, field, "elements")
    size = len(values) // shape[0]

    def image(begin: int) -> Pixels:
        elements = values[begin : begin + size]
        try:
            return np.frombuffer(bytes(elements), np.uint8).reshape(shape[1:])
        except ValueError:
            place, value = next((place, value) for place, value in enumerate(elements) if value > 255)
            raise invalid(f"{field}[{begin + place}]", f"is {value}; UINT8 is 0 to 255") from None

    return map(image, range(0, len(values), size))


def _check_length(got: int, shape: tuple[int, ...], field: str, unit: str) -> None:
    expected = int(np.prod(shape))
    if got != expected:
        raise invalid(field, f"has {got} {unit}; UINT8 {_shape(shape)} needs {expected}")


def _files(contents: pb.InferTensorContents, count: int) -> Sequence[bytes]:
    if len(contents.bytes_contents) != count:
        message = f"has {len(contents.bytes_contents)} elements; the shape says {count}"
        raise invalid("inputs[0].contents.bytes_contents", message)
    return contents.bytes_contents


def _split(data: bytes, count: int) -> list[bytes]:
    """Split a BYTES tensor into its elements, each after its length in four bytes, little-endian."""
    field, at, elements = "raw_input_contents[0]", 0, []
    for position in range(count):
        begin = at + _LENGTH_BYTES
        length = int.from_bytes(data[at:begin], "little")
        if begin + length > len(data):
            raise invalid(field, f"ends within element {position} of {count}; send each after its length in four bytes")
        at = begin + length
        elements.append(data[begin:at])
    if at != len(data):
        raise invalid(field, f"has {len(data) - at} bytes after the last of {count} elements")
    return elements


def _either(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}...")


def _shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape[:_MAX_SIDES]))}{',...' if len(shape) > _MAX_SIDES else ''}]"
