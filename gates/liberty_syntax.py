# SPDX-License-Identifier: Apache-2.0
"""Syntax of the Liberty format: nested groups of simple and complex attributes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import GatesError


@dataclass
class Group:
    """A group statement: `kind (name) { ... }`."""

    kind: str
    arguments: tuple[str, ...]
    simple: dict[str, str] = field(default_factory=dict)
    complexes: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def all(self, kind: str) -> list[Group]:
        """Return the groups of a kind."""
        return [group for group in self.groups if group.kind == kind]

    def first(self, kind: str) -> Group | None:
        """Return the first group of a kind, if any."""
        return next((group for group in self.groups if group.kind == kind), None)

    def arguments_of(self, name: str) -> tuple[str, ...] | None:
        """Return the arguments of a complex attribute, if it is there."""
        return next((arguments for kind, arguments in self.complexes if kind == name), None)


_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*|\\[ \t]*\n', re.DOTALL)
_STATEMENT = re.compile(r"[\s;]*(?:(\})|([A-Za-z_][\w.\[\]]*)\s*(?:\(((?:\"[^\"]*\"|[^()\"])*)\)|:))")
_VALUE = re.compile(r'\s*(?:"([^"]*)"|([^;\n}]*))')
_OPEN = re.compile(r"\s*\{")
_ARGUMENT = re.compile(r'"([^"]*)"|([^\s,"]+)')


def parse(text: str, path: Path) -> Group:
    """Return the library group of a Liberty file's text.

    Raises:
        GatesError: the text is not in Liberty format, or has no library.
    """
    text = _COMMENT.sub(lambda match: match[1] or " ", text)

    def fail(position: int) -> GatesError:
        line = text.count("\n", 0, position) + 1
        return GatesError(f"{path} is not a Liberty file: cannot read line {line} (comments not counted)")

    root = Group("", ())
    stack = [root]
    position = 0
    while True:
        match = _STATEMENT.match(text, position)
        if match is None:
            if text[position:].strip(" \t\r\n;") or len(stack) != 1:
                raise fail(position)
            break
        position = match.end()
        close, name, arguments = match.groups()
        if close:
            if len(stack) == 1:
                raise fail(position)
            stack.pop()
        elif arguments is None:
            value = _VALUE.match(text, position)
            assert value is not None  # it matches anything
            position = value.end()
            stack[-1].simple[name] = value[1] if value[1] is not None else value[2].strip()
        else:
            words = tuple(quoted or plain for quoted, plain in _ARGUMENT.findall(arguments))
            brace = _OPEN.match(text, position)
            if brace is None:
                stack[-1].complexes.append((name, words))
            else:
                position = brace.end()
                group = Group(name, words)
                stack[-1].groups.append(group)
                stack.append(group)
    library = root.first("library")
    if library is None:
        raise GatesError(f"{path} is not a Liberty file: it has no `library (...) {{ ... }}`")
    return library
