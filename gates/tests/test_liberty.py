# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.liberty."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from common.errors import GatesError
from gates.functions import function_names, truth_table, verilog_expression
from gates.liberty import read_liberty
from gates.testing import library
from gates.tools import osu018

SMALL = """
/* units that differ from ours, and axes the other way round */
library (small) {
  time_unit : "10ps"; voltage_unit : "1mV"; leakage_power_unit : "1uW"
  capacitive_load_unit (1, ff);
  nom_voltage : 1200.0;
  lu_table_template (slew_load) {
    variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("1, 3"); index_2 ("10, 20, 40");
  }
  cell ("buffer") {
    area : 2.5; leakage_power () { value : 1.0; when : "A"; } leakage_power () { value : "3.0"; }
    pin (A) { direction : input; capacitance : 2; }
    pin (Y) {
      direction : output; function : "A";  // the same
      timing () {
        related_pin : "A"; timing_sense : positive_unate;
        cell_rise (slew_load) { values ("1, 2, 4", \\
                                        "3, 4, 6"); }
        cell_fall (scalar) { values ("7"); }
        rise_transition (scalar) { values ("1"); }
        fall_transition (scalar) { values ("1"); }
      }
      POWER
    }
  }
}
"""
POWER = 'internal_power () { related_pin : "A"; power (scalar) { values ("5000000"); } }'


def small(tmp_path: Path, text: str = SMALL, power: str = POWER) -> Path:
    path = tmp_path / "small.lib"
    path.write_text(text.replace("POWER", power))
    return path


def test_the_osu_library_is_read_as_it_is_written() -> None:
    osu = library()
    assert (osu.name, osu.voltage_v, len(osu.cells)) == ("osu018_stdcells", 1.8, 32)
    assert osu.sha256 == hashlib.sha256(osu018().read_bytes()).hexdigest()
    inverter = osu.cell("INVX1")
    assert (inverter.area_um2, inverter.leakage_nw) == (16.0, 0.0221741)
    assert inverter.pins["A"].capacitance_pf == 0.00932456
    (arc,) = inverter.pins["Y"].arcs
    (power,) = inverter.pins["Y"].powers
    assert (arc.related_pin, arc.kind, arc.unate) == ("A", "combinational", "negative_unate")
    assert arc.rise is not None
    assert power.rise is not None
    # Load is the file's first axis there, slew the second.
    assert arc.rise.at(0.18, 0.0125) == 0.083003
    assert arc.rise.at(1.2, 0.005) == 0.156652
    assert power.rise.at(0.06, 0.15) == pytest.approx(0.024942)


def test_flops_latches_and_three_state_cells_are_told_apart() -> None:
    osu = library()
    flop = osu.cell("DFFSR").flop
    assert flop is not None
    assert (flop.clocked_on, flop.next_state, flop.clear, flop.preset) == ("CLK", "D", "(!R)", "(!S)")
    assert {cell.name for cell in osu.cells.values() if not cell.plain} == {"LATCH", "TBUFX1", "TBUFX2"}
    assert [pin.name for pin in osu.cell("DFFPOSX1").inputs if pin.powers] == ["CLK", "D"]


def test_units_and_axes_are_converted(tmp_path: Path) -> None:
    cells = read_liberty(small(tmp_path))
    assert cells.voltage_v == 1.2
    buffer = cells.cell("buffer")
    assert buffer.area_um2 == 2.5
    assert buffer.leakage_nw == pytest.approx(2000.0)
    assert buffer.pins["A"].capacitance_pf == pytest.approx(0.002)
    (arc,) = buffer.pins["Y"].arcs
    (power,) = buffer.pins["Y"].powers
    assert arc.rise is not None
    assert arc.fall is not None
    assert arc.rise.at(0.01, 0.01) == pytest.approx(0.01)
    assert arc.rise.at(0.03, 0.04) == pytest.approx(0.06)
    assert arc.fall.at(1.0, 1.0) == pytest.approx(0.07)
    assert power.rise is power.fall
    assert power.rise is not None
    assert power.rise.at(0.0) == pytest.approx(5e6 * 1e-3 * 1e-6)  # fF and mV² in pJ


def test_tables_are_bilinear_and_go_on_linearly(tmp_path: Path) -> None:
    (arc,) = read_liberty(small(tmp_path)).cell("buffer").pins["Y"].arcs
    assert arc.rise is not None
    # The values are slew + load / 10 in the file's units.
    slews = np.array([0.0, 0.01, 0.017, 0.03, 0.09])
    loads = np.array([0.0, 0.010, 0.013, 0.033, 0.1])
    expected = slews[:, None] + loads[None, :] - 0.01
    np.testing.assert_allclose(arc.rise.at(slews[:, None], loads[None, :]), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("module m; endmodule", "not a Liberty file"),
        (SMALL.replace("}", "", 1), "not a Liberty file"),
        (SMALL.replace("library (small)", "lib (small)"), "has no `library"),
        (SMALL.replace('"1, 2, 4"', '"1, 2"'), "cell_rise of buffer/Y: 5 values do not fit"),
        (SMALL.replace("total_output_net_capacitance", "temperature"), "unsupported axis temperature"),
        (SMALL.replace("area : 2.5", "area : big"), "is damaged: ValueError"),
        (SMALL.replace("nom_voltage : 1200.0;", ""), "no nom_voltage"),
        (SMALL.replace('"10ps"', '"10 parsecs!"'), "unit '10 parsecs!' is not understood"),
    ],
)
def test_a_damaged_library_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(GatesError, match=fault):
        read_liberty(small(tmp_path, text))


def test_a_library_without_internal_energy_is_refused_naming_a_cell(tmp_path: Path) -> None:
    with pytest.raises(GatesError, match="cell buffer has no internal_power"):
        read_liberty(small(tmp_path, power=""))
    with pytest.raises(GatesError, match="cannot read the cell library"):
        read_liberty(tmp_path / "none.lib")
    with pytest.raises(GatesError, match="has no cell 'NAND9'"):
        library().cell("NAND9")


@pytest.mark.parametrize(
    ("function", "verilog"),
    [
        ("(!A)", "~A"),
        ("A B + C'", "((A & B) | ~C)"),
        ("A ^ B & C | 1", "(((A ^ B) & C) | 1'b1)"),
        ("!(A*B)'", "~~(A & B)"),
        ("(S A) + (S' B)", "((S & A) | (~S & B))"),
    ],
)
def test_functions_become_verilog(function: str, verilog: str) -> None:
    assert verilog_expression(function) == verilog


def test_truth_tables_follow_the_function() -> None:
    assert truth_table("!(A & B) ^ C", ["A", "B", "C"]).tolist() == [
        (not (index & 1 and index & 2)) != bool(index >> 2) for index in range(8)
    ]
    assert function_names("B + A' B") == ("B", "A")


@pytest.mark.parametrize("function", ["", "A +", "(A", "A $ B", "A)", "+ A"])
def test_what_is_no_function_is_refused(function: str) -> None:
    with pytest.raises(GatesError, match="Liberty function"):
        verilog_expression(function)
    with pytest.raises(GatesError, match="'B', which is no input"):
        truth_table("A B", ["A"])
