# SPDX-License-Identifier: Apache-2.0
"""Differentiable costs: cycles of many layers at once, in the number of output channels on each unit.

The cost of a layer is a staircase in its channels: it changes at multiples of 16, and by much only where a
unit begins another block of columns. The value here is that staircase, exactly as `CostModel` has it. Its
gradient is the average slope over the block of columns that the channels end in: what a block costs, spread
over its channels. (A straight-through gradient of the rounding would be wrong by the width of the block.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.errors import UnsupportedError
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.regions import ceil_div
from mapping.cost.model import CostModel
from mapping.cost.shapes import Shape


class LayerCosts:
    """Costs of some layers on one unit, or on several that share each layer.

    Corners of the staircase are worked out when they are first needed and kept; afterwards a call is a few
    look-ups for all layers together.

    Args:
        model: the cost model.
        shapes: (L) layers; their own numbers of output channels, and splits, do not matter.
        units: the units, in the order of the system.

    Raises:
        UnsupportedError: a depthwise layer with a channel multiplier.
    """

    def __init__(self, model: CostModel, shapes: Sequence[Shape], units: Sequence[str]) -> None:
        for shape in shapes:
            if shape.op == "depthwise_conv2d" and shape.in_channels != shape.out_channels:
                raise UnsupportedError(
                    f"layer {shape.name!r}: a depthwise layer with a multiplier has no staircase in its "
                    "channels; describe it as a conv2d"
                )
        self.model = model
        self.shapes = tuple(shapes)
        self.units = tuple(units)
        most = max(shape.out_channels for shape in shapes)
        cores = [model.config.cores[model.config.index(unit)] for unit in units]
        widest = max(core.columns for core in cores)
        self._places = ceil_div(most + 2 * widest, CHANNEL_BLOCK) + 1
        self._most = most + widest
        self.table = torch.full(
            (len(self.shapes), *[self._places] * len(self.units)), float("nan"), dtype=torch.float64
        )
        self.table.reshape(len(self.shapes), -1)[:, 0] = 0.0
        steps = [[block_channels(shape.op, core) for core in cores] for shape in self.shapes]
        self.steps = torch.tensor(steps, dtype=torch.float64)

    def __call__(self, channels: Tensor) -> Tensor:
        """Return cycles.

        Args:
            channels: (..., L, U) output channels of each layer on each unit, 0 or more, integers or not. A
                layer with all channels on one unit runs there alone; without any it costs nothing.

        Returns:
            (..., L) float64.

        Raises:
            ValueError: negative channels, or more than the layers' most and a block.
            UnsupportedError: a layer cannot run on its unit; see `CostModel.layer`.
            CapacityError: a layer does not fit; see `CostModel.layer`.
            TableError: there is no table; see `CostModel.layer`.
        """
        if channels.shape[-2:] != (len(self.shapes), len(self.units)):
            expected = f"(..., {len(self.shapes)}, {len(self.units)})"
            raise ValueError(f"channels have shape {tuple(channels.shape)}, not {expected}")
        if not bool(((channels >= 0) & (channels <= self._most)).all()):
            raise ValueError(f"channels must be 0 to {self._most}")
        cycles: Tensor = _Staircase.apply(channels.to(torch.float64), self)  # type: ignore[no-untyped-call]
        return cycles

    def at(self, channels: Tensor) -> Tensor:
        """Return the cycles, (..., L), at (..., L, U) channels; not differentiable."""
        places = torch.ceil(channels / CHANNEL_BLOCK).long()
        layers = torch.arange(len(self.shapes)).expand(places.shape[:-1])
        index = (layers, *places.unbind(-1))
        cycles = self.table[index]
        missing = torch.isnan(cycles)
        if bool(missing.any()):
            corners = torch.cat([layers[missing][:, None], places[missing]], dim=1)
            for corner in torch.unique(corners, dim=0).tolist():
                self.table[tuple(corner)] = self._corner(self.shapes[corner[0]], corner[1:])
            cycles = self.table[index]
        return cycles

    def _corner(self, shape: Shape, blocks: Sequence[int]) -> float:
        """Return the cycles of a layer with so many blocks of 16 channels on each unit."""
        return self.model.layer(*self._placed(shape, blocks)).cycles

    def _placed(self, shape: Shape, blocks: Sequence[int]) -> tuple[Shape, str]:
        """Return a layer with so many blocks of 16 channels on each unit, and the first unit that has any."""
        channels = {
            unit: CHANNEL_BLOCK * count for unit, count in zip(self.units, blocks, strict=True) if count
        }
        total = sum(channels.values())
        sizes: dict[str, Any] = {"out_channels": total, "split": channels if len(channels) > 1 else None}
        if shape.op not in ("conv2d", "fully_connected"):
            sizes["in_channels"] = total
        return replace(shape, **sizes), next(iter(channels))

    def slopes(self, channels: Tensor) -> Tensor:
        """Return the gradient, (..., L, U): cycles for one more channel, averaged over a block of columns.

        Where the channels end on an edge it is the mean of the slopes on both sides.
        """
        slopes = []
        for unit in range(len(self.units)):
            step = self.steps[:, unit].expand(channels.shape[:-1])
            on_unit = channels[..., unit]
            low = torch.floor(on_unit / step) * step
            edge = (on_unit == low) & (on_unit > 0)
            start, end = torch.where(edge, low - step, low), low + step
            before, after = channels.clone(), channels.clone()
            before[..., unit], after[..., unit] = start, end
            slopes.append((self.at(after) - self.at(before)) / (end - start))
        return torch.stack(slopes, dim=-1)


def block_channels(op: str, core: CoreConfig) -> int:
    """Return the output channels of a block: what one pass of a unit's array makes of an operator."""
    if op in ("conv2d", "fully_connected"):
        return core.columns
    return core.rows if op == "depthwise_conv2d" else CHANNEL_BLOCK


class _Staircase(torch.autograd.Function):
    """The staircase, with its average slope as gradient."""

    @staticmethod
    def forward(ctx: Any, channels: Tensor, costs: LayerCosts) -> Tensor:
        ctx.save_for_backward(channels)
        ctx.costs = costs
        return costs.at(channels)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (channels,) = ctx.saved_tensors
        return gradient[..., None] * ctx.costs.slopes(channels), None
