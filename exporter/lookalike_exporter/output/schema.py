"""The versions of `model.json`, and how an older one is read."""

from typing import Any

from lookalike_exporter.errors import ExportError

SCHEMA_VERSION = 3

V1_KEYS = {
    "colour": "color",
    "normalised": "normalized",
    "numbers": "input_dim",
    "centred": "centered",
    "reduced": "variant",
    "kept": "fp32_nodes",
    "top10_overlap": "recall_at_10",
    "same_nearest": "recall_at_1",
}
"""Keys of version 1, at whatever depth, and their names since."""

V1_OPTIONS = {
    "--project": "--pca-dim",
    "--fit-on": "--pca-images",
    "--judge-on": "--eval-images",
    "--calibrate-on": "--calibration-images",
    "--min-overlap": "--min-recall",
    "--accept-worse": "--allow-quality-drop",
}
"""Options in the `arguments` of version 1, and their names since."""


def upgrade(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of any known version as one of `SCHEMA_VERSION`.

    Raises:
        ExportError: It has another version, or none.
    """
    version = manifest.get("schema_version")
    if version == SCHEMA_VERSION:
        return manifest
    if version not in (1, 2):
        raise ExportError(
            f"schema_version is {version!r}, this exporter reads 1 to {SCHEMA_VERSION}; export the model again"
        )
    if version == 1:
        arguments = [V1_OPTIONS.get(argument, argument) for argument in manifest.get("arguments") or ()]
        manifest = _rename_keys(manifest) | {"arguments": arguments}
    arguments = list(manifest.get("arguments") or ())
    # Version 3 added color management; servers ignored profiles before.
    return manifest | {
        "schema_version": SCHEMA_VERSION,
        "input": manifest["input"] | {"color_management": "none"},
        "arguments": [*arguments, "--color-management", "none"] if arguments else [],
    }


def _rename_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {V1_KEYS.get(key, key): _rename_keys(each) for key, each in value.items()}
    return value
