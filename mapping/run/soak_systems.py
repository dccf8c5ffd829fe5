# SPDX-License-Identifier: Apache-2.0
"""Builds random systems, fills each unit's scratchpads, and runs random layers and networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from common.arrays import Int8
from common.errors import NpuloopError, TestbenchError
from hw.system import System
from mapping.run.networks import NetworkProgram, compile_network
from mapping.run.random_layers import OPERATORS, random_layer
from mapping.run.random_networks import random_network
from mapping.run.random_systems import random_system
from mapping.run.scratchpads import whole_scratchpads
from mapping.run.soak import SoakResult, layer_twice, network_twice
from tb.session import Session

SEEDS_PER_SYSTEM = 1000
"""Seeds of layers and networks that belong to one system."""
NETWORK_ATTEMPTS = 24
"""Random networks that are tried on a system; in small scratchpads only the shallow ones fit."""
NETWORK_LAYERS = (8, 6, 4, 2, 1)
"""Layers of the random networks that are tried, in turn."""


@dataclass(frozen=True)
class SystemSoak:
    """What came of one system.

    Attributes:
        seed: of the system.
        system: the system.
        layers: layers that were run, over all units.
        networks: networks that were run.
        refused: what the compiler refused: for a unit and an operator no layer of a thousand fits.
        result: runs, values and failures.
    """

    seed: int
    system: System
    layers: int
    networks: int
    refused: tuple[str, ...]
    result: SoakResult

    @property
    def text(self) -> str:
        """One line that says which system it was and what came of it."""
        keys = ", ".join(core.key for core in self.system.cores)
        result = self.result
        line = (
            f"system {self.seed}, {self.system.axi_bits}-bit port, {keys}: {self.layers} layers and "
            f"{self.networks} networks in {result.runs} runs, {result.values:,} values compared, "
            f"{result.wrong} wrong, {len(result.failures)} failed"
        )
        return line + (f"; nothing fits of {', '.join(self.refused)}" if self.refused else "")


def soak_systems(seeds: Iterable[int], layers: int = 2, networks: int = 3) -> Iterator[SystemSoak]:
    """Run a random system for each seed in RTL and compare every output; yield each as it is done.

    Each unit's scratchpads are filled, and its activations read again. Then it runs random layers of every
    operator that it has room for, and all units together random networks with random mappings; each once
    undisturbed and once with stalls of the memory. A system that does not build, or whose simulator dies,
    counts as a failure of its own.

    Args:
        seeds: one system each, see `random_systems.random_system`.
        layers: of each operator on each unit.
        networks: on all units.
    """
    for seed in seeds:
        system = random_system(seed)
        result = SoakResult()
        refused: list[str] = []
        done = {"layers": 0, "networks": 0}
        head = f"system {seed}: npuloop soak --systems --seed {seed} --count 1"
        try:
            with Session(system) as session:
                for core in system.cores:
                    wrong, failure = whole_scratchpads(session, core, seed)
                    result.wrong += wrong
                    if failure is not None:
                        result.failures.append(f"{head}\n{failure}")
                    for number, op in enumerate(OPERATORS):
                        for i in range(layers):
                            own = seed * SEEDS_PER_SYSTEM + number * layers + i
                            try:
                                layer = random_layer(own, core, op)
                            except NpuloopError:
                                refused.append(f"{op} on {core.name}")
                                break
                            layer_twice(
                                session, core, layer, own, f"{head}\n{op} {own} on {core.name}", result
                            )
                            done["layers"] += 1
                for own, program, inputs in _networks(seed, system, networks):
                    network_twice(session, program, inputs, own, f"{head}\nnetwork {own}", result)
                    done["networks"] += 1
        except TestbenchError as error:
            result.failures.append(f"{head}\n{error}")
        yield SystemSoak(seed, system, done["layers"], done["networks"], tuple(refused), result)


def _networks(seed: int, system: System, count: int) -> Iterator[tuple[int, NetworkProgram, Int8]]:
    """Yield random networks that fit a system, with their seeds and inputs."""
    for attempt in range(NETWORK_ATTEMPTS):
        own = seed * SEEDS_PER_SYSTEM + attempt
        network, units, x = random_network(own, system.cores, NETWORK_LAYERS[attempt % len(NETWORK_LAYERS)])
        try:
            program = compile_network(network, system, units, observe=own % 2 == 0)
        except NpuloopError:
            continue
        yield own, program, x
        count -= 1
        if not count:
            return
