# SPDX-License-Identifier: Apache-2.0
"""What may be wrong with one expression: the replacements of each kind, with their classes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyslang.syntax import SyntaxKind as K

Change = tuple[str, str]
"""The class of a fault, and what stands there instead."""

BINARY: dict[K, tuple[str, tuple[str, ...]]] = {
    K.AddExpression: ("arithmetic", ("-",)),
    K.SubtractExpression: ("arithmetic", ("+",)),
    K.MultiplyExpression: ("arithmetic", ("+",)),
    K.DivideExpression: ("arithmetic", ("*",)),
    K.ModExpression: ("arithmetic", ("*",)),
    K.LogicalShiftLeftExpression: ("arithmetic", (">>",)),
    K.LogicalShiftRightExpression: ("arithmetic", ("<<",)),
    K.ArithmeticShiftLeftExpression: ("arithmetic", (">>>",)),
    K.ArithmeticShiftRightExpression: ("arithmetic", (">>", "<<<")),
    K.EqualityExpression: ("relational", ("!=",)),
    K.InequalityExpression: ("relational", ("==",)),
    K.LessThanExpression: ("relational", ("<=", ">=", "!=")),
    K.LessThanEqualExpression: ("relational", ("<", ">", "==")),
    K.GreaterThanExpression: ("relational", (">=", "<=", "!=")),
    K.GreaterThanEqualExpression: ("relational", (">", "<", "==")),
    K.LogicalAndExpression: ("logical", ("||",)),
    K.LogicalOrExpression: ("logical", ("&&",)),
    K.BinaryAndExpression: ("bitwise", ("|",)),
    K.BinaryOrExpression: ("bitwise", ("&", "^")),
    K.BinaryXorExpression: ("bitwise", ("|",)),
    K.BinaryXnorExpression: ("bitwise", ("^",)),
}
"""Class and other operators, by the kind of an expression with two sides."""

ONE_SIDE = (K.LogicalAndExpression, K.LogicalOrExpression)
"""What is also wrong when a side is missing."""

EXCHANGED = (K.SubtractExpression,)
"""What is also wrong when its sides are exchanged: equal widths, but not the same value."""

UNARY: dict[K, tuple[str, tuple[str, ...]]] = {
    K.UnaryLogicalNotExpression: ("logical", ("",)),
    K.UnaryBitwiseNotExpression: ("bitwise", ("",)),
    K.UnaryMinusExpression: ("arithmetic", ("",)),
    K.UnaryBitwiseAndExpression: ("bitwise", ("|",)),
    K.UnaryBitwiseOrExpression: ("bitwise", ("&",)),
    K.UnaryBitwiseXorExpression: ("bitwise", ("|",)),
}
"""Class and other operators, by the kind of an expression with one side."""

ALREADY_NEGATED = (K.UnaryLogicalNotExpression, K.EqualityExpression, K.InequalityExpression)
"""Conditions whose negation is among the changes of their operator."""

STROBE = re.compile(r"(?:^|_)(?:we|re|strb|wstrb|strobe|write_valid)(?:_|\.|$)|^write_o$")
"""Names of write and read strobes."""

_SIZED = re.compile(r"(\d+)\s*'(s?)([bodhBODH])([0-9a-fA-F_]+)$")
_SIMPLE = re.compile(r"[\w.$]+$|\d*'\w+$")
_BASES = {"b": 2, "o": 8, "d": 10, "h": 16}


def side(text: str) -> str:
    """Return an operand as it may stand beside any operator."""
    return text if _SIMPLE.match(text) else f"({text})"


def binary(kind: K, left: str, right: str) -> Iterator[Change]:
    """Return what may be wrong with an expression that has two sides."""
    if kind not in BINARY:
        return
    name, others = BINARY[kind]
    left, right = side(left), side(right)
    for other in others:
        yield name, f"{left} {other} {right}"
    if kind in ONE_SIDE:
        yield name, left
        yield name, right
    if kind in EXCHANGED:
        yield "swapped", f"{right} - {left}"


def unary(kind: K, operand: str) -> Iterator[Change]:
    """Return what may be wrong with an expression that has one side."""
    if kind in UNARY:
        name, others = UNARY[kind]
        for other in others:
            yield name, other + side(operand)


def literal(text: str) -> Iterator[str]:
    """Return other constants of the same width: one more, one less, none, or all bits."""
    if text in ("'0", "'1"):
        yield "'1" if text == "'0" else "'0"
        return
    sized = _SIZED.match(text)
    if sized:
        bits, signed, base, digits = int(sized[1]), sized[2], sized[3].lower(), sized[4].replace("_", "")
        value = int(digits, _BASES[base])
        for other in _others(value, 1 << bits):
            yield f"{bits}'{signed}d{other}"
    elif text.replace("_", "").isdigit():
        for other in _others(int(text.replace("_", "")), 1 << 31):
            yield str(other)


def _others(value: int, limit: int) -> list[int]:
    return [other for other in dict.fromkeys(((value + 1) % limit, value - 1, 0)) if 0 <= other != value]


def member(name: str, members: list[str]) -> str:
    """Return the next member of an enumeration."""
    return members[(members.index(name) + 1) % len(members)]


def bit(target: str, position: str) -> str:
    """Return a mask as wide as a variable, with one bit."""
    return f"(($bits({target}))'(1) << ({position}))"


def stuck(target: str, value: str, scalar: bool) -> Iterator[tuple[str, str]]:
    """Return a value with a bit that is always 0 or 1, and that in words; of one bit, the value itself."""
    if scalar:
        yield "1'b0", ""
        yield "1'b1", ""
        return
    for name, position in (("bit 0", "0"), ("top bit", f"$bits({target}) - 1")):
        yield f"{side(value)} & ~{bit(target, position)}", f"{name} always 0"
        yield f"{side(value)} | {bit(target, position)}", f"{name} always 1"


def narrowed(value: str) -> str:
    """Return a value whose top bit is lost."""
    return f"{side(value)} & ~{bit(value, f'$bits({value}) - 1')}"
