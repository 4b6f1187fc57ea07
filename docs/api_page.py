"""Writes docs/api.md from the comments of the protos: every service, method, message and enum, with links between them.

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

Every service, method and message, as the comments of [the protos](../proto) describe them; `make proto` writes this
page. What is answered when something is wrong is in [errors](errors.md).

A field that is not sent is 0, false or empty. Only those that are optional, one of several, or a message can be told to
be unset.
"""

SYNTAX = (12,)  # where descriptor.proto has a file's syntax, whose comment is the file's

FIRST = ["SearchService", "EmbeddingService", "CatalogService"]
"""Services in the order in which a reader meets them; others follow."""

INSIDE = ("service", "method", "message_type", "nested_type", "field", "oneof_decl", "enum_type", "value")
"""What may be declared in a file, message, enum or service, as descriptor.proto calls it."""


@dataclass
class Section:
    """A service, its methods and the types of its file; or the types of files without a service."""

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
        sys.exit("api_page: no descriptors came in")
    Path(sys.argv[1]).write_text(Page(ours).text(), encoding="utf-8")


def declarations(outer: Any, name: str, place: tuple[int, ...] = ()) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """All that is declared in a file (or message ...): full name, declaration, and its place in `source_code_info`."""
    for kind in INSIDE:
        number = outer.DESCRIPTOR.fields_by_name.get(kind)
        for index, inner in enumerate(getattr(outer, kind) if number else ()):
            there = (*place, number.number, index)
            yield f"{name}.{inner.name}", inner, there
            yield from declarations(inner, f"{name}.{inner.name}", there)


class Page:
    """The page over some files; everything is known by its full name."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._declared: dict[str, Any] = {}
        self._comments: dict[str, str] = {}
        self._called: dict[str, str] = {}  # on this page: a method by its own name, a type by that in its package
        shared = Section("Shared messages")
        sections = [section for file in files for section in self._read(file, shared)]
        sections.sort(key=lambda section: [*FIRST, section.title].index(section.title))
        self._sections = [*sections, shared] if shared.types else sections
        self._anchors = self._anchored()

    def _read(self, file: FileDescriptorProto, shared: Section) -> list[Section]:
        """Take in a file, and return the sections of its services; the types of others go to the shared ones."""
        located = {tuple(each.path): each for each in file.source_code_info.location}
        lines = {}
        for name, declared, place in declarations(file, file.package):
            self._declared[name] = declared
            if place in located:  # what the compiler made up is not
                lines[name] = located[place].span[0]
                self._comments[name] = prose(located[place].leading_comments or located[place].trailing_comments)
        named = sorted(lines, key=lines.__getitem__)
        types = [name for name in named if isinstance(self._declared[name], DescriptorProto | EnumDescriptorProto)]
        self._called |= {name: name.removeprefix(f"{file.package}.") for name in types}
        services = [name for name in named if isinstance(self._declared[name], ServiceDescriptorProto)]
        sections = []
        for service in services:
            methods = [f"{service}.{method.name}" for method in self._declared[service].method]
            self._called |= {method: self._declared[method].name for method in methods}
            sections.append(Section(self._declared[service].name, service, methods=methods))
        (sections[0] if sections else shared).types += types
        if sections and SYNTAX in located:
            sections[0].about = prose(located[SYNTAX].leading_comments)
        return sections

    def _anchored(self) -> dict[str, str]:
        """Give every heading the anchor that Git hosts give it: the second of a name gets a number."""
        seen: Counter[str] = Counter()
        anchors = {}
        for section in self._sections:
            for name in (section.title, *section.methods, *section.types):
                plain = re.sub(r"[^\w -]", "", self._called.get(name, name)).lower().replace(" ", "-")
                anchors[name] = f"{plain}-{seen[plain]}" if seen[plain] else plain
                seen[plain] += 1
        return anchors

    def text(self) -> str:
        """The whole page."""
        parts = [INTRODUCTION, "\n".join(self._contents())]
        for section in self._sections:
            parts.append(f"## {section.title}")
            if section.service:
                parts += [f"`{section.service}`", self._comments[section.service], section.about]
            for method in section.methods:
                parts += [f"### {self._called[method]}", self._signature(method), self._comments[method]]
            for name in section.types:
                parts += [f"### {self._called[name]}", self._comments[name], "\n".join(self._table(name))]
        return "\n\n".join(part.strip() for part in parts if part) + "\n"

    def _contents(self) -> Iterator[str]:
        for section in self._sections:
            yield f"- [{section.title}](#{self._anchors[section.title]})"
            for title, names in (("methods", section.methods), ("types", section.types)):
                if names:
                    yield f"  - {title}: " + ", ".join(self._link(name, "") for name in names)

    def _link(self, name: str, quote: str = "`") -> str:
        """A type or method by its link; one of another package by its full name."""
        if name not in self._anchors:
            return f"{quote}{name}{quote}"
        return f"[{quote}{self._called[name]}{quote}](#{self._anchors[name]})"

    def _signature(self, method: str) -> str:
        declared = self._declared[method]
        takes, gives = self._link(declared.input_type[1:]), self._link(declared.output_type[1:])
        streams = ("stream of " * declared.client_streaming, "stream of " * declared.server_streaming)
        return f"{streams[0]}{takes} → {streams[1]}{gives}"

    def _table(self, name: str) -> Iterator[str]:
        """The fields of a message or the values of an enum; a row before those of which only one can be set."""
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
            choice = declared.oneof_decl[each.oneof_index].name if one_of_several(each) else None
            if choice and choice != before:
                yield f"| *{choice}* | one of those that follow | {cell(self._comments[f'{name}.{choice}'])} |"
            before = choice
            kind = self._type(each) + (f", one of *{choice}*" if choice else "")
            yield f"| `{each.name}` | {kind} | {cell(self._comments[f'{name}.{each.name}'])} |"

    def _type(self, each: FieldDescriptorProto) -> str:
        """A field's type, with what can be told of its presence and number."""
        entry = self._declared.get(each.type_name[1:])
        if isinstance(entry, DescriptorProto) and entry.options.map_entry:
            return f"map of {self._type(entry.field[0])} to {self._type(entry.field[1])}"
        name = each.type_name[1:] or FieldDescriptorProto.Type.Name(each.type).removeprefix("TYPE_").lower()
        repeated = each.label == FieldDescriptorProto.LABEL_REPEATED
        return f"{'optional ' * each.proto3_optional}{'repeated ' * repeated}{self._link(name)}"


def one_of_several(each: FieldDescriptorProto) -> bool:
    """Whether a field is in a oneof that the author wrote; optional ones are in one that the compiler made up."""
    return each.HasField("oneof_index") and not each.proto3_optional


def prose(comment: str) -> str:
    """A comment as Markdown; outside of code, what looks like a tag is none."""
    parts = textwrap.dedent(comment).strip().split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def cell(comment: str) -> str:
    """A comment on one line of a table: paragraphs and list items apart, and nothing that ends the cell."""
    apart = re.sub(r"\n(?=[-*] )", "<br>", re.sub(r"\n\s*\n", "<br><br>", comment))
    return re.sub(r"\s+", " ", apart).replace("|", r"\|")


if __name__ == "__main__":
    main()
