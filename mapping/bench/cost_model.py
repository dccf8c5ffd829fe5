# SPDX-License-Identifier: Apache-2.0
"""How fast the cost model is: layers by their command lists, and look-ups of the differentiable staircase."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from rich.table import Table

from hw.system import System
from mapping.cost.differentiable import LayerCosts
from mapping.cost.model import CostModel
from mapping.cost.real_networks import real_networks
from mapping.report.console import console_table

MIN_EVALUATIONS = 100_000
"""Look-ups of a layer's cost that one core must reach in a second."""
BATCH = 1000


@dataclass(frozen=True)
class CostSpeed:
    """Layers per second on one core: compiled and timed; looked up; looked up with their gradients."""

    new: float
    known: float
    gradients: float


def cost_speed(network: str = "resnet20") -> CostSpeed:
    """Return how fast the layers of a network are priced, shared by both units in many ways."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        system = System()
        model, layers = CostModel(system), real_networks()[network]
        costs = LayerCosts(model, layers, system.units)
        began = time.perf_counter()
        for shape in layers:
            model.layer(shape, system.units[0])
        new = len(layers) / (time.perf_counter() - began)
        whole = torch.tensor([shape.out_channels for shape in layers], dtype=torch.float64)
        first = torch.rand(BATCH, len(layers), dtype=torch.float64) * whole
        channels = torch.stack([first, whole - first], dim=-1).requires_grad_()
        costs(channels).sum().backward()  # type: ignore[no-untyped-call]
        began = time.perf_counter()
        cycles = costs(channels)
        known = time.perf_counter() - began
        cycles.sum().backward()  # type: ignore[no-untyped-call]
        both = time.perf_counter() - began
        return CostSpeed(new, cycles.numel() / known, cycles.numel() / both)
    finally:
        torch.set_num_threads(threads)


def cost_speed_table(speed: CostSpeed) -> Table:
    """Return the table of the cost model's speed."""
    title = "Cost model, layers of ResNet20"
    table = console_table(title, ("what",), ("layers per second",), no_wrap=False)
    table.add_row("new: compiled, engines run side by side", f"{speed.new:,.0f}")
    table.add_row("known: looked up in the staircase, both units", f"{speed.known:,.0f}")
    table.add_row("known, with gradients", f"{speed.gradients:,.0f}")
    return table


def missed_cost_speed(speed: CostSpeed) -> list[str]:
    """Return a line if look-ups are too slow."""
    if speed.gradients >= MIN_EVALUATIONS:
        return []
    return [f"the cost model gives {speed.gradients:,.0f} layers a second, the limit {MIN_EVALUATIONS:,}"]
