"""Writes measured cells as a Liberty file. Units: ns, pF, pJ, V, nW, µm²."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gates.cells.bench import LOADS_PF, SLEWS_NS
from gates.cells.constraints import CONSTRAINT_SLEWS_NS
from gates.cells.measured import Arc, Constraint, Edges, InputPin, Measured, Power
from gates.cells.selection import PREFIX, Cell, ClockGate, FlipFlop, Gate
from gates.cells.spice import TEMPERATURE_C, VDD_V

Floats = npt.NDArray[np.float64]


def _number(value: float) -> str:
    return f"{value:.5g}"


def _list(values: Iterable[float]) -> str:
    return ", ".join(map(_number, values))


def _group(head: str, body: Iterable[str]) -> list[str]:
    return [f"{head} {{", *(f"  {line}" for line in body), "}"]


def _table(kind: str, template: str, axes: Sequence[Sequence[float]], values: Floats) -> list[str]:
    body = [f'index_{number} ("{_list(axis)}");' for number, axis in enumerate(axes, 1)]
    rows = np.atleast_2d(values)
    body += ["values (" + ", ".join(f'"{_list(row)}"' for row in rows) + ");"]
    return _group(f"{kind} ({template})", body)


def _tables(
    names: tuple[str, str], template: str, axes: Sequence[Sequence[float]], edges: Edges
) -> list[str]:
    lines = []
    for name, values in zip(names, (edges.rise, edges.fall), strict=True):
        if values is not None:
            lines += _table(name, template, axes, values)
    return lines


def _arc(arc: Arc, loads_pf: Sequence[float]) -> list[str]:
    axes = (SLEWS_NS, loads_pf)
    body = [
        f'related_pin : "{arc.related_pin}";',
        f"timing_sense : {arc.sense};",
        f"timing_type : {arc.kind};",
    ]
    body += _tables(("cell_rise", "cell_fall"), "delays", axes, arc.delay)
    body += _tables(("rise_transition", "fall_transition"), "delays", axes, arc.slew)
    return _group("timing ()", body)


def _power(power: Power, loads_pf: Sequence[float]) -> list[str]:
    body = [f'related_pin : "{power.related_pin}";'] if power.related_pin else []
    body += [f'when : "{power.when}";'] if power.when else []
    template, axes = (
        ("energies", (SLEWS_NS, loads_pf)) if power.related_pin else ("hidden_energies", (SLEWS_NS,))
    )
    return _group(
        "internal_power ()", [*body, *_tables(("rise_power", "fall_power"), template, axes, power.energy)]
    )


def _constraint(constraint: Constraint) -> list[str]:
    body = ['related_pin : "CLK";', f"timing_type : {constraint.kind};"]
    axes = (CONSTRAINT_SLEWS_NS, CONSTRAINT_SLEWS_NS)
    return _group(
        "timing ()",
        body + _tables(("rise_constraint", "fall_constraint"), "constraints", axes, constraint.time),
    )


def _input(pin: InputPin, attributes: Sequence[str]) -> list[str]:
    body = [
        "direction : input;",
        f"capacitance : {_number((pin.rise_pf + pin.fall_pf) / 2)};",
        f"rise_capacitance : {_number(pin.rise_pf)};",
        f"fall_capacitance : {_number(pin.fall_pf)};",
        f"max_transition : {SLEWS_NS[-1]};",
        *attributes,
    ]
    for constraint in pin.constraints:
        body += _constraint(constraint)
    for power in pin.powers:
        body += _power(power, ())
    return _group(f"pin ({pin.name})", body)


def _output(measured: Measured) -> list[str]:
    cell = measured.cell
    body = ["direction : output;", *_function(cell), f"max_capacitance : {_number(measured.loads_pf[-1])};"]
    for arc in measured.arcs:
        body += _arc(arc, measured.loads_pf)
    for power in measured.powers:
        body += _power(power, measured.loads_pf)
    return _group(f"pin ({cell.output})", body)


def _function(cell: Cell) -> list[str]:
    """Return what the output of a cell is."""
    if isinstance(cell, ClockGate):
        return ["clock_gate_out_pin : true;", 'state_function : "CLK & M0";']
    return [f'function : "{cell.function if isinstance(cell, Gate) else "IQ"}";']


def _attributes(cell: Cell, pin: str) -> list[str]:
    """Return what Liberty wants to be told of an input."""
    if isinstance(cell, ClockGate):
        enable = ["clock_gate_enable_pin : true;"]
        return enable if pin == cell.data else ["clock : true;", "clock_gate_clock_pin : true;"]
    return ["clock : true;"] if isinstance(cell, FlipFlop) and pin == "CLK" else []


def _latch() -> list[str]:
    """Return the latch of a clock gate: it is open while CLK is low."""
    rows = ("L L : - : L", "L H : - : H", "H - : - : N")
    table = _group('statetable ("CLK GATE", "M0")', [f'table : "{", ".join(rows)}";'])
    return [*table, *_group("pin (M0)", ["direction : internal;", 'internal_node : "M0";'])]


def _register(cell: FlipFlop) -> list[str]:
    body = ['clocked_on : "CLK";', 'next_state : "D";']
    body += [f'clear : "!{cell.clear}";'] if cell.clear else []
    body += [f'preset : "!{cell.preset}";'] if cell.preset else []
    return _group("ff (IQ, IQ_N)", body)


def cell_group(measured: Measured) -> str:
    """Return the Liberty group of one measured cell."""
    cell = measured.cell
    body = [
        f"area : {measured.area_um2:g};",
        f"cell_leakage_power : {_number(float(np.mean([power for _, power in measured.leakage_nw])))};",
    ]
    for when, power in measured.leakage_nw:
        body += [f'leakage_power () {{ when : "{when}"; value : {_number(power)}; }}']
    if isinstance(cell, FlipFlop):
        body += _register(cell)
    if isinstance(cell, ClockGate):
        body += ["clock_gating_integrated_cell : latch_posedge;", *_latch()]
    for pin in measured.inputs:
        body += _input(pin, _attributes(cell, pin.name))
    body += _output(measured)
    return "\n".join(_group(f"cell ({PREFIX}{cell.name})", body))


_TEMPLATES = {
    "lu_table_template (delays)": ("input_net_transition", "total_output_net_capacitance"),
    "lu_table_template (constraints)": ("related_pin_transition", "constrained_pin_transition"),
    "power_lut_template (energies)": ("input_transition_time", "total_output_net_capacitance"),
    "power_lut_template (hidden_energies)": ("input_transition_time",),
}


def library(name: str, provenance: Mapping[str, str], notes: str, cells: Iterable[str]) -> str:
    """Return a whole Liberty file.

    Args:
        provenance: what it was made with, by name, for the comment at its head.
        notes: more for that comment.
        cells: groups that `cell_group` returned.
    """
    comment = ["/*", *(f"  {line}".rstrip() for line in notes.strip().splitlines()), ""]
    comment += [*(f"  {key}: {value}" for key, value in provenance.items()), "*/"]
    body = [
        "technology (cmos);",
        "delay_model : table_lookup;",
        'time_unit : "1ns";',
        'voltage_unit : "1V";',
        'current_unit : "1mA";',
        'leakage_power_unit : "1nW";',
        'pulling_resistance_unit : "1kohm";',
        "capacitive_load_unit (1, pf);",
        f"nom_voltage : {VDD_V};",
        f"nom_temperature : {TEMPERATURE_C};",
        "nom_process : 1;",
        "slew_derate_from_library : 1;",
    ]
    for edge in ("rise", "fall"):
        body += [
            f"input_threshold_pct_{edge} : 50;",
            f"output_threshold_pct_{edge} : 50;",
            f"slew_lower_threshold_pct_{edge} : 20;",
            f"slew_upper_threshold_pct_{edge} : 80;",
        ]
    conditions = [
        "process : 1;",
        f"temperature : {TEMPERATURE_C};",
        f"voltage : {VDD_V};",
        "tree_type : balanced_tree;",
    ]
    body += _group("operating_conditions (typical)", conditions)
    body += ["default_operating_conditions : typical;", f"default_max_transition : {SLEWS_NS[-1]};"]
    sizes = {"constraints": (CONSTRAINT_SLEWS_NS, CONSTRAINT_SLEWS_NS)}
    for head, variables in _TEMPLATES.items():
        axes = next((axes for key, axes in sizes.items() if f"({key})" in head), (SLEWS_NS, LOADS_PF))
        lines = [f"variable_{number} : {variable};" for number, variable in enumerate(variables, 1)]
        lines += [f'index_{number} ("{_list(axes[number - 1])}");' for number in range(1, len(variables) + 1)]
        body += _group(head, lines)
    for cell in cells:
        body += cell.splitlines()
    return "\n".join([*comment, *_group(f"library ({name})", body), ""])
