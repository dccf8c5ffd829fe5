# SPDX-License-Identifier: Apache-2.0
"""A failure of a soak says one command that shows it again; no simulator runs here."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.errors import NpuloopError
from hw.system import System
from mapping.compiler.plan import CapacityError
from mapping.run import soak as soaking
from mapping.run.networks import compile_network
from mapping.run.random_networks import random_network
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
        return SimpleNamespace(cycles=10, passed=True, golden=np.zeros(7), mismatches=0)

    def run_network(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(**vars(run()) | {"exact": True, "values": 7, "mismatches": {}})

    session = SimpleNamespace(run=lambda _job: None, config=System())
    monkeypatch.setattr(soaking, "Session", lambda *_, **__: nullcontext(session))
    monkeypatch.setattr(soaking, "run_program", run)
    monkeypatch.setattr(soaking, "run_inputs", lambda *_: [run_network()])


def test_a_failing_layer_comes_with_one_command_that_shows_it_again() -> None:
    result = soak("npu8", range(1, 4), options="--set npu8.LANES=8")
    assert (result.runs, result.cycles, result.values, result.wrong) == (6, 50, 35, 0)
    command = f"npuloop soak --unit npu8 --seed {FAILING} --count 1 --set npu8.LANES=8"
    assert result.failures == [f"seed {FAILING} on npu8: {command}\nnpu8: illegal_command in load"]


def test_a_failing_network_comes_with_one_command_that_shows_it_again() -> None:
    result = soak_networks(range(1, 4))
    assert (result.runs, result.cycles, result.values, result.wrong) == (6, 50, 35, 0)
    command = f"npuloop soak --unit networks --seed {FAILING} --count 1"
    assert result.failures == [f"seed {FAILING}: {command}\nnpu8: illegal_command in load"]


def test_a_network_that_does_not_fit_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 248's first one has a pool whose windows differ too much for the parameters of `npu_lb`."""
    system = System()
    network, units, _ = random_network(248, system.cores)
    with pytest.raises(CapacityError, match="average_pool_2"):
        compile_network(network, system, units)
    program, inputs = soaking.fitting_network(248, system)
    assert inputs.shape == program.network.input.shape
    assert program.network.name == f"random_{248 + soaking.SEEDS_APART}"
    monkeypatch.setattr(soaking, "ATTEMPTS", 1)
    with pytest.raises(CapacityError, match=r"of 1 random .* fits; .*PARAM_KIB=7"):
        soaking.fitting_network(248, system)
