"""Measures combinational cells: every input's edges at all slews and loads, in every state of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gates.cells.bench import SLEWS_NS, Bench, Event, Script, condition
from gates.cells.measured import Arc, Edges, Floats, InputPin, Measured, Power, mean
from gates.cells.selection import Gate, states
from gates.cells.spice import VDD_V, Transient, Waveforms


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
        rise, fall = ([value(event) for event in events if event.rise is rising] for rising in (True, False))
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
    return tuple((condition(state), power) for state, power in zip(all_states, powers, strict=True))


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
        state_of[condition(others)] = others
        sweeps.setdefault((pin, condition(others)), []).append(_sweep(cell, others, events, wave))
    inputs, arcs, powers = [], [], []
    for pin in cell.inputs:
        pin_sweeps = {when: parts for (name, when), parts in sweeps.items() if name == pin}
        hidden = [parts[0] for parts in pin_sweeps.values() if parts[0].delay.rise is None]
        moving = {when: parts for when, parts in pin_sweeps.items() if parts[0].delay.rise is not None}
        inputs.append(_input_pin(pin, [parts[0] for parts in pin_sweeps.values()], hidden))
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
        powers = (Power(None, None, Edges(mean(r for r, _ in edges), mean(f for _, f in edges))),)
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
    hidden_rise, hidden_fall = mean(r for r, _ in base), mean(f for _, f in base)
    rises, falls = [], []
    for when, parts in moving.items():
        tables = []
        for load, part in zip(loads_pf, parts, strict=True):
            rise, fall = _both(part.energy)
            own = Edges(rise - hidden_rise - load * VDD_V**2 / 2, fall - hidden_fall - load * VDD_V**2 / 2)
            tables.append(_both(_by_output(cell, pin, state_of[when], own)))
        rises.append(np.stack([r for r, _ in tables], axis=1))
        falls.append(np.stack([f for _, f in tables], axis=1))
    return Power(pin, None, Edges(mean(rises), mean(falls)))
