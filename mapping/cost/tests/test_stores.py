# SPDX-License-Identifier: Apache-2.0
"""A network that stores only what it must is seldom slower than one that stores every tensor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from golden.network import Network
from golden.quantize.export import export
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.assignment import Assignment
from mapping.compiler.channels import ChannelAssignment
from mapping.cost.model import CostModel
from mapping.run.networks import compile_network
from mapping.run.random_networks import random_network


def mobile() -> Network:
    """Tensors of 36 KiB and more, which the scratchpad cannot all keep."""
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU6(),
        nn.Conv2d(16, 8, 1), nn.Conv2d(8, 48, 1), nn.ReLU6(), nn.Conv2d(48, 48, 3, 2, 1, groups=48),
        nn.ReLU6(), nn.Conv2d(48, 8, 1),
    )  # fmt: skip
    return export(layers.eval(), torch.randn(1, 3, 96, 96), name="mobile")


def pools() -> Network:
    layers = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
    )  # fmt: skip
    return export(layers.eval(), torch.randn(1, 1, 84, 84), name="pools")


def cycles(network: Network, config: System, units: Assignment | dict[str, ChannelAssignment]) -> list[float]:
    """Return the predicted cycles with every tensor stored, and with the output alone."""
    costs = CostModel(config)
    programs = (compile_network(network, config, units, observe=observe).program for observe in (True, False))
    return [costs.program(program).cycles for program in programs]


@pytest.mark.parametrize("make", [mobile, pools])
def test_storing_less_costs_less_where_tensors_stream(make: Callable[[], Network]) -> None:
    torch.manual_seed(0)
    every, output = cycles(make(), System((NPU8,)), Assignment("npu8"))
    assert output < every


def test_storing_less_rarely_costs_more_in_random_networks() -> None:
    """An order of commands is a guess, and a worse one now and then: in RTL seed 4 takes 3.9 % more."""
    more = []
    for seed in range(24):
        network, units, _ = random_network(seed, (NPU8, NPU_LB))
        every, output = cycles(network, System(), dict(units))
        more.append(output / every - 1)
    assert sum(more) < 0
    assert sum(item > 0.002 for item in more) <= 1
    assert max(more) < 0.05
