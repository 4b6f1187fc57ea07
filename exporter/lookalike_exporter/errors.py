"""The one error this program raises for what its caller can act on."""

# sysexits.h: a required service cannot be reached. A Makefile may fall back on another source of weights.
EX_UNAVAILABLE = 69


class ExportError(Exception):
    """An export that cannot go on; the message is one line that says what to do.

    Attributes:
        exit_code: The process's exit status: 1, or 69 (`EX_UNAVAILABLE`) where a download host was not
            reached.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's text, or its class name where it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
