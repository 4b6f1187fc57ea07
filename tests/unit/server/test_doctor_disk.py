"""What the doctor says about the disk under a catalog, with real folders and file systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crash.disks import fill, make_read_only, memory
from lookalike_server.doctor.disk import (
    check_data_dir,
    check_disk_space,
    check_disk_sync,
    check_file_system,
    lock_owner,
    sync_seconds,
)
from lookalike_server.doctor.finding import Status
from support.file_trees import write_tree
from support.store_fixtures import opened


def test_a_healthy_folder(tmp_path: Path) -> None:
    """A folder of one's own is fine, and one that is still to be made is not made by being checked."""
    (tmp_path / "data").mkdir(mode=0o700)
    assert check_data_dir(tmp_path / "data", None, is_ours=False).status is Status.OK
    new = check_data_dir(tmp_path / "new" / "data", None, is_ours=False)
    assert (new.status, new.facts["exists"]) == (Status.OK, False)
    assert [each.name for each in tmp_path.iterdir()] == ["data"]
    assert not list((tmp_path / "data").iterdir())


def test_a_folder_that_others_can_look_into(tmp_path: Path) -> None:
    """A mode that lets others in is a warning with the command that takes it away."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    finding = check_data_dir(tmp_path / "data", None, is_ours=False)
    assert finding.status is Status.WARNING
    assert finding.remedy == f"chmod 700 {tmp_path / 'data'}"


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """What is no folder cannot be one."""
    (tmp_path / "data").write_text("a file")
    assert check_data_dir(tmp_path / "data", None, is_ours=False).status is Status.ERROR


def test_a_catalog_that_is_in_use(tmp_path: Path) -> None:
    """The process that has the catalog is found by its lock, and is an error unless it is the server itself."""
    assert lock_owner(tmp_path) is None
    with opened(tmp_path):
        owner = lock_owner(tmp_path)
        if owner is None:
            pytest.skip("this kernel does not list locks in /proc/locks")
        assert owner == os.getpid()
        tmp_path.chmod(0o700)
        assert check_data_dir(tmp_path, owner, is_ours=False).status is Status.ERROR
        assert check_data_dir(tmp_path, owner, is_ours=True).status is Status.OK
    assert lock_owner(tmp_path) is None


def test_a_file_system_in_memory(tmp_path: Path) -> None:
    """A tmpfs is a warning, one that is read-only an error, and both are healthy before they are mounted."""
    with memory(tmp_path, 4 << 10) as disk:
        assert check_file_system(disk / "data").status is Status.WARNING
        assert check_data_dir(disk / "data", None, is_ours=False).status is Status.OK
        make_read_only(disk)
        assert check_file_system(disk / "data").status is Status.ERROR
        finding = check_data_dir(disk / "data", None, is_ours=False)
        assert (finding.status, "Read-only file system" in finding.message) == (Status.ERROR, True)
        assert check_disk_sync(disk, sync_seconds).status is Status.ERROR


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk without room for the write-ahead log is an error, and so is one without a free byte."""
    with memory(tmp_path, 80 << 10) as disk:
        roomy = check_disk_space(disk, 0)
        fill(disk)
        full = check_disk_space(disk, 0)
    assert (roomy.status, full.status) == (Status.WARNING, Status.ERROR)
    assert roomy.facts["free_bytes"] == 80 << 20
    assert full.facts["free_bytes"] == 0


def test_room_for_a_catalog(tmp_path: Path) -> None:
    """As much room as the catalog has is enough; a catalog larger than what is free is a warning."""
    free = check_disk_space(tmp_path, 0).facts["free_bytes"]
    assert isinstance(free, int)
    if free < 4 << 30:
        pytest.skip("needs a disk with 4 GiB free")
    assert check_disk_space(tmp_path, 0).status is Status.OK
    assert check_disk_space(tmp_path, 2 * free).status is Status.WARNING


MOUNTS = r"""
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /net rw,relatime - nfs4 server:/export rw,vers=4.2
31 22 0:27 / /a\040folder rw - xfs /dev/sdb rw
32 22 0:28 / /over ro,relatime - xfs /dev/sdc rw
33 22 0:29 / /over rw,relatime - overlay overlay rw,lowerdir=/x
34 22 0:30 / /sshfs rw,relatime - fuse.sshfs host:/ rw
35 22 0:31 / /locked ro,relatime - ext4 /dev/sdd rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "status"),
    [
        ("/", "ext4", Status.OK),
        ("/network", "ext4", Status.OK),
        ("/net", "nfs4", Status.WARNING),
        ("/net/deep/inside", "nfs4", Status.WARNING),
        ("/a folder/data", "xfs", Status.OK),
        ("/over", "overlay", Status.WARNING),
        ("/sshfs/x", "fuse.sshfs", Status.WARNING),
        ("/locked", "ext4", Status.ERROR),
    ],
)
def test_file_systems(tmp_path: Path, folder: str, kind: str, status: Status) -> None:
    """The file system of a folder is that of its nearest mount, the last of those at one place; networks warn."""
    base = tmp_path.resolve()
    table = MOUNTS.replace(" / /", f" / {base}/").replace(f"{base}/ ", f"{base} ").lstrip()
    (tmp_path / "net" / "deep" / "inside").mkdir(parents=True)
    for name in ("network", "a folder/data", "over", "sshfs/x", "locked"):
        (tmp_path / name).mkdir(parents=True)
    write_tree(tmp_path / "root", {"proc/self/mountinfo": table})
    finding = check_file_system(Path(f"{base}{folder}"), tmp_path / "root")
    assert (finding.facts["type"], finding.status) == (kind, status)


def test_an_unknown_file_system(tmp_path: Path) -> None:
    """Where the system does not list its mounts nothing is said, rather than something wrong."""
    assert check_file_system(tmp_path, tmp_path).status is Status.SKIPPED


def test_syncs_are_measured(tmp_path: Path) -> None:
    """Real syncs take time, and leave nothing behind."""
    finding = check_disk_sync(tmp_path, sync_seconds)
    assert finding.facts["median_seconds"] is not None
    assert 0 < float(finding.facts["median_seconds"]) <= float(finding.facts["max_seconds"] or 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("seconds", "status"), [(0.019, Status.OK), (0.021, Status.WARNING)])
def test_slow_syncs(tmp_path: Path, seconds: float, status: Status) -> None:
    """The median counts, so that one slow sync of three is no slow disk."""
    assert check_disk_sync(tmp_path, lambda _: [0.001, seconds, 9.0]).status is status
