# SPDX-License-Identifier: Apache-2.0
"""Why the search prices networks and not layers."""

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from common.testing import data_dir, require
from golden.importers.models import load_model
from hw.system import System
from mapping.cost.differentiable import LayerCosts
from mapping.cost.model import CostModel
from mapping.cost.shapes import shapes_of_network
from mapping.search.costs import NetworkCosts


@pytest.mark.data
def test_the_sum_of_stand_alone_layers_ranks_mappings_of_a_network_poorly() -> None:
    network = load_model(require(data_dir() / "models" / "pretrainedResnet_quant.tflite"))
    config = System()
    model = CostModel(config)
    costs = NetworkCosts(network, config, lambda program: model.program(program).cycles)
    shapes = {shape.name: shape for shape in shapes_of_network(network)}
    alone = LayerCosts(model, [shapes[name] for name in costs.layers], costs.units)
    rng = np.random.default_rng(3)
    draws = [[int(rng.integers(0, total + 1)) for total in costs.totals] for _ in range(60)]
    states = [
        tuple((first, total - first) for first, total in zip(draw, costs.totals, strict=True))
        for draw in draws
    ]
    whole = [costs.cost(state) for state in states]
    summed = alone(torch.tensor([costs.counts(state) for state in states])).sum(dim=1).tolist()
    tau = kendalltau(whole, summed)[0]
    assert 0.2 < tau < 0.6
    assert max(whole) / min(whole) > 1.3
