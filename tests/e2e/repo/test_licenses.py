"""The licenses of what we depend on: the page names them all, and each is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.licenses import PAGE, installed, label, locked, npm_licenses, page_of, page_rows, read_policy

from support.paths import ROOT

POLICY = read_policy()
ROWS = page_rows(PAGE.read_text(encoding="utf-8"))
ENVIRONMENTS = (
    *(".venv", ".venv-exporter", ".venv-gallery", ".venv-proto", ".venv-triton"),
    *(".venv-release", ".venv-bench", ".venv-uv"),
)


def test_the_page_names_every_locked_package() -> None:
    """docs/licenses.md is what `make licenses` writes from these lock files: no package is missing or left over."""
    assert set(ROWS) == set(locked()), "run `make licenses`"
    assert page_of(ROWS) == PAGE.read_text(encoding="utf-8"), "run `make licenses`"


def test_every_license_is_allowed() -> None:
    """Each Python and npm package has a license of the list, or one that was judged."""
    rejected = {name: spdx for name, spdx in (ROWS | npm_licenses()).items() if not POLICY.accepts(name, spdx)}
    assert rejected == {}


def test_what_was_judged_is_still_needed() -> None:
    """Each exception is for a locked package, and has a reason."""
    assert set(POLICY.judged) <= set(locked())
    assert all(len(reason) > 20 for reason in POLICY.reasons.values())


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_installed_packages_have_the_licenses_of_the_page(name: str) -> None:
    """What the packages of an environment say of themselves is what the page says."""
    environment = ROOT / name
    if not (environment / "lib").is_dir():
        pytest.skip(f"{name} is not there; make creates it for the targets that need it")
    found = installed(environment, POLICY)
    known = {package: spdx for package, spdx in found.items() if package in ROWS}
    assert known
    assert known == {package: ROWS[package] for package in known}


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(Apache-2.0 AND BSD-3-Clause)", True),
        ("unknown", False),
    ],
)
def test_a_choice_may_be_made_and_all_of_several_count(expression: str, accepted: bool) -> None:
    """Of A OR B one must be allowed, of A AND B both; what nobody knows is not."""
    assert POLICY.accepts("some-package", expression) is accepted


@pytest.mark.parametrize(
    ("metadata", "spdx"),
    [
        ({"license_expression": "Zlib", "license": "ignored"}, "Zlib"),
        ({"classifier": ["License :: OSI Approved :: MIT License"], "license": "a text"}, "MIT"),
        ({"license": "Apache License, Version 2.0"}, "Apache-2.0"),
        ({"classifier": ["License :: OSI Approved :: Something New"]}, "Something New"),
        ({}, "unknown"),
    ],
)
def test_licenses_are_read_from_metadata(metadata: dict[str, object], spdx: str) -> None:
    """The expression counts first, then classifiers, then the text, and nothing becomes a known license by guessing."""
    assert POLICY.license_of("some-package", metadata) == spdx


def test_labels_of_lock_files_differ() -> None:
    """Each lock file has a name of its own on the page and among the bills of materials."""
    locks = {lock for files in locked().values() for lock in files}
    assert len({label(lock) for lock in locks}) == len(locks)
    assert label("server/requirements.lock") == "server"
    assert all(Path(label(lock)).name == label(lock) for lock in locks)
