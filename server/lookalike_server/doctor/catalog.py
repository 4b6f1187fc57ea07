"""The catalog: whether it is damaged, as far as can be seen within seconds, and whose embeddings it has."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from lookalike_server.doctor.finding import Finding, error, ok, skipped
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import Model
from lookalike_server.store.damage import REMEDY
from lookalike_server.store.lost_file import why_lost
from lookalike_server.store.maintenance import described, verify
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.sqlite import FILE

_SHOWN = 3
_MOST = 100


def check_catalog(folder: Path, model: Model | None) -> Finding:
    """Check the catalog as `verify --quick` does, and that it has embeddings of this model.

    Args:
        folder: Of the catalog.
        model: What will be served; None where that cannot be read.
    """
    if not (folder / FILE).exists() and why_lost(folder) is None:
        return skipped("catalog", f"{folder} has no catalog yet; the first start makes one")
    try:
        problems = list(islice(verify(folder, quick=True), _MOST))
        if problems:
            more = f" ... ({len(problems)} problems)" if len(problems) > _SHOWN else ""
            return error("catalog", f"{'. '.join(problems[:_SHOWN])}{more}", REMEDY, problems=len(problems))
        version, digest, has_rows = described(folder)
    except LookalikeError as problem:
        return error("catalog", problem.message)
    facts = {"schema_version": version, "model_digest": digest}
    if model is not None and has_rows and digest != model.digest:
        return error(
            "catalog",
            f"{folder} has embeddings of model {(digest or 'unknown')[:12]}, and {model.name} is {model.digest[:12]}",
            "convert it with `lookalike-server reembed`, or serve the model that it was made with",
            **facts,
        )
    newest = len(MIGRATIONS)
    schema = f"schema {version}" if version == newest else f"schema {version}, which a start makes {newest}"
    return ok("catalog", f"no problems in a quick check, {schema}", **facts)
