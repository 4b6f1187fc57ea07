"""What the image is made of."""

from __future__ import annotations

import io
import tarfile

import pytest

from support.image_layers import Layers

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(3600)]

BUILD_TOOLS = {"gcc", "g++", "cc", "c++", "make", "ld", "as", "strip", "pip", "pip3", "git", "python3-config"}


def test_no_layer_holds_a_secret(layers: Layers, secret: str) -> None:
    """Neither the build's configuration of pip nor a private key is in a file, a variable or the history."""
    assert layers.secrets == []
    described = repr(layers.config)
    assert secret not in described
    assert not any(name in described for name in ("PIP_", "TOKEN=", "PASSWORD=", "//user:"))


def test_a_secret_in_a_layer_is_found() -> None:
    """The search itself finds a word and a private key, and passes over a header alone."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as layer:
        for name, data in {
            "etc/pip.conf": b"[global]\n# word-1\n",
            "key.pem": b"-----BEGIN EC PRIVATE KEY-----\n" + b"QUJD" * 20 + b"\n",
            "lib/libtls.so": b"\0-----BEGIN PRIVATE KEY-----\0",
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            layer.addfile(entry, io.BytesIO(data))
    held.seek(0)
    found = Layers({})
    with tarfile.open(fileobj=held) as layer:
        found.add(layer, (b"word-1",))
    assert found.secrets == ["etc/pip.conf", "key.pem"]


def test_nothing_that_builds_is_in_the_image(layers: Layers) -> None:
    """The layers have no compiler, no pip, no tests, no sources of wheels and no TensorFlow."""
    assert "lookalike-server" in layers.programs()
    assert not layers.programs() & BUILD_TOOLS
    unwanted = ("/pip/", "/setuptools/", "/tests/", "/tensorflow/", "/wheels/", "intel_gpu_plugin", "/.git/")
    assert [path for path in layers.entries if any(part in f"/{path}/" for part in unwanted)] == []


def test_the_run_user_owns_nothing_but_the_catalogs_folder(layers: Layers) -> None:
    """Every file is root's and writable by root alone; only /data is the run user's, and nobody else's."""
    assert {path for path, entry in layers.entries.items() if entry.uid or entry.gid == 10001} == {"data"}
    assert (layers.entries["data"].uid, layers.entries["data"].mode & 0o777) == (10001, 0o700)
    loose = [path for path, entry in layers.entries.items() if not entry.issym() and entry.mode & 0o6022]
    assert loose == []


def test_every_package_is_compiled(layers: Layers) -> None:
    """The server's modules are there as bytecode: a read-only root cannot keep what each start would compile."""
    modules = [path for path in layers.entries if path.endswith("/lookalike_server/app.py")]
    compiled = [path for path in layers.entries if "/lookalike_server/__pycache__/app.cpython" in path]
    assert len(modules) == len(compiled) == 1
