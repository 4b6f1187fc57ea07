"""The server's settings: flags over LOOKALIKE_... variables over a TOML file over defaults; unknown keys are errors."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lookalike_server.domain.errors import Code, LookalikeError

PREFIX = "LOOKALIKE_"
CLIENT_PREFIX = "LOOKALIKE_CLIENT_"  # the command line client's variables, which may stand beside ours
CONFIG_VARIABLE = "LOOKALIKE_CONFIG"

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Every setting with its unit, range and default; flags, documentation and `show-config` are made from this."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", env_ignore_empty=True, frozen=True)

    model: Path = Field(description="The model folder, as `lookalike-exporter export` wrote it.")
    data_dir: Path = Field(Path("data"), description="The folder of the catalog; made when missing.")
    listen: str = Field("127.0.0.1:50051", description="HOST:PORT to listen on; port 0 takes any free one.")
    frontend_processes: int = Field(
        0, ge=0, le=64, description="Processes that take calls for the one with the model; 0 does all in one process."
    )
    auth_keys_file: Path | None = Field(
        None, description="A file of `reader TOKEN` and `writer TOKEN` lines; without it everybody may call."
    )

    provider: Literal["auto", "tensorrt", "cuda", "openvino", "cpu"] = Field(
        "auto",
        description="What runs the model. `auto` takes the first of tensorrt, cuda, openvino and cpu that starts.",
    )
    cuda_graphs: bool = Field(
        False, description="Record the card's work for each batch size at start-up and replay it as a whole."
    )
    cudnn_conv_algo_search: Literal["heuristic", "exhaustive", "default"] = Field(
        "heuristic", description="How cuDNN's kernels are chosen; `exhaustive` tries them all for every batch size."
    )
    cuda_prefer_nhwc: bool = Field(False, description="Run convolutions on the card with channels last.")
    cuda_use_tf32: bool = Field(
        True, description="Let the card round float32 factors to TF32 (10 bits of fraction), which is faster."
    )
    inference_precision: Literal["bf16", "fp32"] = Field(
        "bf16",
        description="What OpenVINO computes in: bf16, for processors with AMX or AVX-512 BF16, or fp32, exact.",
    )
    intra_op_threads: int = Field(0, ge=0, le=1024, description="Threads of one run of the model; 0 means every core.")
    inference_nice: int = Field(
        5, ge=0, le=19, description="How much the model's threads yield to those that take calls (Linux niceness)."
    )
    max_batch_size: int = Field(16, ge=1, le=1024, description="The most images in one run of the model.")
    max_concurrent_batches: int = Field(
        0,
        ge=0,
        le=1024,
        description="Runs of the model side by side when busy; 0 measures at start-up what pays, and is 2 on a card.",
    )
    preferred_batch_size: int = Field(
        0, ge=0, le=1024, description="The most images in a run when busy; 0 measures at start-up what pays."
    )
    max_queue_size: int = Field(
        256, ge=1, le=1_000_000, description="The most images waiting for the model; beyond, calls are rejected."
    )
    default_deadline_seconds: float = Field(
        30.0, gt=0, le=86_400, description="The deadline of calls that bring none (streams and imports have none)."
    )
    bulk_max_wait_seconds: float = Field(
        2.0, ge=0, le=3600, description="Seconds after which a waiting image of a stream or import goes first."
    )
    embedding_cache_bytes: int = Field(
        64 * MIB, ge=0, description="Bytes of embeddings kept for images that come again; 0 keeps none."
    )

    decode_threads: int = Field(
        0, ge=0, le=1024, description="Threads that decode and resize images; 0 means one a core."
    )
    search_threads: int = Field(
        0, ge=0, le=1024, description="Threads that search the index and read the store; 0 means one a core."
    )
    max_image_bytes: int = Field(10 * MIB, ge=1, description="The largest image file taken, in bytes.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="The most pixels an image may have.")
    max_message_bytes: int = Field(
        64 * MIB, ge=1024, le=2**31 - 1, description="The largest message taken or sent, in bytes."
    )

    max_stored_image_bytes: int = Field(
        2 * MIB, ge=0, description="The largest image file kept in the catalog, in bytes; 0 keeps none."
    )
    full_scan_threshold: int = Field(
        2048, ge=1, description="Rows of a category up to which every one is compared; beyond, an HNSW graph is built."
    )
    max_segment_rows: int = Field(
        16_384, ge=64, description="The most rows under one graph; a larger category has several, searched one by one."
    )
    hnsw_m: int = Field(16, ge=2, le=512, description="Links a node of a graph keeps (M).")
    hnsw_ef_construction: int = Field(200, ge=1, description="Candidates weighed while a graph is built.")
    hnsw_ef_search: int = Field(192, ge=1, description="Candidates weighed by a search of a graph, at least k.")

    hnsw_numbers: int = Field(
        256,
        ge=0,
        description="Numbers that vectors are projected to for a graph, more where neighbors ask for it; 0 means all.",
    )

    recall_sample_rate: float = Field(
        0.01, ge=0, le=1, description="The share of searches by graph that is repeated exactly, to know its recall."
    )

    shutdown_grace_seconds: float = Field(
        20.0, ge=0, le=3600, description="Seconds that calls under way have to finish after SIGTERM."
    )
    log_format: Literal["console", "json"] = Field("console", description="How the log is written, to stderr.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least serious events in the log; `debug` has one for every call."
    )


def load_settings(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Put the settings together.

    Args:
        flags: What the command line gave, by setting; None values count as not given.
        config: A TOML file; without it the file that LOOKALIKE_CONFIG names, if any.

    Raises:
        LookalikeError: FAILED_PRECONDITION naming the flag, variable or key, and what it may be.
    """
    # As pydantic-settings reads them: in any case, and empty ones not at all.
    variables = {key.upper() for key, value in os.environ.items() if key.upper().startswith(PREFIX) and value}
    for key in sorted(variables):
        # pydantic-settings passes over unknown variables also with extra="forbid"; a typing error must not.
        known = key == CONFIG_VARIABLE or key.removeprefix(PREFIX).lower() in Settings.model_fields
        if not known and not key.startswith(CLIENT_PREFIX):
            raise _wrong(f"{key} is not a setting; `lookalike-server show-config` lists them")
    given = {key: value for key, value in flags.items() if value is not None}
    if config is None and os.environ.get(CONFIG_VARIABLE):
        config = Path(os.environ[CONFIG_VARIABLE])
    if config is not None:
        from_environment = {key for key in Settings.model_fields if f"{PREFIX}{key}".upper() in variables}
        read = _read_toml(config)
        given = {key: value for key, value in read.items() if key not in from_environment} | given
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise _wrong(f"{name} is needed: give --{name.replace('_', '-')} or {PREFIX}{name.upper()}") from None
        raise _wrong(f"{name}: {first['msg']} (got {first['input']!r})") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(f"cannot read the configuration {path}: {error}") from None


def _wrong(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)
