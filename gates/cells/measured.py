"""What is measured of a cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gates.cells.selection import Cell

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edges:
    """Something of a rise and of a fall, one of which may not exist."""

    rise: Floats | None
    fall: Floats | None


@dataclass(frozen=True, eq=False)
class Arc:
    """Timing from an input to the output; tables are [slew, load] in ns."""

    related_pin: str
    kind: str
    sense: str
    delay: Edges
    slew: Edges


@dataclass(frozen=True, eq=False)
class Power:
    """Energies in pJ: of an output [slew, load] by the input that moves it, of an input [slew]."""

    related_pin: str | None
    when: str | None
    energy: Edges


@dataclass(frozen=True, eq=False)
class Constraint:
    """Set-up or hold times of a data pin in ns: [slew of the clock, slew of the data]."""

    kind: str
    time: Edges


@dataclass(frozen=True, eq=False)
class InputPin:
    """What was measured of an input pin. Capacitances of a rise and a fall in pF."""

    name: str
    rise_pf: float
    fall_pf: float
    powers: tuple[Power, ...]
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, eq=False)
class Measured:
    """All that was measured of a cell. Leakage in nW, by the state in which it flows."""

    cell: Cell
    area_um2: float
    loads_pf: tuple[float, ...]
    leakage_nw: tuple[tuple[str, float], ...]
    inputs: tuple[InputPin, ...]
    arcs: tuple[Arc, ...]
    powers: tuple[Power, ...]


def mean(tables: Iterable[Floats]) -> Floats:
    """Return the mean of tables of one shape."""
    return np.mean(list(tables), axis=0)  # type: ignore[no-any-return]
