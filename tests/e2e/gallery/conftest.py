"""The shops, the browser and the visitor that the gallery's tests share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from e2e.gallery.shop import BIN, REAL, ROOT, TINY, Shop, open_shop
from e2e.gallery.visitor import Visitor

SCREENSHOTS = Path(__file__).parent / "screenshots"
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
_timings: list[tuple[str, float]] = []


def pytest_sessionstart() -> None:
    """Say what is missing before anything is tried."""
    if not Path(CHROMIUM).exists():
        pytest.exit("the gallery is tested in a browser: apt-get install chromium", returncode=1)
    if not (BIN / "lookalike-server").exists() or not (ROOT / "models" / "default" / "model.json").exists():
        pytest.exit("there is no server or no model to test with: `make test-gallery` makes both", returncode=1)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report how long it took from a choice until its neighbors were on the screen; nothing asserts it."""
    for name, seconds in _timings:
        terminalreporter.write_line(f"neighbors on the screen {seconds:.2f} s after the choice ({name})")


@pytest.fixture(scope="session")
def timings() -> list[tuple[str, float]]:
    """Where a test notes what it timed: a name and seconds."""
    return _timings


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample catalog, drawn again."""
    folder = tmp_path_factory.mktemp("catalogs") / "sample"
    subprocess.run([BIN / "lookalike", "sample", folder], check=True, timeout=300, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def sample(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server with the sample catalog."""
    with open_shop(drawn, ROOT / "models" / "default", tmp_path_factory.mktemp("sample") / "data") as shop:
        yield shop


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server with the 2,906 images of the real catalog, where it is beside the checkout."""
    if not (REAL / "catalog.csv").exists():
        pytest.skip("the real catalog (../shared/catalog) is not here; the sample catalog stands in")
    with open_shop(REAL, ROOT / "models" / "default", tmp_path_factory.mktemp("real") / "data") as shop:
        yield shop


@pytest.fixture(params=["sample", "real"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """Each of the two catalogs in turn."""
    found: Shop = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server with another network than ResNet50 and an empty catalog."""
    home = tmp_path_factory.mktemp("tiny")
    with open_shop(home / "none", TINY, home / "data") as shop:
        yield shop


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Somebody at a screen of 1280 x 900, or as the test's marker `screen` says; nothing is fetched from elsewhere."""
    marker = request.node.get_closest_marker("screen")
    options = {"viewport": {"width": 1280, "height": 900}} | (marker.kwargs if marker else {})
    context = browser.new_context(**options)
    page = context.new_page()
    elsewhere: list[str] = []
    failures: list[str] = []
    page.on("request", lambda asked: elsewhere.append(asked.url) if _is_elsewhere(asked.url) else None)
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield Visitor(page)
    SCREENSHOTS.mkdir(exist_ok=True)
    name = request.node.name.replace("[", "-").replace("]", "")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    context.close()
    assert elsewhere == [], "the page fetched something from another host"
    assert failures == [], "a script of the page failed"


def _is_elsewhere(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
