# SPDX-License-Identifier: Apache-2.0
"""What channels prefer: how far a mapping agrees with it, and the mapping that is nearest to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.arrays import Floats, Int64
from common.errors import ShapeError
from mapping.search.costs import NetworkCosts, State
from mapping.search.states import share_out


class Agreement:
    """How far a mapping gives channels the units that they prefer.

    Args:
        costs: the network.
        preferences: for each layer (K, U): how much each channel prefers each unit; rows sum to 1.

    Attributes:
        orders: see `channel_orders`.

    Raises:
        ShapeError: preferences of another shape.
    """

    def __init__(self, costs: NetworkCosts, preferences: Sequence[Floats]) -> None:
        self.orders = channel_orders(costs, preferences)
        self._sizes = costs.blocks
        self._channels = costs.channels
        self._sums = []
        for name, preferred in zip(costs.layers, preferences, strict=True):
            sums = np.zeros((len(preferred) + 1, len(costs.units)))
            np.cumsum(preferred[self.orders[name]], axis=0, out=sums[1:])
            self._sums.append(sums.tolist())
        self._known: dict[tuple[int, tuple[int, ...]], float] = {}

    def __call__(self, state: State) -> float:
        """Return the mean, over all channels, of the preference for the unit that they get; 0 to 1."""
        total = sum(self.layer(layer, blocks) for layer, blocks in enumerate(state))
        return total / sum(self._channels)

    def layer(self, layer: int, blocks: tuple[int, ...]) -> float:
        """Return the sum over a layer's channels, with (U) blocks on the units."""
        key = (layer, blocks)
        if key not in self._known:
            sums, end, place, total = self._sums[layer], 0, 0, 0.0
            for unit, count in enumerate(blocks):
                end += count * self._sizes[layer]
                start, place = place, min(end, self._channels[layer])
                total += sums[place][unit] - sums[start][unit]
            self._known[key] = total
        return self._known[key]


def channel_orders(costs: NetworkCosts, preferences: Sequence[Floats]) -> dict[str, Int64]:
    """Return the order in which each layer's channels go to the units, as `NetworkCosts.mapping` takes it.

    Layers that share an order of channels get one: by the sum, over these layers, of the index of the unit
    that a channel expects, sum_u u p_u; channels that expect the same stay in their natural order.

    Args:
        costs: the network.
        preferences: for each layer (K, U); rows sum to 1.

    Returns:
        For each layer (K,), the channels of the first unit first.

    Raises:
        ShapeError: preferences of another shape.
    """
    _check(costs, preferences)
    orders = {}
    for members in costs.shared:
        expected = sum(preferences[layer] @ np.arange(len(costs.units)) for layer in members)
        order = np.argsort(expected, kind="stable")
        orders.update({costs.layers[layer]: order for layer in members})
    return {name: orders[name] for name in costs.layers}


def nearest(costs: NetworkCosts, preferences: Sequence[Floats], whole: bool = False) -> State:
    """Return the mapping in which each unit has the channels that it is expected to have, rounded to blocks.

    Only units that may run a layer get any. Blocks left over go where most is missing.

    Args:
        costs: the network.
        preferences: for each layer (K, U).
        whole: layers are not split: each goes to the unit that is expected to have most of it.

    Raises:
        ShapeError: preferences of another shape.
    """
    _check(costs, preferences)
    rows = []
    for layer, preferred in enumerate(preferences):
        expected = np.where(costs.allowed[layer], preferred, 0.0).sum(axis=0)
        if not expected.any():  # no channel prefers what it may have
            expected = costs.allowed[layer].astype(np.float64)
        rows.append(
            costs.whole(layer, int(expected.argmax())) if whole else share_out(expected, costs.totals[layer])
        )
    return tuple(rows)


def _check(costs: NetworkCosts, preferences: Sequence[Floats]) -> None:
    shapes = [tuple(np.shape(preferred)) for preferred in preferences]
    needed = [(channels, len(costs.units)) for channels in costs.channels]
    if shapes != needed:
        raise ShapeError(f"preferences have shapes {shapes}; the layers of {costs.name!r} need {needed}")
