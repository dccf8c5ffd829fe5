"""What is read off the events of a sequence in which a clocked cell does everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gates.cells.bench import Event
from gates.cells.measured import Floats
from gates.cells.spice import Waveforms


@dataclass(frozen=True, eq=False)
class Events:
    """What happened in a cell's sequences, one for each load: events by name, over slews and loads."""

    cycles: Sequence[Sequence[dict[str, Event]]]  # [load][slew]
    waves: Sequence[Waveforms]  # [load]

    def table(self, name: str, value: Callable[[Event, Waveforms], float]) -> Floats:
        """Return a value of an event: [slew, load]."""
        both = zip(self.cycles, self.waves, strict=True)
        result: Floats = np.array([[value(cycle[name], wave) for cycle in cycles] for cycles, wave in both]).T
        return result

    def energy(self, name: str) -> Floats:
        """Return the energies of an event that does not move the output: [slew], at the least load."""
        column: Floats = self.table(name, Event.energy_pj)[:, 0]
        return column

    def capacitance(self, names: Sequence[str]) -> float:
        """Return the mean of a pin's capacitance over events."""
        return float(np.mean([self.table(name, Event.capacitance_pf)[:, 0] for name in names]))
