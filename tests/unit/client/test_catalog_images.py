"""Which files a catalog's images may be."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lookalike_client.transfer.catalog_images import ImageFolder

IMAGE = b"an image"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a catalog's folder with `images/a.jpg` and a secret beside it."""
    (tmp_path / "secret.jpg").write_bytes(b"a secret")
    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_bytes(IMAGE)
    return folder


@pytest.mark.parametrize("image", ["images/a.jpg", "./images/a.jpg", "images\\a.jpg", ".\\images\\a.jpg", "a.jpg"])
def test_paths_in_the_folder(folder: Path, image: str) -> None:
    """Slashes, backslashes, and a name without folders that is in the folder once."""
    assert ImageFolder(folder).read(image) == IMAGE


def test_a_name_with_a_backslash(folder: Path) -> None:
    """A file whose name has a backslash is itself."""
    (folder / "b\\a.jpg").write_bytes(b"b")
    assert ImageFolder(folder).read("b\\a.jpg") == b"b"


def test_a_name_that_is_there_more_than_once(folder: Path) -> None:
    """Without a folder it could be either, so none is taken."""
    (folder / "old").mkdir()
    (folder / "old" / "a.jpg").write_bytes(b"old")
    with pytest.raises(ValueError, match=r"is in 2 folders, for instance images/a.jpg and old/a.jpg; give the path"):
        ImageFolder(folder).read("a.jpg")


@pytest.mark.parametrize("allow_outside", [False, True])
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("https://shop.example/a.jpg", r"is a URL \(https://\); download the image"),
        ("s3://shop/a.jpg", r"is a URL \(s3://\)"),
        ("data:image/png;base64,iVBORw0KGgo=", r"is a URL \(data:\)"),
        ("file:///images/a.jpg", r"is a URL \(file://\); give the path itself, relative to the CSV"),
        ("C:\\images\\a.jpg", "is a path of Windows; give the path relative to the CSV"),
        ("C:/images/a.jpg", "is a path of Windows"),
        ("\\\\nas\\images\\a.jpg", "is a path of Windows"),
    ],
)
def test_what_is_no_path_is_named(folder: Path, image: str, reason: str, allow_outside: bool) -> None:
    """URLs and paths of Windows are called what they are, with what to do."""
    with pytest.raises(ValueError, match=reason):
        ImageFolder(folder, allow_outside=allow_outside).read(image)


def outside(folder: Path, kind: str) -> str:
    """Return an image's path that leads out of a folder."""
    secret = folder.parent / "secret.jpg"
    if kind == "absolute":
        return str(secret)
    if kind == "..":
        return "images/../../secret.jpg"
    if kind == "..\\":
        return "..\\secret.jpg"
    link = folder / "link"
    link.symlink_to(secret if kind == "link" else folder.parent)
    return "link" if kind == "link" else "link/secret.jpg"


@pytest.mark.parametrize("kind", ["absolute", "..", "..\\", "link", "link to a folder"])
def test_files_outside_the_folder(folder: Path, kind: str) -> None:
    """Absolute paths, `..` and links out of the folder are rejected with the option that reads them."""
    image = outside(folder, kind)
    with pytest.raises(
        ValueError, match=r"; give the path relative to the CSV, or --allow|out of the CSV's folder; --a"
    ):
        ImageFolder(folder).read(image)
    assert ImageFolder(folder, allow_outside=True).read(image) == b"a secret"


def test_links_within_the_folder(folder: Path) -> None:
    """A link to another file of the folder is that file, also where the folder itself is reached by a link."""
    (folder / "b.jpg").symlink_to("images/a.jpg")
    (folder.parent / "today").symlink_to(folder)
    assert ImageFolder(folder.parent / "today").read("b.jpg") == IMAGE


def special(path: Path, kind: str) -> None:
    """Make a file that is not a regular one."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("allow_outside", [False, True])
@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder"])
@pytest.mark.timeout(30)
def test_only_regular_files_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, allow_outside: bool
) -> None:
    """A pipe would wait for a writer, and a device may never end: neither is opened, whatever is allowed."""
    monkeypatch.chdir(folder)  # a socket's path must be short
    special(Path("x.jpg"), kind)
    with pytest.raises(
        (ValueError, IsADirectoryError), match=r"not a regular file|Is a directory|out of the CSV's folder"
    ):
        ImageFolder(folder, allow_outside=allow_outside).read("x.jpg")


def test_a_file_that_is_not_there(folder: Path) -> None:
    """Neither at its path nor elsewhere in the folder."""
    with pytest.raises(FileNotFoundError):
        ImageFolder(folder).read("none.jpg")
    with pytest.raises(FileNotFoundError):
        ImageFolder(folder).read("other/a.jpg")
