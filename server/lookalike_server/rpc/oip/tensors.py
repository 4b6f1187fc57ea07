"""The Open Inference Protocol's tensors: images out of a request, and embeddings into a response. Pure.

The one place where the values of such a request are judged; every function that takes one raises `LookalikeError`.
Parameters that ask for what is not offered are rejected; others that nobody here knows mean nothing, as the protocol
has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.inference import inference_service_pb2 as pb
from lookalike_server.domain.errors import Code, LookalikeError, Resource, invalid
from lookalike_server.domain.inference import EmbedResult, EncodedImage, Image, Model, Pixels, RawImage
from lookalike_server.rpc.v1 import to_pb
from lookalike_server.rpc.v1.from_pb import MAX_ITEMS

IMAGE, ENCODED, EMBEDDING = "image", "encoded", "embedding"
VERSION = "1"
"""A model folder has no versions, and the protocol wants one."""

_CONTENTS = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}
_LENGTH_BYTES = 4  # before each element of BYTES
_NOT_OFFERED = ("shared_memory_region", "classification")
_SHOWN, _SHOWN_SIDES = 64, 8  # characters of a caller's text, and numbers of its shape, in an error's trailers
_COSTS = ("decode_us", "queue_us", "inference_us", "total_us", "batch_size", "padded_size")


@dataclass(frozen=True, slots=True)
class Asked:
    """Images to embed.

    Attributes:
        count: How many.
        images: They.
        slow: Whether each of them takes milliseconds to make when it is taken, and may raise `LookalikeError` then.
        timeout: Seconds from the call's arrival after which the answer is of no use; None for what the call says.
    """

    count: int
    images: Iterable[Image]
    slow: bool
    timeout: float | None


def is_model(name: str, version: str, model: Model) -> bool:
    """Whether this names the model; any version does when none is named."""
    return name == model.name and version in ("", VERSION)


def metadata(request: pb.ModelMetadataRequest, model: Model) -> pb.ModelMetadataResponse:
    """What the model takes and gives."""
    _check_model(request.name, request.version, model)
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[VERSION],
        platform="onnxruntime_onnx",
        inputs=_inputs(model).values(),
        outputs=[_tensor(EMBEDDING, "FP32", -1, model.dim)],
    )


def asked(request: pb.ModelInferRequest, model: Model, fitting: int) -> Asked:
    """What a ModelInferRequest asks, of which the answers to so many images would be `fitting` into a message."""
    _check_model(request.model_name, request.model_version, model)
    _check_outputs(request.outputs)
    timeout = _timeout(request.parameters)
    known = _inputs(model)
    tensor = _only_input(request.inputs, known)
    count = _count(tensor, known[tensor.name], max(1, min(MAX_ITEMS, fitting)))
    raw = _is_raw(request, tensor)
    if tensor.name == ENCODED:
        files = _split(request.raw_input_contents[0], count) if raw else _files(tensor.contents, count)
        encoded = [EncodedImage(file, None, f"{ENCODED}[{i}]") for i, file in enumerate(files)]
        return Asked(count, encoded, slow=False, timeout=timeout)
    shape = (count, model.height, model.width, 3)
    pixels = _raw_pixels(request.raw_input_contents[0], shape) if raw else _typed_pixels(tensor.contents, shape)
    images = (RawImage(each, None, f"{IMAGE}[{i}]") for i, each in enumerate(pixels))
    return Asked(count, images, slow=not raw, timeout=timeout)


def answer(request_id: str, model: Model, embedded: Sequence[EmbedResult]) -> pb.ModelInferResponse:
    """The images' embeddings, and what the dearest of them cost."""
    vectors = np.stack([each.vector for each in embedded])
    every = [to_pb.stats(each.stats) for each in embedded]
    costs = {name: max(int(getattr(stats, name)) for stats in every) for name in _COSTS}
    costs["cache_hits"] = sum(stats.cache_hit for stats in every)
    parameters = {name: pb.InferParameter(int64_param=cost) for name, cost in costs.items()}
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
    # Scripts of Triton's users look for the first four words.
    wanted = _quoted(name) + (f" in version {_quoted(version)}" if version else "")
    raise LookalikeError(
        Code.NOT_FOUND,
        f"Request for unknown model: there is no {wanted} here, only {model.name!r} in version {VERSION}",
        resource=Resource("model", name[:_SHOWN]),
    )


def _check_outputs(outputs: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]) -> None:
    for position, output in enumerate(outputs):
        if output.name != EMBEDDING:
            raise invalid(f"outputs[{position}].name", f"is {_quoted(output.name)}; this model gives {EMBEDDING!r}")
        _check_offered(output.parameters, f"outputs[{position}]")


def _check_offered(parameters: Mapping[str, pb.InferParameter], field: str) -> None:
    for name in _NOT_OFFERED:
        if name in parameters:
            raise invalid(f"{field}.parameters[{name!r}]", "is not offered; tensors are sent in the messages, whole")


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
            raise invalid(f"inputs[{position}].name", f"is {_quoted(tensor.name)}; this model takes {_either(known)}")
        if tensor.name in names:
            raise invalid(f"inputs[{position}].name", f"is {tensor.name!r}, which stands above already")
        names.append(tensor.name)
    if len(names) != 1:
        raise invalid("inputs", f"has {' and '.join(names) or 'no entry'}; send one of {_either(known)}")
    return inputs[0]


def _count(
    tensor: pb.ModelInferRequest.InferInputTensor, expected: pb.ModelMetadataResponse.TensorMetadata, most: int
) -> int:
    """How many images there are, by a shape and a datatype that are as they must be."""
    if tensor.datatype != expected.datatype:
        message = f"of input {tensor.name!r} is {_quoted(tensor.datatype)}; expected {expected.datatype}"
        raise invalid("inputs[0].datatype", message)
    inner = list(tensor.shape[1:])
    if not tensor.shape or (inner != expected.shape[1:] and (tensor.name, inner) != (ENCODED, [1])):
        wanted = _shape(expected.shape) + (" or [-1,1]" if tensor.name == ENCODED else "")
        message = f"of input {tensor.name!r} is {_shape(tensor.shape)}; expected {wanted}, where -1 is how many images"
        raise invalid("inputs[0].shape", message)
    if not 1 <= tensor.shape[0] <= most:
        message = f"of input {tensor.name!r} is {_shape(tensor.shape)}; 1 to {most} images are taken in one call"
        raise invalid("inputs[0].shape", message)
    return tensor.shape[0]


def _is_raw(request: pb.ModelInferRequest, tensor: pb.ModelInferRequest.InferInputTensor) -> bool:
    """Whether the elements come as bytes rather than one by one; they do come, and in one of the two ways."""
    _check_offered(tensor.parameters, "inputs[0]")
    if request.raw_input_contents:
        if tensor.HasField("contents"):
            raise invalid("inputs[0].contents", "is set, and so is raw_input_contents; send one of them")
        if len(request.raw_input_contents) != 1:
            raise invalid("raw_input_contents", f"has {len(request.raw_input_contents)} entries for 1 input")
        return True
    if not tensor.HasField("contents"):
        raise invalid("inputs[0].contents", "is not set, nor is raw_input_contents; send one of them")
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if filled != [_CONTENTS[tensor.datatype]]:
        message = f"has {' and '.join(filled) or 'nothing'}; {tensor.datatype} goes into {_CONTENTS[tensor.datatype]}"
        raise invalid("inputs[0].contents", message)
    return False


def _raw_pixels(data: bytes, shape: tuple[int, ...]) -> Pixels:
    """The images' pixels, in place."""
    _check_length(len(data), shape, "raw_input_contents[0]", "bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _typed_pixels(contents: pb.InferTensorContents, shape: tuple[int, ...]) -> Iterator[Pixels]:
    """Each image's pixels, out of numbers."""
    field, values = "inputs[0].contents.uint_contents", contents.uint_contents
    _check_length(len(values), shape, field, "numbers")
    size = len(values) // shape[0]

    def image(begin: int) -> Pixels:
        numbers = values[begin : begin + size]
        try:
            return np.frombuffer(bytes(numbers), np.uint8).reshape(shape[1:])
        except ValueError:
            place, value = next((place, value) for place, value in enumerate(numbers) if value > 255)
            raise invalid(f"{field}[{begin + place}]", f"is {value}; UINT8 goes up to 255") from None

    return map(image, range(0, len(values), size))


def _check_length(got: int, shape: tuple[int, ...], field: str, unit: str) -> None:
    expected = int(np.prod(shape))
    if got != expected:
        raise invalid(field, f"has {got} {unit}; UINT8 {_shape(shape)} has {expected}")


def _files(contents: pb.InferTensorContents, count: int) -> Sequence[bytes]:
    if len(contents.bytes_contents) != count:
        message = f"has {len(contents.bytes_contents)} elements; the shape says {count}"
        raise invalid("inputs[0].contents.bytes_contents", message)
    return contents.bytes_contents


def _split(data: bytes, count: int) -> list[bytes]:
    """The elements of a BYTES tensor, each after its length in four bytes, little-endian."""
    field, at, elements = "raw_input_contents[0]", 0, []
    for position in range(count):
        begin = at + _LENGTH_BYTES
        length = int.from_bytes(data[at:begin], "little")
        if begin + length > len(data):
            raise invalid(field, f"ends within element {position} of {count}; each follows its length in four bytes")
        at = begin + length
        elements.append(data[begin:at])
    if at != len(data):
        raise invalid(field, f"goes on for {len(data) - at} bytes after the last of {count} elements")
    return elements


def _either(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape[:_SHOWN_SIDES]))}{',...' if len(shape) > _SHOWN_SIDES else ''}]"
