# SPDX-License-Identifier: Apache-2.0
"""Energy tables: written and read again, whole or not at all, and refused with one clear error."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB, System
from mapping.energy.tables import (
    COEFFICIENTS,
    NAMES,
    SCHEMA,
    EnergyTableError,
    energy_path,
    energy_table_of,
    energy_text,
    load_energy_table,
    save_energy_table,
)
from mapping.energy.testing import CONFIG, FEATURES, STATISTICS, energy, synthetic, write_tables


def test_what_is_written_is_read(tmp_path: Path) -> None:
    values = {name: 0.1 * place for place, name in enumerate((*NAMES, *FEATURES), start=1)}
    table = synthetic(NPU_LB, values)
    bounds = replace(table.energies["bus_beat"], lower=None, upper=None, method="modelled", source="CACTI")
    table = replace(table, energies={**table.energies, "bus_beat": bounds})
    path = energy_path(NPU_LB, CONFIG, tmp_path)
    save_energy_table(table, path)
    assert path.name == "w2a8_32x32_s16_weight16.energy.yaml"
    loaded = load_energy_table(path)
    for name, item in table.energies.items():
        assert loaded.energies[name].bounds == pytest.approx(item.bounds, rel=1e-5)
    assert loaded.energies["bus_beat"] == bounds
    assert replace(loaded, energies=table.energies) == table
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert energy_text(loaded) == path.read_text()


def test_units_with_other_parameters_have_tables_of_their_own(tmp_path: Path) -> None:
    other = System((NPU8, CoreConfig("npu_lb", w_bits=4)))
    assert energy_path(other.cores[1], other, tmp_path).name == "w4a8_16x32.energy.yaml"


def test_bounds_that_do_not_exist_are_the_value() -> None:
    assert energy(3.0).bounds == (3.0, 3.0, 3.0)
    assert energy(3.0, 1.0, 4.0).bounds == (1.0, 3.0, 4.0)


def test_means_of_macs_are_mixed_by_the_share_of_zeros() -> None:
    means = STATISTICS.means
    assert means["mac.one"] == 0.75 * 1.0 + 0.25 * 0.5
    assert means["mac.toggles"] == 0.75 * 4.0 + 0.25 * 0.25
    assert (means["accumulate.toggles"], means["requantise.toggles"]) == (8.0, 2.0)
    assert STATISTICS.at(0.0).means["mac.toggles"] == 4.0
    assert STATISTICS.at(1.0).means["mac.toggles"] == 0.25
    assert STATISTICS.at(1.0).at(0.25) == STATISTICS


def test_every_energy_says_what_it_is() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(item.per and item.meaning for item in COEFFICIENTS)
    assert {item.name for item in COEFFICIENTS if item.group == "idle"} == {
        *(name for name in NAMES if name.endswith("_idle")), "leakage"
    }  # fmt: skip


def test_a_table_is_taken_for_its_hardware_alone(tmp_path: Path) -> None:
    write_tables(tmp_path, {})
    assert energy_table_of(NPU8, CONFIG, tmp_path).core == "w8a8_16x16"
    write_tables(tmp_path, {}, parameters={"a_bits": 8})
    with pytest.raises(
        EnergyTableError, match=r"w8a8_16x16\.energy\.yaml: is of other parameters of w8a8_16x16"
    ):
        energy_table_of(NPU8, CONFIG, tmp_path)
    write_tables(tmp_path, {}, rtl_sha256="x")
    os.utime(tmp_path / "w8a8_16x16.energy.yaml", ns=(1, 1))
    path = energy_path(NPU8, CONFIG, tmp_path)
    save_energy_table(synthetic(NPU8, {}, rtl_sha256="x"), path)
    with pytest.raises(EnergyTableError, match=r"w8a8_16x16\.energy\.yaml: stale: .*other RTL; make it with"):
        energy_table_of(NPU8, CONFIG, tmp_path)
    path.unlink()
    with pytest.raises(EnergyTableError, match="there is no energy table; make it with"):
        energy_table_of(NPU8, CONFIG, tmp_path)


def damaged(**changed: Any) -> str:
    document = yaml.safe_load(energy_text(synthetic(NPU8, dict.fromkeys(NAMES, 1.0))))
    for place, value in changed.items():
        *path, last = place.split("__")
        inside = document
        for key in path:
            inside = inside[key]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    return yaml.safe_dump(document)


NONSENSE = {"lower": None, "value": 1.0, "upper": None, "method": "guessed", "per": "x", "source": "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no energy table; its `schema` is None"),
        ("- 1", "is no energy table"),
        ("a: [", "no valid YAML"),
        (damaged(schema=SCHEMA + 1), f"has schema {SCHEMA + 1}; this npuloop reads up to {SCHEMA}: "),
        (damaged(schema="one"), "its `schema` is 'one'"),
        (damaged(library=None), "the field 'library' is missing"),
        (damaged(energies__bus_beat=None), "the energy bus_beat is missing"),
        (damaged(energies__bus_beat__upper=None), "the field 'upper' is missing"),
        (damaged(energies__bus_beat__value=-1.0), "bus_beat is not 0 <= lower <= value <= upper"),
        (damaged(energies__bus_beat__lower=1.5), "bus_beat is not 0 <= lower <= value <= upper"),
        (damaged(energies__bus_beat__value=float("nan")), "bus_beat is no number"),
        (damaged(energies__bus_beat__value="much"), "is damaged .*much"),
        (damaged(energies__bus_beat=NONSENSE), "bus_beat has the method 'guessed'; there are gate-measured"),
        (damaged(energies__bus_bit=NONSENSE), "unknown energy bus_bit"),
        (damaged(features=["mac.one"]), r"unknown energy accumulate\.toggles"),
        (damaged(features=[*FEATURES, "mac"]), "feature 'mac': its name begins with mac, accumulate, requan"),
        (damaged(features=[*FEATURES, "mac.one"]), "a feature stands twice"),
        (damaged(statistics__zero={"mac.one": 1.0}), "statistics and features do not agree on mac.toggles"),
        (damaged(statistics__zero_share=1.5), "zero_share is 1.5, not 0 to 1"),
        (damaged(statistics__others=None), "the field 'others' is missing"),
        (damaged(period_ns=0), "period_ns is 0"),
        (damaged(energies=[]), "is damaged"),
    ],
)
def test_a_damaged_table_is_one_error_that_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "w8a8_16x16.energy.yaml"
    path.write_text(text)
    with pytest.raises(EnergyTableError, match=message) as refused:
        load_energy_table(path)
    assert str(refused.value).startswith(str(path))


def test_slopes_of_features_may_be_negative() -> None:
    table = synthetic(NPU8, {})
    falling = {**table.energies, "mac.one": energy(-0.5, 0.1, -0.7)}
    assert "mac.one" in energy_text(replace(table, energies=falling))


def test_an_incomplete_table_is_not_written(tmp_path: Path) -> None:
    table = synthetic(NPU8, {})
    few = {name: item for name, item in table.energies.items() if name != "leakage"}
    with pytest.raises(EnergyTableError, match=r"t\.yaml: not written: the energy leakage is missing"):
        save_energy_table(replace(table, energies=few), tmp_path / "t.yaml")
    assert list(tmp_path.iterdir()) == []
