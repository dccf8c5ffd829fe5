# SPDX-License-Identifier: Apache-2.0
"""A mutant: one small fault at one place of the RTL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["expression", "statement", "port"]
"""expression: its text is replaced. statement: it is left out. port: what an implicit connection connects."""

CLASSES = {
    "arithmetic": "an arithmetic operator or shift is another",
    "relational": "a comparison is another",
    "logical": "&& is ||, or one of its sides is missing; a negation is missing",
    "bitwise": "a bitwise or reducing operator is another, or missing",
    "constant": "a constant is another",
    "condition": "a condition is negated, always true, or never true",
    "dropped": "an assignment is missing",
    "swapped": "the sides of ?:, of a concatenation or of an operator are exchanged",
    "stuck": "a bit of an assigned value is always 0 or always 1",
    "strobe": "a write or read strobe is always 0 or always 1",
    "reset": "a reset value is another, or a reset is missing",
    "width": "the top bit of a value that is made wider is lost, or its sign",
    "port": "an input of a module is not connected",
}
"""What the classes of mutants mean."""


@dataclass(frozen=True, order=True)
class Mutant:
    """A fault.

    Args:
        file: of the RTL, relative to its folder.
        start, end: the bytes of the file that it changes.
        line: number of the line in which they start.
        replacement: what stands there instead; empty where a statement is left out.
        operator: one of `CLASSES`.
        module: in which it is.
        kind: how it is put into the copy.
        text: the line, without indentation.
        original: what it changes, in one line.
        what: the replacement in words, where its text is long.
        nth: of several equal changes in equal lines of the file, which, from 0.
    """

    file: str
    start: int
    end: int
    replacement: str
    line: int
    operator: str
    module: str
    kind: Kind
    text: str
    original: str
    what: str = ""
    nth: int = 0

    @property
    def change(self) -> str:
        """What it changes into what."""
        return f"{self.original} -> {self.what or self.replacement or '(nothing)'}"

    @property
    def key(self) -> str:
        """A name that stays when lines are added elsewhere in the file."""
        return f"{self.file} | {self.text} | {self.change} | {self.nth}"

    @property
    def place(self) -> str:
        """File and line, as editors take them."""
        return f"rtl/{self.file}:{self.line}"
