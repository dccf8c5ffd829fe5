# SPDX-License-Identifier: Apache-2.0
"""Differentiable energies: of many layers at once, in their channels on each unit and their zero weights.

The energy is the staircase of `EnergyModel`, as `cost.differentiable` has it for cycles: its gradient is the
average slope over the block of columns in which the channels end. In the share of zero weights of a layer on
a unit it is linear, exactly: a MAC with a zero weight takes what the table says of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mapping.cost.differentiable import LayerCosts
from mapping.cost.model import shape_program
from mapping.cost.shapes import Shape
from mapping.energy.model import EnergyModel


class LayerEnergies:
    """Energies of some layers on one unit or on two that share each layer; units without work idle too.

    Corners of the staircase are worked out when they are first needed and kept.

    Args:
        model: the energy model.
        layers: (L) layers; their own numbers of output channels, and splits, do not matter.
        units: the units, in the order of the system.

    Raises:
        UnsupportedError: a depthwise layer with a channel multiplier.
    """

    def __init__(self, model: EnergyModel, layers: Sequence[Shape], units: Sequence[str]) -> None:
        self.model = model
        self.units = tuple(units)
        self.usual = torch.tensor(
            [model.tables[unit].statistics.zero_share for unit in units], dtype=torch.float64
        )
        corners = _Corners(model, self.units)
        self._dense = _Staircase(model, layers, self.units, corners, 0)
        self._zeros = [
            _Staircase(model, layers, self.units, corners, 1 + place) for place in range(len(self.units))
        ]

    def __call__(self, channels: Tensor, zero_share: Tensor | None = None) -> Tensor:
        """Return energies, pJ.

        Args:
            channels: (..., L, U) output channels of each layer on each unit, as in `LayerCosts`.
            zero_share: (..., L, U), or what broadcasts to it: the share of zeros among the layer's weights
                on the unit, 0 to 1; by default that of the unit's table.

        Returns:
            (..., L) float64, differentiable in both.

        Raises:
            ValueError: shares outside 0 to 1; and as `LayerCosts`.
        """
        shares = self.usual if zero_share is None else zero_share.to(torch.float64)
        if not bool(((shares >= 0) & (shares <= 1)).all()):
            raise ValueError("zero_share must be 0 to 1")
        slopes = torch.stack([staircase(channels) for staircase in self._zeros], dim=-1)
        return self._dense(channels) + (slopes * shares).sum(dim=-1)


class _Corners:
    """Energies of layers: 1 + U numbers, pJ without zero weights, and what zeros on each unit change."""

    def __init__(self, model: EnergyModel, units: Sequence[str]) -> None:
        self._model = model
        self._units = tuple(units)
        self._known: dict[tuple[Shape, str, tuple[int, ...]], tuple[float, ...]] = {}

    def __call__(self, shape: Shape, unit: str, blocks: tuple[int, ...]) -> tuple[float, ...]:
        key = (replace(shape, split=None), unit, blocks)
        if key not in self._known:
            program = shape_program(shape, unit, self._model.config)
            changes = self._model.zero_slopes(program)
            usual = {name: table.statistics.zero_share for name, table in self._model.tables.items()}
            value = self._model.predicted(program).value_pj
            dense = value - sum(changes[name] * usual[name] for name in changes)
            self._known[key] = (dense, *(changes[name] for name in self._units))
        return self._known[key]


class _Staircase(LayerCosts):
    """One of the numbers of `_Corners` in the channels of layers."""

    def __init__(
        self, model: EnergyModel, layers: Sequence[Shape], units: Sequence[str], corners: _Corners, place: int
    ) -> None:
        super().__init__(model.costs, layers, units)
        self._corners = corners
        self._number = place

    def _corner(self, shape: Shape, blocks: Sequence[int]) -> float:
        return self._corners(*self._placed(shape, blocks), tuple(blocks))[self._number]
