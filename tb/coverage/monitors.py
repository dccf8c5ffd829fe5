# SPDX-License-Identifier: Apache-2.0
"""Writes the plan's states as SystemVerilog: cover properties in modules that are bound to the RTL's."""

from __future__ import annotations

import functools
import itertools
import re

from tb.coverage.plan import States, load_plan

NAME = re.compile(r"\W+")


def label(state: str) -> str:
    """Return the label of a state's cover property: its name, as an identifier."""
    return "s_" + NAME.sub("_", state)


@functools.cache
def monitor_text(module: str) -> str | None:
    """Return the SystemVerilog that watches a module of the RTL, or None if the plan has no state of it."""
    groups = [states for states in load_plan().states if states.module == module]
    return _monitor(module, groups) if groups else None


def _declared(kind: str, name: str) -> str:
    """Return a declaration; in a type with dimensions behind the name, {} stands for the name."""
    return kind.format(name) if "{}" in kind else f"{kind} {name}"


def _monitor(module: str, groups: list[States]) -> str:
    """Return a monitor: what it watches reaches it by the names that the module itself uses."""
    watch: dict[str, str] = {}
    past: dict[str, str] = {}
    parameters: dict[str, int] = {}
    for states in groups:
        watch |= states.watch
        past |= states.past
        parameters |= states.parameters
    covers = list(itertools.chain.from_iterable(states.covers.items() for states in groups))
    ports = ["input logic clk_i", *(f"input {_declared(kind, name)}" for name, kind in watch.items())]
    values = [f"parameter int unsigned {name} = {value}" for name, value in parameters.items()]
    passed = f"#({', '.join(f'.{name}({name})' for name in parameters)}) " if parameters else ""
    connections = ", ".join(f".{name}" for name in ("clk_i", *watch))
    return "\n".join(
        [
            f"/// Watches {module} for the functional plan. Written by tb/coverage from plan.yaml.",
            f"module cover_{module}",
            "  import npu_pkg::*;",
            "  import npu_axi_pkg::*;",
            "  import npu_core_pkg::*;",
            *([f"#({', '.join(values)})"] if values else []),
            "(",
            *(f"  {port}{',' if i < len(ports) else ''}" for i, port in enumerate(ports, 1)),
            ");",
            *(f"  {_declared(kind, name)};" for name, kind in past.items()),
            "  always_ff @(posedge clk_i) begin",
            *(f"    {name} <= {name.removesuffix('_q')};" for name in past),
            "  end",
            *(f"  {label(name)} : cover property (@(posedge clk_i) {term});" for name, term in covers),
            "endmodule",
            f"bind {module} cover_{module} {passed}i_cover ({connections});",
            "",
        ]
    )
