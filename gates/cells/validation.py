"""Compares our cell library with figures of the published one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.errors import GatesError
from gates.cells.selection import PREFIX
from gates.liberty import Arc, Cell, Library, Pin, Power

PUBLISHED = Path(__file__).resolve().parents[1] / "libraries" / "published_cells.yaml"


@dataclass(frozen=True)
class Comparison:
    """One figure beside its published value."""

    cell: str
    quantity: str
    unit: str
    ours: float
    published: float

    @property
    def error(self) -> float:
        """By how much ours is more, relative to the published one."""
        return self.ours / self.published - 1


def _only_output(cell: Cell) -> Pin:
    (output,) = cell.outputs
    return output


def _arc(cell: Cell, pin: str, sense: str | None) -> Arc:
    """Return the arc from a pin to the output."""
    arcs = [arc for arc in _only_output(cell).arcs if arc.related_pin == pin and sense in (None, arc.unate)]
    if len(arcs) != 1:
        raise GatesError(f"{cell.name} has {len(arcs)} arcs from {pin} where the published figures want one")
    return arcs[0]


def _pair(powers: list[Power], slew_ns: float, load_pf: float = 0.0) -> float:
    """Return the energy of a rise and a fall together: the mean over states."""
    sums = [
        float(power.rise.at(slew_ns, load_pf) + power.fall.at(slew_ns, load_pf))
        for power in powers
        if power.rise is not None and power.fall is not None
    ]
    return float(np.mean(sums)) if sums else 0.0


def _pin_comparisons(
    cell: Cell, name: str, pin: str, figures: dict[str, Any], slews: tuple[float, float]
) -> Iterator[Comparison]:
    slew_ns, constraint_slew_ns = slews
    ours = cell.pins[pin]
    yield Comparison(name, f"capacitance of {pin}", "pF", ours.capacitance_pf, figures["capacitance"])
    for load_pf, *delays in figures.get("delays", ()):
        arc = _arc(cell, pin, figures.get("sense"))
        for edge, table, published in zip(("rise", "fall"), (arc.rise, arc.fall), delays, strict=True):
            assert table is not None  # arcs between signals have both
            delay = float(table.at(slew_ns, load_pf))
            yield Comparison(name, f"delay from {pin}, {edge}, {load_pf} pF", "ns", delay, published)
    for kind in ("setup_rising", "hold_rising"):
        if kind in figures:
            constraint = next(arc for arc in ours.arcs if arc.kind == kind)
            tables = (constraint.rise, constraint.fall)
            for edge, table, published in zip(("rise", "fall"), tables, figures[kind], strict=True):
                assert table is not None  # as above
                time = float(table.at(constraint_slew_ns, constraint_slew_ns))
                yield Comparison(name, f"{kind} of {pin}, {edge}", "ns", time, published)


def _gate_energies(cell: Cell, name: str, pins: dict[str, Any], slew_ns: float) -> Iterator[Comparison]:
    """Yield the energy of a rise and a fall of the output by each input, with the input's hidden energy."""
    for pin, figures in pins.items():
        load_pf, *energies = figures["energy"]
        powers = [power for power in _only_output(cell).powers if power.related_pin == pin]
        ours = _pair(powers, slew_ns, load_pf) + _pair(list(cell.pins[pin].powers), slew_ns)
        published = sum(energies) + sum(figures.get("hidden", ()))
        yield Comparison(name, f"energy of a cycle by {pin}", "pJ", ours, published)


def _flop_energies(cell: Cell, name: str, pins: dict[str, Any], slew_ns: float) -> Iterator[Comparison]:
    """Yield energies of clock cycles.

    The published energy of D is that of its edges while the clock is high, when only its first inverter
    moves. What the master latch costs afterwards is nowhere in that library; ours has it, so its full toggle
    is more.
    """
    load_pf, *energies = pins["CLK"]["energy"]
    idle = _pair(list(cell.pins["CLK"].powers), slew_ns), sum(pins["CLK"]["hidden"])
    powers = [power for power in _only_output(cell).powers if power.related_pin == "CLK"]
    change = _pair(powers, slew_ns, load_pf), sum(energies)
    data = _pair(list(cell.pins["D"].powers), slew_ns), sum(pins["D"]["hidden"])
    yield Comparison(name, "idle clock cycle", "pJ", *idle)
    yield Comparison(name, "rise and fall of Q beyond the clock", "pJ", *change)
    toggle = tuple(2 * i + c for i, c in zip(idle, change, strict=True))
    yield Comparison(name, "two clock cycles with a rise and a fall of Q, without D", "pJ", *toggle)
    full = tuple(t + d for t, d in zip(toggle, data, strict=True))
    yield Comparison(name, "full toggle: the same with D", "pJ", *full)


def compare(library: Library, published: Path = PUBLISHED) -> list[Comparison]:
    """Compare a library with published figures.

    Args:
        library: read from our Liberty file.
        published: file with the figures, their units and their source.

    Raises:
        GatesError: the library lacks a cell or an arc that the file has figures of.
    """
    figures = yaml.safe_load(published.read_text())
    slews = figures["slew_ns"], figures["constraint_slew_ns"]
    result = []
    for name, values in figures["cells"].items():
        cell = library.cell(PREFIX + name)
        result.append(Comparison(name, "area", "µm²", cell.area_um2, values["area"]))
        result.append(Comparison(name, "leakage", "nW", cell.leakage_nw, values["leakage"]))
        for pin, items in values["pins"].items():
            result += _pin_comparisons(cell, name, pin, items, slews)
        energies = _gate_energies if cell.flop is None else _flop_energies
        result += energies(cell, name, values["pins"], slews[0])
    return result


def table(comparisons: list[Comparison]) -> str:
    """Return comparisons as lines of text."""
    lines = []
    for item in comparisons:
        values = f"{item.ours:10.5g} {item.published:10.5g} {item.unit:4} {item.error:+7.1%}"
        lines.append(f"{item.cell:8} {item.quantity:55} {values}")
    return "\n".join(lines)
