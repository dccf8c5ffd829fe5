# SPDX-License-Identifier: Apache-2.0
"""Tables, intervals, what still holds after tests have changed, and the list of equivalent mutants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.paths import ROOT
from tb.mutants.__main__ import main
from tb.mutants.draw import all_mutants, design
from tb.mutants.equivalents import FILE, Equivalent, load, reason, stale
from tb.mutants.mutant import Mutant
from tb.mutants.plan import BLIND, TestFile, files_of_tests, order
from tb.mutants.results import Record, report, summarise, wilson, wrong_equivalents
from tb.mutants.source import MutantError

MUTANT = Mutant(
    "npu_fifo.sv", 10, 12, "a - b", 3, "arithmetic", "npu_fifo", "expression", "x = a + b;", "a + b"
)  # fmt: skip
NEAR = TestFile("tb/blocks/test_fifo.py", 3.0, frozenset({"npu_fifo.sv"}), "1")
FAR = TestFile("mapping/run/tests/test_layers.py", 100.0, frozenset(), "2")


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(124, 131, 0.894, 0.974), (100, 100, 0.963, 1.0), (0, 10, 0.0, 0.278), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_those_of_the_books(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=6e-4)


def test_a_result_holds_as_long_as_the_tests_that_gave_it() -> None:
    killed = Record({NEAR.name: "1"}, FAR.name, "2", "test_x", seconds=5.0)
    assert killed.fits([NEAR, FAR]) == killed
    later = killed.fits([NEAR, replace(FAR, digest="3")])
    assert (later.killer, later.passed) == ("", {NEAR.name: "1"})
    assert not later.survives([NEAR, FAR])
    survived = Record({NEAR.name: "1", FAR.name: "2"})
    assert survived.survives([NEAR, FAR])
    assert not survived.fits([replace(NEAR, digest="9"), FAR]).survives([replace(NEAR, digest="9"), FAR])


def test_the_report_counts_and_names_survivors_and_equivalents() -> None:
    mutants = {n: replace(MUTANT, nth=n, line=n) for n in range(1, 6)}
    entry = Equivalent("npu_fifo.sv", "x = a + b;", "-> a - b", 4, "unreachable", "Nobody gets there at all.")
    records = {
        1: Record(killer=NEAR.name, test="test_a"),
        2: Record(killer=NEAR.name, hung=True),
        3: Record({NEAR.name: "1", FAR.name: "2"}),
    }
    summary = summarise(mutants, records, {number: [NEAR, FAR] for number in mutants}, [entry])
    assert (list(summary.killed), summary.survived, summary.open) == ([1, 2], [3], [5])
    assert list(summary.equivalent) == [4]
    assert not summary.good
    text = report(summary)
    assert "2 of 3 killed (1 by the time limit): 66.7%, 95 % interval 20.8% to 93.9%" in text
    assert "1 equivalent or unreachable, 1 not finished" in text
    assert "rtl/npu_fifo.sv:3 (arithmetic) x = a + b;" in text
    assert "a + b -> a - b" in text
    assert "Nobody gets there at all." in text
    assert wrong_equivalents(summary, [replace(entry, nth=1)]) == [1]
    assert summarise({1: mutants[1]}, records, {1: [NEAR]}, []).good


def test_the_nearest_tests_come_first_and_other_blocks_benches_not_at_all() -> None:
    files = files_of_tests()
    names = [file.name for file in order(files, "npu_tokens.sv")]
    assert names[0] == "tb/blocks/test_tokens.py"
    assert "tb/blocks/test_agu.py" not in names
    host = "tb/blocks/test_host.py"  # the bench of what is around the design
    benches = [name for name in names if name.startswith("tb/blocks/") and name != host]
    system = [name for name in names if name.startswith(("tb/tests/", "mapping/run/"))]
    assert names[: len(benches) + len(system)] == benches + system
    assert len(names) > len(benches) + len(system) + 5
    near = [file.name for file in order(files, "npu_tokens.sv", near=True)]
    assert near == benches + system
    assert not BLIND.keys() & set(names)
    assert all((ROOT / name).exists() for name in BLIND)


def test_structural_files_of_a_bench_that_lists_them_by_their_ends_are_found() -> None:
    bench = next(file for file in files_of_tests() if file.name == "tb/blocks/test_array.py")
    assert {"structural/npu_column.sv", "structural/npu_array_structural.sv"} <= bench.rtl


def test_every_recorded_equivalent_is_still_in_the_rtl() -> None:
    entries = load()
    assert FILE.exists()
    old = stale(entries, all_mutants(design(), files=sorted({entry.file for entry in entries})))
    assert [(entry.file, entry.line, entry.change) for entry in old] == []


def test_an_entry_that_fits_nothing_is_stale() -> None:
    right = Equivalent("npu_fifo.sv", "x = a + b;", "a + b -> a - b", None, "equivalent", "It is the same.")
    assert stale([right], [MUTANT]) == []
    assert reason([right], MUTANT) is right
    for wrong in (
        replace(right, line="x = a + c;"), replace(right, change="-> a * b"), replace(right, nth=1),
        replace(right, file="npu_walk.sv"),
    ):  # fmt: skip
        assert stale([right, wrong], [MUTANT]) == [wrong]
        assert reason([wrong], MUTANT) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {file: a.sv, lines: x}", "needs file, lines and reason"),
        ("- {file: a.sv, lines: x, reason: because}", "no sentence"),
        ("- {file: a.sv, lines: x, kind: maybe, reason: It is just the same thing.}", "kind is 'maybe'"),
        ("- {file: a.sv, lines: 3, reason: It is just the same thing.}", "are texts"),
        ("- {file: a.sv, lines: x, why: y, reason: It is just the same thing.}", "unknown keys why"),
        ("- x", "entry 1"),
    ],
)
def test_a_wrong_entry_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "equivalents.yaml"
    path.write_text(text)
    with pytest.raises(MutantError, match=message):
        load(path)


def test_the_command_refuses_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "npu_nothing.sv"]) == 2
    assert "the RTL has no file npu_nothing.sv" in capsys.readouterr().err
    assert main(["--list", "npu_walk.sv"]) == 0
    assert "rtl/npu_walk.sv:" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--count", "0"])
