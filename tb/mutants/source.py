# SPDX-License-Identifier: Apache-2.0
"""Reads SystemVerilog with slang: syntax trees, their text, and the names that a design declares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyslang import SourceManager
from pyslang.syntax import SyntaxKind, SyntaxNode, SyntaxTree

from common.errors import TestbenchError

Node = Any
"""A node of slang's syntax tree; its kind says which attributes it has."""

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


class MutantError(TestbenchError):
    """A design that cannot be mutated, or a campaign that cannot go on; the message says what to do."""


@dataclass
class Source:
    """A file of a design.

    Args:
        name: relative to the folder of the RTL.
        text: what it holds; ASCII, so that offsets are bytes.
        tree: its syntax.
    """

    name: str
    text: str
    tree: SyntaxTree

    def of(self, node: Node) -> str:
        """Return a node's text in one line, without comments."""
        span = node.sourceRange
        return one_line(self.text[span.start.offset : span.end.offset])

    def line(self, offset: int) -> int:
        """Return the number of the line in which a byte is."""
        return self.text.count("\n", 0, offset) + 1

    def line_text(self, offset: int) -> str:
        """Return the line in which a byte is, without indentation."""
        begin = self.text.rfind("\n", 0, offset) + 1
        end = self.text.find("\n", offset)
        return self.text[begin : end if end >= 0 else None].strip()


@dataclass
class Names:
    """What the names of a design mean, as far as mutants depend on it.

    Args:
        members: of an enumeration, by each of its members.
        parameters: by module; those of packages under "".
        inputs: by module: its input ports.
    """

    members: dict[str, list[str]] = field(default_factory=dict)
    parameters: dict[str, set[str]] = field(default_factory=dict)
    inputs: dict[str, set[str]] = field(default_factory=dict)


def one_line(text: str) -> str:
    """Return text without comments, with single spaces."""
    return " ".join(_COMMENT.sub(" ", text).split())


def read(root: Path, names: Sequence[str]) -> list[Source]:
    """Return the files of a design.

    Raises:
        MutantError: a file is not ASCII or no SystemVerilog.
    """
    return read_texts({name: _ascii(root / name) for name in names})


def _ascii(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii")
    except UnicodeDecodeError:
        raise MutantError(f"{path}: not ASCII; mutants count bytes, so write ASCII only") from None


def read_texts(texts: Mapping[str, str]) -> list[Source]:
    """Return a design whose files have these texts, by name, in compile order.

    Raises:
        MutantError: a text is no SystemVerilog.
    """
    sources = []
    for name, text in texts.items():
        tree = SyntaxTree.fromText(text, SourceManager(), name, name)
        errors = [item for item in tree.diagnostics if item.isError()]
        if errors:
            raise MutantError(f"{name}: slang cannot parse it ({errors[0].code}); run make lint")
        sources.append(Source(name, text, tree))
    return sources


def nodes(node: Node) -> Iterator[Node]:
    """Return a node's children that are no tokens."""
    for child in node:
        if isinstance(child, SyntaxNode):
            yield child


def walk(node: Node) -> Iterator[Node]:
    """Return a node and all below it."""
    yield node
    for child in nodes(node):
        yield from walk(child)


def modules(source: Source) -> list[Node]:
    """Return the modules of a file."""
    return [node for node in walk(source.tree.root) if node.kind == SyntaxKind.ModuleDeclaration]


def names_of(sources: Sequence[Source]) -> Names:
    """Return what the names of a design mean."""
    names = Names()
    for source in sources:
        for node in walk(source.tree.root):
            if node.kind == SyntaxKind.EnumType:
                members = [member.name.valueText for member in _separated(node.members)]
                names.members |= dict.fromkeys(members, members)
            elif node.kind in (SyntaxKind.ModuleDeclaration, SyntaxKind.PackageDeclaration):
                _declare(names, node)
    return names


def _separated(items: Node) -> Iterator[Node]:
    """Return the nodes of a list in which tokens separate them."""
    return (item for item in items if isinstance(item, SyntaxNode))


def _declare(names: Names, node: Node) -> None:
    package = node.kind == SyntaxKind.PackageDeclaration
    owner = "" if package else node.header.name.valueText
    parameters = names.parameters.setdefault(owner, set())
    inputs = names.inputs.setdefault(owner, set())
    for item in walk(node):
        if item.kind == SyntaxKind.ParameterDeclaration:
            parameters |= {declared.name.valueText for declared in _separated(item.declarators)}
        elif item.kind == SyntaxKind.ImplicitAnsiPort:
            name, header = item.declarator.name.valueText, item.header
            if getattr(header, "direction", None) is not None and header.direction.valueText == "input":
                inputs.add(name)
