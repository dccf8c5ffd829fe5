# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.timing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from common.errors import GatesError
from gates.testing import library, mac, write_netlist
from gates.timing import FALL, INPUT_SLEW_NS, RISE, analyse
from gates.tools import find_tool


@pytest.mark.gates
def test_the_slowest_path_agrees_with_opensta(tmp_path: Path) -> None:
    block = mac(8)
    path = analyse(block.netlist(), library()).path
    script = tmp_path / "path.tcl"
    script.write_text(
        f"""read_liberty {library().path}
read_verilog {block.verilog}
link_design mac
create_clock -name clock -period 1000 clk_i
set_clock_transition {INPUT_SLEW_NS} clock
set_input_transition {INPUT_SLEW_NS} [all_inputs]
set_input_delay -clock clock 0 [get_ports {{valid_i a_i* b_i*}}]
report_checks -path_delay max -digits 6
"""
    )
    done = subprocess.run(
        [find_tool("sta"), "-exit", str(script)], capture_output=True, text=True, check=True
    )
    slack = re.search(r"([\d.]+) +slack", done.stdout)
    assert slack is not None, done.stdout
    assert path.ns == pytest.approx(1000 - float(slack[1]), rel=0.02)
    assert path.max_mhz == pytest.approx(1000 / path.ns)
    assert path.end.endswith("/D")
    assert path.start in path.nets[:2]


def test_loads_slews_and_energies_of_a_chain_follow_from_the_tables(tmp_path: Path) -> None:
    chain = write_netlist(
        tmp_path / "chain.json",
        {"a_i": [2]},
        {"y_o": [4]},
        [("INVX1", {"A": 2, "Y": 3}), ("NAND2X1", {"A": 3, "B": "1", "Y": 4})],
    )
    timing = analyse(chain, library(), wire_ff_per_fanout=2.0)
    inverter, gate = library().cell("INVX1"), library().cell("NAND2X1")
    assert timing.names == ("a_i", "u0/Y", "u1/Y")
    loads = [inverter.pins["A"].capacitance_pf + 0.002, gate.pins["A"].capacitance_pf + 0.002, 0.002]
    np.testing.assert_allclose(timing.load_pf, loads)
    (arc,) = inverter.pins["Y"].arcs
    (power,) = inverter.pins["Y"].powers
    assert arc.rise_slew is not None
    assert arc.fall is not None
    assert power.fall is not None
    assert timing.slew_ns[RISE, 1] == pytest.approx(arc.rise_slew.at(INPUT_SLEW_NS, loads[1]))
    assert timing.delay_ns[FALL, 1] == pytest.approx(arc.fall.at(INPUT_SLEW_NS, loads[1]))
    assert timing.energy_pj[FALL, 1] == pytest.approx(
        0.5 * loads[1] * 1.8**2 + power.fall.at(INPUT_SLEW_NS, loads[1])
    )
    assert timing.path.nets == ("a_i", "u0/Y", "u1/Y")
    assert (timing.path.start, timing.path.end) == ("a_i", "y_o")


def test_the_slowest_input_gives_the_delay_and_the_mean_of_all_the_energy(tmp_path: Path) -> None:
    pins = {"A": 2, "B": 3, "C": 4, "Y": 5}
    netlist = write_netlist(tmp_path / "gate.json", {"a_i": [2, 3, 4]}, {"y_o": [5]}, [("AOI21X1", pins)])
    timing = analyse(netlist, library(), wire_ff_per_fanout=10.0)
    output = library().cell("AOI21X1").pins["Y"]
    for edge in (RISE, FALL):
        delays = [(arc.rise, arc.fall)[edge] for arc in output.arcs]
        powers = [(power.rise, power.fall)[edge] for power in output.powers]
        at_load = [
            [float(table.at(INPUT_SLEW_NS, 0.01)) for table in kind if table] for kind in (delays, powers)
        ]
        assert len(set(at_load[0])) > 1
        assert len(set(at_load[1])) > 1
        assert timing.delay_ns[edge, 3] == pytest.approx(max(at_load[0]))
        expected = 0.5 * 0.01 * 1.8**2 + np.mean(at_load[1])
        assert timing.energy_pj[edge, 3] == pytest.approx(expected)


def test_the_clock_and_data_pins_of_flops_cost_energy(tmp_path: Path) -> None:
    flop = library().cell("DFFPOSX1")
    netlist = write_netlist(
        tmp_path / "flop.json",
        {"clk_i": [2], "d_i": [3]},
        {"q_o": [4]},
        [("DFFPOSX1", {"CLK": 2, "D": 3, "Q": 4})],
    )
    timing = analyse(netlist, library())
    for net, name in enumerate(("CLK", "D")):
        pin = flop.pins[name]
        (power,) = pin.powers
        for edge, table in ((RISE, power.rise), (FALL, power.fall)):
            assert table is not None
            expected = 0.5 * pin.capacitance_pf * 1.8**2 + table.at(INPUT_SLEW_NS)
            assert timing.energy_pj[edge, net] == pytest.approx(expected)


@pytest.mark.gates
def test_wires_make_everything_slower_and_dearer() -> None:
    netlist = mac().netlist()
    bare, wired = (analyse(netlist, library(), wire) for wire in (0.0, 3.0))
    assert wired.path.ns > bare.path.ns
    assert (wired.load_pf >= bare.load_pf).all()
    assert wired.energy_pj.sum() > bare.energy_pj.sum()
    assert bare.settle_ns <= wired.settle_ns


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ([("INVX1", {"A": 9, "Y": 3})], "nothing drives net 9 at u0/A"),
        ([("INVX1", {"A": 2, "Y": 3}), ("INVX1", {"A": 2, "Y": 3})], "u1/Y drives net 3, as does u0/Y"),
        ([("NAND2X1", {"A": 2, "B": 4, "Y": 3}), ("INVX1", {"A": 3, "Y": 4})], "is in a combinational loop"),
        ([("LATCH", {"D": 2, "CLK": 2, "Q": 3})], "u0 is a LATCH, neither gate, flop nor clock gate"),
        ([("NAND2X1", {"A": 2, "Y": 3})], "pin u0/B .NAND2X1. has no net"),
        ([("NAND9", {"A": 2, "Y": 3})], "no cell 'NAND9'"),
    ],
)
def test_a_damaged_netlist_is_refused(
    tmp_path: Path, cells: list[tuple[str, dict[str, int]]], fault: str
) -> None:
    netlist = write_netlist(tmp_path / "bad.json", {"a_i": [2]}, {"y_o": [3]}, cells)
    with pytest.raises(GatesError, match=fault):
        analyse(netlist, library())
