# SPDX-License-Identifier: Apache-2.0
"""What a step of the mapping search costs, beside a step of plain training of the same module."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich.table import Table
from torch import nn

from common.arrays import Floats
from golden.network import Network
from golden.quantize.export import export
from golden.zoo.float_networks import ResNet
from golden.zoo.train_digits import DigitsNet
from hw.system import System
from mapping.report.console import console_table
from mapping.search import training
from mapping.search.costs import NetworkCosts, Sample
from mapping.search.data import DataSet
from mapping.search.mixing import Mixture
from mapping.search.objectives import price_of
from mapping.search.training import CostWeight, Recipe, TrainingRun

LIMIT = 2.0
"""Times that a step of the search may take as long as one of plain training, on the networks of LIMITED."""
LIMITED = ("ResNet8", "ResNet20")
"""On digits a plain step takes 3 ms, as much as a dozen calls of PyTorch for each layer."""
STEPS = 26
"""Steps between two evaluations of the cost, as in a search of 1,250 steps."""
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "digits": (DigitsNet, (1, 8, 8), 8),
    "ResNet8": (lambda: ResNet(1), (3, 32, 32), 2),
    "ResNet20": (lambda: ResNet(3), (3, 32, 32), 1),
}
"""Modules, the shape of their images, and how many evaluations of the cost are timed."""


@dataclass(frozen=True)
class StepTime:
    """Processor seconds of a step: in floating point, of the search, and what the cost has of it."""

    network: str
    plain: float
    search: float
    evaluation: float

    @property
    def ratio(self) -> float:
        """Search over plain."""
        return self.search / self.plain


def step_time(network: str, repeats: int = 3) -> StepTime:
    """Return the best of some repetitions, on one thread; each begins without any known cost."""
    make, shape, evaluations = NETWORKS[network]
    recipe = Recipe(warmup_epochs=1, search_epochs=1, cost_evaluations=evaluations)
    steps = evaluations * STEPS
    plain, searched = make(), make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    structure = export(searched.eval(), torch.rand(8, *shape))
    costs = _TimedCosts(structure)
    bits = [core.w_bits for core in costs.config.cores]
    mixture = Mixture(searched, costs.layers, bits, costs.allowed)
    reference = costs.cost(costs.uniform(costs.units[0]))

    def once(data: DataSet) -> tuple[float, float, float]:
        costs = _TimedCosts(structure)
        began = time.process_time()
        training.warm_up(plain, data, recipe, TrainingRun("plain", 1))
        between = time.process_time()
        training.search(mixture, costs, CostWeight(1.0, reference), data, recipe, TrainingRun("search", 1))
        return between - began, time.process_time() - between, costs.seconds

    with training.one_thread():
        once(_random_data(shape, recipe.batch))  # makes what is made once
        data = _random_data(shape, steps * recipe.batch)
        times = [once(data) for _ in range(repeats)]
    return StepTime(network, *(min(column) / steps for column in zip(*times, strict=True)))


def _random_data(shape: tuple[int, ...], images: int) -> DataSet:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(images, *shape, generator=generator)
    y = torch.randint(10, (images,), generator=generator)
    return DataSet("random", x, y, x[:8], y[:8], 10, 1 / 255, -128)


class _TimedCosts(NetworkCosts):
    """Costs of a network on the default pair that know how long they were asked."""

    def __init__(self, network: Network) -> None:
        config = System()
        super().__init__(network, config, price_of("latency", config))
        self.seconds = 0.0

    def sample(self, expected: Floats, rng: np.random.Generator, whole: bool = False) -> Sample:
        """As `NetworkCosts.sample`."""
        began = time.process_time()
        sample = super().sample(expected, rng, whole)
        self.seconds += time.process_time() - began
        return sample


def step_table(times: list[StepTime]) -> Table:
    """Return the table of steps."""
    numbers = ("plain float ms", "search ms", "of that cost ms", "search / plain")
    title = "Mapping search: a step of 64 images, one thread"
    table = console_table(title, ("network",), numbers, no_wrap=False)
    for item in times:
        table.add_row(
            item.network, f"{1e3 * item.plain:.1f}", f"{1e3 * item.search:.1f}",
            f"{1e3 * item.evaluation:.1f}", f"{item.ratio:.2f}",
        )  # fmt: skip
    return table


def missed_step_times(times: list[StepTime]) -> list[str]:
    """Return a line for every network whose search is too slow."""
    return [
        f"a search step of {item.network} takes {item.ratio:.2f} times a plain one, the limit is {LIMIT:.1f}"
        for item in times
        if item.ratio > LIMIT and item.network in LIMITED
    ]
