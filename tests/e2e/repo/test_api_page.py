"""docs/api.md: its generator on every kind of declaration, and that the page covers the whole API."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import EnumDescriptor, FileDescriptor

from support.paths import ROOT

TOOLS = ROOT / ".venv-proto" / "bin"
STUBS = ROOT / "proto" / "python"
SHOP_PROTOS = Path(__file__).parent / "api_page"


def generate(protos: Path, page: Path) -> None:
    """Generate the page of the protos in a folder, as `make proto` does."""
    build = (TOOLS / "buf", "build", "--as-file-descriptor-set", "-o", "-")
    descriptors = subprocess.run(build, cwd=protos, capture_output=True, check=True, timeout=120).stdout
    write = (TOOLS / "python", ROOT / "docs" / "api_page.py", page)
    subprocess.run(write, input=descriptors, check=True, timeout=120)


def test_every_kind_of_declaration_is_described(tmp_path: Path) -> None:
    """Streams, oneofs, maps, nested types, enum values and comments of any form are on the page as expected."""
    generate(SHOP_PROTOS, tmp_path / "api.md")
    page = (tmp_path / "api.md").read_text(encoding="utf-8")
    assert page[page.index("- [") :] == (SHOP_PROTOS / "expected.md").read_text(encoding="utf-8")


def test_types_of_the_same_name_have_their_own_anchors(tmp_path: Path) -> None:
    """The second of two packages' types with the same name is linked by the anchor that a Git host gives it."""
    for package in ("one", "two"):
        text = f'syntax = "proto3"; package {package}; message Same {{ Other other = 1; }} message Other {{}}'
        (tmp_path / f"{package}.proto").write_text(text)
    generate(tmp_path, tmp_path / "api.md")
    assert re.findall(r"\| (\[`Other`\]\S*) \|", (tmp_path / "api.md").read_text(encoding="utf-8")) == [
        "[`Other`](#other)",
        "[`Other`](#other-1)",
    ]


def test_without_descriptors_the_page_is_kept(tmp_path: Path) -> None:
    """Without descriptors on standard input the generator fails and leaves the page as it is."""
    page = tmp_path / "api.md"
    page.write_text("before")
    write = (TOOLS / "python", ROOT / "docs" / "api_page.py", page)
    done = subprocess.run(write, input=b"", capture_output=True, check=False, timeout=120)
    assert done.returncode == 1
    assert b"no descriptors" in done.stderr
    assert page.read_text() == "before"


def descriptor_of(path: Path) -> FileDescriptor:
    """Import the stub of a file of the API and return its descriptor."""
    module: Any = importlib.import_module(".".join(path.relative_to(STUBS).with_suffix("").parts))
    file: FileDescriptor = module.DESCRIPTOR
    return file


def sections() -> dict[str, str]:
    """Return the text of docs/api.md under each heading."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    parts = re.split(r"^##+ (.*)\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows(section: str) -> dict[str, str]:
    """Return the last cell of each row of a section's table, by the first one."""
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| `")]
    assert {len(row) for row in cells} <= {3}
    return {row[0].strip(" `"): row[-1].strip() for row in cells}


@pytest.mark.parametrize("stub", sorted(STUBS.glob("lookalike/**/*_pb2.py")), ids=lambda path: path.stem)
def test_the_whole_api_is_described(stub: Path) -> None:
    """Every service, method, message, field, enum and value of the stubs is on docs/api.md, each with a comment."""
    file, text = descriptor_of(stub), sections()

    def check(kind: Any) -> None:
        section = text[kind.full_name.removeprefix(f"{file.package}.")]
        assert section.strip()[0] not in "|#"
        table = rows(section)
        assert list(table) == [each.name for each in (kind.values if isinstance(kind, EnumDescriptor) else kind.fields)]
        assert all(table.values())
        if not isinstance(kind, EnumDescriptor):
            for nested in (*kind.enum_types, *(each for each in kind.nested_types if not each.GetOptions().map_entry)):
                check(nested)

    for service in file.services_by_name.values():
        assert re.fullmatch(rf"\s*`{re.escape(service.full_name)}`\n\n\S.*", text[service.name], re.DOTALL)
        for method in service.methods:
            assert re.fullmatch(r"\s*\S.* → .*\n\n\S.*", text[method.name], re.DOTALL)
    for kind in [*file.message_types_by_name.values(), *file.enum_types_by_name.values()]:
        check(kind)


def test_links_within_the_page_lead_to_its_headings() -> None:
    """Every link of docs/api.md to itself is to a heading's anchor."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in sections()}
    linked = set(re.findall(r"\]\(#([^)]*)\)", page))
    assert linked
    assert linked <= anchors
