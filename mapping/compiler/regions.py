# SPDX-License-Identifier: Apache-2.0
"""Where tensors lie in the activation scratchpad, and how a rectangle of one travels to and from memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hw.interface import TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelRange
from mapping.compiler.graph import Rect


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient rounded up."""
    return -(-numerator // denominator)


def lowest_gap(taken: Iterable[tuple[int, int]], size: int, align: int = 1) -> int:
    """Return the lowest aligned address of `size` free words; `taken`: ranges (first, end) that are not."""
    address = 0
    for first, end in sorted(taken):
        if address + size <= first:
            break
        address = max(address, ceil_div(end, align) * align)
    return address


@dataclass(frozen=True)
class Stored:
    """A tensor in memory: planes of 16 channels, (H, W, 16) bytes each, from byte `address` on."""

    address: int
    height: int
    width: int

    @property
    def plane_bytes(self) -> int:
        """Bytes of a plane."""
        return self.height * self.width * TRANSFER_WORD_BYTES


class Region(NamedTuple):
    """A rectangle of a tensor in the activation scratchpad: planes of ROWS channels, words of ROWS bytes.

    Attributes:
        base: first word.
        rect: the rectangle; its rows follow each other without a gap.
        first: the channel that a plane's words begin with, a multiple of ROWS; or of 16, and before the
            tensor's own channels, where other tensors' channels share the words.
        rows: ROWS of the unit.
    """

    base: int
    rect: Rect
    first: int
    rows: int

    def word(self, channel: int, row: int, column: int) -> int:
        """Return the word of a pixel in a channel's plane; beyond the rectangle, where it would be."""
        plane = (channel - self.first) // self.rows
        inside = (row - self.rect.row) * self.rect.columns + column - self.rect.column
        return self.base + plane * self.rect.pixels + inside

    def part(self, channel: int) -> int:
        """Return which 16 channels of its word a channel belongs to."""
        return (channel - self.first) % self.rows // CHANNEL_BLOCK

    def spans(self, channels: ChannelRange, rect: Rect) -> Iterator[tuple[int, int]]:
        """Yield the word ranges, (first, end), that hold the rows of a rectangle of some channels."""
        for channel in range(channels.first, channels.end, self.rows):
            start = self.word(channel, rect.row, rect.column)
            yield start, start + (rect.rows - 1) * self.rect.columns + rect.columns

    def transfers(self, memory: Stored, channels: ChannelRange, rect: Rect) -> Iterator[dict[str, int]]:
        """Yield the fields of the LOADs or STOREs that move a rectangle of some channels.

        The rectangle has one row or the region's width. Planes that share a scratchpad word go in turns.
        """
        planes_per_word = self.rows // CHANNEL_BLOCK
        blocks = range(channels.first // CHANNEL_BLOCK, ceil_div(channels.end, CHANNEL_BLOCK))
        whole = rect.columns == memory.width
        for turn in range(min(planes_per_word, len(blocks))):
            block = blocks[turn]
            offset = (rect.row * memory.width + rect.column) * TRANSFER_WORD_BYTES
            word = self.word(block * CHANNEL_BLOCK, rect.row, rect.column)
            yield {
                "mem_address": memory.address + block * memory.plane_bytes + offset,
                "local_address": word * planes_per_word + self.part(block * CHANNEL_BLOCK),
                "line_words": rect.pixels if whole else rect.columns,
                "lines": 1 if whole else rect.rows,
                "line_stride": 0 if whole else memory.width * TRANSFER_WORD_BYTES,
                "planes": ceil_div(len(blocks) - turn, planes_per_word),
                "local_step": planes_per_word,
                "plane_stride": planes_per_word * memory.plane_bytes,
                "local_plane_stride": self.rect.pixels * planes_per_word,
            }
