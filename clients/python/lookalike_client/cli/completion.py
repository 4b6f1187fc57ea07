"""`--install-completion`: writes the completion of our commands where a shell looks for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lookalike_client.cli.session import CommandFailed

PROGRAMS = ("lookalike", "lookalike-server", "lookalike-exporter")
"""Programs of ours that complete themselves; those that are installed get a file each."""


def _data() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")


def _bash(program: str) -> Path:
    return _data() / "bash-completion/completions" / program


def _zsh(program: str) -> Path:
    return _data() / "zsh/site-functions" / f"_{program}"


def _fish(program: str) -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fish/completions" / f"{program}.fish"


_SHELLS: dict[str, tuple[Callable[[str], Path], str]] = {
    "bash": (
        _bash,
        "A new bash completes with them if the package bash-completion is installed; without it, add to ~/.bashrc:\n"
        '  for file in {folder}/lookalike*; do source "$file"; done',
    ),
    "zsh": (
        _zsh,
        "Add to ~/.zshrc, before compinit if it is there, and start a new zsh:\n"
        "  fpath=({folder} $fpath); autoload -Uz compinit; compinit",
    ),
    "fish": (_fish, "A new fish completes with them."),
}
"""By shell: the file of a program's completion, and what is left to do."""

_AUTO = "auto"


def install_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    """Write the completion files of a shell, say what is left to do, and end the command; nothing without a shell.

    Raises:
        CommandFailed: The shell is not known, or a file cannot be written.
    """
    del param
    if shell is None or ctx.resilient_parsing:
        return
    name = Path(os.environ.get("SHELL", "")).name if shell == _AUTO else shell
    if name not in _SHELLS:
        raise CommandFailed(f"which shell is it? Give one of: --install-completion={'|'.join(_SHELLS)}")
    from click.shell_completion import get_completion_class  # which other commands do not need

    path_of, remaining = _SHELLS[name]
    source = get_completion_class(name)
    assert source is not None  # noqa: S101 - click has these three
    for program in filter(_is_installed, PROGRAMS):
        path = path_of(program)
        variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source(ctx.command, {}, program, variable).source(), encoding="utf-8")
        except OSError as error:
            raise CommandFailed(f"{error.filename or path}: {error.strerror}") from error
        click.echo(f"wrote {path}")
    click.echo(remaining.format(folder=path_of("lookalike").parent))
    ctx.exit()


def _is_installed(program: str) -> bool:
    return program == PROGRAMS[0] or shutil.which(program) is not None or Path(sys.argv[0]).with_name(program).exists()


def completion_option(command: Any) -> Any:
    """Add `--install-completion[=SHELL]` to a command."""
    return click.option(
        "--install-completion",
        metavar="[=SHELL]",
        is_flag=False,
        flag_value=_AUTO,
        expose_value=False,
        is_eager=True,
        callback=install_completion,
        help="Write what lets bash, zsh or fish complete our commands, say what is left to do, and exit."
        "  [default: the shell of $SHELL]",
    )(command)
