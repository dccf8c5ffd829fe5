# SPDX-License-Identifier: Apache-2.0
"""Points of the RTL are added up over builds, left out only with a reason, and reported."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from common.paths import ROOT
from tb.blocks.runner import Block, run as run_block
from tb.coverage import __main__ as command, code, collect, plan, report

FILE = "rtl/npu_fifo.sv"


def point(kind: str, line: int, what: str, lines: str = "", file: str = FILE, page: str = "npu_fifo") -> str:
    """Return a point as Verilator writes it."""
    fields = {"f": file, "l": str(line), "n": "3", "t": kind, "page": f"v_{kind}/{page}", "o": what}
    if lines:
        fields["S"] = lines
    return "".join(f"\x01{key}\x02{value}" for key, value in (fields | {"h": "top.i_fifo"}).items())


def absorb(folder: Path, build: str, points: dict[str, int]) -> None:
    """Leave a simulator's file and absorb it."""
    data = folder / "coverage.dat"
    text = "# SystemC::Coverage-3\n" + "".join(f"C '{name}' {count}\n" for name, count in points.items())
    data.write_text(text)
    collect.absorb(data, build)
    assert not data.exists()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that collects."""
    monkeypatch.setenv("NPULOOP_COVERAGE", str(tmp_path))
    return tmp_path


def test_only_simulators_that_count_get_more_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPULOOP_CODE_COVERAGE", raising=False)
    assert folder.exists()
    assert collect.slower() == 1
    monkeypatch.setenv("NPULOOP_CODE_COVERAGE", "1")
    assert collect.slower() == collect.COUNTING_SLOWER > 1
    monkeypatch.delenv("NPULOOP_COVERAGE")
    assert collect.slower() == 1


def test_simulators_and_builds_add_up(folder: Path) -> None:
    branch = point("branch", 30, "if", "30-31")
    wide = point("toggle", 16, "data_i[40]:0->1")
    absorb(folder, "a", {branch: 1, point("toggle", 16, "data_i[0]:0->1"): 0})
    absorb(folder, "a", {branch: 2, point("toggle", 16, "data_i[0]:0->1"): 0})
    absorb(folder, "b", {branch: 4, point("toggle", 16, "data_i[0]:0->1"): 5, wide: 0})
    counted = code.read_code(folder)
    assert counted.points[code.Point("branch", FILE, 30, "3 if")] == 7
    assert counted.points[code.Point("line", FILE, 30)] == counted.points[code.Point("line", FILE, 31)] == 7
    assert counted.points[code.Point("toggle", FILE, 16, "data_i[0]:0->1")] == 5
    table = code.shares(counted, {})
    assert {kind: str(share) for kind, share in table["all"].items()} == {
        "line": "100.00 % (2 of 2)",
        "branch": "100.00 % (1 of 1)",
        "toggle": "50.00 % (1 of 2)",
    }
    assert [str(each) for each in code.missed(counted, {})] == [f"{FILE}:16: toggle data_i[40]:0->1"]


def test_states_are_counted_and_monitors_are_not(folder: Path) -> None:
    monitor = "sim/cover_npu_core.sv"
    state = point("user", 9, "s_stalls", file=monitor)
    absorb(folder, "a", {state: 3, point("toggle", 2, "rst_ni:0->1", file=monitor): 1})
    counted = code.read_code(folder)
    assert counted.states == {"s_stalls": 3}
    assert not counted.points


def test_cells_that_a_user_gives_are_no_part_of_the_rtl(folder: Path) -> None:
    copy = point("branch", 30, "if", "30-31", file="/copy/rtl/npu_fifo.sv")
    absorb(folder, "a", {copy: 1, point("branch", 9, "if", "9", file="/cells/npu_clock_gate.sv"): 1})
    assert {place.file for place in code.read_code(folder).points} == {FILE}


def test_a_design_without_rtl_has_no_points(folder: Path) -> None:
    absorb(folder, "host", {})
    absorb(folder, "a", {point("branch", 30, "if", "30-31"): 1})
    assert {place.file for place in code.read_code(folder).points} == {FILE}


def test_a_folder_that_has_counted_nothing_is_an_error(folder: Path) -> None:
    with pytest.raises(code.CoverageError, match="no simulator has counted"):
        code.read_code(folder)


def test_an_exclusion_leaves_out_what_it_names_and_was_not_reached(folder: Path) -> None:
    points = {point("toggle", 16, f"data_i[{bit}]:0->1"): int(bit == 3) for bit in range(4)}
    absorb(folder, "a", points)
    counted = code.read_code(folder)
    rule = code.Exclusion("toggle", "npu_fifo.sv", "data_*", (2, 3), "The upper bits are zero.")
    left = code.excluded(counted, [rule])
    assert [each.what for each in left] == ["data_i[2]:0->1"]
    assert code.shares(counted, left)["all"]["toggle"] == code.Share(1, 3)
    with pytest.raises(code.CoverageError, match="matches nothing; remove it"):
        code.excluded(counted, [code.Exclusion("toggle", "npu_fifo.sv", "date_*", None, "None.")])


def test_an_exclusion_can_name_some_indices_of_a_generated_block(folder: Path) -> None:
    names = [f"gen[{i}].x[{bit}]:0->1" for i in (8, 9, 16, 17) for bit in (0, 1)]
    absorb(folder, "a", {point("toggle", 16, name): 0 for name in names})
    counted = code.read_code(folder)
    left = code.excluded(
        counted, [code.Exclusion("toggle", "npu_fifo.sv", "gen[9-16].x", (0, 0), "It is tied.")]
    )
    assert sorted(each.what for each in left) == ["gen[16].x[0]:0->1", "gen[9].x[0]:0->1"]


def test_an_exclusion_of_lines_names_their_function(folder: Path) -> None:
    file = "rtl/structural/npu_operands.sv"
    source = (ROOT / file).read_text().splitlines()
    first = next(number for number, line in enumerate(source, 1) if " reduce(" in line)
    last = next(number for number, line in enumerate(source, 1) if "endfunction" in line)
    lines = {line: point("line", line, "block", str(line), file) for line in range(first - 1, last + 2)}
    absorb(folder, "a", dict.fromkeys(lines.values(), 0))
    counted = code.read_code(folder)
    left = code.excluded(
        counted, [code.Exclusion("line", "*/npu_operands.sv", "reduce()", None, "Not counted.")]
    )
    assert sorted(each.line for each in left) == list(range(first, last + 1))
    with pytest.raises(code.CoverageError, match="matches nothing; remove it"):
        code.excluded(counted, [code.Exclusion("line", "*/npu_operands.sv", "reduced()", None, "None.")])


def test_every_exclusion_of_the_project_has_a_sentence() -> None:
    for rule in code.read_exclusions():
        assert rule.kind in code.KINDS
        assert rule.because.endswith("."), rule
        assert len(rule.because.split()) >= 4, rule


def test_reports_hold_lines_and_branches_for_other_programs(folder: Path) -> None:
    points = {
        point("branch", 30, "if", "30-31"): 2,
        point("branch", 30, "else"): 0,
        point("line", 40, "block", "40"): 0,
        point("toggle", 16, "data_i[0]:0->1"): 0,
    }
    absorb(folder, "a", points)
    counted = code.read_code(folder)
    report.write_reports(folder, counted, {})
    lcov = (folder / "lcov.info").read_text()
    assert "SF:" in lcov
    assert "DA:30,2" in lcov
    assert "DA:40,0" in lcov
    root = ET.parse(folder / "cobertura.xml").getroot()  # noqa: S314 our own file
    assert (root.get("lines-covered"), root.get("lines-valid")) == ("2", "3")
    assert (root.get("branches-covered"), root.get("branches-valid")) == ("1", "2")
    assert "npu_fifo.sv" in (folder / "html" / "index.html").read_text()


def test_the_command_says_which_goals_are_missed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absorb(folder, "a", {point("branch", 30, "if", "30"): 0, point("toggle", 16, "data_i[0]:0->1"): 1})
    monkeypatch.setattr(command, "read_exclusions", list)
    monkeypatch.setattr("sys.argv", ["coverage", str(folder)])
    assert command.main() == 1
    message = capsys.readouterr().err
    assert "line: 0.00 % (0 of 1); the goal is 99 %" in message
    assert "toggle" not in message
    assert "bins not seen" in message
    missing = (folder / "missing.txt").read_text()
    assert f"{FILE}:30: branch 3 if" in missing
    assert "plan: command: operator: conv" in missing
    assert json.loads((folder / "summary.json").read_text())["toggle"]["percent"] == 100.0
    monkeypatch.setattr("sys.argv", ["coverage", str(folder / "empty")])
    assert command.main() == 2


def test_a_plan_that_is_all_seen_meets_its_goal() -> None:
    whole = plan.load_plan()
    bins = {
        f"{group.name}.{name}": dict.fromkeys(labels, 1)
        for group in whole.groups.values()
        for name, labels in {
            **group.points,
            **{cross.name: [plan.JOIN.join(each) for each in cross.bins] for cross in group.crosses},
        }.items()
    }
    assert report.unmet(None, report.plan_items(whole, bins, None)) == []
    del bins["job.end"]["error"]
    assert report.unmet(None, report.plan_items(whole, bins, None)) == [
        "plan: 1 bins not seen; the goal is all of them"
    ]
    table = report.plan_table(report.plan_items(whole, bins, None))
    Console(file=None, quiet=True).print(table)
    assert table.row_count == len(report.plan_items(whole, bins, None))


@pytest.mark.rtl
def test_a_bench_counts_lines_branches_and_states(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench of the token queues reaches all of its block, and its monitor sees the states."""
    from tb.blocks import test_tokens

    monkeypatch.setenv("NPULOOP_CODE_COVERAGE", "1")
    block = Block("tb_tokens", ["npu_tokens.sv"], {"CountBits": 3})
    run_block(block, test_tokens.__name__)
    counted = code.read_code(folder)
    table = code.shares(counted, {})["rtl/npu_tokens.sv"]
    assert table["line"].percent == table["branch"].percent == 100.0
    assert counted.states["s_a_post_held_by_a_full_counter"] > 0
    assert counted.states["s_three_engines_post_at_once"] > 0
    (points,) = (folder / "code").glob("*.points")
    assert np.load(points.with_suffix(".npy")).shape == (len(points.read_text().split("\n")),)
