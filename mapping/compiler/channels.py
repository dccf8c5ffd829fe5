# SPDX-License-Identifier: Apache-2.0
"""Ordering pass: in which order the channels of every value lie in memory.

Channels are re-ordered so that each unit's part of a layer is contiguous. Tensors whose channels correspond
one to one (the inputs and the output of an addition, a pool, a depthwise layer) share one order: their
channels are grouped into segments, such that every layer of the group has a segment wholly on one unit. A
segment begins at a multiple of 16 channels (of its makers' ROWS); the channels that fill it up have
zero weights in every consumer. A block of 16 channels that is all filling is made and moved by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from common.arrays import Bools, Int64
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.graph import Graph

Scalar = TypeVar("Scalar", bound=np.generic)
ChannelAssignment: TypeAlias = Int64
"""(K,): index of the unit that makes each output channel."""


@dataclass(frozen=True, eq=False)
class ChannelOrder:
    """Which logical channel each physical channel of a tensor in memory holds.

    Attributes:
        channels: (P,) logical channel of each physical one, -1 where it only fills a segment up.
    """

    channels: Int64

    @property
    def physical_channels(self) -> int:
        """Channels in memory."""
        return len(self.channels)

    @cached_property
    def made(self) -> Bools:
        """(P,) whether a channel's block of 16 has a logical one: nobody makes the others."""
        starts = np.arange(0, len(self.channels), CHANNEL_BLOCK)
        real = np.logical_or.reduceat(self.channels >= 0, starts)
        return np.repeat(real, CHANNEL_BLOCK)[: len(self.channels)]

    @property
    def physical_index(self) -> Int64:
        """(C,) physical channel of each logical one."""
        real = np.flatnonzero(self.channels >= 0)
        return real[np.argsort(self.channels[real])]

    def scatter(self, values: npt.NDArray[Scalar], axis: int = -1) -> npt.NDArray[Scalar]:
        """Return the values with the axis of logical channels turned into physical ones; filling is zero."""
        taken = np.take(values, np.maximum(self.channels, 0), axis)
        shape = [1] * taken.ndim
        shape[axis] = -1
        return np.where((self.channels >= 0).reshape(shape), taken, taken.dtype.type(0))


@dataclass(frozen=True)
class ChannelRange:
    """Physical channels `first` to `first + count - 1`."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """The channel behind the last one."""
        return self.first + self.count


def order_channels(
    graph: Graph, units: Mapping[str, ChannelAssignment], cores: Sequence[CoreConfig]
) -> dict[str, ChannelOrder]:
    """Return the order of every value's channels.

    Afterwards every logical channel of a value has one physical channel, values that correspond channel by
    channel share one order, and each unit's ranges of every layer begin at a multiple of its ROWS.
    """
    groups = order_groups(graph)
    orders: dict[str, ChannelOrder] = {}
    for name, value in graph.values.items():
        group = groups[name]
        if group in orders:
            orders[name] = orders[group]
            continue
        makers = [op for op in graph.ops if groups[op.name] == group]
        orders[group] = orders[name] = _order([units[op.name] for op in makers], value.shape[2], cores)
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


def _order(
    assignments: Sequence[ChannelAssignment], channels: int, cores: Sequence[CoreConfig]
) -> ChannelOrder:
    """Return the order in which channels with the same units are together, natural order inside.

    Segments of units with the longest words come first, and of these the ones that end with a word: what
    follows them needs no filling, or little.
    """
    table = np.stack(assignments, axis=1) if assignments else np.zeros((channels, 0), np.int64)
    makers, segment = (
        np.unique(table, axis=0, return_inverse=True) if table.size else (table[:1], np.zeros(channels, int))
    )
    groups = [
        (
            max((cores[unit].rows for unit in units), default=CHANNEL_BLOCK),
            np.flatnonzero(segment.reshape(-1) == i),
        )
        for i, units in enumerate(makers)
    ]
    groups.sort(key=lambda group: (-group[0], len(group[1]) % group[0] != 0))
    order: list[Int64] = []
    size = 0
    for rows, members in groups:
        filling = -size % rows
        order += [np.full(filling, -1), members]
        size += filling + len(members)
    return ChannelOrder(np.concatenate(order).astype(np.int64))


def ranges_of(units: ChannelAssignment, order: ChannelOrder, unit: int) -> list[ChannelRange]:
    """Return the ranges of physical channels that a unit makes, with what fills their last blocks up."""
    real = order.channels >= 0
    # what fills a block up belongs to the unit of the last channel before it
    before = np.maximum.accumulate(np.where(real, np.arange(len(real)), 0))
    return ranges_where((units[order.channels[before]] == unit) & order.made)


def ranges_where(mask: Bools) -> list[ChannelRange]:
    """Return the ranges of physical channels for which the mask, (P,), is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [ChannelRange(int(a), int(b - a)) for a, b in edges.reshape(-1, 2)]


def within(ranges: Sequence[ChannelRange], window: ChannelRange) -> list[ChannelRange]:
    """Return what of the ranges lies in a window."""
    cut = ((max(item.first, window.first), min(item.end, window.end)) for item in ranges)
    return [ChannelRange(first, end - first) for first, end in cut if first < end]


def mask_of(ranges: Sequence[ChannelRange], channels: int) -> Bools:
    """Return the mask, (channels,), that is true inside the ranges."""
    mask = np.zeros(channels, bool)
    for item in ranges:
        mask[item.first : item.end] = True
    return mask
