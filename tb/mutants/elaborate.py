# SPDX-License-Identifier: Apache-2.0
"""Elaborates a design with slang: what it refuses, and how wide expressions are in its instances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyslang import SourceManager, ast
from pyslang.syntax import SyntaxTree

TOPS = """\
module npu_mutants_default;
  npu_soc i_soc ();
endmodule
module npu_mutants_narrow;
  import npu_pkg::*;
  npu_soc #(
    .NumCores(1),
    .Cores   ({core_cfg_t'{a_bits: 7, w_bits: 3, rows: 32, cols: 64, stripe_depth: 16, lanes: 4, dw_taps: 3,
                           act_kib: 128, weight_kib: 64, param_kib: 16, axi_bits: 64}}),
    .AxiDataBits(64),
    .ClockGates (1'b0),
    .Structural (1'b1)
  ) i_soc ();
endmodule
"""
"""Systems in which every generate block of the design is there."""

Place = tuple[str, int, int]
"""A file, and the bytes from where to where."""


@dataclass(frozen=True)
class Fault:
    """What slang refuses, and where."""

    file: str
    offset: int
    text: str


@dataclass(frozen=True)
class Elaborated:
    """A design as slang sees it.

    Args:
        faults: errors.
        targets: widths of assigned variables, in bits, by their place; one for each instance.
        casts: widths of what is cast, and of the result.
    """

    faults: list[Fault]
    targets: Mapping[Place, set[int]]
    casts: Mapping[Place, set[tuple[int, int]]]


def elaborate(texts: Mapping[str, str], tops: str) -> Elaborated:
    """Return a design as slang sees it.

    Args:
        texts: the files' texts by their names, in compile order.
        tops: SystemVerilog of the modules on top; empty: those that nothing instantiates.
    """
    manager = SourceManager()
    compilation = ast.Compilation()
    for name, text in texts.items():
        compilation.addSyntaxTree(SyntaxTree.fromText(text, manager, name, name))
    if tops:
        compilation.addSyntaxTree(SyntaxTree.fromText(tops, manager, "tops.sv", "tops.sv"))
    root = compilation.getRoot()
    faults = [
        Fault(manager.getFileName(item.location), item.location.offset, f"{item.code} {item.args}")
        for item in compilation.getAllDiagnostics()
        if item.isError()
    ]
    widths = _Widths(manager)
    for instance in root.topInstances:
        instance.visit(widths.see)
    return Elaborated(faults, widths.targets, widths.casts)


class _Widths:
    """Collects widths while it visits instances."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.targets: dict[Place, set[int]] = defaultdict(set)
        self.casts: dict[Place, set[tuple[int, int]]] = defaultdict(set)

    def see(self, item: Any) -> None:
        """Look at a symbol, statement or expression."""
        if isinstance(item, ast.AssignmentExpression) and item.left.syntax is not None:
            self.targets[self.place(item.left)].add(item.left.type.bitWidth)
        elif isinstance(item, ast.ConversionExpression) and not item.isImplicit:
            self.casts[self.place(item)].add((item.operand.type.bitWidth, item.type.bitWidth))

    def place(self, expression: Any) -> Place:
        """Return where an expression is."""
        span = expression.sourceRange
        return self.manager.getFileName(span.start), span.start.offset, span.end.offset
