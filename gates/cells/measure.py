"""Measures one cell with ngspice: delays, slews, energies, capacitances, leakage, set-up and hold times.

Conventions, which are those of the published sky130 libraries:

- An input is a linear ramp. Slew is the time from 20 % to 80 % of the supply, delay is from 50 % to 50 %.
- Energy is what VPWR delivers. Of a rise and a fall of an output, ½·C·V² of its load each are subtracted:
  whoever adds up energies adds ½·C·V² of the net for each of its edges. What an input takes comes from its
  driver, in that net's ½·C·V².
- An input has a hidden energy: that of its edges when no output moves. It is due at every edge of the input,
  so an output's energy is that of the whole event less the hidden energy of the input that caused it.
- Where an input moves the output in several states of the others, delays and slews are the worst of them and
  energies their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import GatesError
from gates.cells.layout import Extracted, extract
from gates.cells.selection import (
    SUPPLIES,
    Cell,
    FlipFlop,
    Gate,
    area_um2,
    cell_file,
    drive,
    netlist_sizes,
    states,
)
from gates.cells.spice import QUIET_OPTIONS, VDD_V, Transient, Waveforms, run_transients, transistor_models

Floats = npt.NDArray[np.float64]

SLEWS_NS = (0.01, 0.0531329, 0.122474, 0.282311, 0.650743)
"""Points of the published tables."""

LOADS_PF = (0.0005, 0.0035, 0.02, 0.1)
"""Of drive strength 1; others have multiples."""

CONSTRAINT_SLEWS_NS = (0.0531329, 0.5)
SETTLE_S = 0.8e-9
SETTLE_S_PER_PF = 160e-9
"""An edge is followed by this: some seven time constants of the weakest stack of transistors."""

LEAKAGE_S = 100e-6
"""How long a cell rests before its leakage is read."""

SEARCH_S = (-1.2e-9, 1.6e-9)
SEARCH_STEPS = 9
"""Set-up and hold times are sought in this range by halving it; 5 ps are left."""

DEGRADATION = 1.1
"""A flop's set-up or hold time is met as long as its clock-to-output delay grows by less than this factor."""


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
    """Set-up or hold times of D in ns: [slew of the clock, slew of D]."""

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


def _mean(tables: Iterable[Floats]) -> Floats:
    return np.mean(list(tables), axis=0)  # type: ignore[no-any-return]


def _when(state: dict[str, bool]) -> str:
    return "&".join(name if value else f"!{name}" for name, value in state.items())


# --- gates


@dataclass(frozen=True, eq=False)
class _Sweep:
    """An input's edges at all slews, in one state of the other inputs and at one load: [slew]."""

    energy: Edges
    capacitance: Edges
    delay: Edges
    slew: Edges


def _sweep_script(pin: str, others: dict[str, bool], wait_s: float) -> tuple[Script, list[Event]]:
    """Return edges of a pin at all slews, the other inputs at rest."""
    script = Script({pin: False} | others)
    script.edge(pin, SLEWS_NS[0], wait_s)  # two edges that nobody counts: inner nodes find their levels
    script.edge(pin, SLEWS_NS[0], wait_s)
    return script, [script.edge(pin, slew, wait_s) for slew in SLEWS_NS for _ in "rf"]


def _sweep(cell: Gate, others: dict[str, bool], events: Sequence[Event], waves: Waveforms) -> _Sweep:
    """Evaluate one sweep; delay and slew are absent where the output does not move."""
    pin, output = events[0].pin, cell.output
    for event in events:
        event.check(waves, output, cell.value(others | {pin: event.rise}))
    moves = cell.value(others | {pin: False}) != cell.value(others | {pin: True})

    def edges(value: Callable[[Event], float]) -> Edges:
        rise, fall = ([value(event) for event in events if event.rise is wanted] for wanted in (True, False))
        return Edges(np.array(rise), np.array(fall))

    nothing = Edges(None, None)
    return _Sweep(
        energy=edges(lambda event: event.energy_pj(waves)),
        capacitance=edges(lambda event: event.capacitance_pf(waves)),
        delay=edges(lambda event: event.delay_ns(waves, output)) if moves else nothing,
        slew=edges(lambda event: event.slew_ns(waves, output)) if moves else nothing,
    )


def _leakage(bench_: Bench) -> tuple[tuple[str, float], ...]:
    """Return the leakage of a gate in each state of its inputs."""
    all_states = states(bench_.cell.inputs)
    powers = bench_.leakage_nw([Script(dict(state)) for state in all_states])
    return tuple((_when(state), power) for state, power in zip(all_states, powers, strict=True))


def measure_gate(bench_: Bench) -> Measured:
    """Measure a combinational cell.

    Raises:
        GatesError: ngspice fails, or the cell does not compute its function.
    """
    cell = bench_.cell
    assert isinstance(cell, Gate)
    analyses: list[Transient] = []
    plan: list[tuple[str, dict[str, bool], int, list[Event]]] = []
    for pin in cell.inputs:
        for others in states(tuple(name for name in cell.inputs if name != pin)):
            moves = cell.value(others | {pin: False}) != cell.value(others | {pin: True})
            for number, load in enumerate(bench_.loads_pf if moves else bench_.loads_pf[:1]):
                script, events = _sweep_script(pin, others, bench_.settle_s(load if moves else 0.0))
                analyses.append(script.transient(cell.output, load))
                plan.append((pin, others, number, events))
    waves = bench_.run(analyses)
    sweeps: dict[tuple[str, str], list[_Sweep]] = {}
    state_of: dict[str, dict[str, bool]] = {}
    for (pin, others, _, events), wave in zip(plan, waves, strict=True):
        state_of[_when(others)] = others
        sweeps.setdefault((pin, _when(others)), []).append(_sweep(cell, others, events, wave))
    inputs, arcs, powers = [], [], []
    for pin in cell.inputs:
        mine = {when: parts for (name, when), parts in sweeps.items() if name == pin}
        hidden = [parts[0] for parts in mine.values() if parts[0].delay.rise is None]
        moving = {when: parts for when, parts in mine.items() if parts[0].delay.rise is not None}
        inputs.append(_input_pin(pin, [parts[0] for parts in mine.values()], hidden))
        arcs += _gate_arcs(cell, pin, moving, state_of)
        powers.append(_gate_power(cell, pin, moving, state_of, hidden, bench_.loads_pf))
    return Measured(
        cell, bench_.area_um2, bench_.loads_pf, _leakage(bench_), tuple(inputs), tuple(arcs), tuple(powers)
    )


def _both(edges: Edges) -> tuple[Floats, Floats]:
    assert edges.rise is not None
    assert edges.fall is not None
    return edges.rise, edges.fall


def _input_pin(pin: str, sweeps: Sequence[_Sweep], hidden: Sequence[_Sweep]) -> InputPin:
    """Return an input: its capacitance is the mean over states and slews."""
    rise = float(np.mean([_both(sweep.capacitance)[0] for sweep in sweeps]))
    fall = float(np.mean([_both(sweep.capacitance)[1] for sweep in sweeps]))
    powers: tuple[Power, ...] = ()
    if hidden:
        edges = [_both(sweep.energy) for sweep in hidden]
        powers = (Power(None, None, Edges(_mean(r for r, _ in edges), _mean(f for _, f in edges))),)
    return InputPin(pin, rise, fall, powers)


def _by_output(cell: Gate, pin: str, others: dict[str, bool], edges: Edges) -> Edges:
    """Return edges of the output's rise and fall, given those of the input's."""
    return edges if cell.value(others | {pin: True}) else Edges(edges.fall, edges.rise)


def _gate_arcs(
    cell: Gate, pin: str, moving: dict[str, list[_Sweep]], state_of: dict[str, dict[str, bool]]
) -> list[Arc]:
    """Return the arcs from a pin: one for each sense, the worst of all states."""
    arcs = []
    for positive in (True, False):
        chosen = [w for w in moving if cell.value(state_of[w] | {pin: True}) is positive]
        if not chosen:
            continue

        def worst(part: Callable[[_Sweep], Edges], chosen: list[str] = chosen) -> Edges:
            tables = [
                [_both(_by_output(cell, pin, state_of[when], part(sweep))) for sweep in moving[when]]
                for when in chosen
            ]
            rise = np.max([np.stack([r for r, _ in loads], axis=1) for loads in tables], axis=0)
            fall = np.max([np.stack([f for _, f in loads], axis=1) for loads in tables], axis=0)
            return Edges(rise, fall)

        sense = "positive_unate" if positive else "negative_unate"
        arcs.append(Arc(pin, "combinational", sense, worst(lambda s: s.delay), worst(lambda s: s.slew)))
    return arcs


def _gate_power(
    cell: Gate,
    pin: str,
    moving: dict[str, list[_Sweep]],
    state_of: dict[str, dict[str, bool]],
    hidden: Sequence[_Sweep],
    loads_pf: Sequence[float],
) -> Power:
    """Return the output's energies by a pin, without the load's ½·C·V² and the pin's hidden energy."""
    base = [_both(sweep.energy) for sweep in hidden] or [(np.zeros(len(SLEWS_NS)), np.zeros(len(SLEWS_NS)))]
    hidden_rise, hidden_fall = _mean(r for r, _ in base), _mean(f for _, f in base)
    rises, falls = [], []
    for when, parts in moving.items():
        tables = []
        for load, part in zip(loads_pf, parts, strict=True):
            rise, fall = _both(part.energy)
            own = Edges(rise - hidden_rise - load * VDD_V**2 / 2, fall - hidden_fall - load * VDD_V**2 / 2)
            tables.append(_both(_by_output(cell, pin, state_of[when], own)))
        rises.append(np.stack([r for r, _ in tables], axis=1))
        falls.append(np.stack([f for _, f in tables], axis=1))
    return Power(pin, None, Edges(_mean(rises), _mean(falls)))


# --- flops


def _flop_script(cell: FlipFlop, wait_s: float) -> tuple[Script, list[dict[str, Event]]]:
    """Return a sequence in which a flop does everything that is measured, once at each slew."""
    script = Script({"CLK": False, "D": False} | ({cell.asynchronous: True} if cell.asynchronous else {}))

    def clock(slew: float) -> tuple[Event, Event]:
        return script.edge("CLK", slew, wait_s), script.edge("CLK", slew, wait_s)

    clock(SLEWS_NS[0])
    script.edge("D", SLEWS_NS[0], wait_s)
    clock(SLEWS_NS[0])
    script.edge("D", SLEWS_NS[0], wait_s)
    clock(SLEWS_NS[0])
    cycles = []
    for slew in SLEWS_NS:
        events: dict[str, Event] = {}
        for value in (1, 0):
            events[f"D low {value}"] = script.edge("D", slew, wait_s)  # CLK is low, the master follows
            events[f"CLK rise moves {value}"], events[f"CLK fall {value} after"] = clock(slew)
            events[f"CLK rise {value}"], events[f"CLK fall {value}"] = clock(slew)  # all still
        for value in (1, 0):
            script.edge("CLK", slew, wait_s)
            events[f"D high {value}"] = script.edge("D", slew, wait_s)  # CLK is high, the master waits
            events[f"CLK fall loads {value}"] = script.edge("CLK", slew, wait_s)
            clock(slew)
        if cell.asynchronous:
            pin = cell.asynchronous
            for clocked in (False, True):
                # D leads to the value that the pin undoes.
                if script.values["D"] is not bool(cell.clear):
                    script.edge("D", slew, wait_s)
                script.edge("CLK", slew, wait_s)
                if not clocked:
                    script.edge("CLK", slew, wait_s)
                events[f"{pin} moves {int(clocked)}"] = script.edge(pin, slew, wait_s)
                if clocked:
                    script.edge("CLK", slew, wait_s)
                script.edge("D", slew, wait_s)
                script.edge(pin, slew, wait_s)
            # Q has what the pin asks for, and so has D: nothing moves.
            events[f"{pin} fall"] = script.edge(pin, slew, wait_s)
            events[f"{pin} rise"] = script.edge(pin, slew, wait_s)
            if script.values["D"]:
                script.edge("D", slew, wait_s)
            clock(slew)
        cycles.append(events)
    return script, cycles


@dataclass(frozen=True, eq=False)
class _FlopTables:
    """Access to the events of a flop's sequences: by name, over slews and loads."""

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


def measure_flop(bench_: Bench) -> Measured:
    """Measure a flop.

    Raises:
        GatesError: ngspice fails, or the cell does not behave as a flop.
    """
    cell = bench_.cell
    assert isinstance(cell, FlipFlop)
    scripts = [_flop_script(cell, bench_.settle_s(load)) for load in bench_.loads_pf]
    waves = bench_.run(
        [script.transient("Q", load) for (script, _), load in zip(scripts, bench_.loads_pf, strict=True)]
    )
    tables = _FlopTables([cycles for _, cycles in scripts], waves)
    for cycles, wave in zip(tables.cycles, waves, strict=True):
        for cycle in cycles:
            for value in (1, 0):
                cycle[f"CLK rise moves {value}"].check(wave, "Q", bool(value))
                cycle[f"CLK fall {value}"].check(wave, "Q", bool(value))
    clock_rise = (tables.energy("CLK rise 1") + tables.energy("CLK rise 0")) / 2
    clock_fall = (tables.energy("CLK fall 1") + tables.energy("CLK fall 0")) / 2
    load_energy = np.array(bench_.loads_pf) * VDD_V**2 / 2

    def moved(name: str, hidden: Floats) -> Floats:
        return tables.table(name, Event.energy_pj) - hidden[:, None] - load_energy

    def timing(name: str) -> tuple[Floats, Floats]:
        return (
            tables.table(name, lambda event, wave: event.delay_ns(wave, "Q")),
            tables.table(name, lambda event, wave: event.slew_ns(wave, "Q")),
        )

    (rise, rise_slew), (fall, fall_slew) = timing("CLK rise moves 1"), timing("CLK rise moves 0")
    arcs = [Arc("CLK", "rising_edge", "non_unate", Edges(rise, fall), Edges(rise_slew, fall_slew))]
    change = Edges(moved("CLK rise moves 1", clock_rise), moved("CLK rise moves 0", clock_rise))
    powers = [Power("CLK", None, change)]
    # D that changes while the clock is high costs more when the clock falls and the master takes it over.
    late = Edges(
        *(
            tables.energy(f"D high {value}") + tables.energy(f"CLK fall loads {value}") - clock_fall
            for value in (1, 0)
        )
    )
    inputs = [
        InputPin(
            "CLK",
            tables.capacitance(["CLK rise 1", "CLK rise 0"]),
            tables.capacitance(["CLK fall 1", "CLK fall 0"]),
            (Power(None, None, Edges(clock_rise, clock_fall)),),
        ),
        InputPin(
            "D",
            tables.capacitance(["D low 1", "D high 1"]),
            tables.capacitance(["D low 0", "D high 0"]),
            (
                Power(None, "!CLK", Edges(tables.energy("D low 1"), tables.energy("D low 0"))),
                Power(None, "CLK", late),
            ),
            _constraints(bench_),
        ),
    ]
    if cell.asynchronous:
        arc, power, pin = _asynchronous(cell, cell.asynchronous, tables, load_energy)
        arcs.append(arc)
        powers.append(power)
        inputs.append(pin)
    return Measured(
        cell,
        bench_.area_um2,
        bench_.loads_pf,
        _flop_leakage(bench_),
        tuple(inputs),
        tuple(arcs),
        tuple(powers),
    )


def _asynchronous(
    cell: FlipFlop, pin: str, tables: _FlopTables, load_energy: Floats
) -> tuple[Arc, Power, InputPin]:
    """Return what a pin that clears or presets does: the worst and the mean of both levels of the clock."""
    for cycles, wave in zip(tables.cycles, tables.waves, strict=True):
        for cycle in cycles:
            for clocked in (0, 1):
                cycle[f"{pin} moves {clocked}"].check(wave, "Q", bool(cell.preset))
    names = [f"{pin} moves {clocked}" for clocked in (0, 1)]
    delay = np.max([tables.table(name, lambda e, w: e.delay_ns(w, "Q")) for name in names], axis=0)
    slew = np.max([tables.table(name, lambda e, w: e.slew_ns(w, "Q")) for name in names], axis=0)
    hidden_rise, hidden_fall = tables.energy(f"{pin} rise"), tables.energy(f"{pin} fall")
    energy = _mean(tables.table(name, Event.energy_pj) for name in names) - hidden_fall[:, None] - load_energy

    def edge(table: Floats) -> Edges:
        return Edges(table, None) if cell.preset else Edges(None, table)

    kind, sense = ("preset", "negative_unate") if cell.preset else ("clear", "positive_unate")
    rise_pf, fall_pf = tables.capacitance([f"{pin} rise"]), tables.capacitance([f"{pin} fall", *names])
    return (
        Arc(pin, kind, sense, edge(delay), edge(slew)),
        Power(pin, None, edge(energy)),
        InputPin(pin, rise_pf, fall_pf, (Power(None, None, Edges(hidden_rise, hidden_fall)),)),
    )


def _flop_leakage(bench_: Bench) -> tuple[tuple[str, float], ...]:
    """Return a flop's leakage with Q = D, for both values and both levels of the clock."""
    cell = bench_.cell
    assert isinstance(cell, FlipFlop)
    idle = {cell.asynchronous: True} if cell.asynchronous else {}
    scripts, names = [], []
    for state in states(("CLK", "D")):
        script = Script({"CLK": False, "D": state["D"]} | idle)
        for _ in range(3 if state["CLK"] else 2):
            script.edge("CLK", SLEWS_NS[0], SETTLE_S)
        scripts.append(script)
        names.append(_when(state | {"Q": state["D"]} | idle))
    return tuple(zip(names, bench_.leakage_nw(scripts), strict=True))


@dataclass(frozen=True)
class _Search:
    """One set-up or hold time to be found, of a rising or falling edge of D."""

    hold: bool
    rise: bool
    clock_slew_ns: float
    data_slew_ns: float

    @property
    def value(self) -> bool:
        """What the flop takes over: D before the edge of a hold time, D after that of a set-up time."""
        return self.rise != self.hold

    def transient(self, cell: FlipFlop, offset_s: float | None) -> tuple[Transient, Event]:
        """Return the run in which D arrives this long before the clock, or leaves this long after it.

        Args:
            offset_s: None stands for very long.
        """
        others = {cell.asynchronous: True} if cell.asynchronous else {}
        script = Script({"CLK": False, "D": not self.value} | others)
        for _ in range(2):
            script.edge("CLK", SLEWS_NS[0], SETTLE_S)
        clock_s = script.now_s + 4e-9
        middle = {"clock": clock_s, "data": clock_s - 3e-9}
        if offset_s is not None and not self.hold:
            middle["data"] = clock_s - offset_s
        half = {"clock": self.clock_slew_ns * 0.5e-9 / 0.6, "data": self.data_slew_ns * 0.5e-9 / 0.6}
        low, high = VDD_V * (not self.value), VDD_V * self.value
        script.corners["D"] += [(middle["data"] - half["data"], low), (middle["data"] + half["data"], high)]
        if offset_s is not None and self.hold:
            leaves = max(clock_s + offset_s - half["data"], middle["data"] + half["data"] + 1e-12)
            script.corners["D"] += [(leaves, high), (leaves + 2 * half["data"], low)]
        script.corners["CLK"] += [(clock_s - half["clock"], 0.0), (clock_s + half["clock"], VDD_V)]
        end_s = clock_s + half["clock"] + 3e-9
        script.now_s = end_s
        return script.transient("Q", LOADS_PF[1]), Event("CLK", True, clock_s - half["clock"], clock_s, end_s)


def _constraints(bench_: Bench) -> tuple[Constraint, ...]:
    """Find set-up and hold times of D by halving a range, all of them side by side."""
    cell = bench_.cell
    assert isinstance(cell, FlipFlop)
    searches = [
        _Search(hold, rise, clock_slew, data_slew)
        for hold in (False, True)
        for rise in (True, False)
        for clock_slew in CONSTRAINT_SLEWS_NS
        for data_slew in CONSTRAINT_SLEWS_NS
    ]

    def delays(offsets: Sequence[float | None]) -> list[float]:
        runs = [search.transient(cell, offset) for search, offset in zip(searches, offsets, strict=True)]
        waves = bench_.run([run for run, _ in runs])
        results = []
        for search, (_, event), wave in zip(searches, runs, waves, strict=True):
            right = abs(wave.voltage("Q", event.end_s - 1e-12) - VDD_V * search.value) < 0.1 * VDD_V
            results.append(event.delay_ns(wave, "Q") if right else np.inf)
        return results

    nominal = delays([None] * len(searches))
    fails = np.full(len(searches), SEARCH_S[0])
    meets = np.full(len(searches), SEARCH_S[1])
    for _ in range(SEARCH_STEPS):
        middle = (fails + meets) / 2
        good = np.array(delays(list(middle))) < DEGRADATION * np.array(nominal)
        meets, fails = np.where(good, middle, meets), np.where(good, fails, middle)
    if not np.isfinite(nominal).all() or (meets == SEARCH_S[1]).any():
        raise GatesError(f"{cell.name}: a set-up or hold time lies outside {SEARCH_S} s")
    shape = (2, 2, len(CONSTRAINT_SLEWS_NS), len(CONSTRAINT_SLEWS_NS))
    found = meets.reshape(shape) * 1e9
    return tuple(
        Constraint(kind, Edges(found[number, 0], found[number, 1]))
        for number, kind in enumerate(("setup_rising", "hold_rising"))
    )


def measure(bench_: Bench) -> Measured:
    """Measure a cell.

    Raises:
        GatesError: ngspice fails, or the cell does not do what it should.
    """
    return measure_gate(bench_) if isinstance(bench_.cell, Gate) else measure_flop(bench_)
