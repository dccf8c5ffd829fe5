# SPDX-License-Identifier: Apache-2.0
"""Which tensors could be kept in an activation scratchpad, and which of them could share its words.

A word holds ROWS channels. Tensors of at most 16 channels and equally many pixels, alive at the same time,
need half of the room or less where each lies in another 16 bytes of the same words: its part. The hardware
has three limits: a part other than the first is for at most 16 channels; a depthwise convolution reads the
first part, as its sums stay in their rows; a convolution multiplies whole words, so its weights are laid for
the part of its input (`pack.laid_for_part`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from hw.layout import CHANNEL_BLOCK
from mapping.compiler.graph import Graph, Op
from mapping.compiler.pack import PackedPart
from mapping.compiler.regions import ceil_div


@dataclass(frozen=True)
class Request:
    """Tensors that could be kept: one, or some that share words.

    Attributes:
        names: the tensors, in the order of their parts.
        first: the channel with which the first one's words begin, of all where they share words.
        words: words that they need.
        start, end: the operators between which any of them is alive.
        narrow: whether every one has at most 16 channels.
        fixed: whether one of them, then the first, has to be in the first part.
    """

    names: tuple[str, ...]
    first: int
    words: int
    start: int
    end: int
    narrow: bool
    fixed: bool

    def meets(self, other: Request) -> bool:
        """Return whether both are alive at the same time."""
        return self.start <= other.end and other.start <= self.end


def tensors_of(op: Op) -> tuple[str, ...]:
    """Return what an operator reads and makes."""
    return (*op.sources, op.name)


def requests_of(graph: Graph, parts: Sequence[PackedPart]) -> Iterator[Request]:
    """Yield every tensor that the parts of a unit read or make."""
    for name, value in graph.values.items():
        users = [part for part in parts if name in tensors_of(part.op)]
        if not users:
            continue
        rows = users[0].core.rows
        ranges = [item for part in users for item in (part.ranges if part.op.name == name else part.needed)]
        first = min(item.first for item in ranges) // rows * rows
        channels = max(item.end for item in ranges) - first
        fixed = any(part.op.kind == "depthwise_conv2d" and name in part.op.sources for part in users)
        yield Request(
            names=(name,),
            first=first,
            words=ceil_div(channels, rows) * value.pixels,
            start=users[0].index,
            end=users[-1].index,
            # the words of a tensor of which the unit has no channels before these begin with channel 0
            narrow=first == 0 and channels <= CHANNEL_BLOCK,
            fixed=fixed,
        )


def sharings(requests: Sequence[Request], parts: int) -> Iterator[tuple[Request, ...]]:
    """Yield the requests with two of them as one: those that need equally many words at the same time.

    `parts`: of 16 channels, in a word.
    """
    narrow = [item for item in requests if item.narrow and len(item.names) < parts]
    for a, b in combinations(narrow, 2):
        fits = len(a.names) + len(b.names) <= parts and not (a.fixed and b.fixed)
        if a.words != b.words or not a.meets(b) or not fits:
            continue
        front, back = (b, a) if b.fixed else (a, b)
        both = replace(
            front, names=front.names + back.names, start=min(a.start, b.start), end=max(a.end, b.end)
        )
        yield (*(item for item in requests if item not in (a, b)), both)
