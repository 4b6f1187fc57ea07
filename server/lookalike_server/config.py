"""The settings: every one with its range, default and description."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PREFIX = "LOOKALIKE_"
"""How the variable of a setting begins."""

MIB = 1024 * 1024


class Settings(BaseModel):
    """Every setting with its range, default and description; flags, documentation and `show-config` come from here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path = Field(description="The model folder, written by `lookalike-exporter export`.")
    data_dir: Path = Field(Path("data"), description="The folder of the catalog; created when missing.")
    listen: str = Field(
        "127.0.0.1:50051",
        description="HOST:PORT, [IPV6]:PORT or unix:PATH to listen on; port 0 is any free one.",
    )
    metrics_listen: str | None = Field(
        None,
        description="PORT (of this machine alone), HOST:PORT or [IPV6]:PORT of /metrics, /healthz and /readyz over"
        " HTTP; none of them without it.",
    )
    tls_certificate_file: Path | None = Field(
        None, description="The server's certificate and those between it and a root, in PEM; read again on a change."
    )
    tls_key_file: Path | None = Field(
        None, description="The certificate's private key, in PEM, not encrypted and not readable by others."
    )
    tls_client_ca_file: Path | None = Field(
        None, description="Authorities in PEM that must have signed each client's certificate (mutual TLS)."
    )
    insecure: bool = Field(
        False, description="Listen without TLS where other machines can reach it, as behind a proxy that has TLS."
    )
    allow_anonymous: bool = Field(
        False, description="Let anybody call where other machines can reach it, without keys or client certificates."
    )
    frontend_processes: int = Field(
        0,
        ge=0,
        le=64,
        description="Processes that take calls for the process that runs the model; 0 does everything in one process.",
    )
    auth_keys_file: Path | None = Field(
        None,
        description="The file of API keys, which `lookalike-server keys` writes; read again when it changes.",
    )
    jwt_jwks_file: Path | None = Field(
        None, description="A JWKS file: JSON web tokens signed by its keys are accepted; read again when it changes."
    )
    jwt_audience: str | None = Field(
        None, description="What the claim `aud` of a JSON web token must be or contain; required with that file."
    )
    jwt_issuer: str | None = Field(
        None, description="What the claim `iss` of a JSON web token must be; any without it."
    )
    jwt_clock_skew_seconds: int = Field(
        60, ge=0, le=600, description="Seconds by which the clock of the tokens' issuer and this one may differ."
    )
    jwt_roles_claim: str = Field(
        "roles", min_length=1, description="The claim of a JSON web token with its role (or a list of roles)."
    )
    jwt_categories_claim: str = Field(
        "categories",
        min_length=1,
        description="The claim with the categories that a JSON web token may touch; a token without it may touch all.",
    )
    quotas_file: Path | None = Field(
        None, description="A TOML file of quotas and weights by caller; without it nobody has a quota."
    )
    audit_log: Path | None = Field(
        None, description="A file with a line of JSON for each write: who, what, when and its outcome."
    )
    audit_log_max_bytes: int = Field(
        64 * MIB, ge=1024, description="The size of that file above which it is moved to FILE.1, and a new one started."
    )
    audit_log_max_files: int = Field(
        8, ge=1, le=1000, description="How many such files are kept in all; the oldest is deleted."
    )
    trust_forwarded_for: bool = Field(
        False,
        description="Tell callers without tokens apart by the last address in `x-forwarded-for`, which a proxy sets.",
    )

    provider: Literal["auto", "tensorrt", "cuda", "openvino", "cpu"] = Field(
        "auto",
        description="What runs the model; `auto` is a GPU, or on CPUs the faster of openvino and cpu (ONNX Runtime).",
    )
    cuda_graphs: bool = Field(
        False, description="Capture a CUDA graph of the model for each batch size at start-up, and replay it."
    )
    cudnn_conv_algo_search: Literal["heuristic", "exhaustive", "default"] = Field(
        "heuristic",
        description="How cuDNN's convolution algorithms are chosen; `exhaustive` tries all for each batch size.",
    )
    cuda_prefer_nhwc: bool = Field(False, description="Run convolutions on the GPU in NHWC layout (channels last).")
    cuda_use_tf32: bool = Field(
        True, description="Let the GPU round float32 factors to TF32 (a 10-bit mantissa), which is faster."
    )
    inference_precision: Literal["bf16", "fp32"] = Field(
        "bf16",
        description="The precision on CPUs: bf16 where the processor has AMX or AVX-512 BF16, or always fp32.",
    )
    autotune_cache: bool = Field(
        True, description="Remember in the catalog's folder how the model runs best, so that the next start is faster."
    )
    intra_op_threads: int = Field(
        0, ge=0, le=1024, description="Threads of one run of the model; 0 means one per core the server may use."
    )
    inference_nice: int = Field(
        5,
        ge=0,
        le=19,
        description="How much nicer (Linux) the model's threads are than the others, so that those take calls at once.",
    )
    max_batch_size: int = Field(16, ge=1, le=1024, description="The most images in one batch.")
    max_concurrent_batches: int = Field(
        0,
        ge=0,
        le=1024,
        description="The most batches that run at once; 0 means the best by a measurement at start-up, or 2 on a GPU.",
    )
    preferred_batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="The most images in a batch while several run; 0 means the best by a measurement at start-up.",
    )
    max_queue_size: int = Field(
        256, ge=1, le=1_000_000, description="The most images that wait in the queue; calls beyond it are rejected."
    )
    default_deadline_seconds: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="The deadline, in seconds, of calls that have none of their own; streams have none at all.",
    )
    bulk_max_wait_seconds: float = Field(
        2.0, ge=0, le=3600, description="Seconds in the queue after which an image of a stream or an import goes first."
    )
    embedding_cache_bytes: int = Field(
        64 * MIB, ge=0, description="Bytes of embeddings cached for images that are sent again; 0 means no cache."
    )

    decode_threads: int = Field(
        0, ge=0, le=1024, description="Threads that decode and resize images; 0 means one per core the server may use."
    )
    search_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads that search the index and read the store; 0 means one per core the server may use.",
    )
    max_image_bytes: int = Field(10 * MIB, ge=1, description="The largest image file accepted, in bytes.")
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="The most pixels of any image, and of a JPEG that is not progressive."
    )
    # These cannot shrink while they are decoded; docs/configuration.md has what they cost at these sizes.
    max_progressive_jpeg_pixels: int = Field(12_500_000, ge=1, description="The most pixels of a progressive JPEG.")
    max_png_pixels: int = Field(12_500_000, ge=1, description="The most pixels of a PNG, GIF or BMP.")
    max_interlaced_png_pixels: int = Field(6_250_000, ge=1, description="The most pixels of an interlaced PNG.")
    max_webp_pixels: int = Field(6_250_000, ge=1, description="The most pixels of a WebP.")
    max_avif_pixels: int = Field(6_250_000, ge=1, description="The most pixels of an AVIF.")
    max_heic_pixels: int = Field(12_500_000, ge=1, description="The most pixels of a HEIC.")
    max_decoding_bytes: int = Field(
        256 * MIB,
        ge=1,
        description="Bytes that images may take while they are decoded; one that needs more is decoded alone.",
    )
    max_message_bytes: int = Field(
        64 * MIB, ge=1024, le=2**31 - 1, description="The largest message received or sent, in bytes."
    )
    max_inflight_message_bytes: int = Field(
        512 * MIB,
        ge=1024,
        description="Bytes of requests and responses in memory above which calls are rejected and streams not read.",
    )
    message_timeout_seconds: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Seconds in which a caller must send a request, or send or take the next message of a stream.",
    )

    max_connections: int = Field(
        1000, ge=1, le=1_000_000, description="The most connections at once, of each process; others are closed."
    )
    max_streams_per_connection: int = Field(
        128, ge=1, le=65_536, description="The most calls at once on one connection; clients queue the others."
    )
    keepalive_seconds: float = Field(
        60.0,
        ge=1,
        le=86_400,
        description="Seconds of silence after which a peer is pinged, and cut off if it does not answer in 20 s.",
    )
    max_idle_seconds: float = Field(
        600.0, ge=1, le=86_400, description="Seconds without a call after which a connection is closed in good order."
    )

    product_cache_bytes: int = Field(
        64 * MIB, ge=0, description="Bytes of products cached for the results of searches; 0 means no cache."
    )
    max_stored_image_bytes: int = Field(
        2 * MIB, ge=0, description="The largest image file stored in the catalog, in bytes; 0 stores none."
    )
    full_scan_threshold: int = Field(
        2048,
        ge=1,
        description="The most rows of a category whose searches compare every row; a larger one gets an HNSW graph.",
    )
    max_segment_rows: int = Field(
        65_536,
        ge=64,
        description="The most distinct embeddings in one HNSW graph; a larger category has several, searched in turn.",
    )
    search_device: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="Where large categories are searched: by HNSW graphs on the CPU, or exactly in the GPU's memory.",
    )
    graph_library: Literal["faiss", "hnswlib"] = Field(
        "faiss",
        description="The library of the HNSW graphs; hnswlib stops all calls while it copies or reads a graph.",
    )
    hnsw_m: int = Field(16, ge=2, le=512, description="Links per node of an HNSW graph (M).")
    hnsw_ef_construction: int = Field(100, ge=1, description="Candidates considered while a graph is built.")
    hnsw_ef_search: int = Field(56, ge=1, description="Candidates considered by a search of a graph; at least k are.")

    recall_sample_rate: float = Field(
        0.01, ge=0, le=1, description="The fraction of searches by graph that are repeated exactly to measure recall."
    )

    watchdog: bool = Field(
        True,
        description="Replace processes that hang, or exit with 70 where there is only one; turn it off to debug.",
    )
    run_timeout_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds after which a run of the model hangs; 0: ten times what is predicted, and at least one.",
    )
    lame_duck_seconds: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which health says NOT_SERVING and all is served; SIGINT has none.",
    )
    shutdown_grace_seconds: float = Field(
        20.0, ge=0, le=3600, description="Seconds that the calls then under way have to finish."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="The format of the log, which goes to stderr."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The lowest level logged; `debug` logs every call. SIGHUP reads it again from the file."
    )


def flag(setting: str) -> str:
    """Return the command line flag of a setting."""
    return f"--{setting.replace('_', '-')}"


def variable(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{setting.upper()}"
