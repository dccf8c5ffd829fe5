# SPDX-License-Identifier: Apache-2.0
"""The runner itself: a failing test, a failing assertion of the RTL and a skipped test turn it red."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tb.blocks.runner import BenchError, Block, run, simulate

pytestmark = pytest.mark.rtl

TOKENS = Block("tb_tokens", ["npu_tokens.sv"], {"CountBits": 2})
FAULTS = "tb.blocks.faults"


def test_failing_cocotb_test_is_reported_with_seed_waves_and_a_line_to_reproduce(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message of a failure says all that is needed to look at it."""
    monkeypatch.setenv("NPULOOP_CASE", "wrong_expectation$")
    monkeypatch.setenv("NPULOOP_SEED", "77")
    with pytest.raises(BenchError, match="1 of 1 cocotb tests failed") as caught:
        run(TOKENS, FAULTS)
    text = str(caught.value)
    assert "assert int(dut.available_o.value) == 1" in text
    assert "NPULOOP_SEED=77 NPULOOP_CASE='wrong_expectation$'" in text
    assert "test_runner.py::test_failing_cocotb_test" in text
    waves = re.search(r"waves: (.*)", text)
    assert waves is not None
    assert Path(waves[1]).stat().st_size > 0


def test_failing_assertion_of_the_rtl_turns_the_run_red() -> None:
    """An assertion in the RTL fails the run although no Python check fails, and says its name."""
    outcome = simulate(TOKENS, FAULTS, "broken_assertion$")
    assert not outcome.good
    log = outcome.log.read_text(errors="replace")
    assert re.search(
        r"Assertion failed in \S+\.TokensAreThereWhenTaken: A token is taken only where there is one", log
    )


def test_run_in_which_nothing_ran_is_red() -> None:
    """A filter that matches nothing does not pass."""
    assert not simulate(TOKENS, FAULTS, "no_such_test$").good


def test_skipped_cocotb_test_has_not_passed() -> None:
    """A skip is not a pass."""
    outcome = simulate(TOKENS, FAULTS)
    assert not outcome.good
    assert "skipped" not in outcome.passed


def test_missing_test_is_red() -> None:
    """A test that a bench needs and that was not collected fails it."""
    with pytest.raises(BenchError, match="no_such_test have not run"):
        run(TOKENS, "tb.blocks.test_tokens", ["counts", "no_such_test"])
