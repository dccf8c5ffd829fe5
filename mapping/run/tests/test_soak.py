# SPDX-License-Identifier: Apache-2.0
"""A failure of a soak says one command that shows it again; no simulator runs here."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import NpuloopError
from mapping.run import soak as soaking
from mapping.run.soak import soak, soak_networks

FAILING = 2
"""The seed whose undisturbed run fails."""


@pytest.fixture(autouse=True)
def no_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the third run fail: that of the second seed, undisturbed."""
    runs = 0

    def run(*_: Any, **__: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs == 3:
            raise NpuloopError("npu8: illegal_command in load")
        return SimpleNamespace(cycles=10, passed=True, exact=True)

    session = SimpleNamespace(run=lambda _job: None)
    monkeypatch.setattr(soaking, "Session", lambda *_, **__: nullcontext(session))
    monkeypatch.setattr(soaking, "run_program", run)
    monkeypatch.setattr(soaking, "run_inputs", lambda *_: [run()])


def test_a_failing_layer_comes_with_one_command_that_shows_it_again() -> None:
    result = soak("npu8", range(1, 4), options="--set npu8.LANES=8")
    assert (result.runs, result.cycles) == (6, 50)
    command = f"npuloop soak --unit npu8 --seed {FAILING} --count 1 --set npu8.LANES=8"
    assert result.failures == [f"seed {FAILING} on npu8: {command}\nnpu8: illegal_command in load"]


def test_a_failing_network_comes_with_one_command_that_shows_it_again() -> None:
    result = soak_networks(range(1, 4))
    assert (result.runs, result.cycles) == (6, 50)
    command = f"npuloop soak --unit networks --seed {FAILING} --count 1"
    assert result.failures == [f"seed {FAILING}: {command}\nnpu8: illegal_command in load"]
