# SPDX-License-Identifier: Apache-2.0
"""Runs many random layers on a unit, or random networks on all, each without and with back-pressure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from common.errors import NpuloopError, TestbenchError
from hw.system import System
from mapping.compiler.compile import compile_layer
from mapping.run.layers import failure_report, run_program
from mapping.run.networks import compile_network, run_inputs
from mapping.run.random_layers import random_layer
from mapping.run.random_networks import random_network
from tb.job import Job
from tb.session import Session, rerun_with_waves

RESET_EVERY = 4
"""One layer in four runs right after a soft reset: state left from the layer before must not be needed."""


@dataclass
class SoakResult:
    """What came of it: `failures` has one message for each failing run, with its seed."""

    runs: int = 0
    cycles: int = 0
    failures: list[str] = field(default_factory=list)


def soak(
    unit: str,
    seeds: Iterable[int],
    config: System | None = None,
    on_done: Callable[[], None] = lambda: None,
    *,
    options: str = "",
    **session_options: Any,
) -> SoakResult:
    """Run one random layer for each seed on a unit in RTL, twice: undisturbed, and with that seed's stalls.

    Args:
        unit: a unit of the system.
        seeds: one random layer each, see `random_layers.random_layer`.
        config: the system; by default the preset `pair`.
        on_done: called after each layer.
        options: of the command line that give this system, for the line that reproduces a failure.
        session_options: for tb.session.Session.

    Raises:
        NpuloopError: wrong arguments, or the simulator dies (its message has the
            reproduction).
    """
    system = config or System()
    core = system.core(unit)
    result = SoakResult()
    with Session(system, **session_options) as session:
        for seed in seeds:
            layer = random_layer(seed, core)
            program = compile_layer(layer, core, mem_bytes=system.mem_bytes)
            if seed % RESET_EVERY == 0:
                session.run(Job(starts={unit: (0, 0)}, reset_after=0))
            for backpressure in (None, seed):
                command = f"npuloop soak --unit {unit} --seed {seed} --count 1 {options}".rstrip()
                head = f"seed {seed} on {unit}: {command}"
                result.runs += 1
                try:
                    run = run_program(session, program, backpressure=backpressure)
                except TestbenchError:
                    raise
                except NpuloopError as error:
                    result.failures.append(f"{head}\n{error}")
                    continue
                result.cycles += run.cycles
                if not run.passed:
                    report = failure_report(system, run)
                    result.failures.append(f"{head}\n{report}")
            on_done()
    return result


def soak_networks(
    seeds: Iterable[int],
    config: System | None = None,
    on_done: Callable[[], None] = lambda: None,
    *,
    options: str = "",
    **session_options: Any,
) -> SoakResult:
    """Run a random network with a random mapping for each seed in RTL, twice: undisturbed, and with stalls.

    Every tensor of every other network is stored and compared; the others run as they do without a check.

    Args:
        seeds: one network each, see `random_networks.random_network`.
        config: the system; by default the preset `pair`.
        on_done: called after each network.
        options: as in `soak`.
        session_options: for tb.session.Session.

    Raises:
        NpuloopError: see `soak`.
    """
    system = config or System()
    result = SoakResult()
    with Session(system, **session_options) as session:
        for seed in seeds:
            network, units, x = random_network(seed, system.cores)
            program = compile_network(network, system, units, observe=seed % 2 == 0)
            for backpressure in (None, seed):
                command = f"npuloop soak --unit networks --seed {seed} --count 1 {options}".rstrip()
                head = f"seed {seed}: {command}"
                result.runs += 1
                try:
                    (run,) = run_inputs(session, program, x, "layers", backpressure)
                except TestbenchError:
                    raise
                except NpuloopError as error:
                    result.failures.append(f"{head}\n{error}")
                    continue
                result.cycles += run.cycles
                if not run.exact:
                    wrong = {name: count for name, count in run.mismatches.items() if count}
                    waves = rerun_with_waves(system, run.job)
                    result.failures.append(f"{head}\n  values that differ: {wrong}\n  waves: {waves}")
            on_done()
    return result
