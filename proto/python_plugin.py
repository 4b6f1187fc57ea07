"""A protoc plugin that makes the Python stubs: grpcio-tools has the generators built in, and buf needs a program.

What lies outside of `lookalike` is put inside it, so that the package claims no other name to import.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

MOVED = "inference/"


def main() -> int:
    """Answer the request on standard input; protoc's exit status."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    for file in request.proto_file:
        file.name = _moved(file.name)
        file.dependency[:] = map(_moved, file.dependency)
    messages = [_moved(name) for name in request.file_to_generate]
    # the stubs of a file without a service would be empty
    with_service = {file.name for file in request.proto_file if file.service}
    services = [name for name in messages if name in with_service]
    with tempfile.TemporaryDirectory() as scratch:
        described, out = Path(scratch, "descriptors"), Path(scratch, "out")
        described.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out.mkdir()
        given = ("", f"--descriptor_set_in={described}")
        status = protoc.main([*given, f"--python_out={out}", f"--mypy_out=quiet:{out}", *messages]) or protoc.main(
            [*given, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services]
        )
        for made in sorted(path for path in out.rglob("*") if path.is_file()):
            response.file.add(name=made.relative_to(out).as_posix(), content=made.read_text(encoding="utf-8"))
    sys.stdout.buffer.write(response.SerializeToString())
    return status


def _moved(name: str) -> str:
    return f"lookalike/{name}" if name.startswith(MOVED) else name


if __name__ == "__main__":
    sys.exit(main())
