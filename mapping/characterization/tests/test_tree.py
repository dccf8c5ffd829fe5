# SPDX-License-Identifier: Apache-2.0
"""The energy and area tables of the repository: made on this RTL, and within their limits."""

from __future__ import annotations

import numpy as np
import pytest

from hw.system import System
from mapping.characterization import area
from mapping.characterization.area import LIBRARIES, read_area
from mapping.characterization.energy import EVERY, stale
from mapping.energy.tables import EnergyTable, energy_path, load_energy_table

WINDOWS, MEAN_PERCENT, MAX_PERCENT = 12, 5.0, 10.0


def table_of(unit: str) -> EnergyTable:
    core = EVERY.core(unit)
    return load_energy_table(energy_path(core, System((core,))))


def of_the_design(reasons: list[str]) -> list[str]:
    """Leave out the tools: another Debian has other versions."""
    return [reason for reason in reasons if not reason.startswith("tools: ")]


@pytest.mark.parametrize("unit", EVERY.units)
def test_windows_that_the_fit_did_not_see_are_within_the_limits(unit: str) -> None:
    errors = table_of(unit).errors
    points = errors["points"]
    assert len(points) == errors["validation_windows"] >= WINDOWS
    assert {point["network"] for point in points} == {"resnet8", "ds_cnn"}
    off = np.array([100 * (point["modelled"][1] / point["measured"][1] - 1) for point in points])
    assert np.abs(off).mean() == pytest.approx(errors["mean_percent"], abs=0.02)
    assert np.abs(off).max() == pytest.approx(errors["max_percent"], abs=0.02)
    assert errors["mean_percent"] <= MEAN_PERCENT
    assert errors["max_percent"] <= MAX_PERCENT
    assert all(low < value < high for low, value, high in (point["measured"] for point in points))


@pytest.mark.parametrize("unit", EVERY.units)
@pytest.mark.gates
def test_the_energy_tables_are_of_this_design(unit: str) -> None:
    assert of_the_design(stale(table_of(unit))) == []


@pytest.mark.parametrize("unit", EVERY.units)
def test_zero_weights_save_energy_and_nothing_costs_less_than_nothing(unit: str) -> None:
    table = table_of(unit)
    shares = np.linspace(0, 1, 5)
    for bound in range(3):
        macs = [
            sum(
                table.energies[name].bounds[bound] * mean
                for name, mean in table.statistics.at(float(share)).means.items()
                if name.startswith("mac.")
            )
            for share in shares
        ]
        assert (np.diff(macs) < 0).all()
        assert macs[-1] >= 0


def test_the_area_table_is_of_this_design_and_has_every_width() -> None:
    table = read_area()
    assert of_the_design(area.stale(table)) == []
    assert set(table["units"]) == set(LIBRARIES)
    for units in table["units"].values():
        assert set(units) == {core.key for core in area.EVERY.cores}
        for core in area.EVERY.cores:
            unit = units[core.key]
            assert (unit["w_bits"], unit["rows"], unit["cols"]) == (core.w_bits, core.rows, core.cols)
            cells = sum(unit["groups_um2"].values())
            parts = unit["array_area_um2"] + unit["rest_area_um2"]
            assert parts == pytest.approx(cells, abs=20)
            assert unit["unit_area_um2"] == pytest.approx(cells + unit["memory_area_um2"], abs=20)
            assert unit["max_frequency_mhz"] > 20
        reference = units[table["reference"]]
        assert reference["units_per_reference_area"] == 1
        for unit in units.values():
            share = reference["unit_area_um2"] / unit["unit_area_um2"]
            assert unit["units_per_reference_area"] == pytest.approx(share, abs=1e-3)
