"""Old names of settings and commands: using one is an error that gives the new name. To be deleted at 1.0."""

from __future__ import annotations

from typing import Any

import click

SETTINGS = {
    "data": "data_dir",
    "tokens": "auth_keys_file",
    "workers": "frontend_processes",
    "threads": "intra_op_threads",
    "max_batch": "max_batch_size",
    "lanes": "max_concurrent_batches",
    "lane_batch": "preferred_batch_size",
    "max_queue": "max_queue_size",
    "model_nice": "inference_nice",
    "bulk_wait_seconds": "bulk_max_wait_seconds",
    "cache_bytes": "embedding_cache_bytes",
    "cuda_search": "cudnn_conv_algo_search",
    "cuda_nhwc": "cuda_prefer_nhwc",
    "cuda_tf32": "cuda_use_tf32",
    "flat_limit": "full_scan_threshold",
    "segment_rows": "max_segment_rows",
    "recall_share": "recall_sample_rate",
    "openvino_precision": "inference_precision",
    "keep_picture_bytes": "max_stored_image_bytes",
    "drain_seconds": "shutdown_grace_seconds",
}

COMMANDS = {"rebuild": "reembed"}


class RenamedFlags(click.Command):
    """A command that knows the old flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; an old flag is a usage error, as an unknown one is."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            new = SETTINGS.get(error.option_name.removeprefix("--").replace("-", "_"))
            if new is None:
                raise
            message = f"{error.option_name} was renamed to --{new.replace('_', '-')}"
            raise click.UsageError(message, ctx) from None


class RenamedCommands(click.Group):
    """A group that knows the old commands; its own know the old flags."""

    command_class = RenamedFlags

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[Any]]:
        """Find the command; an old one is a usage error, as an unknown one is."""
        if args and args[0] in COMMANDS:
            raise click.UsageError(f"{args[0]} was renamed to {COMMANDS[args[0]]}", ctx)
        return super().resolve_command(ctx, args)
