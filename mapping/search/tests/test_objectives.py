# SPDX-License-Identifier: Apache-2.0
"""What a search can pay for: cycles, energy, and their product."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.system import System
from mapping.cost.model import shape_program
from mapping.cost.shapes import Shape
from mapping.cost.tables import TableError
from mapping.energy.tables import COEFFICIENTS
from mapping.energy.testing import write_tables
from mapping.search import objectives
from mapping.search.costs import MapError
from mapping.search.objectives import OBJECTIVES, current_energy, energy_if_known, price_of, tables_digest

CONFIG = System()
CONV = Shape("conv", "conv2d", 16, 128, 6, 6, (3, 3), (1, 1), "same")
VALUES = {item.name: 3.0 for item in COEFFICIENTS}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for energy tables."""
    monkeypatch.setattr(objectives, "ENERGY_FOLDER", tmp_path)
    return tmp_path


def test_prices_are_the_models_cycles_energy_and_their_product(folder: Path) -> None:
    write_tables(folder, VALUES)
    program = shape_program(CONV, "npu_lb", CONFIG)
    model = current_energy(CONFIG)
    cycles = model.costs.program(program).cycles
    microjoules = model.predicted(program).value_pj / 1e6
    assert price_of("latency", CONFIG)(program) == cycles
    assert price_of("energy", CONFIG)(program) == microjoules
    milliseconds = cycles * 10e-6  # at the tables' 10 ns
    assert price_of("both", CONFIG)(program) == pytest.approx(microjoules * milliseconds)


def test_each_objective_has_a_unit_and_its_own_target() -> None:
    assert {name: (item.unit, item.option) for name, item in OBJECTIVES.items()} == {
        "latency": ("cycles", "--target-cycles"), "energy": ("µJ", "--target-energy"), "both": ("µJ ms", ""),
    }  # fmt: skip
    with pytest.raises(MapError, match="no objective 'area'; there are latency, energy, both"):
        price_of("area", CONFIG)


def test_without_energy_tables_there_is_no_energy_but_there_are_cycles(folder: Path) -> None:
    assert energy_if_known(CONFIG) is None
    price_of("latency", CONFIG)
    for name in ("energy", "both"):
        with pytest.raises(TableError, match="there is no energy table; make it with"):
            price_of(name, CONFIG)
    write_tables(folder, VALUES, rtl_sha256="old")
    assert energy_if_known(CONFIG) is None
    with pytest.raises(TableError, match="stale"):
        price_of("energy", CONFIG)


def test_a_study_is_of_its_energy_tables_too(folder: Path) -> None:
    without = tables_digest(CONFIG)
    write_tables(folder, VALUES)
    first = tables_digest(CONFIG)
    write_tables(folder, VALUES | {"leakage": 1.0})
    assert len({without, first, tables_digest(CONFIG)}) == 3
