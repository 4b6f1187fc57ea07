"""The names of a client's certificate as gRPC reports them, over a real connection with mutual TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import trustme

from lookalike_server.rpc.access.api_keys import new_certificate
from lookalike_server.rpc.access.identity import Role
from lookalike_server.rpc.access.keys_file import changing
from lookalike_server.rpc.auth import Authenticator
from support.fakes import RecordingObserver

METHOD = "/lookalike.v1.SearchService/Search"


async def test_a_certificate_names_its_caller(tmp_path: Path) -> None:
    """A caller without a token is the entry of its certificate's name, whichever of its names that is."""
    keys = tmp_path / "keys.json"
    with changing(keys) as entries:
        entries.append(new_certificate("web.example", "web", Role.READER, None, ""))
        entries.append(new_certificate("jobs@shop.example", "jobs", Role.WRITER, frozenset(("Men",)), ""))
    authenticator = Authenticator(RecordingObserver(), keys_file=keys, client_certificates=True)
    authority = trustme.CA()
    server_certificate = authority.issue_cert("localhost")

    async def identify(_: bytes, context: Any) -> bytes:
        identity = authenticator.identify(METHOD, (), context)
        return f"{identity.name} {identity.role.label} {identity.categories}".encode()

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(identify)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Call": handler}),))
    root = authority.cert_pem.bytes()
    pair = (server_certificate.private_key_pem.bytes(), server_certificate.cert_chain_pems[0].bytes())
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair], root, require_client_auth=True))
    await server.start()
    try:
        for names, expected in (
            (("other.example", "web.example"), "web reader None"),
            (("jobs@shop.example",), "jobs writer frozenset({'Men'})"),
        ):
            client = authority.issue_cert(*names)
            credentials = grpc.ssl_channel_credentials(
                root, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
            )
            async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                call: Any = channel.unary_unary("/test.Test/Call")
                assert (await call(b"")).decode() == expected
    finally:
        await server.stop(None)
