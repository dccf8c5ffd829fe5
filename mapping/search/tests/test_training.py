# SPDX-License-Identifier: Apache-2.0
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from golden.quantize.export import export
from hw.system import System
from mapping.cost.model import CostModel
from mapping.search import training
from mapping.search.baselines import cheapest
from mapping.search.costs import NetworkCosts, State
from mapping.search.data import DataSet
from mapping.search.mixing import Mixture
from mapping.search.preferences import nearest
from mapping.search.training import CostWeight, Recipe, Row, TrainingRun

CONFIG = System()
MODEL = CostModel(CONFIG)
RECIPE = Recipe(warmup_epochs=2, search_epochs=4, finetune_epochs=2, batch=16)


class Small(nn.Module):
    """Three convolutions whose costs depend on each other: the middle one is wide enough for both units."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 80, 3, padding=1)
        self.third = nn.Conv2d(80, 80, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.logits = nn.Linear(80, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(image))
        x = torch.relu(self.second(x))
        x = torch.relu(self.third(x))
        logits: torch.Tensor = self.logits(torch.flatten(self.pool(x), 1))
        return logits


def random_data(classes: int, images: int = 64, size: int = 12) -> DataSet:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(images, 3, size, size, generator=generator)
    y = torch.randint(classes, (images,), generator=generator)
    return DataSet("random", x, y, x[:16], y[:16], classes, 1 / 255, -128)


def small(classes: int = 4, seed: int = 1) -> Small:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Small(classes)


def small_costs(data: DataSet) -> NetworkCosts:
    network = export(small(data.classes).eval(), data.train_images[:4])
    return NetworkCosts(network, CONFIG, lambda program: MODEL.program(program).cycles)


def every_state(costs: NetworkCosts) -> list[State]:
    rows = [[(first, total - first) for first in range(total + 1)] for total in costs.totals]
    return list(itertools.product(*rows))


@pytest.fixture(scope="module")
def small_case() -> tuple[DataSet, NetworkCosts]:
    data = random_data(classes=4, images=256)
    return data, small_costs(data)


@pytest.fixture
def no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the cost is left of the loss."""
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda logits, _labels: 0 * logits.sum())


def searched(
    data: DataSet, costs: NetworkCosts, cost_weight: CostWeight, run: TrainingRun, recipe: Recipe = RECIPE
) -> tuple[Mixture, TrainingRun]:
    mixture = Mixture(small(data.classes), costs.layers, (8, 2), costs.allowed, tied=cost_weight.whole)
    with training.one_thread():
        training.search(mixture, costs, cost_weight, data, recipe, run)
    return mixture, run


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_search_alone_comes_within_a_percent_of_the_cheapest_mapping(
    small_case: tuple[DataSet, NetworkCosts], no_task: None, seed: int
) -> None:
    data, costs = small_case
    prices = {state: costs.cost(state) for state in every_state(costs)}
    best = min(prices, key=prices.__getitem__)
    uniform = [costs.cost(costs.uniform(unit)) for unit in costs.units]
    assert len(prices) == 216
    assert prices[best] < 0.9 * min(uniform), "the best mapping uses both units"
    recipe = replace(RECIPE, search_epochs=16, cost_evaluations=256)
    mixture, _ = searched(data, costs, CostWeight(1.0, uniform[0]), TrainingRun("search", seed), recipe)
    assert prices[nearest(costs, mixture.preferences())] <= 1.01 * prices[best], (
        "the next but one is 1.1 % off"
    )


def test_every_layers_logits_move_where_the_true_cost_falls(small_case: tuple[DataSet, NetworkCosts]) -> None:
    _, costs = small_case
    for state in every_state(costs)[7::19]:
        mixture = Mixture(small(), costs.layers, (8, 2), costs.allowed)
        channels = np.array(costs.counts(state), float)
        cost_weight = CostWeight(1.0, costs.cost(state))
        cost_weight.evaluate(costs, torch.from_numpy(channels), np.random.default_rng(2))
        cost_weight(mixture.expected()).backward()  # type: ignore[no-untyped-call]
        for index, layer in enumerate(mixture.layers.values()):
            assert layer.logits is not None
            assert layer.logits.grad is not None
            for giver, taker in ((0, 1), (1, 0)):
                row = list(state[index])
                if not row[giver]:
                    continue
                row[giver], row[taker] = row[giver] - 1, row[taker] + 1
                change = costs.cost((*state[:index], tuple(row), *state[index + 1 :])) - costs.cost(state)
                steps = -layer.logits.grad[:, taker]  # where gradient descent moves the taker's logits
                if sum(state[index]) == 1 or state[index].count(0):  # the only neighbour in this direction
                    assert bool((steps * change <= 0).all()), (state, index)
                    assert change == 0 or bool((steps != 0).all())


def test_a_strength_follows_its_target(small_case: tuple[DataSet, NetworkCosts]) -> None:
    data, costs = small_case
    halves = costs.cost(tuple((total // 2, total - total // 2) for total in costs.totals))
    target = 1.05 * costs.cost(cheapest(costs))
    cost_weight = CostWeight(1e-3, costs.cost(costs.uniform("npu8")), target)
    _, run = searched(data, costs, cost_weight, TrainingRun("search", 1), replace(RECIPE, search_epochs=8))
    strengths = [row["strength"] for row in run.rows]
    assert max(strengths) > 0.1
    assert strengths[-1] < max(strengths), "it falls where the cost is below the target"
    assert min(row["cost"] for row in run.rows) < 1.1 * target < halves


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_a_search_that_was_killed_and_resumed_ends_as_an_undisturbed_one(tmp_path: Path, after: int) -> None:
    data = random_data(classes=4)
    costs = small_costs(data)

    def stop(row: Row) -> None:
        if row["epoch"] == after:
            raise KilledError

    def result(file: Path | None, stopping: bool = False) -> tuple[list[np.ndarray], list[Row]]:
        run = TrainingRun("search", 5, file, report=stop if stopping else None)
        mixture, run = searched(data, costs, CostWeight(0.3, 1e4, 2e4), run)
        weights = [item.detach().numpy() for item in mixture.module.parameters()]
        return [*mixture.preferences(), *weights], run.rows

    undisturbed, rows = result(None)
    with pytest.raises(KilledError):
        result(tmp_path / "search.pt", stopping=True)
    resumed, resumed_rows = result(tmp_path / "search.pt")
    assert resumed_rows == rows
    assert len(rows) == RECIPE.search_epochs
    assert all(np.array_equal(a, b) for a, b in zip(undisturbed, resumed, strict=True))


def test_fine_tuned_weights_are_those_of_the_integer_network_to_the_last_bit(tmp_path: Path) -> None:
    data = random_data(classes=4)
    model = small()
    bits = {
        name: np.resize([8, 2, 2, 8, 2], len(getattr(model, name).weight)).astype(np.int8)
        for name in ("first", "second", "third", "logits")
    }
    with training.one_thread():
        training.fine_tune(model, bits, data, RECIPE, TrainingRun("tune", 1))
        _, network = training.integer_network(
            model, bits, {}, data, RECIPE, TrainingRun("refine", 1), "small"
        )
    for name, widths in bits.items():
        node = network.node(name)
        assert node.layer is not None
        assert node.weight_scales is not None
        assert node.weight_bits is not None
        assert node.weight_bits.tolist() == widths.tolist()
        integers = node.layer.weights.reshape(len(widths), -1)
        weight = getattr(model, name).weight.detach()
        real = (weight.movedim(1, -1) if weight.ndim == 4 else weight).flatten(start_dim=1).numpy()
        scaled = integers * node.weight_scales[:, None]
        ternary = widths == 2
        assert np.allclose(scaled[ternary], real[ternary], rtol=1e-5, atol=1e-7)
        assert np.abs(scaled - real).max() < 0.01 * np.abs(real).max()
        assert set(np.unique(integers[ternary])) <= {-1, 0, 1}


GRADIENTS = """
import torch
from torch import nn
from golden.quantize.qat import prepare_qat
from mapping.search.tests.test_training import RECIPE, random_data
from mapping.search.training import TrainingRun, strided_pointwise, warm_up

model = nn.Sequential(
    nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(300, 4)
)
data = random_data(4)
assert strided_pointwise(model) and not strided_pointwise(nn.Conv2d(6, 12, 3, 2))
warm_up(model, data, RECIPE, TrainingRun("warm-up", 1))
network = prepare_qat(model, data.train_images[:8])
for _ in range(20):
    network(data.train_images[:8]).square().sum().backward()
print("trained")
"""


def test_strided_1x1_convolutions_of_any_channels_leave_the_heap_whole() -> None:
    """With oneDNN's own kernel the process ends by a signal on processors without AVX-512."""
    environment = {**os.environ, "MALLOC_CHECK_": "3"}
    done = subprocess.run(
        [sys.executable, "-c", GRADIENTS], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
