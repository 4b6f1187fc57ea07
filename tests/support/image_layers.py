"""What an image's own layers hold, read from `podman save`."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A whole key: libraries for TLS have the header alone among their strings.
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{64}")


@dataclass(frozen=True)
class Layers:
    """The layers that the Dockerfile adds to its base.

    Attributes:
        config: The image's configuration, with its history.
        entries: Path, without the leading slash, to what a layer has there; the last layer's where several have it.
        secrets: Paths of files that hold a private key or one of the words looked for.
        sizes: Bytes of the files of each layer.
    """

    config: dict[str, Any]
    entries: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, layer: tarfile.TarFile, words: tuple[bytes, ...]) -> None:
        """Read one more layer."""
        self.sizes.append(0)
        for entry in layer:
            self.entries[entry.name.removeprefix("./").strip("/")] = entry
            self.sizes[-1] += entry.size
            if entry.isfile() and (file := layer.extractfile(entry)):
                data = file.read()
                if _PRIVATE_KEY.search(data) or any(word in data for word in words):
                    self.secrets.append(entry.name)

    def programs(self) -> set[str]:
        """Return the names of everything in a folder of programs."""
        return {Path(path).name for path in self.entries if re.search(r"(^|/)s?bin/[^/]+$", path)}

    def megabytes(self) -> Iterator[tuple[str, float]]:
        """Return the largest packages, largest first."""
        totals: dict[str, int] = {}
        for path, entry in self.entries.items():
            if found := re.search(r"site-packages/([^/]+)", path):
                name = found[1].split(".libs")[0].replace("_cpu", "")
                totals[name] = totals.get(name, 0) + entry.size
        for name in sorted(totals, key=lambda name: -totals[name]):
            yield name, totals[name] / 1e6


def read_layers(archive: Path, base_layers: int, *words: str) -> Layers:
    """Read a docker-archive, without the layers of its base, and look for private keys and these words in its files."""
    with tarfile.open(archive) as outer:
        members = {member.name: member for member in outer}
        (manifest,) = json.loads(_read(outer, members["manifest.json"]))
        layers = Layers(json.loads(_read(outer, members[manifest["Config"]])))
        for name in manifest["Layers"][base_layers:]:
            with tarfile.open(fileobj=outer.extractfile(_followed(members, name))) as layer:
                layers.add(layer, tuple(word.encode() for word in words))
    return layers


def _followed(members: dict[str, tarfile.TarInfo], name: str) -> tarfile.TarInfo:
    member = members[name]
    return members[member.linkname.removeprefix("../")] if member.issym() else member


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()
