"""Write docs/api.md from the comments of the protos: every service, method, message and enum, with links between them.

    buf build --as-file-descriptor-set -o - | python api_page.py PAGE

`make proto` runs it, in the environment that has buf and protobuf.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

INTRODUCTION = """\
# The API

Every service, method and message, as the comments of [the protos](../proto) describe them.
`make proto` generates this page. [Errors](errors.md) lists the status codes.

A field that is not set reads as 0, false or empty. Only optional fields, members of a oneof and
messages show whether they are set.
"""

SYNTAX = (12,)  # the path of a file's syntax in descriptor.proto; its comment is the file's

WIDTH = 100

FIRST = ["SearchService", "EmbeddingService", "CatalogService"]
"""Services in the order of the page."""

NESTED = ("service", "method", "message_type", "nested_type", "field", "oneof_decl", "enum_type", "value")
"""The fields of descriptor.proto that hold the declarations inside a file, message, enum or service."""


@dataclass
class Section:
    """A service, its methods and the types of its file, or the types of the files without a service."""

    title: str
    service: str = ""
    about: str = ""
    methods: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)


def main() -> None:
    """Read the descriptors from standard input and write the page."""
    files = FileDescriptorSet.FromString(sys.stdin.buffer.read()).file
    ours = [file for file in files if not file.package.startswith("google.")]
    if not ours:
        sys.exit("api_page: no descriptors on standard input")
    Path(sys.argv[1]).write_text(Page(ours).text(), encoding="utf-8")


def declarations(outer: Any, name: str, path: tuple[int, ...] = ()) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Yield everything declared in a file (or message ...): full name, declaration, path in `source_code_info`."""
    for kind in NESTED:
        number = outer.DESCRIPTOR.fields_by_name.get(kind)
        for index, inner in enumerate(getattr(outer, kind) if number else ()):
            inner_path = (*path, number.number, index)
            yield f"{name}.{inner.name}", inner, inner_path
            yield from declarations(inner, f"{name}.{inner.name}", inner_path)


class Page:
    """The page of some files. Dictionaries are keyed by full name."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._declared: dict[str, Any] = {}
        self._comments: dict[str, str] = {}
        self._titles: dict[str, str] = {}  # on this page: a method's own name, a type's name within its package
        shared = Section("Shared messages")
        sections = [section for file in files for section in self._read(file, shared)]
        sections.sort(key=lambda section: [*FIRST, section.title].index(section.title))
        self._sections = [*sections, shared] if shared.types else sections
        self._anchors = self._assign_anchors()

    def _read(self, file: FileDescriptorProto, shared: Section) -> list[Section]:
        """Read a file and return its services' sections; without a service, its types go to the shared section."""
        located = {tuple(each.path): each for each in file.source_code_info.location}
        lines = {}
        for name, declared, path in declarations(file, file.package):
            self._declared[name] = declared
            if path in located:  # compiler-generated declarations have no location
                lines[name] = located[path].span[0]
                self._comments[name] = prose(located[path].leading_comments or located[path].trailing_comments)
        named = sorted(lines, key=lines.__getitem__)
        types = [name for name in named if isinstance(self._declared[name], DescriptorProto | EnumDescriptorProto)]
        self._titles |= {name: name.removeprefix(f"{file.package}.") for name in types}
        services = [name for name in named if isinstance(self._declared[name], ServiceDescriptorProto)]
        sections = []
        for service in services:
            methods = [f"{service}.{method.name}" for method in self._declared[service].method]
            self._titles |= {method: self._declared[method].name for method in methods}
            sections.append(Section(self._declared[service].name, service, methods=methods))
        (sections[0] if sections else shared).types += types
        if sections and SYNTAX in located:
            sections[0].about = prose(located[SYNTAX].leading_comments)
        return sections

    def _assign_anchors(self) -> dict[str, str]:
        """Give every heading the anchor that Git hosts give it: the second of the same name gets a number."""
        seen: Counter[str] = Counter()
        anchors = {}
        for section in self._sections:
            for name in (section.title, *section.methods, *section.types):
                plain = re.sub(r"[^\w -]", "", self._titles.get(name, name)).lower().replace(" ", "-")
                anchors[name] = f"{plain}-{seen[plain]}" if seen[plain] else plain
                seen[plain] += 1
        return anchors

    def text(self) -> str:
        """Return the whole page."""
        parts = [INTRODUCTION, "\n".join(self._contents())]
        for section in self._sections:
            parts.append(f"## {section.title}")
            if section.service:
                parts += [f"`{section.service}`", wrap(self._comments[section.service]), wrap(section.about)]
            for method in section.methods:
                parts += [f"### {self._titles[method]}", self._signature(method), wrap(self._comments[method])]
            for name in section.types:
                parts += [f"### {self._titles[name]}", wrap(self._comments[name]), "\n".join(self._table(name))]
        return "\n\n".join(part.strip() for part in parts if part) + "\n"

    def _contents(self) -> Iterator[str]:
        for section in self._sections:
            yield f"- [{section.title}](#{self._anchors[section.title]})"
            for title, names in (("methods", section.methods), ("types", section.types)):
                if names:
                    links = ", ".join(self._link(name, "") for name in names)
                    yield fill(f"  - {title}: {links}", "    ")

    def _link(self, name: str, quote: str = "`") -> str:
        """Link a type or method; one of another package is its full name."""
        if name not in self._anchors:
            return f"{quote}{name}{quote}"
        return f"[{quote}{self._titles[name]}{quote}](#{self._anchors[name]})"

    def _signature(self, method: str) -> str:
        declared = self._declared[method]
        takes, gives = self._link(declared.input_type[1:]), self._link(declared.output_type[1:])
        streams = ("stream of " * declared.client_streaming, "stream of " * declared.server_streaming)
        return f"{streams[0]}{takes} → {streams[1]}{gives}"

    def _table(self, name: str) -> Iterator[str]:
        """Yield the rows of a message's fields or an enum's values; a oneof has a row before its fields."""
        declared = self._declared[name]
        if isinstance(declared, EnumDescriptorProto):
            yield from ("| value | number | meaning |", "|---|---|---|")
            for value in declared.value:
                yield f"| `{value.name}` | {value.number} | {cell(self._comments[f'{name}.{value.name}'])} |"
            return
        if not declared.field:
            yield "It has no fields."
            return
        yield from ("| field | type | meaning |", "|---|---|---|")
        before = None
        for each in declared.field:
            choice = declared.oneof_decl[each.oneof_index].name if is_in_oneof(each) else None
            if choice and choice != before:
                yield f"| *{choice}* | one of those that follow | {cell(self._comments[f'{name}.{choice}'])} |"
            before = choice
            kind = self._type(each) + (f", one of *{choice}*" if choice else "")
            yield f"| `{each.name}` | {kind} | {cell(self._comments[f'{name}.{each.name}'])} |"

    def _type(self, each: FieldDescriptorProto) -> str:
        """Return a field's type, with its presence and cardinality."""
        entry = self._declared.get(each.type_name[1:])
        if isinstance(entry, DescriptorProto) and entry.options.map_entry:
            return f"map of {self._type(entry.field[0])} to {self._type(entry.field[1])}"
        name = each.type_name[1:] or FieldDescriptorProto.Type.Name(each.type).removeprefix("TYPE_").lower()
        repeated = each.label == FieldDescriptorProto.LABEL_REPEATED
        return f"{'optional ' * each.proto3_optional}{'repeated ' * repeated}{self._link(name)}"


def is_in_oneof(each: FieldDescriptorProto) -> bool:
    """Return whether a field is in a oneof of the source; an optional one is in one that the compiler generated."""
    return each.HasField("oneof_index") and not each.proto3_optional


def prose(comment: str) -> str:
    """Return a comment as Markdown, with < escaped outside of code."""
    parts = textwrap.dedent(comment).strip().split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def wrap(comment: str) -> str:
    """Wrap the paragraphs and list items of a comment."""
    parts = re.split(r"(\n\s*\n|\n(?=[-*] ))", comment)
    return "".join(fill(part, "  " * part.startswith(("- ", "* "))) if part.strip() else part for part in parts)


def fill(text: str, indent: str) -> str:
    """Wrap a paragraph, its lines after the first indented; no line ends within code."""
    text = re.sub(r"`[^`]*`", lambda code: re.sub(r"\s+", "\0", code.group()), text)
    lines = textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def cell(comment: str) -> str:
    """Return a comment as one line of a table: <br> between paragraphs and list items, | escaped."""
    lines = re.sub(r"\n(?=[-*] )", "<br>", re.sub(r"\n\s*\n", "<br><br>", comment))
    return re.sub(r"\s+", " ", lines).replace("|", r"\|")


if __name__ == "__main__":
    main()
