"""Where tensors lie in the activation scratchpad, and how a piece of one travels to and from memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hw.interface import TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelRange


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient rounded up."""
    return -(-numerator // denominator)


def lowest_gap(taken: Iterable[tuple[int, int]], size: int, align: int = 1) -> int:
    """Return the lowest aligned address of `size` free places; `taken`: ranges (first, end) that are not."""
    address = 0
    for first, end in sorted(taken):
        if address + size <= first:
            break
        address = max(address, ceil_div(end, align) * align)
    return address


@dataclass(frozen=True)
class Rect:
    """Rows `row` to `row + rows - 1` and columns `column` to `column + columns - 1` of a tensor."""

    row: int
    rows: int
    column: int
    columns: int

    @property
    def pixels(self) -> int:
        """Pixels of the rectangle."""
        return self.rows * self.columns


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


@dataclass(frozen=True)
class Region:
    """A rectangle of a tensor in the activation scratchpad: planes of ROWS channels, words of ROWS bytes.

    Attributes:
        base: first word.
        rect: the rectangle; its rows follow each other without a gap.
        first: first channel that it holds, a multiple of ROWS.
        rows: ROWS of the unit.
    """

    base: int
    rect: Rect
    first: int
    rows: int

    def word(self, place: int, row: int, column: int) -> int:
        """Return the word of a pixel in a channel's plane; beyond the rectangle, where it would be."""
        plane = (place - self.first) // self.rows
        inside = (row - self.rect.row) * self.rect.columns + column - self.rect.column
        return self.base + plane * self.rect.pixels + inside

    def spans(self, run: ChannelRange, rect: Rect) -> Iterator[tuple[int, int]]:
        """Yield the word ranges, (first, end), that hold rows of a rectangle of a run's channels."""
        for place in range(run.first, run.first + run.count, self.rows):
            start = self.word(place, rect.row, rect.column)
            yield start, start + (rect.rows - 1) * self.rect.columns + rect.columns

    def transfers(self, memory: Stored, run: ChannelRange, rect: Rect) -> Iterator[dict[str, int]]:
        """Yield the fields of the LOADs or STOREs that move a rectangle of a run's channels.

        The rectangle has one row or the region's width. Planes that share a scratchpad word go in turns.
        """
        parts = self.rows // CHANNEL_BLOCK
        blocks = range(run.first // CHANNEL_BLOCK, ceil_div(run.first + run.count, CHANNEL_BLOCK))
        whole = rect.columns == memory.width
        for part in range(min(parts, len(blocks))):
            block = blocks[part]
            offset = (rect.row * memory.width + rect.column) * TRANSFER_WORD_BYTES
            yield {
                "mem_address": memory.address + block * memory.plane_bytes + offset,
                "local_address": self.word(block * CHANNEL_BLOCK, rect.row, rect.column) * parts
                + block % parts,
                "line_words": rect.pixels if whole else rect.columns,
                "lines": 1 if whole else rect.rows,
                "line_stride": 0 if whole else memory.width * TRANSFER_WORD_BYTES,
                "planes": ceil_div(len(blocks) - part, parts),
                "local_step": parts,
                "plane_stride": parts * memory.plane_bytes,
                "local_plane_stride": self.rect.pixels * parts,
            }
