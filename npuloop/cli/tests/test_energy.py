# SPDX-License-Identifier: Apache-2.0
"""What is printed and written about energy: tables that add up, and one line where there are no tables."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from golden.network_file import save_network
from hw.system import NPU8, System
from mapping.cost.shapes import Shape
from mapping.energy.model import EnergyModel
from mapping.energy.tables import COEFFICIENTS, GROUPS
from mapping.energy.testing import write_tables
from mapping.report import energy_console
from mapping.report.energy_console import energy_model, energy_report, energy_table, scale_of, summary
from mapping.run.random_networks import random_network
from npuloop.cli.main import app

CONFIG = System()
VALUES = {item.name: 3.0 for item in COEFFICIENTS} | {"mac.one": 0.5}
CONV = Shape("conv", "conv2d", 16, 128, 6, 6, (3, 3), (1, 1), "same")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"), VALUES)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "small.npz"
    save_network(random_network(3, [NPU8])[0], path)
    return path


def npuloop(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """Run a sub-command with the energy tables of a folder."""
    monkeypatch.setattr(energy_console, "energy_model", functools.partial(energy_model, folder=folder))
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.output


def numbers(line: str) -> list[float]:
    return [float(word.replace(",", "")) for word in line.split()[-1 - len(GROUPS) :]]


@pytest.mark.rtl
def test_the_printed_parts_add_up(
    tables: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.json"
    for arguments in (("predict", str(network)), ("run", str(network), "--json", str(file))):
        code, output = npuloop(tables, monkeypatch, *arguments)
        assert code == 0, output
        begin = next(i for i, line in enumerate(output.splitlines()) if "energy, " in line)
        lines = output.splitlines()[begin:]
        every = numbers(next(line for line in lines if line.startswith("all ")))
        assert every[0] == pytest.approx(sum(every[1:]), abs=0.5)
        units = [numbers(line) for line in lines if line.startswith("on npu")]
        assert [sum(column) for column in zip(*units, strict=True)] == pytest.approx(every, abs=0.21)
        unit = lines[0].split()[-1]
        assert any(line.startswith(f"{every[0]:,.1f} {unit} (") for line in lines)
        assert "mW at 100 MHz; cells of made up; gate-measured" in output
        assert "no energy" not in output
    written = json.loads(file.read_text())["energy"]
    assert written["value_pj"] == pytest.approx(sum(written["parts_pj"].values()))
    assert written["value_pj"] == pytest.approx(sum(item["value_pj"] for item in written["layers"].values()))
    assert written["lower_pj"] < written["value_pj"] < written["upper_pj"]


@pytest.mark.rtl
def test_without_tables_one_line_says_how_to_make_them(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.json"
    for arguments in (("predict", str(network)), ("run", str(network), "--json", str(file))):
        code, output = npuloop(tmp_path, monkeypatch, *arguments)
        assert code == 0, output
        (line,) = (line for line in output.splitlines() if "energy" in line)
        assert line.startswith(
            f"no energy: {tmp_path / 'w8a8_16x16.energy.yaml'}: there is no energy table; make"
        )
        assert "cycles" in output
    assert "energy" not in json.loads(file.read_text())


@pytest.mark.rtl
def test_a_stale_table_is_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Path) -> None:
    write_tables(tmp_path, VALUES, rtl_sha256="old")
    code, output = npuloop(tmp_path, monkeypatch, "predict", str(network))
    assert code == 0
    assert "w8a8_16x16.energy.yaml: stale: it was measured on other RTL; make it with" in output


@pytest.mark.rtl
def test_shapes_are_printed_with_their_energies(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Shape("one", "conv2d", 16, 32, 6, 6, (3, 3))
    file = tmp_path / "shapes.yaml"
    file.write_text(yaml.safe_dump([given.entry()]))
    code, output = npuloop(tables, monkeypatch, "predict", "--shapes", str(file), "--unit", "npu_lb")
    assert code == 0, output
    heading, row = output.splitlines()[:2]
    assert "energy, nJ" in heading
    expected_pj = EnergyModel(CONFIG, tables).layer(given, "npu_lb").value_pj
    assert f" {expected_pj / 1e3:,.1f} " in row
    code, output = npuloop(tmp_path, monkeypatch, "predict", "--shapes", str(file))
    assert code == 0
    assert "no energy: " in output


def test_units_of_energies_leave_two_digits() -> None:
    assert [scale_of(pj)[1] for pj in (0.0, 5.0, 9_999.0, 1e4, 9.9e6, 1e7, 2e12)] == [
        "pJ", "pJ", "pJ", "nJ", "nJ", "µJ", "mJ"
    ]  # fmt: skip


@pytest.mark.rtl
def test_layers_parts_and_bounds_have_their_rows(tables: Path) -> None:
    model = EnergyModel(CONFIG, tables)
    energy_spent = model.layer(CONV, "npu8")
    table = energy_table(energy_spent, "conv")
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["conv", "on npu8", "on npu_lb", "all", "share", "lower bound", "upper bound"]
    assert len(cells) == 2 + len(GROUPS)
    size, _ = scale_of(energy_spent.value_pj)
    assert cells[1][3] == f"{energy_spent.value_pj / size:,.1f}"
    assert cells[1][5:] == [
        f"{pj / size:,.1f}" for pj in (energy_spent.total.lower_pj, energy_spent.total.upper_pj)
    ]
    shares = [int(str(column[4]).rstrip("%")) for column in cells[2:]]
    assert sum(shares) == pytest.approx(100, abs=4)
    assert f"{energy_spent.power_mw:,.1f} mW" in summary(model, energy_spent)
    assert energy_report(energy_spent)["units"].keys() == {"npu8", "npu_lb"}
