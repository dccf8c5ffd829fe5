# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.synthesis and gates.netlist."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import GatesError
from gates.netlist import read_netlist
from gates.synthesis import synthesize
from gates.testing import MAC, library, mac
from hw.sources import rtl_sources


@pytest.mark.gates
def test_a_block_becomes_cells_whose_areas_add_up() -> None:
    result = mac()
    osu = library()
    assert result.flops == 12
    assert result.area_um2 == sum(osu.cell(name).area_um2 * count for name, count in result.cells.items())
    netlist = result.netlist()
    assert len(netlist.instances) == sum(result.cells.values())
    assert [len(netlist.ports[name].bits) for name in ("a_i", "sum_o")] == [4, 12]
    assert result.verilog.read_text().count("DFFSR ") == 12
    assert mac(6).area_um2 > 1.5 * result.area_um2


@pytest.mark.gates
def test_a_second_call_takes_the_netlist_from_the_cache(tmp_path: Path) -> None:
    first = synthesize([MAC], "mac", {"Width": 3}, library(), tmp_path)
    written = first.json.stat().st_mtime_ns
    assert synthesize([MAC], "mac", {"Width": 3}, library(), tmp_path) == first
    assert first.json.stat().st_mtime_ns == written
    assert len(list(tmp_path.iterdir())) == 1
    changed = tmp_path / "mac.sv"
    changed.write_text(MAC.read_text().replace("a_i * b_i", "a_i * a_i"))
    other = synthesize([changed], "mac", {"Width": 3}, library(), tmp_path)
    assert other.json.parent != first.json.parent


@pytest.mark.gates
def test_black_boxes_stay_with_their_parameters(tmp_path: Path) -> None:
    result = synthesize([MAC], "macs", {}, library(), tmp_path, black_boxes=["mac"])
    assert result.flops == 0
    assert {name: box.cell for name, box in result.black_boxes.items()} == {
        "gen_mac[0].i_mac": "mac",
        "gen_mac[1].i_mac": "mac",
    }
    assert all(box.parameters["Width"] == 4 for box in result.black_boxes.values())
    whole = synthesize([MAC], "macs", {}, library(), tmp_path)
    assert whole.flops == 24
    assert not whole.black_boxes


@pytest.mark.gates
def test_the_design_with_its_assertions_is_read(tmp_path: Path) -> None:
    result = synthesize(rtl_sources(), "npu_fifo", {"Width": 8, "Depth": 4}, library(), tmp_path)
    assert result.flops == 8 * 4 + 2 + 2 + 3  # storage, pointers, count


@pytest.mark.gates
def test_an_error_of_yosys_is_one_line_with_file_and_fault(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sv"
    broken.write_text("module broken (output logic y_o);\n  assign y_o = missing;\nendmodule\n")
    with pytest.raises(GatesError, match=r"broken\.sv:2.*undeclared identifier 'missing'") as raised:
        synthesize([broken], "broken", {}, library(), tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(GatesError, match="cannot read a source"):
        synthesize([tmp_path / "none.sv"], "broken", {}, library(), tmp_path)


@pytest.mark.gates
def test_what_has_no_cell_is_refused(tmp_path: Path) -> None:
    bus = tmp_path / "bus.sv"
    bus.write_text(
        "module bus (input logic e_i, d_i, output wire y_o);\n  assign y_o = e_i ? d_i : 1'bz;\nendmodule\n"
    )
    with pytest.raises(
        GatesError, match=r"synthesis of bus: .*_TBUF_, which .*osu018_stdcells\.lib does not"
    ):
        synthesize([bus], "bus", {}, library(), tmp_path)


def test_a_file_that_is_no_netlist_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "netlist.json"
    for text in ("", "[]", '{"modules": {}}', '{"modules": {"m": {"attributes": {}}}}'):
        file.write_text(text)
        with pytest.raises(GatesError, match=r"netlist\.json is not a netlist"):
            read_netlist(file)
