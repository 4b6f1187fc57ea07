"""Fixtures of the gallery's tests: servers with a catalog, a browser and its visitor."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from e2e.gallery.shop import BIN, REAL, TINY, Shop, open_shop
from e2e.gallery.visitor import TIMEOUT_MS, Visitor
from support.paths import ROOT

SCREENSHOTS = Path(__file__).parent / "screenshots"
MODEL = ROOT / "models" / "default"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

QUICK = {
    "test_search_by_id[sample]",
    "test_search_by_upload[sample]",
    "test_filter_by_attribute[sample]",
    "test_add_then_delete[sample]",
    "test_catalog[sample]",
    "test_server",
}
"""One test of each thing that a visitor can do; with those that need no browser they are `make test`'s."""

ONE_OF_SEVERAL = {
    "test_phone": "?id=S0001",
    "test_dark": "?id=S0001",
    "test_invalid_url_parameters": "k=x",
}
"""The parameter that shows by day what the others show at night."""

expect.set_options(timeout=TIMEOUT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the others slow, and those over the real catalog, and repetitions, nightly."""
    for item in items:
        test, _, parameter = item.name.partition("[")
        if "real]" in item.name or ONE_OF_SEVERAL.get(test, parameter[:-1]) != parameter[:-1]:
            item.add_marker(pytest.mark.nightly)
        elif item.path.name != "test_without_browser.py" and item.name not in QUICK:
            item.add_marker(pytest.mark.slow)


def pytest_sessionstart() -> None:
    """Exit early if a prerequisite is missing."""
    if not Path(CHROMIUM).exists():
        pytest.exit("the gallery is tested in chromium, which is missing: apt-get install chromium", returncode=1)
    if not (BIN / "lookalike-server").exists() or not (MODEL / "model.json").exists():
        pytest.exit("the server or the model is missing: run `make test-gallery`, which makes both", returncode=1)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report the seconds from a click until its neighbors were visible; no test asserts them."""
    for report in terminalreporter.stats.get("passed", ()):
        for name, seconds in report.user_properties:
            if report.when == "call":
                terminalreporter.write_line(f"neighbors visible {seconds:.2f} s after the click ({name})")


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw the sample catalog."""
    folder = tmp_path_factory.mktemp("catalogs") / "sample"
    command = (BIN / "python", "-m", "tools.sample_catalog", folder)
    subprocess.run(command, check=True, timeout=300, capture_output=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="session")
def sample(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Start a server with the sample catalog."""
    with open_shop(sample_folder, MODEL, tmp_path_factory.mktemp("sample") / "data") as shop:
        yield shop


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Start a server with the 2,906 products of the real catalog; skip where the catalog is absent."""
    if not (REAL / "catalog.csv").exists():
        pytest.skip("the real catalog is absent (shared/catalog beside the checkout); the sample catalog stands in")
    color = "colour"  # codespell:ignore
    with open_shop(REAL, MODEL, tmp_path_factory.mktemp("real") / "data", color) as shop:
        yield shop


@pytest.fixture(params=["sample", "real"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """Run the test with each of the two catalogs."""
    shop: Shop = request.getfixturevalue(request.param)
    return shop


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Start a server with a tiny model, not ResNet50, and an empty catalog."""
    home = tmp_path_factory.mktemp("tiny")
    with open_shop(home / "none", TINY, home / "data") as shop:
        yield shop


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Debian's chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Open a page of 1280 x 900, or with the options of the marker `screen`; it may call no other host."""
    marker = request.node.get_closest_marker("screen")
    options = {"viewport": {"width": 1280, "height": 900}} | (marker.kwargs if marker else {})
    context = browser.new_context(**options)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    other_hosts: list[str] = []
    failures: list[str] = []
    page.on("request", lambda request: other_hosts.append(request.url) if _is_other_host(request.url) else None)
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield Visitor(page)
    SCREENSHOTS.mkdir(exist_ok=True)
    name = request.node.name.replace("[", "-").replace("]", "")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    context.close()
    assert other_hosts == [], "the page fetched something from another host"
    assert failures == [], "a script of the page failed"


def _is_other_host(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
