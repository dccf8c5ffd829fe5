"""A cell ready to be simulated, what its inputs do, and what is read off their edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.errors import GatesError
from gates.cells.layout import Extracted, extract
from gates.cells.selection import SUPPLIES, Cell, area_um2, cell_file, drive, netlist_sizes
from gates.cells.spice import QUIET_OPTIONS, VDD_V, Transient, Waveforms, run_transients, transistor_models

SLEWS_NS = (0.01, 0.0531329, 0.122474, 0.282311, 0.650743)
"""Points of the published tables."""

LOADS_PF = (0.0005, 0.0035, 0.02, 0.1)
"""Of drive strength 1; others have multiples."""

SETTLE_S = 0.8e-9
SETTLE_S_PER_PF = 160e-9
"""An edge is followed by this: some seven time constants of the weakest stack of transistors."""

LEAKAGE_S = 100e-6
"""How long a cell rests before its leakage is read."""


@dataclass(frozen=True)
class Bench:
    """A cell ready to be simulated, with the models of its transistors and those fitted to leakage."""

    cell: Cell
    extracted: Extracted
    models: str
    leakage_models: str
    area_um2: float

    @property
    def loads_pf(self) -> tuple[float, ...]:
        """The loads at which this cell is measured."""
        return tuple(round(load * drive(self.cell.name), 6) for load in LOADS_PF)

    def run(self, analyses: Sequence[Transient]) -> list[Waveforms]:
        """Run transients."""
        return run_transients(self.models, self.extracted, self.cell.inputs, (self.cell.output,), analyses)

    def leakage_nw(self, scripts: Sequence[Script]) -> list[float]:
        """Return the leakage after each script, when even inner nodes that nothing drives are at rest."""
        cell = self.cell
        runs = []
        for script in scripts:
            script.now_s += LEAKAGE_S
            run = script.transient(cell.output, self.loads_pf[0])
            runs.append(replace(run, max_step_s=LEAKAGE_S / 100))
        waves = run_transients(
            self.leakage_models, self.extracted, cell.inputs, (cell.output,), runs, QUIET_OPTIONS
        )
        return [float(wave.currents["VPWR"][-1]) * VDD_V * 1e9 for wave in waves]

    def settle_s(self, load_pf: float) -> float:
        """Return how long an edge at a load takes to die away."""
        return SETTLE_S + SETTLE_S_PER_PF * load_pf / drive(self.cell.name)


def bench(wheel: Path, cell: Cell) -> Bench:
    """Extract a cell and collect what its simulation needs.

    Raises:
        GatesError: the wheel lacks it, or layout and published netlist differ in their transistors.
    """
    pins = (*cell.inputs, cell.output, *SUPPLIES)
    extracted = extract(cell_file(wheel, cell.name, "gds"), pins)
    sizes = sorted((device.kind, device.width_um, device.length_um) for device in extracted.transistors)
    if sizes != netlist_sizes(wheel, cell.name):
        raise GatesError(f"{cell.name}: in {wheel}, its layout has other transistors than its netlist")
    models, leakage_models = (transistor_models(wheel, sizes, corner) for corner in ("tt", "tt_leak"))
    return Bench(cell, extracted, models, leakage_models, area_um2(wheel, cell.name))


@dataclass
class Script:
    """What the inputs of a cell do, one edge after the other.

    Attributes:
        values: present values of the inputs.
        now_s: when the next edge starts.
    """

    values: dict[str, bool]
    corners: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    now_s: float = SETTLE_S

    def __post_init__(self) -> None:
        self.corners = {pin: [(0.0, VDD_V * value)] for pin, value in self.values.items()}

    def edge(self, pin: str, slew_ns: float, wait_s: float) -> Event:
        """Turn a pin over, wait, and return the edge."""
        ramp_s = slew_ns * 1e-9 / 0.6
        start, before = self.now_s, self.values[pin]
        self.corners[pin] += [(start, VDD_V * before), (start + ramp_s, VDD_V * (not before))]
        self.values[pin] = not before
        self.now_s = start + ramp_s + wait_s
        return Event(pin, not before, start, start + ramp_s / 2, self.now_s)

    def transient(self, output: str, load_pf: float) -> Transient:
        """Return the analysis of all this."""
        inputs = {pin: tuple(points) for pin, points in self.corners.items()}
        return Transient(inputs, {output: load_pf}, self.now_s)


@dataclass(frozen=True)
class Event:
    """An edge of an input: when it starts, is half way, and when all has settled."""

    pin: str
    rise: bool
    start_s: float
    middle_s: float
    end_s: float

    def energy_pj(self, waves: Waveforms) -> float:
        """Return what VPWR delivers."""
        return waves.charge("VPWR", self.start_s, self.end_s) * VDD_V * 1e12

    def capacitance_pf(self, waves: Waveforms) -> float:
        """Return the charge of the input over its swing."""
        charge = waves.charge(self.pin, self.start_s, self.end_s)
        return (charge if self.rise else -charge) / VDD_V * 1e12

    def delay_ns(self, waves: Waveforms, output: str) -> float:
        """Return the delay of the output's edge that it causes."""
        return (waves.crossing(output, 0.5, self.start_s, self.end_s) - self.middle_s) * 1e9

    def slew_ns(self, waves: Waveforms, output: str) -> float:
        """Return the slew of that edge."""
        low, high = (waves.crossing(output, fraction, self.start_s, self.end_s) for fraction in (0.2, 0.8))
        return abs(high - low) * 1e9

    def check(self, waves: Waveforms, output: str, expected: bool) -> None:
        """Check the output's value after it.

        Raises:
            GatesError: it is another one, or between the two.
        """
        voltage = waves.voltage(output, self.end_s - 1e-12)
        if abs(voltage - VDD_V * expected) > 0.02 * VDD_V:
            raise GatesError(
                f"{output} is at {voltage:.3f} V, not {VDD_V * expected} V, after an edge of {self.pin}: "
                "the cell's function is not what was said, or it needs longer to settle"
            )


def condition(state: dict[str, bool]) -> str:
    """Return a state of the inputs as Liberty's `when` says it."""
    return "&".join(name if value else f"!{name}" for name, value in state.items())
