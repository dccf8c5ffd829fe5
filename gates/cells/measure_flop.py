"""Measures flops: one sequence in which a flop does everything, at all slews and loads."""

from __future__ import annotations

import numpy as np

from gates.cells.bench import SETTLE_S, SLEWS_NS, Bench, Event, Script, condition
from gates.cells.constraints import constraints
from gates.cells.measured import Arc, Edges, Floats, InputPin, Measured, Power, mean
from gates.cells.selection import FlipFlop, states
from gates.cells.spice import VDD_V
from gates.cells.tables import Events


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
    tables = Events([cycles for _, cycles in scripts], waves)
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
            constraints(bench_),
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
    cell: FlipFlop, pin: str, tables: Events, load_energy: Floats
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
    energy = mean(tables.table(name, Event.energy_pj) for name in names) - hidden_fall[:, None] - load_energy

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
        names.append(condition(state | {"Q": state["D"]} | idle))
    return tuple(zip(names, bench_.leakage_nw(scripts), strict=True))
