"""Whether to resume an export whose stream broke; pure."""

from __future__ import annotations

from grpc import StatusCode

from lookalike_client.errors import LookalikeError

_TRANSIENT = frozenset({StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE})


def should_resume(error: LookalikeError, after_id: str, last_id: str) -> bool:
    """Decide whether there may be more after the last product; False where the rest of a category is gone.

    Args:
        error: What ended the stream.
        after_id: The id after which the stream began; empty where it began with the first product.
        last_id: The id of the last product received; `after_id` where there was none.

    Raises:
        LookalikeError: The error itself, where the stream made no progress or a retry cannot help.
    """
    if after_id and error.code is StatusCode.NOT_FOUND:
        return False
    if last_id == after_id or error.code not in _TRANSIENT:
        raise error
    return True
