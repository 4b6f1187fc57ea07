"""Bills of materials in CycloneDX: of each lock file, and of the Python packages in an image.

    python -m tools.sbom locks FOLDER
    python -m tools.sbom image IMAGE FILE.cdx.json [podman OPTION...]

cyclonedx-py writes them and checks them against CycloneDX's schema. An image's has the packages that were installed in
it, with their licenses; one of a lock file has every package that any system may install, with its hashes. Packages of
the image's base are in neither.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import uuid
import venv
from collections.abc import Sequence
from pathlib import Path

from tools.licenses import ROOT, label, lock_files

ENVIRONMENT = "/opt/lookalike"
"""Where the image has the server's environment."""


def main(arguments: Sequence[str]) -> int:
    """Write what the arguments say."""
    match arguments:
        case ["locks", folder]:
            write_locks(Path(folder))
        case ["image", image, file, *engine]:
            write_image(image, Path(file), engine or ["docker"])
        case _:
            sys.exit(__doc__)
    return 0


def write_locks(folder: Path) -> None:
    """Write the bill of each lock file."""
    folder.mkdir(parents=True, exist_ok=True)
    for lock in lock_files():
        write_lock(lock, folder / f"{label(str(lock.relative_to(ROOT)))}.cdx.json")


def write_lock(lock: Path, file: Path) -> None:
    """Write the bill of a lock file."""
    _cyclonedx("requirements", "-o", str(file), str(lock))


def write_image(image: str, file: Path, engine: Sequence[str]) -> None:
    """Write the bill of an image's Python packages, by their metadata in its environment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch) / "environment"
        venv.create(environment, with_pip=False)
        packages = next((environment / "lib").glob("python3.*")) / "site-packages"
        copy_metadata(image, packages, engine)
        _cyclonedx("environment", "-o", str(file), str(environment))


def copy_metadata(image: str, packages: Path, engine: Sequence[str]) -> None:
    """Copy the metadata of an image's packages into a folder."""
    name = f"sbom-{uuid.uuid4().hex[:12]}"
    subprocess.run([*engine, "create", "--name", name, image], check=True, stdout=subprocess.DEVNULL)
    try:
        source = f"{name}:{ENVIRONMENT}/lib"
        with (
            subprocess.Popen([*engine, "cp", source, "-"], stdout=subprocess.PIPE) as copying,
            tarfile.open(fileobj=copying.stdout, mode="r|") as archive,
        ):
            for entry in archive:
                parts = Path(entry.name).parts
                at = next((i for i, part in enumerate(parts) if part.endswith(".dist-info")), None)
                if at is not None and entry.isfile() and (held := archive.extractfile(entry)):
                    target = packages.joinpath(*parts[at:])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(held.read())
        if copying.returncode:
            raise subprocess.CalledProcessError(copying.returncode, "cp")
    finally:
        subprocess.run([*engine, "rm", "--volumes", name], check=True, stdout=subprocess.DEVNULL)


def _cyclonedx(*arguments: str) -> None:
    program = Path(sys.executable).with_name("cyclonedx-py")
    options = ("--output-reproducible", "--of", "JSON", "--validate")
    subprocess.run([str(program), arguments[0], *options, *arguments[1:]], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
