# SPDX-License-Identifier: Apache-2.0
"""Energies are counts times the tables' values: by hand for each part, and in sum for layers and networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.testing import data_dir, require
from golden.importers.models import load_model
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.program import Program
from mapping.cost.model import CostModel, shape_program
from mapping.cost.shapes import Shape
from mapping.energy.events import NAMES as COUNTS, Events, events
from mapping.energy.model import AWAKE_TAIL, PRICED, EnergyModel, NetworkEnergy, UnitCycles
from mapping.energy.tables import (
    COEFFICIENTS,
    GROUPS,
    EnergyTableError,
    LayerStatistics,
    energy_path,
    save_energy_table,
)
from mapping.energy.testing import FEATURES, STATISTICS, synthetic, write_tables
from mapping.search.costs import NetworkCosts

CONFIG = System()
CONV = Shape("conv", "conv2d", 16, 128, 6, 6, (3, 3), (1, 1), "same")
ALL = {item.name: float(place) for place, item in enumerate(COEFFICIENTS, start=1)}
ALL |= dict.fromkeys(FEATURES, 0.5)


def model_of(folder: Path, values: dict[str, float]) -> EnergyModel:
    return EnergyModel(CONFIG, write_tables(folder, values))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EnergyModel:
    return model_of(tmp_path_factory.mktemp("tables"), ALL)


@pytest.fixture(scope="module")
def program() -> Program:
    """A network, about half of each layer on each unit."""
    network = load_model(require(data_dir() / "models" / "pretrainedResnet_quant.tflite"))
    costs = NetworkCosts(network, CONFIG, lambda _: 0.0)
    return costs.program(tuple((total - total // 2, total // 2) for total in costs.totals))


# ------------------------------------------------------------------------------------------------ of one unit
@pytest.mark.parametrize(
    ("name", "counts", "group", "pj"),
    [
        ("column_beat", Events(column_beats=7), "array", 7),
        ("operand_word", Events(operand_words=7, array_beats=3), "array", 7),
        ("weight_word", Events(weight_words=7), "array", 7),
        ("weight_read", Events(weight_words=7), "scratchpads", 7),
        ("tile_swap", Events(column_swaps=7), "array", 7),
        ("accumulate", Events(accumulations=7), "accumulators", 7),
        ("accumulator_read", Events(accumulator_reads=7, drain_reads=2), "accumulators", 9),
        ("requantise", Events(requantised=7), "requantiser", 7),
        ("activation_read", Events(operand_reads=7, stores=2), "scratchpads", 9),
        ("activation_write", Events(result_words=7, activation_loads=2), "scratchpads", 9),
        ("weight_write", Events(weight_loads=7), "scratchpads", 7),
        ("parameter_read", Events(parameter_reads=7), "scratchpads", 7),
        ("parameter_write", Events(parameter_loads=7), "scratchpads", 7),
        ("bus_beat", Events(activation_loads=1, weight_loads=2, stores=4, marks=8, fetches=16), "bus", 31),
        ("control_command", Events(commands=7, fetches=28), "control", 7),
        ("control_word", Events(operand_words=7, vector_words=2, array_beats=3), "control", 9),
        ("control_result", Events(result_words=7), "control", 7),
        ("control_beat", Events(weight_loads=2, stores=4, marks=8, fetches=16), "control", 30),
        ("external_byte", Events(parameter_loads=1, stores=2, marks=4, fetches=8), "external_memory", 240),
        ("mac.one", Events(macs_useful=8, macs_padding=3), "array", 8 * 0.875 + 3 * 0.5),
        ("mac.toggles", Events(macs_useful=8, macs_padding=3), "array", 8 * 3.0625 + 3 * 0.25),
        ("mac.toggles", Events(macs_between=8), "array", 8 * 3.0625),
        ("accumulate.toggles", Events(accumulations=5), "accumulators", 40),
        ("requantise.toggles", Events(requantised=5), "requantiser", 10),
    ],
)
def test_each_event_takes_its_energy_in_its_part(
    tmp_path: Path, name: str, counts: Events, group: str, pj: float
) -> None:
    breakdown = model_of(tmp_path, {name: 1.0}).energy("npu_lb", counts)
    assert breakdown.groups.keys() == set(GROUPS)
    for other, (lower, value, upper) in breakdown.groups.items():
        assert value == (pj if other == group else 0), other
        assert (lower, upper) == pytest.approx((value / 2, 2 * value))
    assert (breakdown.lower_pj, breakdown.value_pj, breakdown.upper_pj) == pytest.approx((pj / 2, pj, 2 * pj))


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("column_idle", 32), ("accumulator_idle", 32), ("requantiser_idle", 16), ("operand_idle", 1),
        ("control_idle", 1), ("leakage", 1),
    ],
)  # fmt: skip
def test_idle_energy_goes_with_the_cycles(tmp_path: Path, name: str, times: int) -> None:
    breakdown = model_of(tmp_path, {name: 2.0}).energy("npu_lb", Events(array_beats=9), cycles=10)
    assert list(breakdown.groups["idle"]) == [10 * times, 20 * times, 40 * times]
    assert breakdown.value_pj == 20 * times


def test_every_coefficient_and_every_count_has_a_place() -> None:
    priced = {name for energies in PRICED.values() for name in energies}
    assert priced == {item.name for item in COEFFICIENTS if item.when == "event"}
    assert all(item.when != "event" for item in COEFFICIENTS if item.group == "idle")
    others = {"array_beats", "macs_useful", "macs_padding", "macs_between"}
    assert set(PRICED) == set(COUNTS) - others


@pytest.mark.data
def test_given_statistics_count_instead_of_the_tables(model: EnergyModel) -> None:
    counts = Events(macs_useful=100, accumulations=10)
    macs, others = dict.fromkeys(STATISTICS.zero, 0.0), dict.fromkeys(STATISTICS.others, 0.0)
    none = LayerStatistics(macs, macs, others)
    assert model.energy("npu8", counts, statistics=none).value_pj == 10 * ALL["accumulate"]
    usual = model.energy("npu8", counts).value_pj
    assert usual == 10 * ALL["accumulate"] + 0.5 * (100 * (0.875 + 3.0625) + 10 * 8)
    assert model.energy("npu8", counts, statistics=STATISTICS).value_pj == usual
    zeros = model.energy("npu8", counts, statistics=STATISTICS.at(1.0)).value_pj
    dense = model.energy("npu8", counts, statistics=STATISTICS.at(0.0)).value_pj
    assert usual == pytest.approx(0.75 * dense + 0.25 * zeros)


# ------------------------------------------------------------------------------------------------ of networks
def close(parts: list[float], whole: float) -> None:
    assert sum(parts) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.data
def test_layers_and_units_sum_to_the_network(model: EnergyModel, program: Program, ends: bool) -> None:
    prediction = model.costs.program(program)
    cycles = prediction.cycles + 37  # the interrupt comes after the last layer's end
    energy_spent = model.program_energy(program, cycles, prediction.ends if ends else None)
    assert set(energy_spent.layers) == {part.layer for part in program.parts}
    assert set(energy_spent.units) == {"npu8", "npu_lb"}
    for parts in (energy_spent.layers.values(), energy_spent.units.values()):
        for bound in ("lower_pj", "value_pj", "upper_pj"):
            close([getattr(item, bound) for item in parts], getattr(energy_spent.total, bound))
        for group in GROUPS:
            close([item.groups[group][1] for item in parts], energy_spent.total.groups[group][1])
    assert energy_spent.total.lower_pj < energy_spent.value_pj < energy_spent.total.upper_pj


@pytest.mark.data
def test_a_network_is_its_events_and_the_clocks_of_all_units(model: EnergyModel, program: Program) -> None:
    cycles = 12_345.0
    energy_spent = model.program_energy(program, cycles)
    moving = sum(model.energy(unit, item).value_pj for (_, unit), item in events(program, CONFIG).items())
    idle = sum(
        ALL["column_idle"] * core.columns + ALL["accumulator_idle"] * core.columns
        + ALL["requantiser_idle"] * core.lanes + ALL["operand_idle"] + ALL["control_idle"] + ALL["leakage"]
        for core in CONFIG.cores
    )  # fmt: skip
    assert energy_spent.total.groups["idle"][1] == pytest.approx(cycles * idle)
    busy = 2 * ALL["control_busy"]  # both units have work
    assert energy_spent.value_pj == pytest.approx(moving + cycles * (idle + busy))
    assert energy_spent.power_mw == pytest.approx(energy_spent.value_pj / (cycles * 10.0))


@pytest.mark.data
def test_layers_bear_the_idle_energy_until_they_are_complete(tmp_path: Path, program: Program) -> None:
    model = EnergyModel(CONFIG, write_tables(tmp_path, {"leakage": 1.0}))
    prediction = model.costs.program(program)
    energy_spent = model.program_energy(program, prediction.cycles, prediction.ends)
    last: dict[str, float] = {}
    for (layer, _), end in prediction.ends.items():
        last[layer] = max(last.get(layer, 0.0), end)
    before = 0.0
    for layer, breakdown in list(energy_spent.layers.items())[:-1]:
        assert breakdown.value_pj == pytest.approx(2 * (last[layer] - before))
        before = last[layer]
    assert list(energy_spent.layers.values())[-1].value_pj == pytest.approx(2 * (prediction.cycles - before))


def test_units_without_work_idle_too(tmp_path: Path) -> None:
    model = model_of(tmp_path, {"leakage": 1.0})
    energy_spent = model.layer(CONV, "npu8")
    assert energy_spent.units["npu_lb"].value_pj == energy_spent.cycles == energy_spent.units["npu8"].value_pj
    assert energy_spent.value_pj == 2 * energy_spent.cycles == 2 * model.costs.layer(CONV, "npu8").cycles


# ------------------------------------------------------------------------------------------- units that sleep
def waiting(folder: Path, unit: str, **given: dict[str, float]) -> dict[str, float]:
    """Return what the cycles of a layer on one unit take in each group of a unit, over the layer's cycles."""
    values = {"leakage": 1.0, "control_idle": 10.0, "control_busy": 100.0}
    model = EnergyModel(CONFIG, write_tables(folder, values))
    program = shape_program(CONV, "npu8", CONFIG)
    cycles = model.costs.program(program).cycles
    spent = model.program_energy(program, cycles, None, None, **given).units[unit]
    return {group: values[1] / cycles for group, values in spent.groups.items() if values[1]}


def test_a_unit_without_work_leaks_and_its_clock_stands_still(tmp_path: Path) -> None:
    assert waiting(tmp_path, "npu8") == pytest.approx({"idle": 11.0, "control": 100.0})
    assert waiting(tmp_path, "npu_lb") == pytest.approx({"idle": 1.0})


def test_cycles_in_which_a_unit_is_awake_can_be_given(tmp_path: Path) -> None:
    cycles = EnergyModel(CONFIG, write_tables(tmp_path, {})).layer(CONV, "npu8").cycles
    awake = {"npu8": 0.5 * cycles, "npu_lb": 0.25 * cycles}
    assert waiting(tmp_path, "npu8", awake=awake) == pytest.approx({"idle": 6.0, "control": 50.0})
    assert waiting(tmp_path, "npu_lb", awake=awake) == pytest.approx({"idle": 3.5})


def test_a_unit_sleeps_when_its_last_part_is_complete(tmp_path: Path) -> None:
    model = EnergyModel(CONFIG, write_tables(tmp_path, {"control_idle": 1.0}))
    program = shape_program(CONV, "npu8", CONFIG)
    (layer,) = {part.layer for part in program.parts}
    spent = model.program_energy(program, 1000.0, {(layer, "npu8"): 600.0})
    assert spent.value_pj == 600 + AWAKE_TAIL
    assert model.program_energy(program, 1000.0, {(layer, "npu8"): 999.0}).value_pj == 1000


def test_cycles_of_a_unit_are_priced_apart(tmp_path: Path) -> None:
    model = model_of(tmp_path, {"leakage": 1.0, "control_idle": 10.0, "control_busy": 100.0})
    some = model.energy("npu8", Events(), UnitCycles(all=8, awake=4, busy=2))
    assert (some.groups["idle"][1], some.groups["control"][1]) == (8 + 40, 200)


@pytest.mark.data
def test_statistics_belong_to_layers_on_units(model: EnergyModel, program: Program) -> None:
    parts = list(events(program, CONFIG))
    chosen = next(key for key in parts if key[1] == "npu_lb")
    usual = model.program_energy(program, 1000.0)
    changed = model.program_energy(program, 1000.0, None, {chosen: STATISTICS.at(0.9)})
    for layer, breakdown in changed.layers.items():
        assert (breakdown == usual.layers[layer]) == (layer != chosen[0])
    assert changed.units["npu8"] == usual.units["npu8"]
    assert changed.value_pj < usual.value_pj


@pytest.mark.data
def test_zero_slopes_are_the_difference_of_all_zeros_and_none(model: EnergyModel, program: Program) -> None:
    slopes = model.zero_slopes(program)

    def energy(unit: str, share: float) -> float:
        given = {key: STATISTICS.at(share) for key in events(program, CONFIG) if key[1] == unit}
        return model.program_energy(program, 0.0, None, given).value_pj

    for unit in ("npu8", "npu_lb"):
        assert slopes[unit] == pytest.approx(energy(unit, 1.0) - energy(unit, 0.0))
        assert slopes[unit] < 0


@pytest.mark.data
def test_the_energy_of_a_program_takes_less_than_its_cycles(model: EnergyModel, program: Program) -> None:
    """A search asks for thousands of both. Processor time, so that other work does not count."""
    costs = CostModel(CONFIG)
    energy = min(_seconds(lambda: model.program_energy(program, 1000.0)) for _ in range(5))
    cycles = min(_seconds(lambda: costs.program(program)) for _ in range(5))
    assert energy < cycles / 2


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def test_an_empty_run_has_no_power() -> None:
    from mapping.energy.model import Breakdown

    empty = Breakdown(dict.fromkeys(GROUPS, (0.0, 0.0, 0.0)))
    assert NetworkEnergy(empty, {}, {}, 0.0, 10.0).power_mw == 0.0


# ----------------------------------------------------------------------------------------------------- errors
def test_tables_of_another_library_or_clock_are_refused(tmp_path: Path) -> None:
    for changed in ({"library": {"name": "other", "sha256": "1"}}, {"period_ns": 5.0}):
        write_tables(tmp_path, {})
        path = energy_path(NPU_LB, CONFIG, tmp_path)
        save_energy_table(replace(synthetic(NPU_LB, {}), **changed), path)
        with pytest.raises(
            EnergyTableError, match=r"w2a8_32x32_s16_weight16\.energy\.yaml: is of another library or clock"
        ):
            EnergyModel(CONFIG, tmp_path)


def test_every_unit_of_the_system_needs_a_table(tmp_path: Path) -> None:
    save_energy_table(synthetic(NPU8, {}), energy_path(NPU8, CONFIG, tmp_path))
    with pytest.raises(
        EnergyTableError, match=r"w2a8_32x32_s16_weight16\.energy\.yaml: there is no energy table"
    ):
        EnergyModel(CONFIG, tmp_path)
    assert EnergyModel(System((NPU8,)), tmp_path).tables.keys() == {"npu8"}


@pytest.mark.data
def test_a_cycle_is_the_same_for_all_layers(model: EnergyModel) -> None:
    rng = np.random.default_rng(5)
    for cycles in rng.integers(1, 10**6, 5):
        one = model.energy("npu8", Events(), cycles=1).value_pj
        assert model.energy("npu8", Events(), cycles=float(cycles)).value_pj == pytest.approx(cycles * one)
