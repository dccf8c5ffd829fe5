# SPDX-License-Identifier: Apache-2.0
"""A network that stores only what it must is not slower than one that stores every tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from golden.network import Network
from golden.quantize.export import export
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.assignment import Assignment
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Choice
from mapping.cost import model
from mapping.cost.model import CostModel
from mapping.cost.tables import TableError
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


DEARER = (4, 62, 66, 76, 82, 91, 96, 117)
"""Of random networks those where the plan that is looked at first takes more when it stores less."""


def test_storing_less_never_costs_more_in_random_networks() -> None:
    """The price chooses among plans; `npuloop bench --plans` has more networks, and how many gain by it."""
    for seed in (*range(8), *DEARER):
        network, units, _ = random_network(seed, (NPU8, NPU_LB))
        every, output = cycles(network, System(), dict(units))
        assert output <= every, seed


def test_a_plan_that_is_chosen_costs_what_is_predicted_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network, units, _ = random_network(4, (NPU8, NPU_LB))
    system = System()
    costs = CostModel(system)
    graph = legalise_network(network)
    plain = compile_graph(graph, system.cores, units, image_wanted=False)
    chosen = compile_network(network, system, units).program
    assert chosen.choice == Choice("all")  # and values share memory
    assert costs.cycles(chosen) < 0.96 * costs.cycles(plain)
    without = System((replace(NPU8, act_kib=200), NPU_LB))

    def no_table(*_: object) -> None:
        raise TableError("there is none")

    monkeypatch.setattr(model, "table_for", no_table)
    expected = compile_graph(graph, without.cores, units, price=lambda program: program.estimate)
    assert compile_network(network, without, units).program.choice == expected.choice
