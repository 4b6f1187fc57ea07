"""The `reembed` command."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

import click

from lookalike_server.allocator import return_freed_memory
from lookalike_server.commands.options import fail, settings_options, settings_or_fail
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.reembed import ProgressLog, reembed
from lookalike_server.renamed import RenamedFlags
from lookalike_server.telemetry import LogObserver, configure_log

_REEMBED_SETTINGS = (
    *("model", "data_dir", "provider", "inference_precision", "autotune_cache"),
    *("cuda_graphs", "cudnn_conv_algo_search", "cuda_prefer_nhwc", "cuda_use_tf32"),
    *("intra_op_threads", "max_batch_size", "max_concurrent_batches", "preferred_batch_size"),
    *("decode_threads", "log_format", "log_level"),
)


@click.command("reembed", cls=RenamedFlags)
@partial(settings_options, names=_REEMBED_SETTINGS)
@click.option("--drop-missing", is_flag=True, help="Delete the products that cannot be embedded again.")
def reembed_command(config: Path | None, drop_missing: bool, **flags: str | None) -> None:
    """Embed the stored images of a catalog with another model, and bind the catalog to it; not while it is served.

    The command can be stopped at any time and resumes when it is run again; nothing changes before it ends.
    """
    settings = settings_or_fail(flags, config)
    configure_log(settings.log_format, settings.log_level)
    return_freed_memory()
    # As Ctrl-C: a container sends SIGTERM, which would end the process without a word.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = reembed(settings, drop_missing=drop_missing, progress=ProgressLog(), observer=LogObserver())
    except LookalikeError as error:
        fail(str(error))
    except KeyboardInterrupt:
        click.echo("lookalike-server: stopped; run the same command to resume. The old model can still serve", err=True)
        sys.exit(130)
    model = f"model {result.model.name} ({result.model.digest[:12]})"
    if not result.changed:
        click.echo(f"{settings.data_dir} already has the embeddings of {model}; nothing to do")
        return
    earlier = f", {result.resumed:,} by an earlier run" if result.resumed else ""
    embedded = f"{result.products:,} products, {result.embedded:,} images embedded{earlier}"
    click.echo(f"{settings.data_dir} now has the embeddings of {model}: {embedded}")
    if drop_missing:
        click.echo(f"{result.dropped:,} products deleted that could not be embedded again")
