# SPDX-License-Identifier: Apache-2.0
"""The family's table: coefficients that made the cycles of many systems are found, and price others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.arrays import Floats
from hw.core import CoreConfig
from hw.sources import rtl_hash
from hw.system import NPU8, NPU_LB, System
from mapping.calibration import family, farm
from mapping.calibration.calibrate import EVERY
from mapping.calibration.family import (
    FIT_SEEDS,
    HELD_OUT_SEEDS,
    FamilyBench,
    FamilyCalibration,
    calibrate_family,
    system_jobs,
    write_family,
)
from mapping.calibration.farm import Farm
from mapping.calibration.fit import TimedLists
from mapping.calibration.measurement import Measurement, Setup, commands_digest, compile_shape
from mapping.calibration.store import Store
from mapping.cost.coefficients import NAMES, TERM, starting_point
from mapping.cost.model import CostModel, shape_program, units_of
from mapping.cost.shapes import Shape
from mapping.cost.tables import FAMILY, FOLDER, CostTable, family_path, load_table, path_for, table_of
from mapping.cost.timing import time_lists
from mapping.report.cost_console import systems_table
from mapping.run.random_systems import usual_system
from mapping.run.soak import fitting_network

TRUTH = starting_point()
for _name, _more in (("store_latency_cycles", 2), ("load_latency_cycles", 2)):
    TRUTH[TERM[_name]] += _more
"""Another hardware's."""


def cycles_of_lists(lists: TimedLists) -> int:
    values = dict.fromkeys(lists.system.units, TRUTH)
    return round(time_lists(lists.lists, lists.system.cores, values, lists.system.axi_bits // 8).cycles)


def measured(setup: Setup, shape: Shape, unit: str) -> Measurement:
    lists = TimedLists(shape_program(shape, unit, setup.config).lists, setup.config, 0)
    digest = commands_digest(compile_shape(shape, unit, setup.config))
    place = "+".join(units_of(shape, unit, setup.config))
    cycles = cycles_of_lists(lists)
    return Measurement(shape, place, cycles, {}, shape.macs, 0.5, setup.digest, digest, 0.1)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> FamilyCalibration:
    """A calibration whose systems take what TRUTH says."""
    systems = {seed: usual_system(seed) for seed in (1, 3, 8)}

    def networks(_: FamilyBench, system: System, seeds: Sequence[int]) -> list[TimedLists]:
        made = []
        for seed in seeds:
            program = fitting_network(seed, system)[0]
            lists = TimedLists(program.program.lists, system, 0)
            made.append(TimedLists(lists.lists, system, cycles_of_lists(lists)))
        return made

    with pytest.MonkeyPatch.context() as patch, Farm(0, job=measured) as workers:
        patch.setattr(farm, "build", lambda *_, **__: None)
        patch.setattr(FamilyBench, "measured_networks", networks)
        patch.setattr(family, "usual_system", systems.__getitem__)
        store = Store(tmp_path_factory.mktemp("family") / "m.jsonl")
        return calibrate_family(FamilyBench(workers, store, layers=20, networks=2), (1, 3), (8,))


def test_coefficients_that_made_the_cycles_of_other_systems_are_found(found: FamilyCalibration) -> None:
    table = found.table
    assert dict(zip(NAMES, table.coefficients, strict=True)) == dict(zip(NAMES, TRUTH, strict=True))
    assert table.cores == FAMILY
    assert table.rtl_sha256 == rtl_hash()
    assert table.errors["held_out_systems"].max_percent < 0.05  # cycles are whole
    assert table.errors["held_out_system_networks"].points == 2
    assert table.learning_curve[0][1] > table.learning_curve[1][1]


def test_every_core_of_the_fit_is_in_the_table_and_no_other(found: FamilyCalibration) -> None:
    fit = [usual_system(seed) for seed in (1, 3)]
    ports = {core.key: system.axi_bits for system in fit for core in system.cores}
    assert len(found.table.parameters) == len(ports)
    assert sorted(p["axi_bits"] for p in found.table.parameters.values()) == sorted(ports.values())
    ((system, errors),) = found.layers
    assert system == usual_system(8)
    assert errors.points == 20
    assert list(systems_table(found).columns[0].cells) == [" ".join(core.key for core in system.cores)]


def test_jobs_are_on_each_unit_and_on_all_together() -> None:
    system = usual_system(9)
    assert len(system.units) == 3
    jobs = system_jobs(system, 10)
    places = [tuple(shape.split or (unit,)) for shape, unit in jobs]
    assert len(jobs) == 10
    assert set(places) == {("u0",), ("u1",), ("u2",), system.units}
    assert system_jobs(system, 10) == jobs


def test_a_table_of_a_family_prices_what_has_no_table(found: FamilyCalibration, tmp_path: Path) -> None:
    assert write_family(found, tmp_path) == family_path(tmp_path)
    shape = Shape("conv", "conv2d", 16, 40, 8, 8, (3, 3), (1, 1), "same")
    unseen = System((CoreConfig("a", w_bits=3, lanes=8), CoreConfig("b", a_bits=4)))
    model = CostModel(unseen, tmp_path)
    assert (model.coefficients(unseen.units)["b"] == TRUTH).all()
    together = Shape("shared", "conv2d", 16, 64, 8, 8, (3, 3), (1, 1), "same", {"a": 16, "b": 48})
    for asked in (shape, together):
        prediction = model.layer(asked, "a")
        lists = TimedLists(shape_program(asked, "a", unseen).lists, unseen, 0)
        assert round(prediction.cycles) == cycles_of_lists(lists)
        assert prediction.low < prediction.cycles < prediction.high


# ------------------------------------------------------------------------------------- the table that is kept
@pytest.fixture(scope="module")
def kept() -> CostTable:
    return load_table(family_path())


def same(first: Floats, second: Floats) -> bool:
    return bool(np.array_equal(first, second))


def test_the_kept_family_has_the_coefficients_of_every_unit_calibrated_alone(kept: CostTable) -> None:
    for system, units in EVERY:
        if len(units) == 1:
            own = table_of([system.core(units[0])], system)
            assert same(own.coefficients, kept.coefficients), units


def test_the_kept_family_is_as_good_as_it_must_be_on_systems_that_it_did_not_see(kept: CostTable) -> None:
    assert kept.rtl_sha256 == rtl_hash()
    layers, networks = kept.errors["held_out_systems"], kept.errors["held_out_system_networks"]
    assert layers.points == 40 * len(HELD_OUT_SEEDS) >= 400
    assert networks.points >= 60
    assert layers.mape_percent <= 0.5
    assert layers.max_percent <= 3.0
    assert networks.mape_percent <= 0.5
    for errors in (layers, networks):
        assert 85 <= errors.coverage_percent <= 95


def test_systems_of_the_fit_and_of_the_errors_are_not_the_same() -> None:
    fit = {usual_system(seed) for seed in FIT_SEEDS}
    assert not fit & {usual_system(seed) for seed in HELD_OUT_SEEDS}


@pytest.mark.parametrize(
    ("system", "units", "basis"),
    [
        (System(), ("npu8",), "measured"),
        (System(), ("npu8", "npu_lb"), "measured"),
        (System((NPU8, CoreConfig("twin"), NPU_LB)), ("twin",), "measured"),
        (System((NPU8, CoreConfig("twin"), NPU_LB)), ("npu8", "twin", "npu_lb"), "interpolated"),
        (System((CoreConfig("npu_lb", w_bits=3, stripe_depth=16),)), ("npu_lb",), "interpolated"),
        (System((CoreConfig("big", act_kib=2048),)), ("big",), "extrapolated"),
        (System((CoreConfig("wide", w_bits=2, rows=128, cols=128),)), ("wide",), "extrapolated"),
    ],
)
def test_a_price_says_what_it_stands_on(system: System, units: tuple[str, ...], basis: str) -> None:
    assert CostModel(system).basis(*units) == basis
    own = path_for([system.core(unit) for unit in units], system, FOLDER) != family_path()
    assert own == (basis == "measured")
