# SPDX-License-Identifier: Apache-2.0
"""Placement pass: where parameters, time stamps and tensors lie in the external memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from common.arrays import Array, Bytes
from hw.interface import TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelOrder
from mapping.compiler.graph import Graph
from mapping.compiler.pack import PackedParameters
from mapping.compiler.plan import PlannedPart
from mapping.compiler.regions import Stored, ceil_div, lowest_gap

ALIGN = 64
MARK_BYTES = 16


@dataclass
class Image:
    """Memory image under construction: aligned allocation from `base` upwards; no bytes if `sizes_only`."""

    base: int
    sizes_only: bool = False
    segments: list[tuple[int, Bytes]] = field(default_factory=list)

    def reserve(self, size: int) -> int:
        """Return the address of `size` new bytes."""
        address = ceil_div(self.base, ALIGN) * ALIGN
        self.base = address + size
        return address

    def place(self, data: Array) -> int:
        """Return the address of the data."""
        if self.sizes_only:
            return self.reserve(data.nbytes)
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        address = self.reserve(raw.size)
        self.segments.append((address, raw))
        return address


@dataclass(frozen=True)
class MemorySlot:
    """Where the packed parameters of a range lie in memory: byte addresses.

    Attributes:
        weights: of the weights.
        params: of each set of requantisation parameters, by averaging count as in `PackedParameters`.
    """

    weights: int
    params: Mapping[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacedPart(PlannedPart):
    """A part with what it has in memory.

    Attributes:
        slots: where the parameters of each range lie.
        mark: byte address of the time stamp of its end.
        stored: those of its tensors that are in memory, by name; sources in the rows that the part sees.
    """

    slots: tuple[MemorySlot, ...]
    mark: int
    stored: Mapping[str, Stored]


def place(
    graph: Graph,
    parts: Sequence[PlannedPart],
    orders: Mapping[str, ChannelOrder],
    observed: Collection[str],
    addresses: Mapping[str, int],
    image: Image,
    shares: bool = True,
) -> tuple[tuple[PlacedPart, ...], dict[str, Stored]]:
    """Return the parts with their places in memory, and the place of every value that is in memory.

    Afterwards parameters, time stamps and values that are alive at the same time share no byte, and every
    value that a part loads or stores has a place.

    Args:
        graph: the graph.
        parts: the parts, unit by unit.
        orders: the order of every value's channels.
        observed: values that the host reads: their memory is theirs to the end.
        addresses: where inputs lie that another job or unit writes, by name.
        image: the memory image that takes the parameters.
        shares: values that are alive at different times share memory, where that is possible.
    """
    slots = [tuple(_slot(image, parameters) for parameters in part.parameters) for part in parts]
    marks = [image.reserve(MARK_BYTES) for _ in parts]
    in_memory = {item.name for item in graph.inputs} | {part.op.name for part in parts if part.stores}
    in_memory |= {name for part in parts for name in part.loads}  # those of sections that are not given
    # with more units, who may overwrite whose tensors would take more events than there are
    reuse = shares and len({part.unit for part in parts}) < 3
    stored = _values(image, graph, orders, in_memory, observed, addresses, reuse)
    placed = tuple(
        PlacedPart(**vars(part), slots=of_part, mark=mark, stored=_seen(part, stored))
        for part, of_part, mark in zip(parts, slots, marks, strict=True)
    )
    return placed, stored


def _slot(image: Image, parameters: PackedParameters) -> MemorySlot:
    weights = image.place(parameters.weights) if parameters.weights.size else 0
    return MemorySlot(weights, {count: image.place(data) for count, data in parameters.params.items()})


def _seen(part: PlannedPart, stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return a part's tensors in memory, as the part sees them."""
    (height, width, _), name = part.op.source_shape, part.op.name
    sources = {
        source: Stored(stored[source].address, height, width)
        for source in part.op.sources
        if source in stored
    }
    return sources | ({name: stored[name]} if part.stores else {})


def _values(
    image: Image,
    graph: Graph,
    orders: Mapping[str, ChannelOrder],
    in_memory: Collection[str],
    observed: Collection[str],
    addresses: Mapping[str, int],
    reuse: bool,
) -> dict[str, Stored]:
    """Return the place of every value that is in memory.

    With `reuse`, values that are not observed share memory with others that are alive at other times.
    """
    lives: dict[str, tuple[int, int, int]] = {}  # bytes, first and last operator
    inputs = {item.name for item in graph.inputs}
    for name, value in graph.values.items():
        if name not in in_memory:
            continue
        size = ceil_div(orders[name].physical_channels, CHANNEL_BLOCK) * value.pixels * TRANSFER_WORD_BYTES
        uses = [i for i, op in enumerate(graph.ops) if op.name == name or name in op.sources]
        last = len(graph.ops) if name in observed else max(uses, default=0)
        lives[name] = (size, 0 if name in inputs else min(uses), last)
    start = image.reserve(0)
    offsets: dict[str, int] = {}
    for name in sorted((item for item in lives if item not in addresses), key=lambda item: -lives[item][0]):
        size, first, last = lives[name]
        taken = (
            (offsets[other], offsets[other] + lives[other][0])
            for other in offsets
            if not reuse or (lives[other][1] <= last and first <= lives[other][2])
        )
        offsets[name] = lowest_gap(taken, size, ALIGN)
    image.reserve(max((offsets[name] + lives[name][0] for name in offsets), default=0))
    placed = {name: start + offset for name, offset in offsets.items()} | dict(addresses)
    values = graph.values
    return {name: Stored(placed[name], *values[name].shape[:2]) for name in lives}
