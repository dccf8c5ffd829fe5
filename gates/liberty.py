# SPDX-License-Identifier: Apache-2.0
"""Reads cell libraries in Liberty format: functions, areas, delays and internal energies.

Reference: Liberty User Guides and Reference Manual. Values are converted to ns, pF, pJ, nW and µm². The unit
of internal energy is, as the format defines, the unit of capacitance times the square of the unit of voltage.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import GatesError
from gates.liberty_syntax import Group, parse

Floats = npt.NDArray[np.float64]

LOAD_AXES = ("total_output_net_capacitance", "equal_or_opposite_output_net_capacitance")
SLEW_AXES = ("input_net_transition", "input_transition_time", "constrained_pin_transition")
CLOCK_AXES = ("related_pin_transition",)


@dataclass(frozen=True, eq=False)
class Table:
    """A value over two axes. An axis of one point means that the value does not depend on it.

    Attributes:
        slews_ns: slew of the input, the one that is constrained in tables of set-up and hold times.
        others: load in pF; in tables of set-up and hold times the slew of the clock in ns.
        values: [slews, others].
    """

    slews_ns: Floats
    others: Floats
    values: Floats

    def at(self, slew_ns: npt.ArrayLike, other: npt.ArrayLike = 0.0) -> Floats:
        """Return values between the points of the table, bilinear, continued linearly beyond its ends.

        Args:
            slew_ns, other: positions on the two axes, of any shapes that broadcast.
        """
        slew = np.asarray(slew_ns, np.float64)
        load = np.asarray(other, np.float64)
        row, down = _position(self.slews_ns, slew)
        column, right = _position(self.others, load)
        next_row = np.minimum(row + 1, len(self.slews_ns) - 1)
        next_column = np.minimum(column + 1, len(self.others) - 1)
        upper = self.values[row, column] * (1 - right) + self.values[row, next_column] * right
        lower = self.values[next_row, column] * (1 - right) + self.values[next_row, next_column] * right
        result: Floats = upper * (1 - down) + lower * down
        return result


def _position(axis: Floats, at: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the interval of an axis that a position belongs to, and how far into it: 0..1 inside."""
    if len(axis) == 1:
        return np.zeros(at.shape, np.intp), np.zeros(at.shape)
    left = np.clip(np.searchsorted(axis, at, side="right") - 1, 0, len(axis) - 2)
    return left, (at - axis[left]) / (axis[left + 1] - axis[left])


@dataclass(frozen=True)
class Arc:
    """Timing from one pin to another.

    Attributes:
        related_pin: where it starts.
        kind: Liberty's timing_type: `combinational`, `rising_edge`, `setup_rising`, ...
        unate: `positive_unate`, `negative_unate` or `non_unate`.
        rise, fall: delay in ns of the pin's rise and fall, or the time of a set-up or hold constraint.
        rise_slew, fall_slew: slew in ns of the pin's rise and fall.
    """

    related_pin: str
    kind: str
    unate: str
    rise: Table | None
    fall: Table | None
    rise_slew: Table | None
    fall_slew: Table | None


@dataclass(frozen=True)
class Power:
    """Internal energy in pJ of a rise and a fall of the pin that it belongs to."""

    related_pin: str | None
    when: str | None
    rise: Table | None
    fall: Table | None


@dataclass(frozen=True)
class Pin:
    """A pin of a cell. `function` is Liberty's expression, None for inputs."""

    name: str
    direction: str
    capacitance_pf: float
    function: str | None
    arcs: tuple[Arc, ...]
    powers: tuple[Power, ...]
    clock: bool
    three_state: bool


@dataclass(frozen=True)
class Flop:
    """The register of a cell: names of its two states, and expressions over the cell's pins."""

    state: str
    inverted_state: str
    next_state: str
    clocked_on: str
    clear: str | None
    preset: str | None


@dataclass(frozen=True)
class ClockGate:
    """The pins of a clock gate: a latch that is open while the clock is low, and an AND behind it."""

    clock: str
    enable: str
    output: str


@dataclass(frozen=True)
class Cell:
    """A cell. `latch` is set where it is level-sensitive, which nothing here models but in clock gates."""

    name: str
    area_um2: float
    leakage_nw: float
    pins: Mapping[str, Pin]
    flop: Flop | None
    latch: bool
    clock_gate: ClockGate | None = None

    @property
    def inputs(self) -> tuple[Pin, ...]:
        """Input pins."""
        return tuple(pin for pin in self.pins.values() if pin.direction == "input")

    @property
    def outputs(self) -> tuple[Pin, ...]:
        """Output pins."""
        return tuple(pin for pin in self.pins.values() if pin.direction == "output")

    @property
    def clock(self) -> str | None:
        """The function that clocks a flop, the pin that clocks a clock gate; None for other cells."""
        if self.clock_gate is not None:
            return self.clock_gate.clock
        return None if self.flop is None else self.flop.clocked_on

    @property
    def usable(self) -> bool:
        """Whether a netlist may hold this: a gate, a flop or a clock gate."""
        return self.plain or self.clock_gate is not None

    @property
    def plain(self) -> bool:
        """Whether this is a gate or a flop as synthesis wants them: no latch, no three-state output."""
        known = all(pin.function is not None and not pin.three_state for pin in self.outputs)
        return bool(self.outputs) and known and not self.latch


@dataclass(frozen=True)
class Library:
    """A cell library at one corner."""

    name: str
    path: Path
    sha256: str
    voltage_v: float
    cells: Mapping[str, Cell]

    def cell(self, name: str) -> Cell:
        """Return a cell by name.

        Raises:
            GatesError: the library does not have it.
        """
        try:
            return self.cells[name]
        except KeyError:
            raise GatesError(f"{self.path}: library {self.name} has no cell {name!r}") from None

    @property
    def clock_gates(self) -> tuple[Cell, ...]:
        """Clock gates, the smallest first; none in a library without them."""
        gates = (cell for cell in self.cells.values() if cell.clock_gate is not None)
        return tuple(sorted(gates, key=lambda cell: (cell.area_um2, cell.name)))


_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
_UNIT = re.compile(r"([\d.]+)\s*([munpf]?)[a-z]+", re.IGNORECASE)


def _unit(text: str, path: Path) -> float:
    """Return a unit such as `10ps` in SI units."""
    match = _UNIT.fullmatch(text.strip())
    if match is None:
        raise GatesError(f"{path}: unit {text!r} is not understood")
    return float(match[1]) * _PREFIXES[match[2].lower()]


def _floats(text: str) -> list[float]:
    return [float(word) for word in text.replace(",", " ").split()]


class _Reader:
    """Converts the groups of one library; holds its units and table templates."""

    def __init__(self, library: Group, path: Path) -> None:
        self.path = path
        self.library = library
        self.time_ns = _unit(library.simple.get("time_unit", "1ns"), path) / 1e-9
        voltage = _unit(library.simple.get("voltage_unit", "1V"), path)
        size, prefix = library.arguments_of("capacitive_load_unit") or ("1", "pf")
        self.capacitance_pf = float(size) * _unit("1" + prefix, path) / 1e-12
        self.energy_pj = self.capacitance_pf * voltage**2
        self.leakage_nw = _unit(library.simple.get("leakage_power_unit", "1nW"), path) / 1e-9
        self.voltage_v = voltage * float(library.simple.get("nom_voltage", "nan"))
        self.templates = {
            group.arguments[0]: group
            for kind in ("lu_table_template", "power_lut_template")
            for group in library.all(kind)
        }

    def table(self, owner: Group, kind: str, unit: float, where: str) -> Table | None:
        """Return the table of a kind in a timing or power group; None if it has none."""
        group = owner.first(kind)
        if group is None:
            return None
        rows = group.arguments_of("values")
        template = self.templates.get(group.arguments[0]) if group.arguments else None
        scalar = not group.arguments or group.arguments[0] == "scalar"
        if rows is None or (template is None and not scalar):
            raise GatesError(f"{self.path}: {kind} of {where} lacks values or a known table template")
        axes: list[tuple[str, list[float]]] = []
        for number in (1, 2, 3):
            variable = template.simple.get(f"variable_{number}") if template is not None else None
            if template is None or variable is None:
                break
            index = group.arguments_of(f"index_{number}") or template.arguments_of(f"index_{number}")
            if index is None:
                raise GatesError(f"{self.path}: {kind} of {where} lacks index_{number}")
            axes.append((variable, _floats(" ".join(index))))
        values = np.array(_floats(" ".join(rows)), np.float64)
        if values.size != math.prod(len(points) for _, points in axes):
            raise GatesError(f"{self.path}: {kind} of {where}: {values.size} values do not fit its axes")
        values = values.reshape([len(points) for _, points in axes]) * unit
        slews = others = np.zeros(1)
        order = []
        for number, (variable, points) in enumerate(axes):
            if variable in LOAD_AXES:
                others = np.array(points) * self.capacitance_pf
                order.append((1, number))
            elif variable in CLOCK_AXES:
                others = np.array(points) * self.time_ns
                order.append((1, number))
            elif variable in SLEW_AXES:
                slews = np.array(points) * self.time_ns
                order.append((0, number))
            else:
                raise GatesError(f"{self.path}: {kind} of {where} has an unsupported axis {variable}")
        if len({axis for axis, _ in order}) != len(order):
            raise GatesError(f"{self.path}: {kind} of {where} has two axes of one sort")
        values = values.transpose([number for _, number in sorted(order)])
        return Table(slews, others, np.ascontiguousarray(values.reshape(len(slews), len(others))))

    def arcs(self, pin: Group, where: str) -> Iterator[Arc]:
        """Yield the arcs that end in a pin."""
        for group in pin.all("timing"):

            def table(name: str, group: Group = group) -> Table | None:
                return self.table(group, name, self.time_ns, where)

            for related in group.simple.get("related_pin", "").split():
                yield Arc(
                    related_pin=related,
                    kind=group.simple.get("timing_type", "combinational"),
                    unate=group.simple.get("timing_sense", "non_unate"),
                    rise=table("cell_rise") or table("rise_constraint"),
                    fall=table("cell_fall") or table("fall_constraint"),
                    rise_slew=table("rise_transition"),
                    fall_slew=table("fall_transition"),
                )

    def powers(self, pin: Group, where: str) -> Iterator[Power]:
        """Yield the internal energies of a pin; `power` stands for both edges."""
        for group in pin.all("internal_power"):
            both = self.table(group, "power", self.energy_pj, where)
            rise = self.table(group, "rise_power", self.energy_pj, where) or both
            fall = self.table(group, "fall_power", self.energy_pj, where) or both
            when = group.simple.get("when")
            related_pins: list[str | None] = [*group.simple.get("related_pin", "").split()]
            for related in related_pins or [None]:
                yield Power(related, when, rise, fall)

    def pin(self, group: Group, cell: str) -> Pin:
        """Return a pin."""
        name = group.arguments[0]
        where = f"{cell}/{name}"
        capacitance = float(group.simple.get("capacitance", 0.0)) * self.capacitance_pf
        return Pin(
            name=name,
            direction=group.simple.get("direction", "input"),
            capacitance_pf=capacitance,
            function=group.simple.get("function"),
            arcs=tuple(self.arcs(group, where)),
            powers=tuple(self.powers(group, where)),
            clock=group.simple.get("clock", "false") == "true",
            three_state="three_state" in group.simple,
        )

    def cell(self, group: Group) -> Cell:
        """Return a cell."""
        name = group.arguments[0]
        pins = {pin.arguments[0]: self.pin(pin, name) for pin in group.all("pin")}
        registers = group.first("ff")
        flop = None
        if registers is not None:
            state, inverted = registers.arguments
            flop = Flop(
                state=state,
                inverted_state=inverted,
                next_state=registers.simple["next_state"],
                clocked_on=registers.simple["clocked_on"],
                clear=registers.simple.get("clear"),
                preset=registers.simple.get("preset"),
            )
        leakages = [float(item.simple["value"]) for item in group.all("leakage_power")]
        mean = sum(leakages) / len(leakages) if leakages else 0.0
        leakage = float(group.simple.get("cell_leakage_power", mean))
        return Cell(
            name=name,
            area_um2=float(group.simple.get("area", 0.0)),
            leakage_nw=leakage * self.leakage_nw,
            pins=pins,
            flop=flop,
            latch=group.first("latch") is not None,
            clock_gate=_clock_gate(group),
        )


def _clock_gate(group: Group) -> ClockGate | None:
    """Return the pins of a clock gate for rising edges with nothing else; None for other cells."""
    if group.simple.get("clock_gating_integrated_cell") != "latch_posedge":
        return None
    kinds = ("clock_gate_clock_pin", "clock_gate_enable_pin", "clock_gate_out_pin")
    found = [
        [pin.arguments[0] for pin in group.all("pin") if pin.simple.get(kind) == "true"] for kind in kinds
    ]
    inputs = [pin for pin in group.all("pin") if pin.simple.get("direction") == "input"]
    if len(inputs) != 2 or [len(pins) for pins in found] != [1, 1, 1]:
        return None
    ((clock,), (enable,), (output,)) = found
    return ClockGate(clock, enable, output)


def _check_powers(library: Library) -> None:
    """Refuse a library whose gates have no internal energy: results would be low without a sign of it."""
    for cell in library.cells.values():
        if cell.inputs and cell.usable and not all(pin.powers for pin in cell.outputs):
            raise GatesError(
                f"{library.path}: cell {cell.name} has no internal_power tables; "
                "energies need a library that was characterised for power"
            )


def read_liberty(path: Path) -> Library:
    """Read a cell library.

    Raises:
        GatesError: the file cannot be read, is not in Liberty format, or has no internal energies.
    """
    try:
        data = path.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise GatesError(f"cannot read the cell library {path}: {error}") from None
    group = parse(text, path)
    try:
        reader = _Reader(group, path)
        cells = {cell.name: cell for cell in map(reader.cell, group.all("cell"))}
    except (ValueError, KeyError, IndexError) as error:
        raise GatesError(f"{path} is damaged: {type(error).__name__} {error}") from None
    if not cells or not math.isfinite(reader.voltage_v):
        raise GatesError(f"{path}: the library has no cells or no nom_voltage")
    name = group.arguments[0] if group.arguments else path.stem
    library = Library(name, path, hashlib.sha256(data).hexdigest(), reader.voltage_v, cells)
    _check_powers(library)
    return library
