"""Podman runs the chart's pods, with a program in the server's place that prints what its container lets it do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.deploy.programs import BUILT, VALUES, objects, pod, rendered

pytestmark = pytest.mark.slow

IMAGE = "localhost/stand-in:1"
PLAYED = (
    "Deployment",
    "PersistentVolumeClaim",
    "ConfigMap",
)  # of the kinds that the chart has, those that podman knows


class Podman:
    """Podman with a store in a folder, and limits that a container of ours may set."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        configuration = folder / "containers.conf"
        # Debian's crun does not run on some machines where runc does, nor do podman's own limits.
        configuration.write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n[engine]\nruntime = "runc"\n'
        )
        self._environment = os.environ | {"CONTAINERS_CONF": str(configuration)}

    def __call__(self, *arguments: str | Path, check: bool = True) -> str:
        """Return what a command of podman prints."""
        roots = ("--root", self._folder / "store", "--runroot", self._folder / "run")
        done = subprocess.run(
            ("podman", *roots, *arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def first_line(self, container: str) -> str:
        """Return the first line that a container prints, once it has."""
        while not (lines := self("logs", container).splitlines()):
            assert self("ps", "--filter", f"name={container}", "--format", "{{.State}}").strip() == "running"
        return lines[0]

    def clear(self) -> None:
        """Remove all but the images."""
        self("pod", "rm", "--all", "--force", "--time", "0", check=False)
        self("volume", "rm", "--all", "--force", check=False)
        self("secret", "rm", "--all", check=False)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Return podman, with the image of the stand-in; skip where it, or what it runs containers with, is missing."""
    for name, package in (("podman", "podman"), ("runc", "runc"), ("catatonit", "catatonit")):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: apt-get install {package}")
    if not (BUILT / "container").exists():
        pytest.skip("the stand-in is not built: `make deploy-tools` does it where Go 1.26 or newer is installed")
    if os.geteuid() != 0:
        pytest.skip("only root runs containers here without a user namespace")
    folder = tmp_path_factory.mktemp("podman")
    tree = folder / "tree.tar"
    with tarfile.open(tree, "w") as archive:
        archive.add(BUILT / "container", "lookalike-server")
        for name in ("data", "etc", "model", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
    run = Podman(folder)
    run("import", "--change", 'ENTRYPOINT ["/lookalike-server"]', "--change", "USER 10001:10001", tree, IMAGE)
    yield run
    run("rmi", "--all", "--force", check=False)


def named(kind: str, name: str, **content: Any) -> dict[str, Any]:
    """Return an object that the chart expects to be there."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}


def expected(spec: dict[str, Any], made: set[str]) -> Iterator[dict[str, Any]]:
    """Return what a pod's volumes come from, where the chart does not make it."""
    for volume in spec["volumes"]:
        if "secret" in volume:
            keys = [item["key"] for item in volume["secret"].get("items", [])] or ["tls.crt", "tls.key"]
            yield named("Secret", volume["secret"]["secretName"], data=dict.fromkeys(keys, "eA=="))
        elif "configMap" in volume and volume["configMap"]["name"] not in made:
            yield named("ConfigMap", volume["configMap"]["name"], data={"jwks.json": "{}"})
        elif "persistentVolumeClaim" in volume and volume["persistentVolumeClaim"]["claimName"] not in made:
            claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            yield named("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], spec=claim)


@pytest.mark.parametrize("values", ["default", "protected", "monitoring", "insecure"])
def test_a_pod_runs_as_the_chart_says(podman: Podman, tmp_path: Path, values: str) -> None:
    """The server runs as its user, can do nothing that is root's, and writes to the catalog and /tmp alone."""
    text = rendered(VALUES / f"{values}.yaml")
    spec = pod(text)
    wanted = {each["name"]: each["value"] for each in spec["containers"][0]["env"] if "value" in each}
    found = [each for (kind, _), each in objects(text).items() if kind in PLAYED]
    (deployment,) = [each for each in found if each["kind"] == "Deployment"]
    played = deployment["spec"]["template"]["spec"]
    (server,) = played["containers"]
    server |= {"image": IMAGE, "imagePullPolicy": "Never"}
    del server["ports"]  # it has no network
    for volume in played["volumes"]:
        if "hostPath" in volume:
            volume["hostPath"]["path"] = str(tmp_path)
        if "secret" in volume:
            volume["secret"]["optional"] = False  # as without it, where podman 4.3 ends in a panic
    found = [*expected(played, {each["metadata"]["name"] for each in found}), *found]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(found), encoding="utf-8")
    try:
        podman("kube", "play", "--network", "none", file)
        (name,) = podman("ps", "--filter", f"ancestor={IMAGE}", "--format", "{{.Names}}").split()
        facts = json.loads(podman.first_line(name))
    finally:
        podman.clear()

    assert facts["arguments"] == ["serve"]
    environment = dict(each.split("=", 1) for each in facts["environment"])
    assert wanted.items() <= environment.items()
    assert set(facts["writable"]) <= {"/data", "/tmp"}  # noqa: S108 - in the container
    assert "/tmp" in facts["writable"]  # noqa: S108
    status = dict(line.split(":\t", 1) for line in facts["status"] if ":\t" in line)
    assert set(status["Uid"].split()) == {"10001"}
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
