# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.clock_gating, and of clock gates in synthesis, timing and replay."""

from __future__ import annotations

import functools
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import GatesError
from common.paths import build_root
from gates.clock_gating import LEAST, capacity, gated, gating_script
from gates.liberty import Library, read_liberty
from gates.netlist import Netlist, read_netlist
from gates.replay import Delays, Stimulus, clock_pulses, replay
from gates.synthesis import Synthesis, synthesize
from gates.testing import library as osu018, write_netlist
from gates.timing import INPUT_SLEW_NS, analyse
from gates.tools import sky130

GATED = Path(__file__).parent / "gated.sv"
WIDE = 100
MODES: tuple[Delays, ...] = ("zero", "cells", "wires")
CYCLES = 60


@functools.cache
def library() -> Library:
    return read_liberty(sky130())


@functools.cache
def block() -> Synthesis:
    return synthesize([GATED], "gated", {"Wide": WIDE}, library(), build_root() / "gates" / "tests")


def stimulus(activity: float, seed: int = 1) -> Stimulus:
    """Return words and ticks in a share of the cycles, and the registers that follow."""
    rng = random.Random(seed)
    reset = [0, 0] + [1] * (CYCLES - 2)
    push = [int(rng.random() < activity) for _ in range(CYCLES)]
    tick = [int(rng.random() < activity) for _ in range(CYCLES)]
    words = [rng.getrandbits(WIDE) if activity else 0 for _ in range(CYCLES)]
    first, second, ticks, count = [0], [0], [0], [0]
    for k in range(CYCLES - 1):
        held = not (reset[k] and reset[k + 1])
        up = tick[k] and (first[k] & 1 or count[k] & 1)
        first.append(words[k] if push[k] else first[k])
        second.append(first[k] if push[k] else second[k])
        ticks.append(0 if held else (ticks[k] + int(bool(up))) % 32)
        count.append(0 if held else (count[k] + 1) % 8)
    inputs = {
        "rst_ni": (1, reset), "push_i": (1, push), "tick_i": (1, tick), "word_i": (WIDE, words),
    }  # fmt: skip
    return Stimulus(inputs, {"first_o": first, "second_o": second, "ticks_o": ticks, "count_o": count})


def groups(synthesis: Synthesis) -> dict[str, list[str]]:
    """Return the outputs of the registers behind each clock gate, `port[bit]` or `port`."""
    netlist = synthesis.netlist()
    names = {
        bit: port.name for port in netlist.ports_of("output") for bit in port.bits if isinstance(bit, int)
    }
    cells = {item.name: item for item in netlist.instances}
    return {
        gate: [names[int(cells[flop].pins["Q"][0])] for flop in flops]
        for gate, flops in gated(netlist, library()).items()
    }


@pytest.mark.gates
def test_registers_with_an_enable_are_behind_gates_and_no_gate_drives_more_than_it_can() -> None:
    synthesis = block()
    behind = groups(synthesis)
    assert synthesis.flops == 2 * WIDE + 8
    assert synthesis.gated_flops == sum(map(len, behind.values())) == 2 * WIDE + 5
    assert synthesis.clock_gates == len(behind)
    largest = library().clock_gates[-1]
    assert len(behind) == 1 + -(-2 * WIDE // capacity(largest, library()))
    assert {"ticks_o"} in map(set, behind.values())
    cells = {item.name: library().cell(item.cell) for item in synthesis.netlist().instances}
    for gate, flops in behind.items():
        assert LEAST <= len(flops) <= capacity(cells[gate], library())
        assert set(flops) <= {"first_o", "second_o"} or set(flops) == {"ticks_o"}
    for gate, flops in behind.items():  # the smallest that drives them
        smaller = [cell for cell in library().clock_gates if cell.area_um2 < cells[gate].area_um2]
        assert all(len(flops) > capacity(cell, library()) for cell in smaller)


@pytest.mark.gates
def test_both_forms_of_a_netlist_have_the_gates_that_were_shared_out() -> None:
    text = block().verilog.read_text()
    assert sum(text.count(f"{cell.name} ") for cell in library().clock_gates) == block().clock_gates
    assert text.count("GCLK(") == block().clock_gates


@pytest.mark.gates
def test_a_gated_block_is_smaller_than_the_same_with_multiplexers(tmp_path: Path) -> None:
    text = sky130().read_text().replace("clock_gating_integrated_cell", "not_a_clock_gating_cell")
    (tmp_path / "bare.lib").write_text(text)
    bare = read_liberty(tmp_path / "bare.lib")
    assert bare.clock_gates == ()
    without = synthesize([GATED], "gated", {"Wide": WIDE}, bare, tmp_path)
    assert (without.gated_flops, without.clock_gates) == (0, 0)
    assert without.flops == block().flops
    assert block().area_um2 < 0.85 * without.area_um2


@pytest.mark.gates
def test_a_library_without_clock_gates_is_used_without(tmp_path: Path) -> None:
    assert osu018().clock_gates == ()
    assert gating_script(osu018()) == []
    result = synthesize([GATED], "gated", {"Wide": 8}, osu018(), tmp_path)
    assert (result.flops, result.gated_flops, result.clock_gates) == (24, 0, 0)


@pytest.mark.parametrize("delays", MODES)
@pytest.mark.gates
def test_gated_clocks_rise_when_their_enable_was_up_and_outputs_are_right(delays: Delays) -> None:
    given = stimulus(0.4)
    result = replay(block().netlist(), library(), given, delays=delays)
    push = np.array(given.inputs["push_i"][1])
    behind = groups(block())
    for gate, outputs in behind.items():
        pulses = result.clock_pulses[gate]
        if outputs[0] == "ticks_o":
            continue
        np.testing.assert_array_equal(pulses[1:], push[:-1])
    (ticks,) = (gate for gate, outputs in behind.items() if outputs[0] == "ticks_o")
    steps = np.count_nonzero(np.diff(np.array(given.expected["ticks_o"], np.int64)))
    assert result.clock_pulses[ticks][2:].sum() == steps > 5
    counted = clock_pulses(block().netlist(), library(), given)
    assert {gate: values.tolist() for gate, values in counted.items()} == {
        gate: values.tolist() for gate, values in result.clock_pulses.items()
    }


@pytest.mark.gates
def test_a_cycle_without_enables_takes_the_clock_of_gates_and_of_registers_behind_none() -> None:
    netlist = block().netlist()
    still = stimulus(0.0)
    result = replay(netlist, library(), still, delays="cells")
    timing = analyse(netlist, library())
    clock = timing.energy_pj[:, timing.names.index("clk_i")].sum()
    flops = [item for item in netlist.instances if library().cell(item.cell).flop is not None]
    on_clock = [item for item in flops if item.pins["CLK"] == netlist.ports["clk_i"].bits]
    assert len(on_clock) == 3
    assert result.energy_pj[0] == pytest.approx(clock, rel=1e-6)  # while reset holds the counter
    busy = replay(netlist, library(), stimulus(1.0), delays="cells")
    behind = sum(
        timing.energy_pj[:, timing.names.index(f"{gate}/GCLK")].sum()
        for gate, outputs in groups(block()).items()
        if outputs[0] != "ticks_o"
    )
    assert behind > 8 * clock
    assert busy.energy_pj[10:].min() > clock + behind


def broken(netlist: Netlist, path: Path, gate: str, **pins: int) -> Netlist:
    """Return a netlist with other nets at the pins of a gate."""
    document = json.loads(netlist.path.read_text())
    (module,) = (item for item in document["modules"].values() if item["cells"])
    module["cells"][gate]["connections"] |= {pin: [bit] for pin, bit in pins.items()}
    path.write_text(json.dumps(document))
    return read_netlist(path)


@pytest.mark.gates
def test_a_gate_with_the_wrong_enable_is_found(tmp_path: Path) -> None:
    netlist = block().netlist()
    (gate, *_) = (gate for gate, outputs in groups(block()).items() if outputs[0] != "ticks_o")
    (tick,) = netlist.ports["tick_i"].bits
    other = broken(netlist, tmp_path / "netlist.json", gate, GATE=int(tick))
    with pytest.raises(GatesError, match=r"replay of gated: output '(first|second)_o' is .* expected"):
        replay(other, library(), stimulus(0.4))


@pytest.mark.gates
def test_a_clock_behind_a_gate_that_glitches_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gates import cell_models

    def without_latch(self: cell_models.Writer, gate: object, names: dict[str, str]) -> list[str]:
        return [f"assign {names['GCLK']} = {names['CLK']} & {names['GATE']};"]

    monkeypatch.setattr(cell_models.Writer, "clock_gate", without_latch)
    given = replace(stimulus(0.4), expected={})
    with pytest.raises(
        GatesError, match=r"the clock behind \S+ rises \d times in cycle \d+, and its enable was"
    ):
        replay(block().netlist(), library(), given)


@pytest.mark.gates
def test_a_path_ends_at_an_enable_with_its_set_up_time(tmp_path: Path) -> None:
    gate, flop = (f"sky130_fd_sc_hd__{name}" for name in ("dlclkp_1", "dfxtp_1"))
    cells = [(gate, {"CLK": 2, "GATE": 3, "GCLK": 4}), (flop, {"CLK": 4, "D": 5, "Q": 6})]
    netlist = write_netlist(
        tmp_path / "two.json", {"clk_i": [2], "enable_i": [3], "d_i": [5]}, {"q_o": [6]}, cells
    )
    timing = analyse(netlist, library())
    setup = next(arc for arc in library().cell(gate).pins["GATE"].arcs if arc.kind == "setup_rising")
    assert setup.rise is not None
    assert setup.fall is not None
    times = {
        "enable": max(float(table.at(INPUT_SLEW_NS, INPUT_SLEW_NS)) for table in (setup.rise, setup.fall)),
        "q": float(timing.delay_ns[:, timing.names.index("u1/Q")].max()),
    }
    # the clock behind the gate is as ideal as the clock: the flop's output starts at the clock's edge
    assert timing.path.ns == pytest.approx(max(times.values()))
    assert timing.path.end == ("u0/GATE" if times["enable"] > times["q"] else "q_o")
    assert timing.slew_ns[:, timing.names.index("u0/GCLK")].tolist() == [INPUT_SLEW_NS] * 2
    late = replace(netlist, ports={name: port for name, port in netlist.ports.items() if name != "q_o"})
    assert analyse(late, library()).path.end == "u0/GATE"
