# SPDX-License-Identifier: Apache-2.0
"""Tables that commands print of searches and of gates: their cells say what the data say."""

from __future__ import annotations

from dataclasses import replace

from rich.table import Table

from gates.cells.validation import Comparison
from mapping.characterization.energy import ValidationWindow
from mapping.report.gates_console import cells_table, validation_table
from mapping.report.search_console import point_table
from mapping.search.points import Point

POINT = Point(
    name="searched-0.1-s1",
    kind="searched",
    setting="0.1",
    seed=1,
    predicted_cycles=1000.0,
    low=900.0,
    high=1100.0,
    measured_cycles=1010,
    predicted_energy_pj=2e6,
    energy_pj=3e6,
    accuracy_percent=90.0,
    float_accuracy_percent=92.0,
    exact_in_rtl=True,
    mapping="points/m.yaml",
    network="points/n.npz",
    layers=(),
)


def rows(table: Table) -> list[list[str]]:
    """Return the cells of a table, row by row."""
    columns = ([str(cell) for cell in column.cells] for column in table.columns)
    return [list(row) for row in zip(*columns, strict=True)]


def headings(table: Table) -> list[str]:
    return [str(column.header) for column in table.columns]


def test_points_of_several_seeds_are_their_mean_and_the_fastest_comes_first() -> None:
    other = replace(POINT, seed=2, measured_cycles=1020, accuracy_percent=91.0, exact_in_rtl=False)
    slow = replace(POINT, kind="npu8", setting="", measured_cycles=2000)
    table = point_table([slow, POINT, other], "digits on digits")
    assert rows(table) == [
        ["searched", "0.1", "2", "1,000", "1,015", "3.00", "90.50", "92.00", "no"],
        ["npu8", "", "1", "1,000", "2,000", "3.00", "90.00", "92.00", "yes"],
    ]
    assert table.title == "digits on digits"


def test_without_the_energy_of_a_point_there_is_no_column_of_energies() -> None:
    with_energy, without = point_table([POINT], ""), point_table([POINT, replace(POINT, energy_pj=None)], "")
    assert "energy, µJ" in headings(with_energy)
    assert "energy, µJ" not in headings(without)
    assert len(rows(without)[0]) == len(headings(without)) == len(headings(with_energy)) - 1


def test_validation_windows_show_gates_and_model_per_cycle() -> None:
    window = ValidationWindow("resnet8", "conv2d_1", 3, 10, 0.5, (8.0, 10.0, 14.0), (9.0, 11.0, 15.0))
    table = validation_table("w8a8_16x16", [window])
    assert headings(table)[3:6] == ["gates, zero", "gates, cells", "gates, wires"]
    assert rows(table) == [["resnet8", "conv2d_1", "3", "0.80", "1.00", "1.40", "1.10", "+10.0 %"]]


def test_cells_stand_beside_published_ones() -> None:
    table = cells_table([Comparison("inv_1", "leakage", "nW", 0.00190, 0.002)])
    assert rows(table) == [["inv_1", "leakage", "0.0019 nW", "0.002", "-5.0 %"]]
