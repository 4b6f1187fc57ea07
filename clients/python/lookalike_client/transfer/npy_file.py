"""Opens one .npy file without reading it whole, and never unpickles: a file of somebody else's runs no code here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike_client.transfer.catalog_csv import CatalogError


def open_array(path: Path, convert: str) -> NDArray[Any]:
    """The array of a file, memory-mapped and read-only.

    Args:
        path: What `numpy.save` wrote.
        convert: Python that makes an array which can be used out of one of Python objects, for the message.

    Raises:
        CatalogError: It cannot be read, is no .npy file, is cut off, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(len(np.lib.format.MAGIC_PREFIX))
        if not begin:
            raise CatalogError(f"{path} is empty; write the array with numpy.save")
        if begin.startswith(b"PK"):
            raise CatalogError(f"{path} is an archive of several files (.npz); write the one array with numpy.save")
        if begin != np.lib.format.MAGIC_PREFIX:
            raise CatalogError(f"{path} is not an .npy file; write the array with numpy.save")
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        if "Python objects" in str(error):
            raise CatalogError(
                f"{path} holds Python objects, which are not read because reading them may run code;"
                f" save {convert} instead"
            ) from error
        raise CatalogError(f"{path} cannot be read, it may be cut off: {error}") from error


def open_names(path: Path) -> NDArray[Any]:
    """The strings, UTF-8 bytes or integers of a file, of shape [n], memory-mapped; `name_at` reads one.

    Raises:
        CatalogError: As `open_array`, or it holds something else.
    """
    names = open_array(path, "array.astype(str)")
    if names.dtype.kind not in "USiu":
        raise CatalogError(f"{path} holds {names.dtype}; save strings, bytes or integers, as array.astype(str) does")
    if names.ndim != 1:
        raise CatalogError(f"{path} is of shape {list(names.shape)}; one entry a row is needed, of shape [n]")
    return names


def name_at(names: NDArray[Any], row: int) -> str:
    """One entry of what `open_names` opened, as text.

    Raises:
        ValueError: It is not UTF-8, or could not be; written for the user.
    """
    value = names[row]
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
        text.encode("utf-8")
    except UnicodeError as error:
        raise ValueError(f"the entry {value!r} is not UTF-8") from error
    return text
