# SPDX-License-Identifier: Apache-2.0
"""What `npuloop area --json` and `npuloop predict --json` write: complete, and sums of its parts."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from common.stamp import stamped
from golden.network_file import save_network
from hw.system import NPU8, NPU_LB, System
from mapping.cost.model import CostModel
from mapping.cost.shapes import Shape
from mapping.energy.tables import COEFFICIENTS, GROUPS
from mapping.energy.testing import write_tables
from mapping.report import area_figures, energy_console
from mapping.report.energy_console import energy_model
from mapping.report.testing import area_document
from mapping.run.random_networks import random_network
from npuloop.cli.main import app

VALUES = {item.name: 3.0 for item in COEFFICIENTS} | {"mac.one": 0.5}
SHAPES = (
    Shape("one", "conv2d", 16, 32, 6, 6, (3, 3)),
    Shape("two", "conv2d", 16, 48, 8, 8, (1, 1), (1, 1), "same", {"npu8": 16, "npu_lb": 32}),
)


def npuloop(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def written(path: Path, *arguments: object) -> dict[str, Any]:
    """Run a sub-command with --json, and return what it wrote."""
    done = npuloop(*arguments, "--json", path)
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(path.read_text())
    assert document["schema"] == 1
    assert document["command"] == arguments[0]
    return document


def refusal(*arguments: object) -> str:
    done = npuloop(*arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.strip().splitlines()
    return str(line)


# ---------------------------------------------------------------------------------------------------- area
def area_table(path: Path, **changed: Any) -> Path:
    """An area table whose units have everything that the command prints."""
    document = area_document()
    for number, unit in enumerate(document["units"]["sky130"].values(), start=1):
        unit |= {
            "open_memories_um2": {"activations": 3_000_000, "weights": 500_000},
            "max_frequency_mhz": 60.0 + number, "critical_path": {"block": "npu_agu.0", "ns": 15.0},
            "max_frequency_wired_mhz": 40.0, "critical_path_wired": {"block": "npu_column.0", "ns": 25.0},
            "flops": 1000 * number, "gated_flops": 900,
        } | changed  # fmt: skip
        for name in [name for name, value in unit.items() if value is None]:
            del unit[name]
    path.write_text(yaml.safe_dump(stamped(document), sort_keys=False))
    return path


def test_area_has_every_unit_with_its_parts(tmp_path: Path) -> None:
    table = area_table(tmp_path / "area.yaml")
    document = written(tmp_path / "deep" / "a.json", "area", "--table", table)
    assert document["library"] == "sky130"
    assert list(document["units"]) == ["npu8", "npu_lb"]
    npu8, little = document["units"].values()
    assert [unit["key"] for unit in (npu8, little)] == [NPU8.key, NPU_LB.key]
    assert npu8["area_mm2"] == pytest.approx(2.5)
    assert npu8["area_mm2_open_macros"] == pytest.approx(4.5)
    for unit in (npu8, little):
        for name in ("area_mm2", "area_mm2_open_macros"):
            assert sum(unit[f"{name}_by_part"].values()) == pytest.approx(unit[name])
    assert npu8["area_mm2_by_part"]["memory: activations"] == pytest.approx(1.0)
    assert npu8["area_mm2_open_macros_by_part"]["memory: activations"] == pytest.approx(3.0)
    figures = ("max_mhz", "slowest_block", "max_mhz_wired", "slowest_block_wired", "flops", "gated_flops")
    assert [little[name] for name in figures] == [62.0, "npu_agu.0", 40.0, "npu_column.0", 2000, 900]


def test_what_a_table_does_not_say_is_null_and_printed_as_a_dash(tmp_path: Path) -> None:
    absent = dict.fromkeys(
        ("open_memories_um2", "max_frequency_wired_mhz", "critical_path_wired", "gated_flops")
    )
    table = area_table(tmp_path / "area.yaml", **absent)
    document = written(tmp_path / "a.json", "area", "--table", table, "--unit", "npu8")
    (unit,) = document["units"].values()
    missing = {name for name, value in unit.items() if value is None}
    assert missing == {
        "area_mm2_open_macros", "area_mm2_open_macros_by_part", "max_mhz_wired", "slowest_block_wired",
        "gated_flops", "area_mm2_interval_90", "max_mhz_interval_90", "max_mhz_wired_interval_90",
    }  # fmt: skip
    row = npuloop("area", "--table", table, "--unit", "npu8").stdout.splitlines()[-1].split()
    assert row == ["npu8", "w8a8_16x16", "1.000", "1.500", "2.500", "-", "-", "61", "-", "1,000", "-"]


def test_a_unit_that_the_table_lacks_has_the_area_of_the_model_with_its_interval(tmp_path: Path) -> None:
    table, out = area_table(tmp_path / "area.yaml"), tmp_path / "a.json"
    document = written(out, "area", "--table", table, "--set", "npu_lb.ACT_KIB=96")
    npu8, little = document["units"].values()
    assert (npu8["basis"], little["basis"]) == ("measured", "interpolated")
    assert npu8["area_mm2_interval_90"] is None
    for name in ("area_mm2", "max_mhz", "max_mhz_wired"):
        low, high = little[f"{name}_interval_90"]
        assert 0.8 * little[name] < low < little[name] < high
    assert sum(little["area_mm2_by_part"].values()) == pytest.approx(little["area_mm2"])
    assert little["area_mm2_by_part"]["memory: activations"] > 1.4 * little["area_mm2_by_part"]["array"]
    half = 100 * (little["area_mm2_interval_90"][1] / little["area_mm2"] - 1)
    words = " ".join(npuloop("area", "--table", table, "--set", "npu_lb.ACT_KIB=96").stdout.split())
    assert f"npu_lb: interpolated by the area model, 90 % interval of the area ± {half:.1f} %" in words
    assert "npu8:" not in words


def test_an_area_model_that_is_missing_or_stale_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, model = area_table(tmp_path / "area.yaml"), tmp_path / "model.yaml"
    monkeypatch.setattr(area_figures.area_document, "__defaults__", (table, model))
    asked = ("area", "--table", table, "--set", "npu_lb.ACT_KIB=96")
    assert f"{model}: there is no area model; make it with `npuloop synth --family`" in refusal(*asked)
    model.write_text(yaml.safe_dump(stamped({"schema": 1, "rtl_sha256": "0" * 64, "models": {}})))
    assert f"{model}: stale: it was made of other RTL; make it with" in refusal(*asked)


def test_other_libraries_and_damaged_or_stale_tables_are_refused(tmp_path: Path) -> None:
    table = area_table(tmp_path / "area.yaml")
    assert "has no units in cells of 'osu018'; it has those of sky130" in refusal(
        "area", "--table", table, "--library", "osu018"
    )
    assert "w8a8_16x16 is damaged" in refusal("area", "--table", area_table(table, flops="many"))
    table.write_text(yaml.safe_dump(stamped(area_document(rtl_sha256="0" * 64)), sort_keys=False))
    assert "stale: it was made of other RTL" in refusal("area", "--table", table)
    assert "there is no area table" in refusal("area", "--table", tmp_path / "none.yaml")


# -------------------------------------------------------------------------------------------------- predict
@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "small.npz"
    save_network(random_network(3, [NPU8])[0], path)
    return path


@pytest.fixture
def energies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy tables that are made up."""
    folder = tmp_path / "tables"
    folder.mkdir()
    tables = write_tables(folder, VALUES)
    monkeypatch.setattr(energy_console, "energy_model", functools.partial(energy_model, folder=tables))


def test_a_networks_cycles_and_energy_are_the_sums_of_layers_and_of_parts(
    network: Path, energies: None, tmp_path: Path
) -> None:
    document = written(tmp_path / "p.json", "predict", network)
    assert document["units"] == {"npu8": NPU8.key, "npu_lb": NPU_LB.key}
    cycles, energy = document["cycles"], document["energy_uj"]
    assert sum(document["cycles_by_layer"].values()) == pytest.approx(cycles)
    assert min(document["cycles_by_layer"].values()) > 0
    assert sum(sum(parts.values()) for parts in document["cycles_by_part"].values()) == pytest.approx(cycles)
    low, high = document["cycles_interval_90"]
    assert low < cycles < high
    for name in ("layer", "part", "unit"):
        assert sum(document[f"energy_uj_by_{name}"].values()) == pytest.approx(energy)
    assert list(document["energy_uj_by_part"]) == list(GROUPS)
    low, high = document["energy_uj_bounds"]
    assert low < energy < high
    assert document["energy_missing"] is None
    assert list(document["layers"]) == list(document["cycles_by_layer"])
    for name, layer in document["layers"].items():
        assert layer["cycles"] == document["cycles_by_layer"][name]
        assert layer["energy_uj"] == document["energy_uj_by_layer"][name]
        assert sum(layer["energy_uj_by_part"].values()) == pytest.approx(layer["energy_uj"])
    last = list(document["layers"].values())[-1]
    assert max(last["complete_at"].values()) <= cycles


def test_without_energy_tables_energies_are_null_with_the_reason(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy_console, "energy_model", functools.partial(energy_model, folder=tmp_path))
    document = written(tmp_path / "p.json", "predict", network)
    assert document["cycles"] > 0
    assert {name for name, value in document.items() if value is None} == {
        "energy_uj", "energy_uj_bounds", "energy_uj_by_layer", "energy_uj_by_part", "energy_uj_by_unit",
    }  # fmt: skip
    assert (
        "there is no energy table; make it with `npuloop characterize-energy`" in document["energy_missing"]
    )
    assert all(layer["energy_uj"] is None for layer in document["layers"].values())


def test_shapes_are_a_list_each_with_its_own_sums(energies: None, tmp_path: Path) -> None:
    file = tmp_path / "shapes.yaml"
    file.write_text(yaml.safe_dump([shape.entry() for shape in SHAPES]))
    document = written(tmp_path / "p.json", "predict", "--shapes", file, "--unit", "npu_lb")
    assert [(item["name"], item["units"]) for item in document["shapes"]] == [
        ("one", ["npu_lb"]), ("two", ["npu8", "npu_lb"])
    ]  # fmt: skip
    costs = CostModel(System())
    for item, shape in zip(document["shapes"], SHAPES, strict=True):
        assert item["cycles"] == costs.layer(shape, "npu_lb").cycles
        assert item["macs"] == shape.macs
        parts = sum(sum(terms.values()) for terms in item["cycles_by_part"].values())
        assert parts == pytest.approx(item["cycles"])
        assert sum(item["energy_uj_by_part"].values()) == pytest.approx(item["energy_uj"])
