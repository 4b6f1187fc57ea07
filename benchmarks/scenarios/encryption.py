"""What TLS costs: the throughput of a server that encrypts, over the same server in the clear."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import trustme

from benchmarks.load import ImageForm, model_load
from benchmarks.rounds import paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target
from benchmarks.servers.ours import ours
from lookalike_client.tls import Tls
from lookalike_loadtest.transports import GrpcOverTls

KEPT = 0.93
"""What must remain of the throughput."""

_FORMS: tuple[ImageForm, ...] = ("raw", "jpeg")
_A_BATCH = ("--max-concurrent-batches", "1", "--preferred-batch-size", "4")
"""So that both servers run the model in the same way."""


def over_plain(bench: Bench, flags: Sequence[str]) -> list[Result]:
    """Compare closed loops over TLS to those in the clear, with both servers up and turns in pairs."""
    with tempfile.TemporaryDirectory(prefix="lookalike-tls-") as folder:
        tls, tls_flags = _certificates(Path(folder))
        plain, encrypted = (ours(bench.model, (*flags, *_A_BATCH, *more)) for more in ((), tls_flags))
        with plain.start() as clear, encrypted.start() as secret:
            return [_compare(bench, clear, secret, tls, form) for form in _FORMS]


def _compare(bench: Bench, clear: Target, secret: Target, tls: Tls, form: ImageForm) -> Result:
    transport = GrpcOverTls(tls)

    def throughput(target: Target, encrypts: bool) -> float:
        load = model_load(target, bench.model, form)
        if encrypts:
            load = replace(load, transport=transport)
        return bench.load.run(load, bench.seconds, concurrency=bench.concurrency).check(all_answered=True).throughput

    first, second = partial(throughput, secret, True), partial(throughput, clear, False)
    first(), second()
    pairs = paired(first, second, bench.rounds)
    details = {"tls_per_s": pairs.first, "clear_per_s": pairs.second, "concurrency": bench.concurrency}
    name = "throughput over TLS" if form == "raw" else "throughput over TLS, JPEG"
    return Result.at_least(name, "in the clear", pairs.spread(lambda a, b: a / b), KEPT, details)


def _certificates(folder: Path) -> tuple[Tls, tuple[str, ...]]:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    roots, certificate, key = (folder / name for name in ("roots.pem", "server.pem", "server.key"))
    authority.cert_pem.write_to_path(roots)
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return Tls(ca=roots), ("--tls-certificate-file", str(certificate), "--tls-key-file", str(key))
