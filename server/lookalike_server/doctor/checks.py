"""Which checks there are, and what each is given: the settings, and what the machine says."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lookalike_server.config import Settings
from lookalike_server.doctor import clock, disk, limits, processor, sizing
from lookalike_server.doctor.finding import Finding, warning
from lookalike_server.domain.inference import Model
from lookalike_server.inference.processor import available_cores
from lookalike_server.store.sqlite import FILE

Check = Callable[[], Finding]

CHECKS = (
    *("settings", "processor", "cores", "packages", "gpu", "model", "provider", "model_run"),
    *("data_dir", "file_system", "disk_space", "disk_sync", "catalog", "search_device"),
    *("open_files", "memory", "threads", "clock"),
    *("certificate", "auth_keys", "jwks", "quotas", "port"),
)
"""The names of all checks, in their order; docs/doctor.md has a line for each."""


def all_checks(settings: Settings) -> Iterator[Finding]:
    """Check everything, which takes seconds; changes nothing but a file in the catalog's folder that it removes."""
    # What a start does not need for its own checks.
    from lookalike_server.doctor import access, catalog, gpu, model, packages, port

    found = packages.installed_packages()
    yield from _each(
        ("processor", partial(processor.check_processor, settings.provider, settings.graph_library)),
        ("cores", partial(processor.check_cores, settings.intra_op_threads)),
        ("packages", partial(packages.check_packages, settings.provider, found)),
        ("gpu", partial(gpu.check_gpu, settings.provider, found, search_device=settings.search_device)),
    )
    of_model, folder = model.check_model(settings.model)
    yield of_model
    of_provider, provider = model.check_provider(settings.provider, model.last_choice(settings.data_dir))
    yield of_provider
    yield from _each(("model_run", partial(model.check_model_run, folder, provider, settings)))
    owner = disk.lock_owner(settings.data_dir)
    is_ours = owner is not None and port.server_health(settings) is not None
    yield from _each(
        ("data_dir", partial(disk.check_data_dir, settings.data_dir, owner, is_ours=is_ours)),
        *_disk_checks(settings),
        ("disk_sync", partial(disk.check_disk_sync, settings.data_dir, disk.sync_seconds)),
        ("catalog", partial(catalog.check_catalog, settings.data_dir, folder.model if folder else None)),
        ("search_device", partial(_check_search_device, settings, folder.model if folder else None)),
        *_limit_checks(settings, clock.is_synchronized),
        ("certificate", partial(access.check_certificate, access.tls_files(settings), datetime.now(UTC))),
        ("auth_keys", partial(access.check_auth_keys, settings.auth_keys_file)),
        ("jwks", partial(access.check_jwks, settings.jwt_jwks_file, settings.jwt_audience)),
        ("quotas", partial(access.check_quotas, settings.quotas_file)),
        ("port", partial(port.check_port, settings, owner)),
    )


def quick_checks(settings: Settings) -> Iterator[Finding]:
    """Check what a start does not find out itself, in a few milliseconds; changes nothing."""
    yield from _each(
        ("processor", partial(processor.check_processor, settings.provider, settings.graph_library)),
        ("cores", partial(processor.check_cores, settings.intra_op_threads)),
        *_disk_checks(settings),
        # Without the question about NTP, for which a hardened service may not ask the kernel.
        *_limit_checks(settings, lambda: None),
    )
    if settings.tls_certificate_file is not None:
        from lookalike_server.doctor import access

        files = access.tls_files(settings)
        yield from _each(("certificate", partial(access.check_certificate, files, datetime.now(UTC), only_dates=True)))


def _check_search_device(settings: Settings, model: Model | None) -> Finding:
    from lookalike_server.doctor import gpu
    from lookalike_server.metrics.gpu import Gpus
    from lookalike_server.store.maintenance import row_count

    if settings.search_device == "cpu":
        return gpu.check_search_device(settings.search_device, 0, model, None)
    rows = row_count(settings.data_dir) if (settings.data_dir / FILE).exists() else 0
    states = Gpus().states()
    return gpu.check_search_device(settings.search_device, rows, model, int(states[0].total_bytes) if states else None)


def _disk_checks(settings: Settings) -> Sequence[tuple[str, Check]]:
    folder = settings.data_dir
    return (
        ("file_system", partial(disk.check_file_system, folder)),
        ("disk_space", lambda: disk.check_disk_space(folder, disk.catalog_size(folder))),
    )


def _limit_checks(settings: Settings, is_synchronized: Callable[[], bool | None]) -> Sequence[tuple[str, Check]]:
    frontends = settings.frontend_processes
    threads = sizing.threads(available_cores(), frontends)
    graphs = sum(_size(path) for path in settings.data_dir.glob("index/*.graph"))
    idle = sizing.idle_bytes(
        model_bytes=_size(settings.model / "model.onnx"),
        max_batch_size=settings.max_batch_size,
        graph_bytes=graphs,
        frontend_processes=frontends,
    )
    busy = idle + settings.embedding_cache_bytes + settings.product_cache_bytes
    busy += settings.max_decoding_bytes + settings.max_inflight_message_bytes
    judges = settings.jwt_jwks_file is not None or settings.tls_client_ca_file is not None
    return (
        ("open_files", lambda: limits.check_open_files(*limits.open_files(), settings.max_connections)),
        ("memory", lambda: limits.check_memory(limits.memory_limit(), busy, idle)),
        ("threads", lambda: limits.check_threads(limits.thread_limit(), threads)),
        (
            "clock",
            lambda: clock.check_clock(datetime.now(UTC), synchronized=is_synchronized(), judges_tokens=judges),
        ),
    )


def _each(*checks: tuple[str, Check]) -> Iterator[Finding]:
    """Run checks; one that fails itself is a warning, for the others still say something."""
    for name, check in checks:
        try:
            yield check()
        except Exception as problem:  # noqa: BLE001 - whatever a machine is like
            why = errno.errorcode.get(problem.errno or 0, "") if isinstance(problem, OSError) else ""
            yield warning(
                name,
                f"could not be checked: {type(problem).__name__} {why}".rstrip(),
                "see the log of the start",
            )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
