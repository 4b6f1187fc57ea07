"""Requests of the Open Inference Protocol that cannot be answered: which field is to blame, and why."""

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
    ask,
    files,
    image,
    images,
    raw_files,
    raw_images,
    stub,
    typed_images,
    vectors,
)
from support.serving import SIDE, Served, rejected, violation

IMAGE = bytes(SIDE * SIDE * 3)
BYTES = Input(name="encoded", datatype="BYTES", shape=(2,))
LONG = "x" * 100_000


def typed(datatype: str = "UINT8", name: str = "image", **contents: Any) -> Input:
    """One image's description with these contents."""
    shape = (1,) if name == "encoded" else (1, SIDE, SIDE, 3)
    return Input(name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents))


def with_inputs(*tensors: Input) -> pb.ModelInferRequest:
    """A request with several inputs, each of one black image."""
    return pb.ModelInferRequest(model_name="tiny", inputs=tensors, raw_input_contents=[IMAGE] * len(tensors))


def with_parameter(place: str, name: str, **value: Any) -> pb.ModelInferRequest:
    """A request that is good but for a parameter."""
    request = ask(image(), IMAGE, outputs=[Output(name="embedding")])
    holders: dict[str, Any] = {"request": request, "input": request.inputs[0], "output": request.outputs[0]}
    holders[place].parameters[name].CopyFrom(pb.InferParameter(**value))
    return request


BAD: dict[str, tuple[pb.ModelInferRequest, str, str]] = {
    "no input": (with_inputs(), "inputs", "no entry; send one of 'image' and 'encoded'"),
    "both inputs": (with_inputs(image(), BYTES), "inputs", "image and encoded; send one"),
    "an input twice": (with_inputs(image(), image()), "inputs[1].name", "stands above"),
    "an unknown input": (with_inputs(Input(name="INPUT__0")), "inputs[0].name", "'INPUT__0'; this model takes 'image'"),
    "a nameless input": (with_inputs(Input()), "inputs[0].name", "''; this model takes"),
    "a long name": (with_inputs(Input(name=LONG)), "inputs[0].name", "xxx...'; this model takes"),
    "floats": (ask(image(datatype="FP32"), IMAGE), "inputs[0].datatype", "'image' is 'FP32'; expected UINT8"),
    "no datatype": (ask(image(datatype=""), IMAGE), "inputs[0].datatype", "'image' is ''; expected UINT8"),
    "a long datatype": (ask(image(datatype=LONG), IMAGE), "inputs[0].datatype", "xxx...'; expected UINT8"),
    "files as numbers": (ask(Input(name="encoded", datatype="UINT8")), "inputs[0].datatype", "expected BYTES"),
    "planes first": (
        ask(image(1, 1, 3, SIDE, SIDE), IMAGE),
        "inputs[0].shape",
        "'image' is [1,3,32,32]; expected [-1,32,32,3]",
    ),
    "another size": (ask(image(1, 1, 64, 64, 3), IMAGE), "inputs[0].shape", "[1,64,64,3]; expected [-1,32,32,3]"),
    "one image without a count": (ask(image(1, SIDE, SIDE, 3), IMAGE), "inputs[0].shape", "[32,32,3]; expected"),
    "one side too many": (ask(image(1, 1, 1, SIDE, SIDE, 3), IMAGE), "inputs[0].shape", "[1,1,32,32,3]; expected"),
    "no shape": (ask(Input(name="image", datatype="UINT8"), IMAGE), "inputs[0].shape", "is []; expected"),
    "negative sides": (ask(image(1, 1, -32, -32, 3), IMAGE), "inputs[0].shape", "[1,-32,-32,3]; expected"),
    "a side beyond all numbers": (ask(image(1, 1, 2**62, 4, 3), IMAGE), "inputs[0].shape", "expected [-1,32,32,3]"),
    "a shape without end": (
        ask(image(1, *range(100_000)), IMAGE),
        "inputs[0].shape",
        "[0,1,2,3,4,5,6,7,...]; expected",
    ),
    "no image": (ask(image(0), b""), "inputs[0].shape", "[0,32,32,3]; 1 to 1000 images"),
    "fewer than none": (ask(image(-1), IMAGE), "inputs[0].shape", "[-1,32,32,3]; 1 to 1000 images"),
    "more than any message": (ask(image(2**63 - 1), IMAGE), "inputs[0].shape", "1 to 1000 images"),
    "a product of sides that overflows to 3072": (ask(image(2**61 + 1), IMAGE), "inputs[0].shape", "1 to 1000"),
    "too many": (ask(image(1001), IMAGE), "inputs[0].shape", "[1001,32,32,3]; 1 to 1000 images"),
    "a byte short": (ask(image(), IMAGE[1:]), "raw_input_contents[0]", "3071 bytes; UINT8 [1,32,32,3] has 3072"),
    "a byte more": (ask(image(2), bytes(6145)), "raw_input_contents[0]", "6145 bytes; UINT8 [2,32,32,3] has 6144"),
    "empty bytes": (ask(image(), b""), "raw_input_contents[0]", "0 bytes"),
    "bytes twice": (ask(image(), IMAGE, IMAGE), "raw_input_contents", "2 entries for 1 input"),
    "no contents": (ask(image()), "inputs[0].contents", "nor is raw_input_contents"),
    "bytes and numbers": (ask(typed(uint_contents=[0]), IMAGE), "inputs[0].contents", "so is raw_input_contents"),
    "empty contents": (ask(typed()), "inputs[0].contents", "nothing; UINT8 goes into uint_contents"),
    "signed numbers": (ask(typed(int_contents=[1])), "inputs[0].contents", "int_contents; UINT8 goes into uint"),
    "two kinds of numbers": (
        ask(typed(uint_contents=[1], fp32_contents=[1])),
        "inputs[0].contents",
        "uint_contents and fp32_contents",
    ),
    "too few numbers": (ask(typed(uint_contents=[0] * 3071)), "inputs[0].contents.uint_contents", "3071 numbers"),
    "a number beyond a byte": (
        ask(typed(uint_contents=[0] * 3000 + [256] + [0] * 71)),
        "inputs[0].contents.uint_contents[3000]",
        "256; UINT8 goes up to 255",
    ),
    "too many files": (
        ask(typed("BYTES", "encoded", bytes_contents=[b"a", b"b"])),
        "inputs[0].contents.bytes_contents",
        "2 elements; the shape says 1",
    ),
    "a file without its length": (ask(BYTES, b"\1\0\0"), "raw_input_contents[0]", "within element 0 of 2"),
    "a file shorter than its length": (
        ask(BYTES, struct.pack("<I", 1) + b"a" + struct.pack("<I", 9) + b"b"),
        "raw_input_contents[0]",
        "within element 1 of 2",
    ),
    "a length of 4 GiB": (ask(BYTES, b"\xff\xff\xff\xff" + b"a"), "raw_input_contents[0]", "within element 0"),
    "a file missing": (raw_files([b"a"], 2), "raw_input_contents[0]", "within element 1 of 2"),
    "a file more": (raw_files([b"ab", b"cde"], 1), "raw_input_contents[0]", "7 bytes after the last of 1"),
    "files in a square": (raw_files([b"a"] * 4, 2, 2), "inputs[0].shape", "[2,2]; expected [-1] or [-1,1]"),
    "a broken file": (raw_files([*files(3), b"broken"]), "encoded[3]", "not a JPEG, PNG, WebP, GIF or BMP"),
    "an empty file": (raw_files([*files(1), b""]), "encoded[1]", "is empty"),
    "an unknown output": (ask(image(), IMAGE, outputs=[Output(name="logits")]), "outputs[0].name", "gives 'embedding'"),
    "an output too many": (
        ask(image(), IMAGE, outputs=[Output(name="embedding"), Output()]),
        "outputs[1].name",
        "''; this model gives 'embedding'",
    ),
    "shared memory in": (
        with_parameter("input", "shared_memory_region", string_param="a"),
        "inputs[0].parameters['shared_memory_region']",
        "not offered",
    ),
    "shared memory out": (
        with_parameter("output", "shared_memory_region", string_param="a"),
        "outputs[0].parameters['shared_memory_region']",
        "not offered",
    ),
    "classes": (
        with_parameter("output", "classification", int64_param=3),
        "outputs[0].parameters['classification']",
        "not offered",
    ),
    "a timeout in words": (with_parameter("request", "timeout", string_param="1s"), "parameters['timeout']", "whole"),
    "a timeout before now": (with_parameter("request", "timeout", int64_param=-1), "parameters['timeout']", "whole"),
    "a timeout of nothing": (with_parameter("request", "timeout"), "parameters['timeout']", "whole"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_request(served: Served, name: str) -> None:
    """What cannot be answered is INVALID_ARGUMENT, blames the field, says what is expected, and the server goes on."""
    request, field, words = BAD[name]
    code, message, status = await rejected(stub(served).ModelInfer(request))
    assert (code, violation(status)) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert message.startswith(f"{field}: ")
    assert words in message
    assert len(message) < 1000
    assert vectors(await stub(served).ModelInfer(raw_images(images(1)))).shape == (1, 48)


@pytest.mark.parametrize(("name", "version"), [("resnet", ""), ("", ""), ("tiny", "2"), ("tiny", "x"), (LONG, LONG)])
async def test_unknown_model(served: Served, name: str, version: str) -> None:
    """Another model or version is NOT_FOUND, in the words that Triton's users look for, and says what there is."""
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


async def test_numbers_at_their_limits(served: Served) -> None:
    """Every value that a byte has is taken from numbers as it is."""
    pixels = np.arange(SIDE * SIDE * 3, dtype=np.uint32).astype(np.uint8).reshape(1, SIDE, SIDE, 3)
    typed_answer, raw_answer = [await stub(served).ModelInfer(make(pixels)) for make in (typed_images, raw_images)]
    np.testing.assert_array_equal(vectors(typed_answer), vectors(raw_answer))


async def test_thousand_images(served: Served) -> None:
    """A call may have a thousand images, far more than one batch, and each comes back in its place."""
    pixels = np.tile(images(10), (100, 1, 1, 1))
    answered = vectors(await stub(served).ModelInfer(raw_images(pixels)))
    np.testing.assert_allclose(answered, np.tile(answered[:10], (100, 1)), atol=1e-6)
    assert max(served.observer.batches) > 1
