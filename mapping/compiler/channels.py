"""Assignment pass: which output channels run on which unit, and in which order channels lie in memory.

Channels are re-ordered so that each unit's part of a layer is contiguous. Tensors whose channels correspond
one to one (the inputs and the output of an addition, a pool, a depthwise layer) share one order: their
channels are grouped into segments, such that every layer of the group has a segment wholly on one unit. A
segment begins at a multiple of 16 channels (of the widest unit's ROWS); the channels that fill it up have
zero weights in every consumer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import UnsupportedError
from golden.arithmetic import weight_range
from golden.layer import WEIGHTED_OPS
from golden.network import channel_weights
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.graph import Graph, Op

ChannelAssignment = npt.NDArray[np.int64]
"""(K,): index of the unit that makes each output channel."""


@dataclass(frozen=True, eq=False)
class ChannelOrder:
    """Where a tensor's channels lie in memory.

    Attributes:
        channels: (P,) logical channel at each place, -1 where a place only fills a segment up.
    """

    channels: npt.NDArray[np.int64]

    @property
    def places(self) -> int:
        """Channels in memory."""
        return len(self.channels)

    @property
    def position(self) -> npt.NDArray[np.int64]:
        """(C,) place of each logical channel."""
        real = np.flatnonzero(self.channels >= 0)
        return real[np.argsort(self.channels[real])]

    def spread(self, values: npt.NDArray[np.generic], axis: int = -1) -> npt.NDArray[np.generic]:
        """Return the values with the axis of channels turned into places; those that fill up are zero."""
        taken = np.take(values, np.maximum(self.channels, 0), axis)
        shape = [1] * taken.ndim
        shape[axis] = -1
        return np.where((self.channels >= 0).reshape(shape), taken, taken.dtype.type(0))


@dataclass(frozen=True)
class ChannelRange:
    """Places `first` to `first + count - 1` of a layer's output, all made by one unit."""

    first: int
    count: int


def order_channels(
    graph: Graph, units: Mapping[str, ChannelAssignment], cores: Sequence[CoreConfig]
) -> dict[str, ChannelOrder]:
    """Return the order of every value's channels."""
    granule = max(CHANNEL_BLOCK, *(core.rows for core in cores))
    groups = order_groups(graph)
    orders: dict[str, ChannelOrder] = {}
    for name, value in graph.values.items():
        group = groups[name]
        if group in orders:
            orders[name] = orders[group]
            continue
        makers = [op for op in graph.ops if groups[op.name] == group]
        orders[group] = orders[name] = _order([units[op.name] for op in makers], value.shape[2], granule)
    return orders


def order_groups(graph: Graph) -> dict[str, str]:
    """Return, for each value, the first value of its group: those that share an order."""
    parent = {name: name for name in graph.values}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for op in graph.ops:
        if op.channelwise:
            for source in op.sources:
                parent[root(op.name)] = root(source)
    return {name: root(name) for name in graph.values}


def _order(parts: Sequence[ChannelAssignment], channels: int, granule: int) -> ChannelOrder:
    """Return the order in which channels with the same units are together, natural order inside."""
    table = np.stack(parts, axis=1) if parts else np.zeros((channels, 0), np.int64)
    _, segment = (
        np.unique(table, axis=0, return_inverse=True) if table.size else (None, np.zeros(channels, int))
    )
    pieces = []
    last = int(segment.max())
    for i in range(last + 1):
        members = np.flatnonzero(segment.reshape(-1) == i)
        filling = 0 if i == last else -len(members) % granule
        pieces += [members, np.full(filling, -1)]
    return ChannelOrder(np.concatenate(pieces).astype(np.int64))


def runs_of(units: ChannelAssignment, order: ChannelOrder, unit: int) -> list[ChannelRange]:
    """Return the runs of places that a unit makes, filling included."""
    real = order.channels >= 0
    owner = np.where(real, units[np.maximum(order.channels, 0)], -1)
    for place in range(1, len(owner)):  # what fills a segment up belongs to it
        if owner[place] < 0:
            owner[place] = owner[place - 1]
    return runs_where(owner == unit)


def runs_where(places: npt.NDArray[np.bool_]) -> list[ChannelRange]:
    """Return the runs of places for which the mask, (P,), is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], places.astype(int), [0]])))
    return [ChannelRange(int(a), int(b - a)) for a, b in edges.reshape(-1, 2)]


def check_weights(op: Op, units: ChannelAssignment, cores: Sequence[CoreConfig]) -> None:
    """Refuse weights that the unit of their channel cannot hold.

    Raises:
        UnsupportedError: with the layer, the unit, and the remedy.
    """
    if op.layer.op not in WEIGHTED_OPS:
        return
    flat = channel_weights(op.layer)
    for index in np.unique(units):
        core = cores[index]
        low, high = weight_range(core.w_bits)
        low = -128 if core.w_bits == 8 else low
        mine = flat[units == index]
        smallest, largest = int(mine.min()), int(mine.max())
        if smallest < low or largest > high:
            raise UnsupportedError(
                f"layer {op.name!r}: weights from {smallest} to {largest} do not fit {core.name}, which "
                f"has {core.w_bits}-bit weights ({low} to {high}); quantise these channels to {core.w_bits} "
                "bits (npuloop quantize), or clip a single layer with --clip-weights"
            )
