"""The boards and rules that are shipped: they are what their source says, parse, and lead to runbooks."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from typing import Any

import pytest
from tools.boards import BOARDS, Board, board_json

from support.operations_page import PAGE, first_command
from support.paths import ROOT
from support.prometheus import RULES, tool

ALERTS = sorted(set(re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8"))))


def promtool(*arguments: str) -> str:
    """Run promtool, which must succeed, and return what it prints."""
    done = subprocess.run(
        [tool("promtool"), *arguments], capture_output=True, text=True, check=False, cwd=RULES.parent, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_boards_are_fresh(board: Board) -> None:
    """Each file of deploy/grafana is what `python -m tools.boards` writes."""
    path = ROOT / "deploy" / "grafana" / f"{board.uid}.json"
    assert path.read_text(encoding="utf-8") == board_json(board), "run python -m tools.boards"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_boards_can_be_imported(board: Board) -> None:
    """Panels have ids of their own, do not overlap, and ask the data source that is chosen at the import."""
    document = json.loads(board_json(board))
    assert Counter(panel["id"] for panel in document["panels"]).most_common(1)[0][1] == 1
    taken: Counter[tuple[int, int]] = Counter()
    for panel in document["panels"]:
        place = panel["gridPos"]
        taken.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    assert max(taken.values()) == 1
    names = {variable["name"] for variable in document["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", board_json(board))) <= names


def test_queries_of_boards_parse() -> None:
    """Every query of a panel is PromQL, once Grafana's variables have values."""
    queries = []
    for board in BOARDS:
        document: dict[str, Any] = json.loads(board_json(board))
        for panel in document["panels"]:
            queries += [target["expr"] for target in panel.get("targets", [])]
    assert len(queries) > 30
    rules = [
        {"record": "job:query:parsed", "labels": {"query": str(at)}, "expr": query.replace("$__rate_interval", "1m")}
        for at, query in enumerate(queries)
    ]
    text = json.dumps({"groups": [{"name": "boards", "rules": rules}]})
    done = subprocess.run(
        [tool("promtool"), "check", "rules", "--lint=none", "/dev/stdin"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(queries)} rules found" in done.stdout


def test_rules_and_sample_configuration() -> None:
    """Promtool accepts the rules and the sample configuration."""
    promtool("check", "rules", "rules.yaml")
    promtool("check", "config", "prometheus.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("tests", ["rules_test.yaml", "objectives_test.yaml"])
def test_unit_tests_of_rules(tests: str) -> None:
    """Every alert fires in its unit test, and none fires for the healthy server."""
    promtool("test", "rules", tests)


def test_every_alert_has_a_unit_test() -> None:
    """Each alert of the rules has a unit test in which it fires."""
    text = "".join(
        (RULES.parent / name).read_text(encoding="utf-8") for name in ("rules_test.yaml", "objectives_test.yaml")
    )
    assert set(re.findall(r"- alertname: (\w+)", text)) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_runbooks(alert: str) -> None:
    """Each alert's `runbook` is a heading of docs/operations.md, with a first command that bash accepts."""
    rules = RULES.read_text(encoding="utf-8")
    sections = re.split(r"^      - alert: ", rules, flags=re.MULTILINE)[1:]
    runbooks = {
        link for text in sections if text.startswith(f"{alert}\n") for link in re.findall(r"runbook: (\S+)", text)
    }
    assert runbooks == {f"docs/operations.md#{alert.lower()}"}
    assert f"\n### {alert}\n" in PAGE.read_text(encoding="utf-8")
    subprocess.run(["/bin/bash", "-n", "-c", first_command(alert)], check=True, timeout=60)


def test_every_runbook_is_of_an_alert() -> None:
    """No runbook is left of an alert that is gone."""
    assert set(re.findall(r"^### (Lookalike\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == set(ALERTS)
