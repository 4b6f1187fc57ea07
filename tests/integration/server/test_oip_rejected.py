"""Invalid requests of the Open Inference Protocol: which field is at fault, and why."""

from __future__ import annotations

import struct
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from lookalike.inference import inference_service_pb2 as pb
from support.oip_requests import (
    Input,
    Output,
    files,
    image,
    images,
    infer_request,
    raw_files,
    raw_images,
    stub,
    typed_images,
    vectors,
)
from support.serving import SIDE, Served, rejected, violation

IMAGE = bytes(SIDE * SIDE * 3)
BYTES = Input(name="encoded", datatype="BYTES", shape=(2,))
LONG = "x" * 20_000


def typed(datatype: str = "UINT8", name: str = "image", **contents: Any) -> Input:
    """Make the input of one image with these contents."""
    shape = (1,) if name == "encoded" else (1, SIDE, SIDE, 3)
    return Input(name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents))


def with_inputs(*tensors: Input) -> pb.ModelInferRequest:
    """Make a request with several inputs, each of one black image."""
    return pb.ModelInferRequest(model_name="tiny", inputs=tensors, raw_input_contents=[IMAGE] * len(tensors))


def with_parameter(place: str, name: str, **value: Any) -> pb.ModelInferRequest:
    """Make a request that is valid except for a parameter."""
    request = infer_request(image(), IMAGE, outputs=[Output(name="embedding")])
    holders: dict[str, Any] = {"request": request, "input": request.inputs[0], "output": request.outputs[0]}
    holders[place].parameters[name].CopyFrom(pb.InferParameter(**value))
    return request


BAD: dict[str, tuple[pb.ModelInferRequest, str, str]] = {
    "no input": (with_inputs(), "inputs", "no entry; send one of 'image' and 'encoded'"),
    "both inputs": (with_inputs(image(), BYTES), "inputs", "image and encoded; send one"),
    "an input twice": (with_inputs(image(), image()), "inputs[1].name", "appears twice"),
    "an unknown input": (
        with_inputs(Input(name="INPUT__0")),
        "inputs[0].name",
        "'INPUT__0'; the inputs of this model are 'image'",
    ),
    "a nameless input": (with_inputs(Input()), "inputs[0].name", "''; the inputs of this model are"),
    "a long name": (with_inputs(Input(name=LONG)), "inputs[0].name", "xxx...'; the inputs of this model are"),
    "floats": (infer_request(image(datatype="FP32"), IMAGE), "inputs[0].datatype", "'image' is 'FP32'; expected UINT8"),
    "no datatype": (infer_request(image(datatype=""), IMAGE), "inputs[0].datatype", "'image' is ''; expected UINT8"),
    "a long datatype": (infer_request(image(datatype=LONG), IMAGE), "inputs[0].datatype", "xxx...'; expected UINT8"),
    "files as integers": (
        infer_request(Input(name="encoded", datatype="UINT8")),
        "inputs[0].datatype",
        "expected BYTES",
    ),
    "planes first": (
        infer_request(image(1, 1, 3, SIDE, SIDE), IMAGE),
        "inputs[0].shape",
        "'image' is [1,3,32,32]; expected [-1,32,32,3]",
    ),
    "another size": (
        infer_request(image(1, 1, 64, 64, 3), IMAGE),
        "inputs[0].shape",
        "[1,64,64,3]; expected [-1,32,32,3]",
    ),
    "one image without a count": (
        infer_request(image(1, SIDE, SIDE, 3), IMAGE),
        "inputs[0].shape",
        "[32,32,3]; expected",
    ),
    "one side too many": (
        infer_request(image(1, 1, 1, SIDE, SIDE, 3), IMAGE),
        "inputs[0].shape",
        "[1,1,32,32,3]; expected",
    ),
    "no shape": (infer_request(Input(name="image", datatype="UINT8"), IMAGE), "inputs[0].shape", "is []; expected"),
    "negative sides": (infer_request(image(1, 1, -32, -32, 3), IMAGE), "inputs[0].shape", "[1,-32,-32,3]; expected"),
    "a huge side": (infer_request(image(1, 1, 2**62, 4, 3), IMAGE), "inputs[0].shape", "expected [-1,32,32,3]"),
    "a shape without end": (
        infer_request(image(1, *range(100_000)), IMAGE),
        "inputs[0].shape",
        "[0,1,2,3,4,5,6,7,...]; expected",
    ),
    "no image": (infer_request(image(0), b""), "inputs[0].shape", "[0,32,32,3]; send 1 to 1000 images"),
    "fewer than none": (infer_request(image(-1), IMAGE), "inputs[0].shape", "[-1,32,32,3]; send 1 to 1000 images"),
    "more than any message": (infer_request(image(2**63 - 1), IMAGE), "inputs[0].shape", "1 to 1000 images"),
    "a product of sides that overflows to 3072": (
        infer_request(image(2**61 + 1), IMAGE),
        "inputs[0].shape",
        "1 to 1000",
    ),
    "too many": (infer_request(image(1001), IMAGE), "inputs[0].shape", "[1001,32,32,3]; send 1 to 1000 images"),
    "a byte short": (
        infer_request(image(), IMAGE[1:]),
        "raw_input_contents[0]",
        "3071 bytes; UINT8 [1,32,32,3] needs 3072",
    ),
    "a byte more": (
        infer_request(image(2), bytes(6145)),
        "raw_input_contents[0]",
        "6145 bytes; UINT8 [2,32,32,3] needs 6144",
    ),
    "empty bytes": (infer_request(image(), b""), "raw_input_contents[0]", "0 bytes"),
    "bytes twice": (infer_request(image(), IMAGE, IMAGE), "raw_input_contents", "2 entries; send 1 for the 1 input"),
    "no contents": (infer_request(image()), "inputs[0].contents", "nor is raw_input_contents"),
    "raw and typed contents": (
        infer_request(typed(uint_contents=[0]), IMAGE),
        "inputs[0].contents",
        "so is raw_input_contents",
    ),
    "empty contents": (infer_request(typed()), "inputs[0].contents", "nothing; send UINT8 in uint_contents"),
    "signed integers": (
        infer_request(typed(int_contents=[1])),
        "inputs[0].contents",
        "int_contents; send UINT8 in uint",
    ),
    "two kinds of contents": (
        infer_request(typed(uint_contents=[1], fp32_contents=[1])),
        "inputs[0].contents",
        "uint_contents and fp32_contents",
    ),
    "too few integers": (
        infer_request(typed(uint_contents=[0] * 3071)),
        "inputs[0].contents.uint_contents",
        "3071 elements",
    ),
    "an integer beyond a byte": (
        infer_request(typed(uint_contents=[0] * 3000 + [256] + [0] * 71)),
        "inputs[0].contents.uint_contents[3000]",
        "256; UINT8 is 0 to 255",
    ),
    "too many files": (
        infer_request(typed("BYTES", "encoded", bytes_contents=[b"a", b"b"])),
        "inputs[0].contents.bytes_contents",
        "2 elements; the shape says 1",
    ),
    "a file without its length": (infer_request(BYTES, b"\1\0\0"), "raw_input_contents[0]", "within element 0 of 2"),
    "a file shorter than its length": (
        infer_request(BYTES, struct.pack("<I", 1) + b"a" + struct.pack("<I", 9) + b"b"),
        "raw_input_contents[0]",
        "within element 1 of 2",
    ),
    "a length of 4 GiB": (
        infer_request(BYTES, b"\xff\xff\xff\xff" + b"a"),
        "raw_input_contents[0]",
        "within element 0",
    ),
    "a file missing": (raw_files([b"a"], 2), "raw_input_contents[0]", "within element 1 of 2"),
    "a file more": (raw_files([b"ab", b"cde"], 1), "raw_input_contents[0]", "7 bytes after the last of 1"),
    "files in a square": (raw_files([b"a"] * 4, 2, 2), "inputs[0].shape", "[2,2]; expected [-1] or [-1,1]"),
    "a broken file": (raw_files([*files(3), b"broken"]), "encoded[3]", "not a JPEG, PNG, WebP, AVIF, GIF or BMP"),
    "an empty file": (raw_files([*files(1), b""]), "encoded[1]", "is empty"),
    "an unknown output": (
        infer_request(image(), IMAGE, outputs=[Output(name="logits")]),
        "outputs[0].name",
        "only output of this model is 'embedding'",
    ),
    "an output too many": (
        infer_request(image(), IMAGE, outputs=[Output(name="embedding"), Output()]),
        "outputs[1].name",
        "''; the only output of this model is 'embedding'",
    ),
    "shared memory in": (
        with_parameter("input", "shared_memory_region", string_param="a"),
        "inputs[0].parameters['shared_memory_region']",
        "not supported",
    ),
    "shared memory out": (
        with_parameter("output", "shared_memory_region", string_param="a"),
        "outputs[0].parameters['shared_memory_region']",
        "not supported",
    ),
    "classes": (
        with_parameter("output", "classification", int64_param=3),
        "outputs[0].parameters['classification']",
        "not supported",
    ),
    "a timeout in words": (with_parameter("request", "timeout", string_param="1s"), "parameters['timeout']", "whole"),
    "a timeout before now": (with_parameter("request", "timeout", int64_param=-1), "parameters['timeout']", "whole"),
    "a timeout of nothing": (with_parameter("request", "timeout"), "parameters['timeout']", "whole"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
async def test_bad_request(served: Served, name: str) -> None:
    """An invalid request is INVALID_ARGUMENT, names the field and what is expected, and the server goes on."""
    request, field, words = BAD[name]
    code, message, status = await rejected(stub(served).ModelInfer(request))
    assert (code, violation(status)) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert message.startswith(f"{field}: ")
    assert words in message
    assert len(message) < 1000
    assert vectors(await stub(served).ModelInfer(raw_images(images(1)))).shape == (1, 48)


@pytest.mark.parametrize(("name", "version"), [("resnet", ""), ("", ""), ("tiny", "2"), ("tiny", "x"), (LONG, LONG)])
async def test_unknown_model(served: Served, name: str, version: str) -> None:
    """Another model or version is NOT_FOUND, in the words that scripts for Triton look for, and names the right one."""
    request = raw_images(images(1))
    request.model_name, request.model_version = name, version
    for call in (
        stub(served).ModelInfer(request),
        stub(served).ModelMetadata(pb.ModelMetadataRequest(name=name, version=version)),
    ):
        code, message, status = await rejected(call)
        assert code == grpc.StatusCode.NOT_FOUND
        assert message.startswith("Request for unknown model")
        assert f"'{name[:60]}" in message
        assert "'tiny' in version 1" in message
        resource = error_details_pb2.ResourceInfo()
        assert any(detail.Unpack(resource) for detail in status.details)
        assert (resource.resource_type, resource.resource_name) == ("model", name[:64])


async def test_every_byte_as_an_integer(served: Served) -> None:
    """Every value of a byte is read from typed contents as it is."""
    pixels = np.arange(SIDE * SIDE * 3, dtype=np.uint32).astype(np.uint8).reshape(1, SIDE, SIDE, 3)
    typed_response, raw_response = [await stub(served).ModelInfer(make(pixels)) for make in (typed_images, raw_images)]
    np.testing.assert_array_equal(vectors(typed_response), vectors(raw_response))


@pytest.mark.slow
async def test_thousand_images(served: Served) -> None:
    """A call may have a thousand images, far more than one batch, and each comes back in its place."""
    pixels = np.tile(images(10), (100, 1, 1, 1))
    embedded = vectors(await stub(served).ModelInfer(raw_images(pixels)))
    np.testing.assert_allclose(embedded, np.tile(embedded[:10], (100, 1)), atol=1e-6)
    assert max(served.observer.batches) > 1
