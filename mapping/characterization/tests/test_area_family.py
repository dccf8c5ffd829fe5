# SPDX-License-Identifier: Apache-2.0
"""The fit of the area model: exact where the world is as the laws say, honest about cores it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import yaml

from hw.core import CoreConfig
from hw.sources import rtl_hash
from mapping.characterization import area_family
from mapping.characterization.area import EVERY, BlockArea, UnitArea, unit_area
from mapping.characterization.area_family import (
    FIT_SEEDS,
    HELD_OUT_SEEDS,
    MACRO_WORDS,
    AreaCalibration,
    CoreErrors,
    calibrate_area,
    drawn_core,
    errors_of_core,
    fit_model,
    intervals,
    left_out,
)
from mapping.cost.area_model import FILE, read_area_model
from mapping.report.gates_console import area_errors_summary, area_errors_table

MACROS = [(words, 1000.0 + 300.0 * words) for words in MACRO_WORDS]
CORES = [drawn_core(seed) for seed in range(12)]


def unit(core: CoreConfig, column_um2: float = 0.0) -> UnitArea:
    """A unit of three kinds of blocks whose areas are as the laws say, but for so much of each column."""
    multiplier = 40 * core.w_bits**2 + 3 * core.a_bits * core.w_bits
    slow = 10 + 0.1 * core.w_bits
    blocks = (
        BlockArea("array", "npu_column.0", 3, core.rows * multiplier + column_um2, 8, 8, 1, 2.0, 6.0, 7.0),
        BlockArea(
            "array", "npu_column.1", core.columns - 3, core.rows * multiplier + column_um2,
            8, 8, 1, 2.0, 5.0, 6.0,
        ),
        BlockArea("requantiser", "npu_requant_lane.0", core.lanes, 900.0, 215, 215, 5, 9.0, slow, 1.5 * slow),
        BlockArea("registers", "npu_regs.0", 1, 50.0, 0, 0, 0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    model = fit_model("sky130", [UnitArea(core, "sky130", blocks, {})], MACROS)
    return UnitArea(core, "sky130", blocks, model.memories_um2(core))


def test_laws_that_hold_are_found_for_cores_that_the_fit_did_not_see() -> None:
    units = [unit(core) for core in CORES]
    for item in left_out("sky130", units, MACROS):
        if any(core.w_bits == item.core.w_bits for core in CORES if core is not item.core):
            assert abs(item.area) < 0.02, item
        assert abs(item.max_mhz) < 0.01
        assert abs(item.max_mhz_wired) < 0.01
    model = fit_model("sky130", units, MACROS)
    core = replace(CORES[0], stripe_depth=40, lanes=16)
    assert errors_of_core(model, unit(core)).area == pytest.approx(0, abs=0.01)
    assert model.slowest("path_ns", core)[0] == "npu_requant_lane"
    assert model.kinds("flops", core)["registers/npu_regs"] == 0
    assert model.groups_um2(core)["requantiser"] == pytest.approx(16 * 900)
    assert "registers/npu_regs" not in model.delays  # wires alone


def test_a_core_that_is_otherwise_is_seen_in_its_error_and_not_in_the_others_fit() -> None:
    units = [unit(core) for core in CORES]
    strange = unit(CORES[3], column_um2=50_000.0)
    errors = left_out("sky130", [*units[:3], strange, *units[4:]], MACROS)
    assert max(errors, key=lambda item: abs(item.area)).core is strange.core
    assert errors[3].area < -0.2


def test_intervals_hold_nine_of_ten() -> None:
    errors = [CoreErrors(CORES[0], 1.0, size / 100, -size / 50, 0.0) for size in range(1, 100)]
    assert intervals(errors) == pytest.approx({"area": 0.9, "max_mhz": 1.8, "max_mhz_wired": 0.0}, rel=0.01)
    few = intervals(errors[:3])
    assert few["area"] == 0.03  # of so few the largest


def test_cores_are_drawn_from_their_seeds_and_none_is_in_both_sets() -> None:
    assert [drawn_core(seed) for seed in range(12)] == CORES
    fit = {drawn_core(seed).key for seed in FIT_SEEDS} | {core.key for core in EVERY.cores}
    assert not fit & {drawn_core(seed).key for seed in HELD_OUT_SEEDS}
    assert len({drawn_core(seed).key for seed in HELD_OUT_SEEDS}) == len(HELD_OUT_SEEDS) >= 10


def test_held_out_cores_are_measured_and_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measured(core: CoreConfig, library: str, workers: int) -> UnitArea:
        assert (library, workers) == ("sky130", 3)
        asked.append(core.key)
        return unit(core)

    monkeypatch.setattr(area_family, "unit_area", measured)
    monkeypatch.setattr(area_family, "macros_of", lambda _: MACROS)
    steps: list[tuple[str, int, int]] = []
    found = calibrate_area("sky130", range(4), range(1000, 1003), 3, lambda *step: steps.append(step))
    assert len(asked) == len(EVERY.cores) + 4 + 3
    assert [item.core for item in found.held_out] == [drawn_core(seed) for seed in range(1000, 1003)]
    assert not {item.core.key for item in found.held_out} & set(found.model.parameters)
    assert found.model.interval_90 == intervals(found.fit)
    assert steps[-1] == ("cores that the fit does not see", 3, 3)
    assert found.covered == sum(abs(e.area) <= found.model.interval_90["area"] for e in found.held_out)


def test_what_is_printed_has_every_core_and_the_figures() -> None:
    errors = [
        CoreErrors(core, 5e6, size, 0.04, -0.02) for core, size in zip(CORES, (0.01, -0.03), strict=False)
    ]
    model = replace(fit_model("sky130", [unit(core) for core in CORES], MACROS), interval_90={"area": 0.02})
    found = AreaCalibration(model, errors, errors)
    rows = list(area_errors_table(found).columns[2].cells)
    assert rows == ["+1.0", "-3.0"]
    line = area_errors_summary(found)
    assert "the area is off by 2.0 % on average and 3.0 % at most, the frequency by 4.0 and 4.0 %" in line
    assert "90 % interval ± 2.0 %, which holds for 1 of them" in line


# ------------------------------------------------------------------------------------- the model that is kept
def errors_kept(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = yaml.safe_load(FILE.read_text())["models"]["sky130"]["errors_percent"][name]
    return entry


def test_the_model_that_is_kept_is_of_this_rtl_and_as_good_as_it_must_be() -> None:
    assert yaml.safe_load(FILE.read_text())["rtl_sha256"] == rtl_hash()
    held_out = errors_kept("held_out")
    assert held_out["cores"] == len(HELD_OUT_SEEDS)
    assert held_out["area"]["mean"] <= 3.0
    assert held_out["area"]["largest"] <= 6.0
    assert errors_kept("leave_one_out")["area"]["mean"] <= 3.0


@pytest.mark.gates
@pytest.mark.slow
def test_held_out_cores_have_the_errors_that_are_kept() -> None:
    """Two of the ten, synthesised again."""
    model = read_area_model("sky130")
    seeds: Sequence[int] = (1005, 1007)
    for seed in seeds:
        item = errors_of_core(model, unit_area(drawn_core(seed), "sky130"))
        assert 100 * abs(item.area) <= errors_kept("held_out")["area"]["largest"] + 0.01
