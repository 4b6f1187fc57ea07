"""Write the server's settings into the schema of the Helm chart's values, so that it rejects what the server would.

python -m tools.chart_schema            write them again, after a change of a setting
python -m tools.chart_schema --check    exit with 1 where they are not those of the server
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lookalike_server.config import Settings

CHART = Path(__file__).parent.parent / "deploy" / "helm" / "lookalike"
SCHEMA = CHART / "values.schema.json"

OWNED = frozenset(
    (
        *("model", "data_dir", "listen", "metrics_listen", "insecure", "allow_anonymous"),
        *("tls_certificate_file", "tls_key_file", "tls_client_ca_file"),
        *("auth_keys_file", "jwt_jwks_file", "quotas_file"),
    )
)
"""The settings that other values of the chart set."""

_KEPT = ("type", "enum", "minimum", "maximum", "exclusiveMinimum", "minLength", "description")


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of the chart's value `settings`: every setting but those in `OWNED`."""
    properties = Settings.model_json_schema()["properties"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(each) for name, each in properties.items() if name not in OWNED},
    }


def _property(schema: dict[str, Any]) -> dict[str, Any]:
    """Reduce one setting's schema to what Helm needs; one that may be None is left out of the values instead."""
    chosen = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), {}) | schema
    return {key: chosen[key] for key in _KEPT if key in chosen}


def written(schema: dict[str, Any]) -> str:
    """Return the text of the schema's file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where it would")
    check = parser.parse_args().check
    before = SCHEMA.read_text(encoding="utf-8")
    schema = json.loads(before)
    schema["properties"]["settings"] = settings_schema()
    if written(schema) == before:
        return
    if check:
        sys.exit(f"{SCHEMA} lacks settings of the server; run `python -m tools.chart_schema`")
    SCHEMA.write_text(written(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
