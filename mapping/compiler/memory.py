"""Memory planning: where constants, activations and command lists lie in the external memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.interface import TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelOrder
from mapping.compiler.graph import Graph
from mapping.compiler.regions import Stored, ceil_div, lowest_gap

ALIGN = 64
Bytes = npt.NDArray[np.uint8]


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

    def place(self, data: npt.NDArray[Any]) -> int:
        """Return the address of the data."""
        if self.sizes_only:
            return self.reserve(data.nbytes)
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        address = self.reserve(raw.size)
        self.segments.append((address, raw))
        return address


def place_values(
    image: Image,
    graph: Graph,
    orders: Mapping[str, ChannelOrder],
    stores: Collection[str],
    observed: Collection[str],
    addresses: Mapping[str, int],
    reuse: bool,
) -> dict[str, Stored]:
    """Return the place of every value that is in memory.

    With `reuse`, values that are not observed share memory with others that are alive at other times.
    """
    lives: dict[str, tuple[int, int, int]] = {}  # bytes, first and last operator
    for name, value in graph.values.items():
        is_input = name in {item.name for item in graph.inputs}
        if not is_input and name not in stores:
            continue
        height, width, _ = value.shape
        size = ceil_div(orders[name].places, CHANNEL_BLOCK) * height * width * TRANSFER_WORD_BYTES
        uses = [i for i, op in enumerate(graph.ops) if op.name == name or name in op.sources]
        last = len(graph.ops) if name in observed else max(uses, default=0)
        lives[name] = (size, 0 if is_input else min(uses), last)
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
