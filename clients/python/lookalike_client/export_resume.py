"""Whether an export that broke is taken up again; pure."""

from __future__ import annotations

from grpc import StatusCode

from lookalike_client.errors import LookalikeError

_PASSING = frozenset({StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE})


def goes_on(error: LookalikeError, first: str, last: str) -> bool:
    """Whether there may be more after the last product that came; False where the rest of a category is gone.

    Args:
        error: What ended the stream.
        first: The id after which the stream began; empty where it began with the first product.
        last: The id of the last product that came; `first` where none came.

    Raises:
        LookalikeError: The error itself, where nothing came or no repeat will help.
    """
    if first and error.code is StatusCode.NOT_FOUND:
        return False
    if last == first or error.code not in _PASSING:
        raise error
    return True
