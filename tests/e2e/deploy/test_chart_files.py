"""The chart's files agree with the server, with no Helm."""

from __future__ import annotations

import json
from typing import Any

import yaml
from tools.chart_schema import OWNED, SCHEMA, settings_schema

from e2e.deploy.programs import CHART
from lookalike_server.config import Settings
from support.paths import ROOT


def read(name: str) -> Any:
    """Return what a YAML of the chart says."""
    return yaml.safe_load((CHART / name).read_text(encoding="utf-8"))


def test_the_schema_has_the_servers_settings() -> None:
    """The values' schema has every setting with its range; `python -m tools.chart_schema` writes them again."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert schema["properties"]["settings"] == settings_schema()


def test_settings_of_the_chart_exist() -> None:
    """What the chart sets by itself, and what it rejects among the flags for that, are settings."""
    checks = (CHART / "templates" / "_checks.tpl").read_text(encoding="utf-8")
    owned = checks.partition('"lookalike.owned" -}}')[2].partition("{{-")[0].split()
    assert set(owned) == OWNED
    assert set(owned) <= set(Settings.model_fields)
    pod = (CHART / "templates" / "_pod.tpl").read_text(encoding="utf-8")
    assert {name for name in OWNED if f"LOOKALIKE_{name.upper()}," not in pod} == set()


def schema_keys(schema: dict[str, Any]) -> Any:
    """Return the tree of the names of a schema, down to what is not described further."""
    properties = schema.get("properties")
    return {name: schema_keys(each) for name, each in properties.items()} if properties else None


def value_keys(values: Any, schema: Any) -> Any:
    """Return the tree of the names of values, as deep as that of the schema."""
    return {name: value_keys(each, schema.get(name)) for name, each in values.items()} if schema else None


def test_every_value_is_described_and_has_a_default() -> None:
    """The values and the schema have the same names, so that values.yaml shows all there are."""
    known = schema_keys(json.loads(SCHEMA.read_text(encoding="utf-8")))
    del known["settings"], known["global"]
    values = {name: each for name, each in read("values.yaml").items() if name != "settings"}
    assert value_keys(values, known) == known


def test_versions() -> None:
    """The chart and the image that it takes have the version of everything else."""
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    chart = read("Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (version, version)
