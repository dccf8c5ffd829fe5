# SPDX-License-Identifier: Apache-2.0
"""Clock gates in a netlist: registers that share an enable lose it, and get a clock that it gates.

Yosys finds the groups (`clockgate`), of `LEAST` registers or more. Each gets the smallest cell that drives
it: the pins and the wires of the registers behind a gate load it with no more than the last point of its
tables. What is too large for the largest cell is shared out among several. A library without clock gates is
used without.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from gates.liberty import Cell, Library
from gates.netlist import Netlist

LEAST = 3
"""Registers from which on a gate is worth it: one takes about what the clock of a register takes."""

WIRE_FF = 3.0
"""Load of wires for each register, fF, as in the upper bound of energies."""


def capacity(gate: Cell, library: Library) -> int:
    """Return how many registers a clock gate may drive."""
    clocks = [
        pin.capacitance_pf
        for cell in library.cells.values()
        for pin in cell.inputs
        if cell.flop and pin.clock
    ]
    assert gate.clock_gate is not None
    arcs = gate.pins[gate.clock_gate.output].arcs
    most_pf = min(
        float(table.others[-1]) for arc in arcs for table in (arc.rise, arc.fall) if table is not None
    )
    return max(LEAST, math.floor(most_pf / (max(clocks, default=0.0) + WIRE_FF / 1000)))


def gating_script(library: Library) -> list[str]:
    """Return Yosys's commands: the largest groups first, to the largest cell; none without clock gates."""
    commands = []
    gates = library.clock_gates
    for number, cell in reversed([*enumerate(gates)]):
        pins = cell.clock_gate
        assert pins is not None
        least = LEAST if number == 0 else capacity(gates[number - 1], library) + 1
        names = f"{pins.enable}:{pins.clock}:{pins.output}"
        commands.append(f"clockgate -pos {cell.name} {names} -min_net_size {least}")
    return commands


def share_out(path: Path, library: Library) -> bool:
    """Share out the registers behind clock gates that drive too many, in a file in Yosys's JSON format.

    Returns:
        Whether the file has changed.
    """
    document = json.loads(path.read_text())
    changed = False
    for module in document["modules"].values():
        changed |= _share_out(module, library)
    if changed:
        path.write_text(json.dumps(document, indent=1))
    return changed


def _share_out(module: dict[str, Any], library: Library) -> bool:
    cells: dict[str, Any] = module["cells"]
    behind = _behind(cells, library)
    bits = [bit for cell in cells.values() for nets in cell["connections"].values() for bit in nets]
    free = 1 + max((bit for bit in bits if isinstance(bit, int)), default=0)
    free = max(
        [
            free,
            *(1 + bit for net in module["netnames"].values() for bit in net["bits"] if isinstance(bit, int)),
        ]
    )
    copies: dict[str, Any] = {}
    for name, users in behind.items():
        gate = library.cells[cells[name]["type"]]
        pins = gate.clock_gate
        assert pins is not None
        count = -(-len(users) // capacity(gate, library))
        for number in range(1, count):
            share = users[number * len(users) // count : (number + 1) * len(users) // count]
            copy = {**cells[name], "connections": {**cells[name]["connections"], pins.output: [free]}}
            copies[f"{name}.{number}"] = copy
            module["netnames"][f"{name}.{number}.{pins.output}"] = {
                "hide_name": 1,
                "bits": [free],
                "attributes": {},
            }
            for user, pin in share:
                cells[user]["connections"][pin] = [free]
            free += 1
    cells.update(copies)
    return bool(copies)


def _behind(cells: dict[str, Any], library: Library) -> dict[str, list[tuple[str, str]]]:
    """Return for each clock gate the registers that it clocks, and their pins."""
    gates: dict[int, str] = {}
    for name, cell in cells.items():
        known = library.cells.get(cell["type"])
        if known is not None and known.clock_gate is not None:
            gates[cell["connections"][known.clock_gate.output][0]] = name
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, cell in cells.items():
        known = library.cells.get(cell["type"])
        for pin in known.inputs if known is not None and known.flop is not None else ():
            (bit,) = cell["connections"][pin.name]
            if pin.clock and bit in gates:
                found[gates[bit]].append((name, pin.name))
    return found


def gated(netlist: Netlist, library: Library) -> dict[str, list[str]]:
    """Return for each clock gate of a netlist the registers that it clocks, instances by name."""
    cells = {item.name: {"type": item.cell, "connections": item.pins} for item in netlist.instances}
    return {gate: [name for name, _ in users] for gate, users in _behind(cells, library).items()}
