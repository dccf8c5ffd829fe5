# SPDX-License-Identifier: Apache-2.0
"""How a part's parameters pass through their scratchpads: in chunks of output channels, as through a ring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hw.core import CoreConfig
from hw.interface import PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelRange
from mapping.compiler.operators import ReductionSlice
from mapping.compiler.pack import PackedParameters
from mapping.compiler.place import MemorySlot, PlacedPart
from mapping.compiler.plan import CapacityError
from mapping.compiler.regions import ceil_div

CHUNK_BYTES = 8192
"""Weights that one chunk of output channels should have at least: enough to hide a command behind."""


@dataclass
class Ring:
    """A scratchpad through which parameters pass in the order of their use."""

    size: int
    head: int = 0

    def take(self, words: int) -> int:
        """Return the first of some words that follow the last ones, or begin at 0 where no room is left."""
        if self.head + words > self.size:
            self.head = 0
        self.head += words
        return self.head - words


class ParameterScratchpads:
    """The weight scratchpad (32-byte words) and the parameter scratchpad (16-byte words) of a unit."""

    def __init__(self, core: CoreConfig) -> None:
        self.weights = Ring(core.weight_kib * 1024 // WEIGHT_WORD_BYTES)
        self.params = Ring(core.param_kib * 1024 // TRANSFER_WORD_BYTES)

    def fit(self, part: PlacedPart) -> bool:
        """Return whether all parameters of a part fit at once."""
        words = sum(item.blocks * item.weight_words for item in part.parameters)
        params = sum(
            len(item.params) * ceil_div(item.channels.count, CHANNEL_BLOCK) * PARAM_GROUP_WORDS
            for item in part.parameters
        )
        return words <= self.weights.size and params <= self.params.size


@dataclass(frozen=True, eq=False)
class Chunk:
    """Output channels whose parameters travel together.

    Attributes:
        parameters: those of the whole range.
        slot: where they lie in memory.
        first, blocks: the blocks of the range that belong to it.
        reduction: of a convolution, what of the sum, where a block's weights are loaded in slices.
        kernel_rows: rows of the kernel.
        all_rows: kernel rows of all input planes together.
    """

    parameters: PackedParameters
    slot: MemorySlot
    first: int
    blocks: int
    reduction: ReductionSlice
    kernel_rows: int
    all_rows: int

    @property
    def channels(self) -> ChannelRange:
        """Its output channels."""
        return self.parameters.block_range(self.first, self.blocks)

    @property
    def weight_words(self) -> int:
        """32-byte words of its weights."""
        rows = self.reduction.planes * self.reduction.rows
        return self.blocks * self.parameters.weight_words * rows // self.all_rows

    @property
    def weight_offset(self) -> int:
        """First 32-byte word of its weights in those of the range."""
        words, reduction = self.parameters.weight_words, self.reduction
        rows_before = reduction.plane * self.kernel_rows + reduction.row
        return self.first * words + words * rows_before // self.all_rows

    @property
    def groups(self) -> int:
        """Groups of 16 channels."""
        return ceil_div(self.channels.count, CHANNEL_BLOCK)

    @property
    def set_words(self) -> int:
        """16-byte words of one set of requantisation parameters."""
        return self.groups * PARAM_GROUP_WORDS

    @property
    def param_words(self) -> int:
        """16-byte words of all sets."""
        return len(self.parameters.params) * self.set_words


class LoadedChunk(NamedTuple):
    """A chunk whose parameters are in the scratchpads: their first words."""

    chunk: Chunk
    weights: int
    params: Mapping[int, int]


def chunks_of(part: PlacedPart, scratchpads: ParameterScratchpads, overlap: bool, first: bool) -> list[Chunk]:
    """Cut the output channels into chunks that fit half of the scratchpads: the next one can come.

    Args:
        part: the part.
        scratchpads: those of its unit.
        overlap: cut so that loads hide behind the computation; otherwise everything that fits is one chunk.
        first: it is the unit's first part: nothing computes yet.

    Raises:
        CapacityError: not even the parameters of one block fit.
    """
    chunks: list[Chunk] = []
    kernel_rows = part.op.kernel[0]
    planes = ceil_div(part.in_channels, part.core.rows)
    whole = ReductionSlice(0, planes, 0, kernel_rows)
    chunks_at_once = 1 if not overlap and scratchpads.fit(part) else 2
    most_words = scratchpads.weights.size // chunks_at_once
    most_params = scratchpads.params.size // chunks_at_once
    for parameters, slot in zip(part.parameters, part.slots, strict=True):
        if part.sliced or (part.tiling.planes and part.op.kind == "conv2d"):
            chunks += _slices(part, parameters, slot, planes, scratchpads.weights.size)
            continue
        blocks = min(parameters.blocks, most_params // (len(parameters.params) * parameters.param_words))
        if parameters.weight_words:
            blocks = min(blocks, most_words // parameters.weight_words)
            if overlap:
                block_bytes = parameters.weight_words * WEIGHT_WORD_BYTES
                blocks = min(blocks, max(1, ceil_div(CHUNK_BYTES, block_bytes)))
        if part.tiling.planes:
            blocks = min(blocks, part.tiling.planes)
        if blocks < 1:
            raise CapacityError(f"layer {part.op.name!r}: its weights or parameters do not fit")
        # nothing computes yet: start as soon as one block's weights are there
        start = 1 if overlap and first and not chunks else blocks
        for block in (0, *range(start, parameters.blocks, blocks)):
            count = min(blocks if block else start, parameters.blocks - block)
            chunks.append(Chunk(parameters, slot, block, count, whole, kernel_rows, planes * kernel_rows))
    return chunks


def _slices(
    part: PlacedPart, parameters: PackedParameters, slot: MemorySlot, planes: int, size: int
) -> Iterator[Chunk]:
    """Yield chunks of one block each: some of its input planes, or of one plane some kernel rows.

    `size`: 32-byte words of the weight scratchpad.
    """
    kernel_rows = part.op.kernel[0]
    all_rows = planes * kernel_rows
    most = size // 3 * all_rows // parameters.weight_words  # kernel rows at a time
    if most < 1:
        raise CapacityError(f"layer {part.op.name!r}: the weights of one kernel row do not fit")
    if most >= kernel_rows:
        most_planes = min(most // kernel_rows, part.tiling.planes or planes)
        each = ceil_div(planes, ceil_div(planes, most_planes))
        cuts = [(plane, min(each, planes - plane), 0, kernel_rows) for plane in range(0, planes, each)]
    else:
        each = ceil_div(kernel_rows, ceil_div(kernel_rows, most))
        cuts = [
            (plane, 1, row, min(each, kernel_rows - row))
            for plane in range(planes)
            for row in range(0, kernel_rows, each)
        ]
    for block in range(parameters.blocks):
        for i, cut in enumerate(cuts):
            reduction = ReductionSlice(*cut, first=i == 0, last=i == len(cuts) - 1)
            yield Chunk(parameters, slot, block, 1, reduction, kernel_rows, all_rows)
