# SPDX-License-Identifier: Apache-2.0
"""What a command asks of its engine, from its fields: words and bursts, stripes and beats."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from hw import layout
from hw.core import CoreConfig
from hw.interface import ENGINES, TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.cycle_law import depthwise_weight_tile_words, weight_tile_words
from mapping.compiler.emit import TARGETS
from mapping.compiler.regions import ceil_div
from mapping.cost.banks import NOTHING_LOST, Losses, operand_waits, passes_of, transfer_losses

BURST_BEATS = 16
"""Beats of the longest burst."""
PAGE_WORDS = 256
"""Words of a 4 KiB page, which a burst never leaves."""
KNOWN = 1 << 14
"""Commands of which is kept what they ask for."""
BESIDE = frozenset(
    f"{what}_{name}" for what in ("wait", "post") for name in ENGINES
) | {
    "fence", "weight_base", "param_base", "act_min", "act_max", "pad_value", "out_zero_point", "left_shift",
    "single_rounding", "zero_point1", "zero_point2", "multiplier1", "multiplier2", "shift1", "shift2",
}  # fmt: skip
"""Fields of operators that change nothing in what they ask for."""
LONG = 32
"""Equal stripes in a row that are taken together."""


@dataclass(frozen=True)
class Transfer:
    """What a load or store moves.

    Attributes:
        bursts: beats of each burst on the port, in order.
        line: 16-byte words that follow each other.
        activations: whether it goes to or comes from the activation scratchpad.
    """

    bursts: tuple[int, ...]
    line: int
    activations: bool


def transfer(name: str, fields: Mapping[str, int], port_bytes: int = 16) -> Transfer:
    """Return what a transfer command (LOAD, STORE, MARK) moves over a port of that width."""
    beats = TRANSFER_WORD_BYTES // port_bytes
    if name == "mark":
        return Transfer((beats,), 1, activations=False)
    bursts = _bursts_of(
        fields["mem_address"] // TRANSFER_WORD_BYTES % PAGE_WORDS,
        fields["line_words"], fields["lines"], fields.get("line_stride", 0) // TRANSFER_WORD_BYTES,
        fields["planes"], fields.get("plane_stride", 0) // TRANSFER_WORD_BYTES,
        BURST_BEATS // beats, beats,
    )  # fmt: skip
    return Transfer(bursts, fields["line_words"], fields.get("target", 0) == TARGETS["activations"])


@functools.lru_cache(maxsize=KNOWN)
def _bursts_of(
    address: int, words: int, lines: int, stride: int, planes: int, plane: int, longest: int, beats: int
) -> tuple[int, ...]:
    """Return the beats of each burst of some planes of lines; sizes and distances in words of so many."""
    starts = (address + p * plane + i * stride for p in range(planes) for i in range(lines))
    return tuple(beats * burst for start in starts for burst in _bursts(start, words, longest))


def _bursts(address: int, words: int, longest: int) -> Iterator[int]:
    """Yield the words of each burst of contiguous words: it ends at its length and at the page's end."""
    while words:
        burst = min(words, longest, PAGE_WORDS - address % PAGE_WORDS)
        yield burst
        address += burst
        words -= burst


class Stripe(NamedTuple):
    """Some equal stripes of an operator.

    Attributes:
        times: how many.
        array: cycles of each in the array, by the cycle law.
        tail: of these, the cycles after its last beat, in which the next weight tile is read.
        groups: 16 channels that are requantised one after the other; 0 if the sums stay.
        drain: cycles in which the sums of a group are requantised.
        parameters: whether the first group's parameters are not those of the stripe before.
        addition: its operands are rescaled on their way to the accumulators.
        waits: cycles in which operands wait for results of the stripe before; of several stripes the mean.
        losses: what a transfer loses meanwhile, as its banks are busy.
    """

    times: int
    array: int
    tail: int
    groups: int
    drain: int
    parameters: bool
    addition: bool = False
    waits: float = 0.0
    losses: Losses = NOTHING_LOST


def stripes(
    name: str, fields: Mapping[str, int], core: CoreConfig, port_bytes: int = 16
) -> tuple[int, tuple[Stripe, ...]]:
    """Return the words of an operator's first weight tile, and its stripes in order.

    A transfer's losses are those on a port of so many bytes. What is known of an operator is kept: programs
    of one network have most of their operators in common.
    """
    items = frozenset(item for item in fields.items() if item[0] not in BESIDE)
    return _stripes(name, items, core, LONG, TRANSFER_WORD_BYTES // port_bytes)


@functools.lru_cache(maxsize=KNOWN)
def _stripes(
    name: str, items: frozenset[tuple[str, int]], core: CoreConfig, long: int, pace: int
) -> tuple[int, tuple[Stripe, ...]]:
    fields = dict(items)
    pixels, stripe, channels = fields["out_pixels"], fields["stripe_pixels"], fields["out_channels"]
    block = {"conv": core.columns, "depthwise": core.rows}.get(name, CHANNEL_BLOCK)
    lead = 0
    if name == "conv":
        lead = weight_tile_words(core)
    elif name == "depthwise":
        lead = depthwise_weight_tile_words(
            core, min(fields["kernel_w"], core.dw_taps) if fields.get("slide") else 1
        )
    pieces: list[Stripe] = []
    lengths = [(offset, min(stripe, pixels - offset)) for offset in range(0, pixels, stripe)]
    beats = [_beats(name, fields, core, length, offset) for offset, length in lengths]
    waits = iter(operand_waits(name, fields, core, lengths))
    middle = len(lengths) // 2
    losses = transfer_losses(name, fields, core, *lengths[middle], beats[middle], pace)
    for first in range(0, channels, block):
        groups = 0 if fields.get("keep") else ceil_div(min(block, channels - first), CHANNEL_BLOCK)
        for (offset, length), array in zip(lengths, beats, strict=True):
            tail = max(0, weight_tile_words(core) - length) if name == "conv" else 0
            wait = next(waits)
            pieces.append(
                Stripe(
                    times=1,
                    array=array,
                    tail=tail,
                    groups=groups,
                    drain=length * (CHANNEL_BLOCK // core.lanes),
                    parameters=groups > 1 or (groups == 1 and offset == 0),
                    addition=name == "add",
                    waits=0 if tail else wait,  # it hides behind the next tile
                    losses=losses.times(array / beats[middle]),
                )
            )
    return lead, tuple(_merged(pieces, long))


def _merged(pieces: Sequence[Stripe], long: int) -> Iterator[Stripe]:
    """Yield the stripes, a long row of equal ones as one, but for its ends."""
    for _, items in groupby(pieces, key=lambda piece: piece._replace(waits=0.0)):
        row = list(items)
        if len(row) < long:
            yield from row
        else:
            middle = row[2:-1]
            mean = sum(piece.waits for piece in middle) / len(middle)
            yield from (*row[:2], middle[0]._replace(times=len(middle), waits=mean), row[-1])


def _beats(name: str, fields: Mapping[str, int], core: CoreConfig, pixels: int, first: int) -> int:
    """Return the beats of a stripe's passes."""
    if name == "depthwise" and fields.get("slide"):
        kernel_h, kernel_w = fields["kernel_h"], fields["kernel_w"]
        width, stride = fields["out_width"], fields["stride_w"]
        rows = (first + pixels - 1) // width - first // width  # row ends inside the stripe
        words = 1 + (pixels - 1 - rows) * stride + rows * fields["row_advance"]
        beats = 0
        for start, taps in layout.tap_groups(kernel_w, core.dw_taps):
            # words that slide in before the first output; those left of the input are left out
            column = fields["in_column"] + start + first % width * stride
            lead = taps - 1 + min(column, 0)
            beats += max(words + lead, depthwise_weight_tile_words(core, taps))
        return kernel_h * beats
    passes, length = passes_of(name, fields, core, pixels)
    return passes * length
