# SPDX-License-Identifier: Apache-2.0
"""What the compiler gains by choosing plans by their predicted cycles, and what that and prices take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from common.errors import NpuloopError
from common.paths import data_dir
from golden.importers.models import load_model
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.graph import Graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Choice, Program
from mapping.cost.model import CostModel
from mapping.report.console import console_table
from mapping.run.random_networks import random_network
from mapping.search.costs import NetworkCosts
from mapping.search.objectives import price_of

SEEDS = 200
"""Random networks that are looked at."""
SEARCHED = ("pretrainedResnet_quant", "kws_ref_model")
"""Networks of which mappings are priced as in a search."""
MAPPINGS = 20
"""Mappings of each."""
REAL_PERCENT = 0.2
"""A gain from which on it counts."""
TOLERANCE_PERCENT = 0.1
"""By which storing only the outputs may be slower than storing every tensor: a few cycles of luck."""


@dataclass(frozen=True)
class Plans:
    """A network's plans.

    Attributes:
        network: its name, and the unit that it is on.
        choice: the plan that was chosen.
        plain: predicted cycles of the plan that is looked at first.
        chosen: of the one that was chosen.
        stored: of the first plan where every tensor is stored.
        plain_ms: processor time to compile the first plan's lists.
        chosen_ms: to choose, prices included, and compile.
        price_ms: of one price.
    """

    network: str
    choice: Choice
    plain: float
    chosen: float
    stored: float
    plain_ms: float
    chosen_ms: float
    price_ms: float

    @property
    def gain_percent(self) -> float:
        """What choosing gains."""
        return 100.0 * (1.0 - self.chosen / self.plain)

    @property
    def over_stored_percent(self) -> float:
        """What storing the outputs alone takes more than storing every tensor."""
        return 100.0 * (self.chosen / self.stored - 1.0)


def plans_of(
    name: str, graph: Graph, units: Mapping[str, ChannelAssignment], system: System, model: CostModel
) -> Plans:
    """Return the plans of a graph; errors as in `compile_graph`."""

    def compiled(*, observe: bool = False, price: Callable[[Program], float] | None = None) -> Program:
        return compile_graph(
            graph, system.cores, units, mem_bytes=system.mem_bytes, port_bytes=system.axi_bits // 8,
            image_wanted=False, observe=observe, price=price,
        )  # fmt: skip

    begun = time.process_time()
    plain = compiled()
    compile_ms = 1e3 * (time.process_time() - begun)
    plain_cycles = model.cycles(plain)
    begun = time.process_time()
    model.cycles(plain)  # a second time: what is known of its commands is kept
    price_ms = 1e3 * (time.process_time() - begun)
    begun = time.process_time()
    chosen = compiled(price=model.cycles)
    chosen_ms = 1e3 * (time.process_time() - begun)
    return Plans(
        network=name,
        choice=chosen.choice,
        plain=plain_cycles,
        chosen=model.cycles(chosen),
        stored=model.cycles(compiled(observe=True)),
        plain_ms=compile_ms,
        chosen_ms=chosen_ms,
        price_ms=price_ms,
    )


def random_plans(seeds: Iterable[int] = range(SEEDS)) -> Iterator[Plans]:
    """Yield the plans of random networks with random mappings on the default pair."""
    system = System()
    model = CostModel(system)
    for seed in seeds:
        network, units, _ = random_network(seed, system.cores)
        yield plans_of(f"random {seed}", legalise_network(network), units, system, model)


def public_plans() -> Iterator[Plans]:
    """Yield the plans of the public networks that are on this machine, on each unit that can run them."""
    system = System()
    model = CostModel(system)
    for file in sorted((data_dir() / "models").rglob("*.tflite")):
        with suppress(NpuloopError):  # a network that cannot be imported, or that no unit can run
            network = load_model(file)
            graph = legalise_network(network)
            for unit in system.units:
                with suppress(NpuloopError):
                    units = Assignment(unit).units(network, graph, system.cores)
                    yield plans_of(f"{file.stem} on {unit}", graph, units, system, model)


@dataclass(frozen=True)
class MappingTime:
    """Processor milliseconds of a mapping in the search: to compile it, and to price it."""

    network: str
    compile_ms: float
    price_ms: float


def mapping_times(mappings: int = MAPPINGS) -> Iterator[MappingTime]:
    """Yield what a random mapping takes of the networks of SEARCHED that are on this machine.

    What is known of operators from mappings before is kept, as in a search.
    """
    system = System()
    price = price_of("latency", system)
    for name in SEARCHED:
        file = data_dir() / "models" / f"{name}.tflite"
        if not file.exists():
            continue
        costs = NetworkCosts(load_model(file), system, price)
        rng = np.random.default_rng(1)
        shares = np.full(len(costs.units), 1 / len(costs.units))
        states = [
            tuple(tuple(rng.multinomial(total, shares).tolist()) for total in costs.totals)
            for _ in range(2 * mappings)
        ]
        for state in states[:mappings]:
            price(costs.program(state))
        begun = time.process_time()
        programs = [costs.program(state) for state in states[mappings:]]
        between = time.process_time()
        for program in programs:
            price(program)
        ends = time.process_time()
        yield MappingTime(name, 1e3 * (between - begun) / mappings, 1e3 * (ends - between) / mappings)


def plans_table(plans: Sequence[Plans]) -> Table:
    """Return a row for each network."""
    title = "Plans, predicted cycles; processor time for lists without a memory image"
    numbers = ("first plan", "chosen", "gain %", "all stored", "lists ms", "chosen ms", "price ms")
    table = console_table(title, ("network", "bands", "memory"), numbers)
    for item in plans:
        table.add_row(
            item.network, item.choice.bands, "shared" if item.choice.shares else "own",
            f"{item.plain:,.0f}", f"{item.chosen:,.0f}", f"{item.gain_percent:.2f}", f"{item.stored:,.0f}",
            f"{item.plain_ms:.0f}", f"{item.chosen_ms:.0f}", f"{item.price_ms:.1f}",
        )  # fmt: skip
    return table


def plans_summary(plans: Sequence[Plans]) -> str:
    """Return what there is to say of many networks."""
    real = [item for item in plans if item.gain_percent > REAL_PERCENT]
    slower = [item for item in plans if item.over_stored_percent > 0]
    before = [item for item in plans if item.plain > item.stored]
    worst = max((item.over_stored_percent for item in plans), default=0.0)
    mean = sum(item.gain_percent for item in plans) / max(1, len(plans))
    best = max((item.gain_percent for item in plans), default=0.0)
    times = sum(item.chosen_ms for item in plans) / max(
        1e-9, sum(item.plain_ms + item.price_ms for item in plans)
    )
    over = f", by {worst:.3f} % at most" if slower else ""
    return (
        f"{len(plans)} networks: {len(real)} gain more than {REAL_PERCENT} %, {best:.2f} % at most and "
        f"{mean:.2f} % on average; {len(slower)} slower than with every tensor stored{over}, by their "
        f"first plans {len(before)}; "
        f"choosing takes {times:.1f} times compiling and pricing the first plan"
    )


def missed_plans(plans: Iterable[Plans]) -> list[str]:
    """Return a line for every network that is slower for storing less."""
    return [
        f"{item.network}: takes {item.over_stored_percent:.2f} % more than with every tensor stored"
        for item in plans
        if item.over_stored_percent > TOLERANCE_PERCENT
    ]
