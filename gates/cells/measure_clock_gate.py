"""Measures clock gates: one sequence in which a gate does everything, at all slews and loads."""

from __future__ import annotations

import numpy as np

from gates.cells.bench import SETTLE_S, SLEWS_NS, Bench, Event, Script, condition
from gates.cells.constraints import constraints
from gates.cells.measured import Arc, Edges, Floats, InputPin, Measured, Power
from gates.cells.selection import ClockGate, states
from gates.cells.spice import VDD_V
from gates.cells.tables import Events


def _script(wait_s: float) -> tuple[Script, list[dict[str, Event]]]:
    """Return a sequence in which a clock gate does everything that is measured, once at each slew."""
    script = Script({"CLK": False, "GATE": False})
    for _ in range(4):  # two cycles that nobody counts: inner nodes find their levels
        script.edge("CLK", SLEWS_NS[0], wait_s)
    cycles = []
    for slew in SLEWS_NS:

        def edge(pin: str, slew: float = slew) -> Event:
            return script.edge(pin, slew, wait_s)

        events: dict[str, Event] = {}
        events["CLK rise off"], events["CLK fall off"] = edge("CLK"), edge("CLK")
        events["GATE low 1"] = edge("GATE")  # CLK is low, the latch follows
        events["CLK rise on"], events["CLK fall on"] = edge("CLK"), edge("CLK")
        events["GATE low 0"] = edge("GATE")
        edge("CLK")
        events["GATE high 1"] = edge("GATE")  # CLK is high, the latch waits
        events["CLK fall loads 1"] = edge("CLK")
        edge("CLK")
        events["GATE high 0"] = edge("GATE")
        events["CLK fall loads 0"] = edge("CLK")
        cycles.append(events)
    return script, cycles


def measure_clock_gate(bench_: Bench) -> Measured:
    """Measure a clock gate.

    Raises:
        GatesError: ngspice fails, or the cell does not behave as a clock gate.
    """
    cell = bench_.cell
    assert isinstance(cell, ClockGate)
    scripts = [_script(bench_.settle_s(load)) for load in bench_.loads_pf]
    waves = bench_.run(
        [script.transient("GCLK", load) for (script, _), load in zip(scripts, bench_.loads_pf, strict=True)]
    )
    events = Events([cycles for _, cycles in scripts], waves)
    for cycles, wave in zip(events.cycles, waves, strict=True):
        for cycle in cycles:
            for name in cycle:  # the output is up in the high half of a cycle that is on, and only there
                cycle[name].check(wave, "GCLK", name in ("CLK rise on", "GATE high 0"))
    rise, fall = events.energy("CLK rise off"), events.energy("CLK fall off")
    load_energy = np.array(bench_.loads_pf) * VDD_V**2 / 2

    def timing(name: str) -> tuple[Floats, Floats]:
        return (
            events.table(name, lambda event, wave: event.delay_ns(wave, "GCLK")),
            events.table(name, lambda event, wave: event.slew_ns(wave, "GCLK")),
        )

    (up, up_slew), (down, down_slew) = timing("CLK rise on"), timing("CLK fall on")
    change = Edges(
        events.table("CLK rise on", Event.energy_pj) - rise[:, None] - load_energy,
        events.table("CLK fall on", Event.energy_pj) - fall[:, None] - load_energy,
    )
    # GATE that changes while the clock is high costs more when the clock falls and the latch takes it over.
    late = Edges(
        events.energy("GATE high 1") + events.energy("CLK fall loads 1") - fall,
        events.energy("GATE high 0")
        + events.energy("CLK fall loads 0")
        - events.table("CLK fall on", Event.energy_pj)[:, 0],
    )
    early = Edges(events.energy("GATE low 1"), events.energy("GATE low 0"))
    inputs = (
        InputPin(
            "CLK",
            events.capacitance(["CLK rise off", "CLK rise on"]),
            events.capacitance(["CLK fall off", "CLK fall on"]),
            (Power(None, None, Edges(rise, fall)),),
        ),
        InputPin(
            "GATE",
            events.capacitance(["GATE low 1", "GATE high 1"]),
            events.capacitance(["GATE low 0", "GATE high 0"]),
            (Power(None, "!CLK", early), Power(None, "CLK", late)),
            constraints(bench_),
        ),
    )
    arc = Arc("CLK", "combinational", "positive_unate", Edges(up, down), Edges(up_slew, down_slew))
    return Measured(
        cell,
        bench_.area_um2,
        bench_.loads_pf,
        _leakage(bench_),
        inputs,
        (arc,),
        (Power("CLK", None, change),),
    )


def _leakage(bench_: Bench) -> tuple[tuple[str, float], ...]:
    """Return the leakage when the latch holds what GATE says, for both values and levels of the clock."""
    scripts, names = [], []
    for state in states(("CLK", "GATE")):
        script = Script({"CLK": False, "GATE": state["GATE"]})
        for _ in range(3 if state["CLK"] else 2):
            script.edge("CLK", SLEWS_NS[0], SETTLE_S)
        scripts.append(script)
        names.append(condition(state))
    return tuple(zip(names, bench_.leakage_nw(scripts), strict=True))
