"""Options of before the first release; deleted at 1.0."""

from typing import ClassVar

from lookalike_loadtest.cli import renamed


class Command(renamed.Command):
    """The benchmark's command."""

    options: ClassVar = {"--figures": "--scenarios", "--systems": "--peers", "--callers": "--concurrency"}
