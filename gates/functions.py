# SPDX-License-Identifier: Apache-2.0
"""Boolean functions as Liberty writes them: as Verilog, as names, as truth tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from common.errors import GatesError

_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|[01]|[!'&*|+^()])")
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Algebra(Generic[_T]):
    """What a function is folded into; `combine` gets one of `^`, `&`, `|` and two operands or more."""

    name: Callable[[str], _T]
    constant: Callable[[str], _T]
    invert: Callable[[_T], _T]
    combine: Callable[[str, list[_T]], _T]


def _fold(function: str, algebra: _Algebra[_T]) -> _T:
    """Fold a Liberty function.

    Liberty binds `'` and `!` strongest, then `^`, then AND (`&`, `*` or nothing between two terms), then OR
    (`|`, `+`).
    """
    signs: list[str] = []
    position = 0
    stripped = function.strip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise GatesError(f"Liberty function {function!r} is not understood at {stripped[position:]!r}")
        signs.append(match[1])
        position = match.end()
    signs.reverse()

    def primary() -> _T:
        sign = signs.pop() if signs else ""
        if sign == "!":
            return algebra.invert(primary())
        if sign == "(":
            result = disjunction()
            if not signs or signs.pop() != ")":
                raise GatesError(f"Liberty function {function!r} lacks a bracket")
        elif sign in ("0", "1"):
            result = algebra.constant(sign)
        elif sign and (sign[0].isalpha() or sign[0] == "_"):
            result = algebra.name(sign)
        else:
            raise GatesError(f"Liberty function {function!r} is not understood at {sign!r}")
        while signs and signs[-1] == "'":
            signs.pop()
            result = algebra.invert(result)
        return result

    def chain(operator: str, part: Callable[[], _T], own: str, *, implied: bool = False) -> _T:
        parts = [part()]
        while signs and (signs[-1] in own or (implied and signs[-1] not in "|+^)'")):
            if signs[-1] in own:
                signs.pop()
            parts.append(part())
        return parts[0] if len(parts) == 1 else algebra.combine(operator, parts)

    def exclusive() -> _T:
        return chain("^", primary, "^")

    def conjunction() -> _T:
        return chain("&", exclusive, "&*", implied=True)

    def disjunction() -> _T:
        return chain("|", conjunction, "|+")

    result = disjunction()
    if signs:
        raise GatesError(f"Liberty function {function!r} is not understood at {signs[-1]!r}")
    return result


def verilog_expression(function: str, name: Callable[[str], str] = str) -> str:
    """Return a Liberty function as a Verilog expression with all its brackets.

    Args:
        function: Liberty's text.
        name: gives a pin's name in Verilog.

    Raises:
        GatesError: the text is not a function.
    """
    algebra = _Algebra[str](
        name=name,
        constant=lambda sign: f"1'b{sign}",
        invert=lambda operand: f"~{operand}",
        combine=lambda operator, operands: f"({f' {operator} '.join(operands)})",
    )
    return _fold(function, algebra)


def function_names(function: str) -> tuple[str, ...]:
    """Return the names that a Liberty function uses, in the order of their appearance.

    Raises:
        GatesError: the text is not a function.
    """
    names_in_order: dict[str, None] = {}

    def note(name: str) -> str:
        names_in_order[name] = None
        return name

    verilog_expression(function, note)
    return tuple(names_in_order)


def truth_table(function: str, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return a Liberty function's value for every combination of its inputs.

    Args:
        function: Liberty's text.
        names: the inputs; combination i has bit j of i at names[j].

    Raises:
        GatesError: the text is not a function, or uses other names.
    """
    combinations = np.arange(1 << len(names))

    def column(name: str) -> npt.NDArray[np.bool_]:
        if name not in names:
            raise GatesError(f"Liberty function {function!r} uses {name!r}, which is no input pin")
        return (combinations >> names.index(name) & 1).astype(np.bool_)

    ufuncs = {"^": np.logical_xor, "&": np.logical_and, "|": np.logical_or}
    algebra = _Algebra[npt.NDArray[np.bool_]](
        name=column,
        constant=lambda sign: np.full(len(combinations), sign == "1"),
        invert=np.logical_not,
        combine=lambda operator, operands: ufuncs[operator].reduce(operands),
    )
    return _fold(function, algebra)
