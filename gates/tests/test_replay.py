# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.replay."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from common.errors import GatesError
from gates.cell_models import Writer
from gates.netlist import read_netlist
from gates.replay import Delays, Stimulus, replay
from gates.testing import library, mac, write_netlist
from gates.timing import FALL, RISE, analyse

MODES: tuple[Delays, ...] = ("zero", "cells", "wires")

RESOLUTION = 1e-8
"""The simulation's counter is of whole numbers."""


def stimulus(cycles: int, activity: float, width: int = 4, seed: int = 1) -> Stimulus:
    """Return random factors for mac.sv, valid in a share of the cycles, and the sums that follow.

    Row k holds the inputs after the clock's edge k and the state that edge has left.
    """
    rng = random.Random(seed)
    reset = [0, 0] + [1] * (cycles - 2)
    a, b, valid = [0], [0], [0]
    for _ in range(cycles - 1):
        moves = rng.random() < activity
        valid.append(int(moves))
        a.append(rng.randrange(1 << width) if moves else a[-1])
        b.append(rng.randrange(1 << width) if moves else b[-1])

    def signed(value: int) -> int:
        return value - (value >> (width - 1) << width)

    sums: list[int | None] = [0]
    total = 0
    for cycle in range(cycles - 1):
        if valid[cycle]:
            total += signed(a[cycle]) * signed(b[cycle])
        total = total % (1 << (2 * width + 4)) if reset[cycle] and reset[cycle + 1] else 0
        sums.append(total)
    inputs = {"rst_ni": (1, reset), "valid_i": (1, valid), "a_i": (width, a), "b_i": (width, b)}
    return Stimulus(inputs, {"sum_o": sums})


@pytest.mark.parametrize("delays", MODES)
@pytest.mark.gates
def test_without_activity_only_the_clock_costs(delays: Delays) -> None:
    netlist = mac().netlist()
    idle = stimulus(12, 0.0)
    result = replay(netlist, library(), idle, delays=delays)
    timing = analyse(netlist, library(), 3.0 if delays == "wires" else 0.0)
    clock = timing.energy_pj[:, timing.names.index("clk_i")].sum()
    np.testing.assert_allclose(result.energy_pj[3:], clock, rtol=RESOLUTION)
    assert (result.toggles[3:] == 2).all()
    assert result.leakage_nw == pytest.approx(mac().leakage_nw)
    assert result.period_ns > timing.path.ns


@pytest.mark.gates
def test_energy_grows_with_activity_and_with_delays() -> None:
    netlist = mac().netlist()
    energies = {
        (delays, activity): float(
            replay(netlist, library(), stimulus(200, activity), delays=delays).energy_pj.sum()
        )
        for delays in MODES
        for activity in (0.2, 0.6, 1.0)
    }
    for delays in MODES:
        assert energies[delays, 0.2] < energies[delays, 0.6] < energies[delays, 1.0]
    assert energies["zero", 1.0] < energies["cells", 1.0] < energies["wires", 1.0]


@pytest.mark.gates
def test_the_energy_of_an_inverter_chain_is_the_sum_of_its_tables(tmp_path: Path) -> None:
    cells = [("INVX1", {"A": 2, "Y": 3}), ("INVX2", {"A": 3, "Y": 4}), ("INVX4", {"A": 4, "Y": 5})]
    chain = write_netlist(tmp_path / "chain.json", {"a_i": [2]}, {"y_o": [5]}, cells)
    order = [library().cell(name) for name, _ in cells]
    slews = {"rise": 0.05, "fall": 0.05}
    loads = [cell.pins["A"].capacitance_pf for cell in order] + [0.0]
    edges = {"rise": 0.5 * loads[0] * 1.8**2, "fall": 0.5 * loads[0] * 1.8**2}  # by the edge of a_i
    for position, cell in enumerate(order):
        (arc,), (power,) = cell.pins["Y"].arcs, cell.pins["Y"].powers
        assert arc.rise_slew is not None
        assert arc.fall_slew is not None
        assert power.rise is not None
        assert power.fall is not None
        load = loads[position + 1]
        rise = 0.5 * load * 1.8**2 + float(power.rise.at(slews["fall"], load))
        fall = 0.5 * load * 1.8**2 + float(power.fall.at(slews["rise"], load))
        # The first inverter rises when the input falls, the second when it rises, and so on.
        edges["rise"] += rise if position % 2 else fall
        edges["fall"] += fall if position % 2 else rise
        slews = {
            "rise": float(arc.rise_slew.at(slews["fall"], load)),
            "fall": float(arc.fall_slew.at(slews["rise"], load)),
        }
    values = [0, 1, 1, 0, 1]
    moves = Stimulus({"a_i": (1, values)}, {"y_o": [1 - value for value in values]}, clock=None)
    expected = [0.0, edges["rise"], 0.0, edges["fall"], edges["rise"]]
    for delays in ("zero", "cells"):
        result = replay(chain, library(), moves, delays=delays)
        np.testing.assert_allclose(result.energy_pj, expected, rtol=RESOLUTION)
        assert result.toggles.tolist() == [0, 4, 0, 4, 4]


@pytest.mark.gates
def test_glitches_cost_energy_only_where_there_are_delays(tmp_path: Path) -> None:
    delayed = [("INVX1", {"A": 2 + step, "Y": 3 + step}) for step in range(6)]
    netlist = write_netlist(
        tmp_path / "pulse.json", {"a_i": [2]}, {"y_o": [9]}, [*delayed, ("XOR2X1", {"A": 2, "B": 8, "Y": 9})]
    )
    moves = Stimulus({"a_i": (1, [0, 1, 0])}, {"y_o": [0, 0, 0]}, clock=None)
    assert replay(netlist, library(), moves, delays="zero").toggles.tolist() == [0, 7, 7]
    assert replay(netlist, library(), moves, delays="cells").toggles.tolist() == [0, 9, 9]


@pytest.mark.gates
def test_a_pulse_shorter_than_a_gate_s_delay_is_swallowed(tmp_path: Path) -> None:
    cells = [("INVX1", {"A": 2, "Y": 3}), ("XOR2X1", {"A": 2, "B": 3, "Y": 4})]
    netlist = write_netlist(tmp_path / "short.json", {"a_i": [2]}, {"y_o": [4]}, cells)
    moves = Stimulus({"a_i": (1, [0, 1, 0])}, {"y_o": [1, 1, 1]}, clock=None)
    timing = analyse(netlist, library())
    assert timing.delay_ns[:, 1].max() < timing.delay_ns[:, 2].min()
    assert replay(netlist, library(), moves, delays="cells").toggles.tolist() == [0, 2, 2]


def test_the_models_have_the_delays_of_their_instances(tmp_path: Path) -> None:
    cells = [("NAND2X1", {"A": 2, "B": 3, "Y": 4}), ("DFFPOSX1", {"CLK": 2, "D": 4, "Q": 5})]
    netlist = write_netlist(tmp_path / "two.json", {"a_i": [2, 3]}, {"q_o": [5]}, cells)
    timing = analyse(netlist, library())
    lines = "\n".join(Writer(netlist, library(), timing, delayed=True).body())
    (rise, flop_rise), (fall, flop_fall) = (1000 * timing.delay_ns[:, 2:]).round().astype(int)
    assert len({rise, fall, flop_rise, flop_fall}) == 4
    assert f"NAND2X1__Y #({rise}, {fall}) (n2, n0, n1);" in lines
    assert f"assign #({flop_rise}, {flop_fall}) n3 = q0;" in lines
    assert "#" not in "\n".join(Writer(netlist, library(), timing, delayed=False).body())


@pytest.mark.gates
def test_registers_reset_preset_and_falling_edges_are_modelled(tmp_path: Path) -> None:
    netlist = write_netlist(
        tmp_path / "flops.json",
        {"clk_i": [2], "r_i": [3], "s_i": [4], "d_i": [5]},
        {"q_o": [6], "low_o": [7]},
        [("DFFSR", {"CLK": 2, "R": 3, "S": 4, "D": 5, "Q": 6}), ("DFFNEGX1", {"CLK": 2, "D": 5, "Q": 7})],
    )
    reset, preset, data = [0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1], [1, 1, 0, 0, 0, 1]
    inputs = {"r_i": (1, reset), "s_i": (1, preset), "d_i": (1, data)}
    # The first loads at the next rising edge unless held, the second at the falling edge within the cycle.
    moves = Stimulus(inputs, {"q_o": [0, 0, 1, 1, 1, 0], "low_o": data})
    for delays in MODES:
        result = replay(netlist, library(), moves, delays=delays)
        assert result.energy_pj.shape == result.toggles.shape == (6,)


@pytest.mark.gates
def test_a_swapped_gate_is_found(tmp_path: Path) -> None:
    text = mac().json.read_text()
    assert '"NAND2X1"' in text
    broken = tmp_path / "broken.json"
    broken.write_text(text.replace('"NAND2X1"', '"NOR2X1"', 1))
    with pytest.raises(
        GatesError, match=r"replay of mac: output 'sum_o' is 0x\w+ in cycle \d+, expected 0x\w+"
    ):
        replay(read_netlist(broken), library(), stimulus(200, 1.0))


@pytest.mark.gates
def test_a_wrong_value_is_named_and_an_unknown_one_is_not_compared() -> None:
    netlist = mac().netlist()
    good = stimulus(20, 1.0)
    sums = list(good.expected["sum_o"])
    wrong = [None if value is None else value ^ (cycle == 13) for cycle, value in enumerate(sums)]
    with pytest.raises(GatesError, match=f"is 0x{sums[13]:03x} in cycle 13, expected {wrong[13]:#x}"):
        replay(netlist, library(), Stimulus(good.inputs, {"sum_o": wrong}))
    wrong[13] = None
    assert len(replay(netlist, library(), Stimulus(good.inputs, {"sum_o": wrong})).energy_pj) == 20


@pytest.mark.gates
def test_a_stimulus_for_another_block_is_refused() -> None:
    netlist = mac().netlist()
    good = stimulus(20, 1.0)
    inputs = dict(good.inputs)
    for changed, expected, fault in (
        ({**inputs, "c_i": (1, [0] * 20)}, good.expected, "does not match the RTL: it has no input 'c_i'"),
        ({**inputs, "a_i": (5, [0] * 20)}, good.expected, "does not match the RTL: input 'a_i' has 4 bits"),
        ({**inputs, "valid_i": None}, good.expected, "does not match the RTL: its input 'valid_i' has no"),
        (inputs, {"a_i": [0] * 20}, "does not match the RTL: it has no output 'a_i'"),
        ({**inputs, "a_i": (4, [16] * 20)}, good.expected, "a value of input 'a_i' does not fit 4 bits"),
        ({**inputs, "a_i": (4, [1] * 19)}, good.expected, "input 'a_i' has 19 of 20 cycles"),
        (inputs, {"sum_o": [0]}, "output 'sum_o' has 1 of 20 cycles"),
    ):
        present = {name: value for name, value in changed.items() if value is not None}
        with pytest.raises(GatesError, match=fault):
            replay(netlist, library(), Stimulus(present, expected))
    with pytest.raises(GatesError, match="it has no input 'clock'"):
        replay(netlist, library(), Stimulus(inputs, good.expected, clock="clock"))


@pytest.mark.gates
def test_a_period_that_the_path_does_not_fit_is_refused() -> None:
    netlist = mac().netlist()
    path = analyse(netlist, library()).path
    good = stimulus(20, 1.0)
    with pytest.raises(GatesError, match=r"takes .* ns, more than the period of 0\.500 ns"):
        replay(netlist, library(), good, period_ns=0.5)
    slow = replay(netlist, library(), good, period_ns=10 * path.ns)
    normal = replay(netlist, library(), good)
    np.testing.assert_allclose(slow.energy_pj, normal.energy_pj, rtol=RESOLUTION)


@pytest.mark.gates
def test_the_energies_by_edge_are_those_of_the_nets(tmp_path: Path) -> None:
    """A register that toggles: what the replay counts in a cycle, edge by edge."""
    netlist = write_netlist(
        tmp_path / "toggle.json",
        {"clk_i": [2], "rst_ni": [3]},
        {"q_o": [4]},
        [("DFFSR", {"CLK": 2, "R": 3, "S": "1", "D": 5, "Q": 4}), ("INVX1", {"A": 4, "Y": 5})],
    )
    timing = analyse(netlist, library())
    net = {name: timing.energy_pj[:, number] for number, name in enumerate(timing.names)}
    clock = net["clk_i"].sum()
    up = clock + net["u0/Q"][RISE] + net["u1/Y"][FALL]
    down = clock + net["u0/Q"][FALL] + net["u1/Y"][RISE]
    released = clock + net["rst_ni"][RISE]
    moves = Stimulus({"rst_ni": (1, [1] * 5)}, {"q_o": [0, 1, 0, 1, 0]})
    for delays in ("zero", "cells"):
        result = replay(netlist, library(), moves, delays=delays)
        np.testing.assert_allclose(result.energy_pj, [released, up, down, up, down], rtol=RESOLUTION)
