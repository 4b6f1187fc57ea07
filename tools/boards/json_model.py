"""A board as Grafana's JSON: rows of panels, 24 columns wide, with data source, job and servers as variables.

Source of the fields: Grafana's "Dashboard JSON model", schema version 39 (Grafana 11; newer versions migrate it).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 24, 8  # of a row of panels
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Target:
    """A query of a panel and what its lines are called; `$servers` stands for the selector of the chosen servers."""

    query: str
    legend: str = "{{instance}}"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: What it shows.
        description: How to read it.
        targets: Its queries.
        unit: Of the values, as Grafana names it.
        kind: Grafana's type of the panel.
        columns: How wide it is.
        thresholds: Value and color from there on; the first color is for all below.
        minimum: Of the axis, where it has one.
        maximum: The same.
    """

    title: str
    description: str
    targets: Sequence[Target]
    unit: str = "short"
    kind: str = "timeseries"
    columns: int = 8
    thresholds: Sequence[tuple[float, str]] = ()
    minimum: float | None = 0.0
    maximum: float | None = None


@dataclass(frozen=True)
class Board:
    """A board: its title, and rows of panels, each with a title."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]


def board_json(board: Board) -> str:
    """Return the file that Grafana imports."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in board.rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        top, left = top + 1, 0
        for panel in row:
            if left + panel.columns > WIDTH:
                top, left = top + HEIGHT, 0
            panels.append(_panel(panel, len(panels) + 1, {"x": left, "y": top, "w": panel.columns, "h": HEIGHT}))
            left += panel.columns
        top += HEIGHT
    document = {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["lookalike"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "Lookalike", "tags": ["lookalike"], "keepTime": True}],
        "annotations": {"list": [_alerts()]},
        "templating": {"list": _variables()},
        "panels": panels,
    }
    return json.dumps(document, indent=2) + "\n"


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    low, *steps = panel.thresholds or [(0.0, "green")]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": None, "color": low[1]}, *({"value": value, "color": color} for value, color in steps)],
        },
    }
    bounds = {"min": panel.minimum, "max": panel.maximum}
    defaults |= {name: bound for name, bound in bounds.items() if bound is not None}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        line = {"fillOpacity": 10, "showPoints": "never", "lineWidth": 1}
        defaults["custom"] = line | ({"thresholdsStyle": {"mode": "line"}} if steps else {})
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "textMode": "auto"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": target.query.replace("$servers", 'job="$job",instance=~"$instance"'),
                "legendFormat": target.legend,
                **({"format": "table", "instant": True} if panel.kind == "table" else {"range": True}),
            }
            for at, target in enumerate(panel.targets)
        ],
    }


def _alerts() -> dict[str, Any]:
    """Mark when alerts fired."""
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": _SOURCE,
        "expr": 'ALERTS{alertname=~"Lookalike.*",alertstate="firing",job="$job"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}}",
    }


def _variables() -> list[dict[str, Any]]:
    def labels(name: str, query: str, *, several: bool) -> dict[str, Any]:
        return {
            "name": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": several,
            "includeAll": several,
            **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {}),
        }

    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        labels("job", "label_values(lookalike_build_info, job)", several=False),
        labels("instance", 'label_values(lookalike_build_info{job="$job"}, instance)', several=True),
    ]
