# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.blocks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from common.errors import GatesError
from gates import blocks
from gates.blocks import Block, blocks_of, by_module
from gates.netlist import read_netlist
from gates.testing import library, write_netlist
from gates.timing import analyse
from hw.core import CoreConfig
from hw.sources import rtl_sources
from hw.system import NPU8, NPU_LB

CORES = {
    "npu8": NPU8,
    "npu_lb": NPU_LB,
    "w4_a6": CoreConfig("npu_lb", a_bits=6, w_bits=4, rows=16, cols=48, dw_taps=3, lanes=4),
}


def expected_instances(core: CoreConfig) -> Counter[str]:
    """What a core is composed of, from its parameters, as one reads it in the RTL."""
    once = (
        "npu_core", "npu_core_control", "npu_core_counters", "npu_core_errors", "npu_core_regs", "npu_regs",
        "npu_act_spm", "npu_compute", "npu_operator_check", "npu_addition", "npu_agu", "npu_array_structural",
        "npu_operands", "npu_drain", "npu_weight_loader", "npu_requant_structural", "npu_fetch", "npu_load",
        "npu_store", "npu_read_mux", "npu_tokens",
    )  # fmt: skip
    fifos = {"three engines": 3 * 3, "drain": 2, "fetch": 1, "load": 1, "store": 2}
    return Counter(dict.fromkeys(once, 1)) + Counter(
        npu_engine_ctrl=3,
        npu_fifo=sum(fifos.values()),
        npu_bursts=2,
        npu_walk=2,
        npu_acc_structural=core.columns // 16,
        npu_acc_columns=core.columns // 4,
        npu_paired_spm=2,
        npu_column=core.columns,
        npu_tap_sum=core.rows,
        npu_tile_word=-(-core.rows * core.columns * core.w_bits // 256),
        npu_requant_lane=core.lanes,
    )


@pytest.mark.parametrize("core", CORES)
@pytest.mark.gates
def test_every_instance_of_a_core_is_counted_once(core: str) -> None:
    core_blocks = blocks_of(CORES[core])
    counts: Counter[str] = Counter()
    for block in core_blocks:
        counts[block.module] += block.count
    assert counts == expected_instances(CORES[core])
    paths = [path for block in core_blocks for path in block.paths]
    assert len(paths) == len(set(paths)) == sum(expected_instances(CORES[core]).values())
    assert len({block.name for block in core_blocks}) == len(core_blocks)
    assert core_blocks[0].module == "npu_core"
    assert core_blocks[0].paths == ("",)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.gates
def test_columns_are_one_block_for_each_sort_of_column(core: str) -> None:
    config = CORES[core]
    core_blocks = {block.paths: block.count for block in by_module(blocks_of(config), "npu_column")}
    taps, rows, cols = config.dw_taps, config.rows, config.columns
    sorts = [range(taps), range(taps, rows), range(rows, cols)]
    expected_paths = {
        frozenset(f"i_compute.i_array.gen_structural.i_form.gen_column[{k}].i_column" for k in numbers)
        for numbers in sorts
        if numbers
    }
    assert {frozenset(paths) for paths in core_blocks} == expected_paths
    assert sum(core_blocks.values()) == cols


@pytest.mark.gates
def test_equal_instances_are_one_block_and_others_are_not() -> None:
    core_blocks = blocks_of(NPU8)
    assert by_module(core_blocks, "npu_bursts")[0].paths == ("i_load.i_bursts", "i_store.i_bursts")
    for module in ("npu_acc_columns", "npu_requant_lane"):
        assert len(by_module(core_blocks, module)) == 1
    for module in ("npu_fifo", "npu_column", "npu_engine_ctrl"):
        texts = [block.file.read_text() for block in by_module(core_blocks, module)]
        assert len(set(texts)) == len(texts) > 1
    assert all("\\src" not in block.file.read_text() for block in core_blocks)


@pytest.mark.gates
def test_variants_come_the_most_frequent_first_and_an_unknown_module_is_named() -> None:
    core_blocks = blocks_of(NPU_LB)
    assert [block.count for block in by_module(core_blocks, "npu_column")] == [27, 5]  # of 5 taps, and others
    assert [block.count for block in by_module(core_blocks, "npu_acc_columns")] == [4, 4]  # 32 bits, and 24
    with pytest.raises(GatesError, match="the design has no module 'npu_none'"):
        by_module(core_blocks, "npu_none")


@pytest.mark.gates
def test_a_second_call_elaborates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = blocks_of(NPU8)

    def refuse(*_: object) -> None:
        raise AssertionError("Yosys ran")

    monkeypatch.setattr(blocks, "run_yosys", refuse)
    assert blocks_of(NPU8) == first


def test_other_sources_and_other_parameters_are_elaborated_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = []

    def elaborate(_sources: Sequence[Path], parameter: str, work: Path) -> None:
        runs.append(parameter)
        (work / "blocks.json").write_text("[]")

    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path))
    monkeypatch.setattr(blocks, "_elaborate", elaborate)
    sources = rtl_sources()
    copy = tmp_path / sources[-1].name
    copy.write_text(sources[-1].read_text() + "// changed\n")
    changed = [*sources[:-1], copy]
    for core, axi_bits, files in (
        (NPU8, 128, sources), (NPU_LB, 128, sources), (NPU8, 64, sources), (NPU8, 128, changed),
    ):  # fmt: skip
        assert blocks_of(core, axi_bits, files) == []
        assert blocks_of(core, axi_bits, files) == []
    assert len(runs) == 4


@pytest.mark.gates
def test_a_design_that_yosys_refuses_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path / "build"))
    broken = tmp_path / "npu_acc_structural.sv"
    sources = {file.name: file for file in rtl_sources()}
    broken.write_text(sources[broken.name].read_text().replace("<= first_i;", "<= missing;"))
    with pytest.raises(GatesError, match=r"npu_acc_structural\.sv:\d+.*'missing'") as raised:
        blocks_of(NPU8, sources=[*(sources | {broken.name: broken}).values()])
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "build" / "gates").iterdir()) == []


# ------------------------------------------------------------------------------------------ equal or not
def module(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    ports = {
        "a_i": {"direction": "input", "bits": [2, 3]}, "y_o": {"direction": "output", "bits": [4]},
    }  # fmt: skip
    return {"ports": ports, "cells": cells}


def gate(kind: str, a: int | str, b: int | str, y: int, **parameters: str) -> dict[str, Any]:
    return {"type": kind, "parameters": parameters, "connections": {"A": [a], "B": [b], "Y": [y]}}


def test_modules_are_equal_if_nothing_but_numbers_of_nets_and_names_differs() -> None:
    design = {
        "m$1": module({"$x$1": gate("$and", 2, 3, 5), "$x$2": gate("$or", 5, "1", 4, MEMID="x")}),
        "m$2": module({"$x$9": gate("$and", 2, 3, 9), "$x$10": gate("$or", 9, "1", 4, MEMID="y")}),
        "m$3": module({"$a$1": gate("$and", 2, 2, 5), "$o$2": gate("$or", 5, "1", 4)}),
        "m$4": module({"$a$1": gate("$and", 2, 3, 5), "$o$2": gate("$or", 5, "0", 4)}),
        "m$5": module({"$a$1": gate("$and", 2, 3, 5), "$o$2": gate("$or", 5, "1", 4, WIDTH="1")}),
        "n$1": module({"$a$1": gate("$and", 2, 3, 5), "$o$2": gate("$or", 5, "1", 4)}),
        "p$1": module({"i": gate("m$1", 2, 3, 4)}),
        "p$2": module({"i": gate("m$2", 2, 3, 4)}),
        "p$3": module({"i": gate("m$3", 2, 3, 4)}),
    }
    digests: dict[str, str] = {}
    of = {name: blocks._digest(name, design, digests) for name in design}
    assert of["m$1"] == of["m$2"]
    assert of["p$1"] == of["p$2"] != of["p$3"]
    assert len({of[name] for name in ("m$1", "m$3", "m$4", "m$5", "n$1")}) == 5


# ------------------------------------------------------------------------------------------------ cells
def assert_closed(block: Block) -> None:
    """Every net that a cell reads has a driver, and the block has nothing but cells."""
    osu = library()
    netlist = block.netlist(osu)
    driven = {bit for port in netlist.ports_of("input") for bit in port.bits}
    read = {bit for port in netlist.ports_of("output") for bit in port.bits}
    for item in netlist.instances:
        outputs = {pin.name for pin in osu.cell(item.cell).outputs}
        for pin, bits in item.pins.items():
            (driven if pin in outputs else read).update(bits)
    assert {bit for bit in read if isinstance(bit, int)} <= driven
    assert analyse(netlist, osu).path.ns > 0


@pytest.mark.gates
def test_what_is_below_a_block_is_left_out_of_it_and_its_pins_are_ports() -> None:
    core_blocks = blocks_of(NPU8)
    (acc,) = by_module(core_blocks, "npu_acc_structural")
    assert {name.partition("$")[0] for name in acc.children} == {"npu_acc_columns"}
    synthesised = acc.synthesize(library())
    assert Counter(box.cell.partition("$")[0] for box in synthesised.black_boxes.values()) == {
        "npu_acc_columns": 4,
    }  # fmt: skip
    netlist = acc.netlist(library())
    assert len(netlist.instances) == sum(synthesised.cells.values())
    assert (
        synthesised.flops == 1 + 5 + 32 + 1 + 1
    )  # bank, pixel, the same as one bit of 32, first, drained bank
    columns = netlist.ports["gen_columns[12].i_columns.drain_o.input"]
    assert (columns.direction, len(columns.bits)) == ("input", 4 * 32)
    assert netlist.ports["gen_columns[12].i_columns.add_i.output"].bits == netlist.ports["add_i"].bits
    assert_closed(acc)


@pytest.mark.gates
def test_a_block_without_blocks_below_is_synthesised_as_it_is() -> None:
    (word,) = by_module(blocks_of(NPU8), "npu_tile_word")
    synthesised = word.synthesize(library())
    assert word.children == ()
    assert synthesised.black_boxes == {}
    assert synthesised.flops == 256
    assert word.netlist(library()) == synthesised.netlist()
    assert_closed(word)


def test_pins_of_boxes_become_inputs_where_nothing_else_drives_and_outputs_elsewhere(tmp_path: Path) -> None:
    netlist = write_netlist(
        tmp_path / "n.json",
        {"a_i": [2]},
        {"y_o": [6]},
        [
            ("INVX1", {"A": 2, "Y": 3}),
            ("box", {"p": 3, "q": 4}),
            ("box", {"p": 4, "q": 5}),
            ("NAND2X1", {"A": 4, "B": 5, "Y": 6}),
        ],
    )
    text = json.loads(netlist.path.read_text())
    text["modules"]["block"]["cells"]["u1"]["connections"]["wide"] = [2, 7, "1", "x"]
    netlist.path.write_text(json.dumps(text))
    core_blocks = blocks._without_boxes(read_netlist(netlist.path), library())[0]
    assert [item.name for item in core_blocks.instances] == ["u0", "u3"]
    assert {name: (port.direction, port.bits) for name, port in core_blocks.ports.items()} == {
        "a_i": ("input", (2,)),
        "y_o": ("output", (6,)),
        "u1.p.output": ("output", (3,)),
        "u1.q.input": ("input", (4,)),
        "u1.wide.input": ("input", (7,)),
        "u1.wide.output": ("output", (2,)),
        "u2.p.output": ("output", (4,)),
        "u2.q.input": ("input", (5,)),
    }
    assert analyse(core_blocks, library()).path.ns > 0
