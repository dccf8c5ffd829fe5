# SPDX-License-Identifier: Apache-2.0
"""A campaign on the RTL: mutants are killed, one that the tests cannot see survives, and a run goes on."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hw.sources import rtl_sources
from tb.build import design_sources, simulators_root
from tb.mutants import pool, results
from tb.mutants.campaign import Campaign
from tb.mutants.draw import Draw, all_mutants, design, prepare, shuffled
from tb.mutants.mutant import Mutant
from tb.mutants.plan import files_of_tests
from tb.mutants.pool import run_file
from tb.mutants.source import MutantError

COUNT = 7
TOKENS = "npu_tokens.sv"
BENCH = "tb/blocks/test_tokens.py::test_tokens_are_neither_lost_nor_invented[2]"
KNOWN = "take_i[to][from] -> top bit lost"
"""A mutant that the bench of the tokens kills: no token is ever taken."""


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """Mutants of the tokens, one of them known, and one of a module that their bench does not hold."""
    sources = design()
    every = all_mutants(sources, files=[TOKENS, "npu_sram.sv"])
    tokens = [mutant for mutant in shuffled(every, 4) if mutant.file == TOKENS and mutant.operator != "stuck"]
    known = next(mutant for mutant in every if mutant.change == KNOWN)
    other = next(mutant for mutant in every if mutant.file == "npu_sram.sv")
    order = [other, known, *(mutant for mutant in tokens if mutant != known)]
    return prepare(tmp_path_factory.mktemp("draw"), COUNT, order, sources)


@pytest.fixture(scope="module")
def campaign(draw: Draw) -> Campaign:
    bench = next(file for file in files_of_tests() if file.name == "tb/blocks/test_tokens.py")
    # the bench is said to hold the memory too, so that it looks at the mutant that it cannot see
    bench = replace(bench, name=BENCH, rtl=bench.rtl | {"npu_sram.sv"})
    return Campaign(draw.rtl.parent, draw, [bench], simulators=simulators_root())


@pytest.mark.rtl
def test_mutants_are_killed_survivors_are_listed_and_a_run_goes_on(
    campaign: Campaign, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WARM", ())  # this process has imported what the bench needs
    monkeypatch.setenv("NPULOOP_CASE", "random|overflow")
    summary = campaign.run(jobs=1)
    assert summary.survived == [1], "only the mutant that is not in the bench survives"
    assert sorted(summary.killed) == list(range(2, COUNT + 1))
    assert campaign.draw.mutants[2].change == KNOWN
    assert summary.killed[2].test == BENCH
    assert not summary.good
    mutant = campaign.draw.mutants[1]
    assert f"{mutant.place} ({mutant.operator}) {mutant.text}" in results.report(summary)
    printed = capfd.readouterr().out
    assert printed.count("killed by") == COUNT - 1
    assert printed.count("SURVIVES") == 1

    # what is known is not run again; what an interruption has left open is
    kept = results.path_of(campaign.folder, 3).stat().st_mtime_ns
    results.path_of(campaign.folder, 5).unlink()
    assert campaign.summary().open == [5]
    began = time.monotonic()
    assert sorted(campaign.run(jobs=1).killed) == list(range(2, COUNT + 1))
    assert time.monotonic() - began < summary.killed[5].seconds + 20
    assert results.path_of(campaign.folder, 3).stat().st_mtime_ns == kept
    assert capfd.readouterr().out.count("killed by") == 1


@pytest.mark.rtl
def test_a_mutant_that_hangs_is_ended_with_all_that_it_has_started(campaign: Campaign) -> None:
    simulators = campaign.folder / "simulators"
    run = run_file(BENCH, 0, campaign.draw.rtl, simulators, 0.3)
    assert run.hung
    assert run.red
    assert not [path for path in simulators.iterdir() if path.name.startswith("mutant-")]


@pytest.mark.rtl
def test_a_draw_is_read_back_and_holds_what_was_asked_for(draw: Draw) -> None:
    again = prepare(draw.rtl.parent, COUNT, [], [])
    assert again == draw
    assert len(draw.mutants) == COUNT
    assert {file.name for file in draw.rtl.rglob("*.sv")} == {file.name for file in rtl_sources()}


def test_more_than_there_are_cannot_be_drawn(tmp_path: Path) -> None:
    mutant = Mutant(TOKENS, 0, 1, "x", 1, "constant", "npu_tokens", "expression", "t", "o")
    with pytest.raises(MutantError, match="draw at most so many instead of 2"):
        prepare(tmp_path, 2, [mutant], design())


def test_the_simulated_design_is_that_of_the_folder_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NPULOOP_RTL", raising=False)
    assert design_sources() == rtl_sources()
    monkeypatch.setenv("NPULOOP_RTL", os.fspath(tmp_path))
    names = [file.relative_to(tmp_path.resolve()) for file in design_sources()]
    assert [name.name for name in names] == [file.name for file in rtl_sources()]
