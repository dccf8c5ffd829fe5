# SPDX-License-Identifier: Apache-2.0
"""The area model: what it says of cores that were synthesised, what its figures stand on, and bad files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.stamp import stamped
from gates.memories import compositions
from hw.core import CoreConfig
from hw.sources import rtl_sources
from hw.system import NPU8, NPU_LB
from mapping.cost.area_model import FILE, LAWS, TERMS, AreaModel, AreaModelError, read_area_model, sum_terms
from mapping.cost.tables import FOLDER

LIBRARY = "sky130"


@pytest.fixture(scope="module")
def model() -> AreaModel:
    return read_area_model(LIBRARY)


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return {name: value for name, value in loaded.items() if name != "sha256"}


def written(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(stamped(content), sort_keys=False))
    return path


def test_laws_are_of_modules_and_terms_that_there_are() -> None:
    modules = {file.stem for file in rtl_sources()}
    assert set(LAWS) <= modules
    assert {name for names in LAWS.values() for name in names} == set(TERMS)


def test_terms_are_those_counted_by_hand() -> None:
    core = CoreConfig("c", w_bits=5, a_bits=7, rows=16, cols=64, stripe_depth=20, lanes=8, dw_taps=3)
    terms = dict(zip(LAWS["npu_column"], sum_terms("array/npu_column", core), strict=True))
    assert terms == {f"multipliers_w{bits}": 1024.0 * (bits == 5) for bits in range(2, 9)} | {
        "multiplier_operands": 7168, "multiplier_products": 35840, "tap_operands": 336, "slices": 4,
    }  # fmt: skip
    bits = 16 * (32 + 3 * 24)
    sums = dict(zip(LAWS["npu_acc_columns"], sum_terms("accumulators/npu_acc_columns", core), strict=True))
    assert sums == {"stored_sums": 20 * bits, "accumulator_bits": bits, "stripe_slices": 80, "slices": 4}
    assert sum_terms("anything/npu_of_tomorrow", core) == [1.0]


def test_units_of_the_area_table_have_nearly_the_area_that_synthesis_found(model: AreaModel) -> None:
    units = yaml.safe_load((FOLDER / "area.yaml").read_text())["units"][LIBRARY]
    for core in (NPU8, NPU_LB, replace(NPU_LB, w_bits=4, rows=0, cols=None)):
        entry = units[core.key]
        assert model.basis(core) == "interpolated"  # the area table has measured it
        assert model.area_um2(core) == pytest.approx(entry["unit_area_um2"], rel=0.03)
        assert sum(model.groups_um2(core).values()) == pytest.approx(model.total("area_um2", core))
        assert set(model.groups_um2(core)) == set(entry["groups_um2"])
        assert model.total("flops", core) == pytest.approx(entry["flops"], rel=0.03)
        assert model.total("leakage_nw", core) == pytest.approx(1000 * entry["leakage_uw"], rel=0.05)
        assert model.memories_um2(core) == pytest.approx(entry["memories_um2"], rel=0.02)
        assert 1000 / model.slowest("path_ns", core)[1] == pytest.approx(entry["max_frequency_mhz"], rel=0.06)


def test_what_is_more_takes_more(model: AreaModel) -> None:
    core = CoreConfig("c", w_bits=4, rows=16, cols=32, stripe_depth=16, lanes=8, act_kib=64, weight_kib=32)
    more: tuple[dict[str, Any], ...] = (
        {"cols": 64}, {"stripe_depth": 32}, {"lanes": 16}, {"act_kib": 128}, {"weight_kib": 64},
        {"param_kib": 8}, {"w_bits": 5}, {"dw_taps": 8},
    )  # fmt: skip
    for changed in more:
        assert model.area_um2(replace(core, **changed)) > model.area_um2(core), changed
    assert model.area_um2(replace(core, a_bits=6)) < model.area_um2(core)


def test_memories_are_their_macros(model: AreaModel) -> None:
    core = CoreConfig("c", act_kib=48, weight_kib=24)
    words = dict(model.macros)
    item = compositions(core)["activations"]
    low, high = max(w for w in words if w <= item.words), min(w for w in words if w >= item.words)
    macro = model.memories_um2(core)["activations"] / item.count / item.macros
    assert words[low] <= macro <= words[high]


@pytest.mark.parametrize(
    ("changed", "basis"),
    [
        ({}, "interpolated"),
        ({"act_kib": 80, "lanes": 8, "stripe_depth": 20, "dw_taps": 6}, "interpolated"),
        ({"act_kib": 4000}, "extrapolated"),
        ({"rows": 128, "cols": 128, "w_bits": 2}, "extrapolated"),
    ],
)
def test_a_price_says_what_it_stands_on(changed: dict[str, Any], basis: str, model: AreaModel) -> None:
    entry = model.entry(replace(NPU8, **changed))
    assert entry["basis"] == basis
    assert set(entry["interval_90"]) == {"area", "max_mhz", "max_mhz_wired"}
    assert all(0 < half < 0.2 for half in entry["interval_90"].values())


def test_a_core_is_priced_in_less_than_a_second() -> None:
    began = time.process_time()
    read_area_model(LIBRARY).entry(CoreConfig("c", w_bits=3, act_kib=72))
    assert time.process_time() - began < 1.0


def test_bad_files_are_one_error_each(tmp_path: Path) -> None:
    def refused(path: Path, text: str, library: str = LIBRARY) -> None:
        with pytest.raises(AreaModelError, match=text) as caught:
            read_area_model(library, path)
        assert str(path) in str(caught.value)

    refused(tmp_path / "none.yaml", "there is no area model; make it with `npuloop synth --family`")
    refused(written(tmp_path / "list.yaml", {"schema": 7}), "is no file of the area model of schema 1")
    refused(FILE, "has no model in cells of 'tsmc5'; it has sky130", "tsmc5")
    changed = tmp_path / "changed.yaml"
    changed.write_text(FILE.read_text().replace("schema: 1\n", "schema: 1\nmore: 2\n"))
    refused(changed, "sha256|checksum")
    content = document()
    laws = content["models"][LIBRARY]["sums"]
    laws["array/npu_column"]["flops"] = [1.0]
    refused(written(tmp_path / "short.yaml", content), "is damaged .*npu_column has not 11 coefficients")
    del laws["array/npu_column"]["flops"]
    refused(written(tmp_path / "without.yaml", content), "is damaged .*flops")
