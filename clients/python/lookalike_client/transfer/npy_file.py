"""Opens .npy files memory-mapped and without pickle, so that no code in a file can run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike_client.transfer.catalog_error import CatalogError

_MAX_REASON = 200
"""The most characters of NumPy's message, which quotes the whole header."""


def open_array(path: Path, convert: str) -> NDArray[Any]:
    """Open an array, memory-mapped and read-only.

    Args:
        path: A file written by `numpy.save`.
        convert: For the message: Python that converts an array of Python objects to one that can be used.

    Raises:
        CatalogError: It cannot be read, is not an .npy file, is truncated, or has Python objects.
    """
    if path.exists() and not path.is_file():
        raise CatalogError(f"{path} is not a regular file, and is mapped into memory; write it to a file first")
    try:
        with path.open("rb") as file:
            magic = file.read(len(np.lib.format.MAGIC_PREFIX))
        if not magic:
            raise CatalogError(f"{path} is empty; write the array with numpy.save")
        if magic.startswith(b"PK"):
            raise CatalogError(f"{path} is an archive of several files (.npz); write the one array with numpy.save")
        if magic != np.lib.format.MAGIC_PREFIX:
            raise CatalogError(f"{path} is not an .npy file; write the array with numpy.save")
        with warnings.catch_warnings():  # of NumPy and Python's parser about the header, which is checked below
            warnings.simplefilter("ignore")
            return np.lib.format.open_memmap(path, mode="r")
    except CatalogError:
        raise
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # NumPy evaluates the header, and passes on whatever its parser raises
        if "Python objects" in str(error):
            raise CatalogError(
                f"{path} has Python objects, which are not read because that may run code; save {convert} instead"
            ) from error
        reason = " ".join(str(error).split())[:_MAX_REASON]
        if not isinstance(error, ValueError):
            reason = "its header is damaged"
        raise CatalogError(f"{path} cannot be read; it may be truncated: {reason}") from error


def open_names(path: Path) -> NDArray[Any]:
    """Open an array of strings, UTF-8 bytes or integers, of shape [n]; `name_at` reads one of them.

    Raises:
        CatalogError: As `open_array`, or the array is of another type or shape.
    """
    names = open_array(path, "array.astype(str)")
    if names.dtype.kind not in "USiu":
        raise CatalogError(
            f"{path} has dtype {names.dtype}; save strings, bytes or integers, for instance array.astype(str)"
        )
    if names.ndim != 1:
        raise CatalogError(f"{path} has shape {list(names.shape)}; it must have one entry per row, shape [n]")
    return names


def name_at(names: NDArray[Any], row: int) -> str:
    """Return one entry of an array of `open_names`, as text.

    Raises:
        ValueError: It cannot be UTF-8; written for the user.
    """
    try:
        value = names[row]
    except (SystemError, ValueError) as error:  # a character beyond Unicode's last, which Python cannot have
        raise ValueError(f"the entry in row {row} is not text") from error
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
        text.encode("utf-8")
    except UnicodeError as error:
        raise ValueError(f"the entry {value!r} is not UTF-8") from error
    return text
