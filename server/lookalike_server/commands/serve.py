"""The `serve` command."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
from functools import partial
from pathlib import Path

import click
import uvloop
from threadpoolctl import threadpool_limits

from lookalike_server.allocator import return_freed_memory
from lookalike_server.app import serve
from lookalike_server.commands.options import fail, settings_options, settings_or_fail
from lookalike_server.config_loading import load_settings
from lookalike_server.doctor.at_start import log_machine
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.renamed import RenamedFlags
from lookalike_server.telemetry import configure_log


@click.command("serve", cls=RenamedFlags)
@settings_options
def serve_command(config: Path | None, **flags: str | None) -> None:
    """Serve until SIGTERM, then finish the running calls; SIGHUP reloads what can be."""
    settings = settings_or_fail(flags, config)
    read_settings = partial(load_settings, flags, config)
    configure_log(settings.log_format, settings.log_level)
    return_freed_memory()
    # A crash of native code ends the process; without this it would do so without a word.
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    # Calls run concurrently: if each used every core for its matrix product, they would wait for each other's threads.
    threadpool_limits(limits=1, user_api="blas")
    log_machine(settings)
    try:
        if settings.frontend_processes:
            from lookalike_server.frontend.supervisor import supervise  # which one process does not need

            supervise(settings, read_settings=read_settings)
            return
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, read_settings=read_settings))
    except LookalikeError as error:
        fail(str(error))
