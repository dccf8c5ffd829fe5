# SPDX-License-Identifier: Apache-2.0
"""Runs many random layers on a unit, or random networks on all, each without and with back-pressure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.arrays import Int8
from common.errors import NpuloopError, TestbenchError
from golden.importers.inputs import random_input
from golden.layer import Layer
from golden.network import Inputs, Network
from hw.core import CoreConfig
from hw.system import System
from mapping.compiler.compile import compile_layer
from mapping.compiler.plan import CapacityError
from mapping.run.layers import failure_report, run_program
from mapping.run.networks import NetworkProgram, compile_network, run_inputs
from mapping.run.random_layers import random_layer
from mapping.run.random_networks import random_mapping, random_network
from tb.job import Job
from tb.session import Session, rerun_with_waves

RESET_EVERY = 4
"""One layer in four runs right after a soft reset: state left from the layer before must not be needed."""
ATTEMPTS = 100
"""Networks that are drawn for a seed until one fits the system."""
SEEDS_APART = 1_000_000
"""From the seed of one of them to the next one's."""


@dataclass
class SoakResult:
    """What came of it.

    Attributes:
        runs: layers and networks that were run, each time counted.
        values: output values that were compared with the golden model.
        wrong: of these, values that differ.
        cycles: of all runs together.
        failures: one message for each failing run, with its seed.
    """

    runs: int = 0
    values: int = 0
    wrong: int = 0
    cycles: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: SoakResult) -> None:
        """Add what came of another soak."""
        self.runs += other.runs
        self.values += other.values
        self.wrong += other.wrong
        self.cycles += other.cycles
        self.failures += other.failures


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
            if seed % RESET_EVERY == 0:
                session.run(Job(starts={unit: (0, 0)}, reset_after=0))
            command = f"npuloop soak --unit {unit} --seed {seed} --count 1 {options}".rstrip()
            layer_twice(
                session, core, random_layer(seed, core), seed, f"seed {seed} on {unit}: {command}", result
            )
            on_done()
    return result


def layer_twice(
    session: Session, core: CoreConfig, layer: Layer, seed: int, head: str, result: SoakResult
) -> None:
    """Run a layer on a unit undisturbed and with a seed's stalls, and add what comes of it to a result.

    Args:
        session: a session of the unit's system.
        core: the unit.
        layer: the layer.
        seed: of the stalls.
        head: first line of a failure: which run it is, and how to repeat it.
        result: what is added to.

    Raises:
        NpuloopError: the layer does not fit, or the simulator dies.
    """
    program = compile_layer(layer, core, mem_bytes=session.config.mem_bytes)

    def once(backpressure: int | None) -> str | None:
        run = run_program(session, program, backpressure=backpressure)
        result.cycles += run.cycles
        result.values += run.golden.size
        result.wrong += run.mismatches
        return None if run.passed else failure_report(session.config, run)

    _twice(once, seed, head, result)


def _twice(once: Callable[[int | None], str | None], seed: int, head: str, result: SoakResult) -> None:
    """Run something undisturbed and with a seed's stalls.

    Args:
        once: runs it with the seed of the stalls, or None; returns what differs, or None.
        seed, head, result: see `layer_twice`.
    """
    for backpressure in (None, seed):
        result.runs += 1
        try:
            failure = once(backpressure)
        except TestbenchError:
            raise
        except NpuloopError as error:
            failure = str(error)
        if failure is not None:
            result.failures.append(f"{head}\n{failure}")


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
            program, x = fitting_network(seed, system)
            command = f"npuloop soak --unit networks --seed {seed} --count 1 {options}".rstrip()
            network_twice(session, program, x, seed, f"seed {seed}: {command}", result)
            on_done()
    return result


def fitting_network(seed: int, system: System) -> tuple[NetworkProgram, Int8]:
    """Return a random network with a random mapping that a system has room for, compiled, and an input.

    Equal arguments give equal results. Every tensor is stored if the seed is even.

    Raises:
        CapacityError: of many networks none fits.
    """
    refused = ""
    for attempt in range(ATTEMPTS):
        network, units, x = random_network(seed + attempt * SEEDS_APART, system.cores)
        try:
            return compile_network(network, system, units, observe=seed % 2 == 0), x
        except CapacityError as error:
            refused = str(error)
    raise CapacityError(f"seed {seed}: of {ATTEMPTS} random networks none fits; of the last one, {refused}")


def soak_one_network(
    network: Network,
    seeds: Iterable[int],
    config: System | None = None,
    on_done: Callable[[], None] = lambda: None,
    *,
    inputs: int = 8,
    options: str = "",
    **session_options: Any,
) -> SoakResult:
    """Run a network in RTL with a random mapping for each seed and random inputs, every tensor compared.

    Args:
        network: the network.
        seeds: one random mapping each.
        config: the system; by default the preset `pair`.
        on_done: called after each mapping.
        inputs: random inputs for each mapping, each undisturbed and with stalls.
        options: as in `soak`, with the network.
        session_options: for tb.session.Session.

    Raises:
        MappingError: a layer's weights fit no unit.
        NpuloopError: see `soak`.
    """
    system = config or System()
    result = SoakResult()
    with Session(system, **session_options) as session:
        for seed in seeds:
            rng = np.random.default_rng(seed)
            units = random_mapping(rng, network, system.cores)
            program = compile_network(network, system, units, observe=True)
            command = f"npuloop soak --seed {seed} --count 1 --inputs {inputs} {options}".rstrip()
            for number in range(inputs):
                head = f"seed {seed}, input {number}: {command}"
                drawn = random_input(network, seed * inputs + number)
                network_twice(session, program, drawn, seed, head, result)
            on_done()
    return result


def network_twice(
    session: Session, program: NetworkProgram, inputs: Inputs, seed: int, head: str, result: SoakResult
) -> None:
    """Run a network undisturbed and with a seed's stalls; arguments and errors as in `layer_twice`.

    Args:
        session: a session of the program's system.
        program: the compiled network; every tensor that it stores is compared.
        inputs: int8, the network's input.
        seed, head, result: see `layer_twice`.
    """

    def once(backpressure: int | None) -> str | None:
        (run,) = run_inputs(session, program, inputs, "layers", backpressure)
        result.cycles += run.cycles
        result.values += run.values
        result.wrong += sum(run.mismatches.values())
        if run.exact:
            return None
        wrong = {name: count for name, count in run.mismatches.items() if count}
        return f"  values that differ: {wrong}\n  waves: {rerun_with_waves(session.config, run.job)}"

    _twice(once, seed, head, result)
