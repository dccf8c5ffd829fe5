# SPDX-License-Identifier: Apache-2.0
"""Operands that wait for their bank of the activation scratchpad, in cycles as `rtl/npu_act_spm.sv` does it.

While the array sums a stripe, the results of the stripe before are written. A result that meets an operand
in its bank is late by a cycle, as are those that follow without a gap; an operand that meets a late result
waits. Streams that go through words in order meet once and are one bank apart from then on. Operands of a
stride of 2 meet a late result again after every wait: the array then works in every second cycle until all
results are written, also those of the stripe before that where each stripe is a single pass.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.arrays import Int64
from hw import layout
from hw.core import CoreConfig
from hw.interface import PARAM_GROUP_WORDS
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.cycle_law import depthwise_weight_tile_words, weight_tile_words
from mapping.compiler.regions import ceil_div

RESULT_CYCLES = 9
"""First beat of a stripe to the first result of the stripe before: accumulate, read the sum, requantise."""
ADDITION_CYCLES = 2
"""As many cycles more where operands are rescaled on their way to the accumulators."""
HANDOVER_CYCLES = 3
"""Last beat of a stripe to the first read of its sums."""
READ_CYCLES = 6
"""Of these from a sum that is read to its result."""
PARAMETER_CYCLES = PARAM_GROUP_WORDS + 1
"""Cycles in which the parameters of 16 channels are read, while the 16 before are requantised."""
MOSTLY = 1.25
"""Results are written nearly all the time if it is at most so many times theirs."""
NO_BANK = -1
FEW_BEATS, FEW_CYCLES = 64, 256
"""Beats of a stripe, and cycles of its slow results, that are looked at for what a transfer loses to them."""


class Losses(NamedTuple):
    """What a transfer loses.

    Attributes:
        met: cycles, wherever it begins.
        behind: cycles more of a long one that stays behind results half as fast; see `behind_share`.
    """

    met: float
    behind: float

    def times(self, factor: float) -> Losses:
        """Return what is lost in so many times the cycles."""
        return Losses(self.met * factor, self.behind * factor)

    def plus(self, other: Losses, times: float = 1.0) -> Losses:
        """Return what is lost with so many times another one."""
        return Losses(self.met + times * other.met, self.behind + times * other.behind)


NOTHING_LOST = Losses(0.0, 0.0)


def behind_share(words: int, banks: int) -> float:
    """Return what share of words that follow each other go behind results that are half as fast.

    When it begins, the results are ahead by any number of banks, all as likely; it is behind them after twice
    as many words.
    """
    return words / (4 * banks) if words < 2 * banks else 1 - banks / words


@dataclass(frozen=True)
class Results:
    """The results of a stripe, as they are written.

    Attributes:
        first: word of the first one.
        pixels: of the stripe.
        planes: for each 16 channels, words from the first one's to theirs.
    """

    first: int
    pixels: int
    planes: tuple[int, ...]

    def cycles(self, core: CoreConfig) -> int:
        """Return in how many cycles they are written."""
        return (len(self.planes) - 1) * self._group(core) + self.pixels * (CHANNEL_BLOCK // core.lanes)

    def banks(self, core: CoreConfig, banks: int) -> list[int]:
        """Return the bank of the result of each cycle, `NO_BANK` where none is written."""
        each = CHANNEL_BLOCK // core.lanes
        written = [NO_BANK] * self.cycles(core)
        for place, plane in enumerate(self.planes):
            start = place * self._group(core) + each - 1
            for pixel in range(self.pixels):
                written[start + pixel * each] = (self.first + plane + pixel) % banks
        return written

    def _group(self, core: CoreConfig) -> int:
        return max(self.pixels * (CHANNEL_BLOCK // core.lanes), PARAMETER_CYCLES)


def operand_waits(
    name: str, fields: Mapping[str, int], core: CoreConfig, lengths: Sequence[tuple[int, int]]
) -> list[int]:
    """Return for each stripe of an operator, block after block, the cycles in which an operand waits.

    The first stripe's results before belong to another command: none is counted.

    Args:
        name, fields: the command.
        core: the unit.
        lengths: first pixel and pixels of each stripe of a block.
    """
    stripes = list(_results(name, fields, core, lengths))
    if len(stripes) < 2 or fields.get("keep"):
        return [0] * len(stripes)
    banks = core.act_banks
    delay = RESULT_CYCLES + (ADDITION_CYCLES if name == "add" else 0)
    longest = delay + max(results.cycles(core) for _, results in stripes)
    passes = [passes_of(name, fields, core, pixels) for _, pixels in lengths]
    late = fields.get("stride_w", 1) > 1 and not fields.get("slide")
    if late and longest > min(number * length for number, length in passes):
        beats = []
        for place, (offset, _) in enumerate(stripes):
            of_block = place % len(lengths)
            number, length = passes[of_block]
            words = _operands(name, fields, core, *lengths[of_block], number * length).tolist()
            beats.append([word if word == NO_BANK else (word + offset) % banks for word in words])
        return waits_in_a_row(beats, [results.banks(core, banks) for _, results in stripes], delay)
    operands = [_operands(name, fields, core, *length, longest + 1).tolist() for length in lengths]
    known: dict[tuple[int, int, int, int], int] = {}
    waits = [0]
    for place in range(1, len(stripes)):
        offset, _ = stripes[place]
        _, before = stripes[place - 1]
        stripe = place % len(lengths)
        shift = (before.first - offset) % banks
        key = (stripe, shift, before.pixels, len(before.planes))
        if key not in known:
            written = [NO_BANK] * delay + Results(shift, before.pixels, before.planes).banks(core, banks)
            written.append(NO_BANK)  # the last one may be late
            read = [word if word == NO_BANK else word % banks for word in operands[stripe]]
            known[key] = waits_of(read, written)
        waits.append(known[key])
    return waits


def waits_of(operands: Sequence[int], results: Sequence[int]) -> int:
    """Return the cycles in which an operand waits for a late result.

    Args:
        operands: bank of each beat, `NO_BANK` where it reads nothing.
        results: bank of the result of each cycle from the first beat on, `NO_BANK` where none comes.
    """
    waits, beat, late = 0, 0, NO_BANK
    for result in results:
        if beat == len(operands):
            break
        bank = operands[beat]
        if late == NO_BANK:
            beat += 1
            if result != NO_BANK and result == bank:
                late = result
            continue
        if bank == late:
            waits += 1
        else:
            beat += 1
        late = result
    return waits


def waits_in_a_row(
    operands: Sequence[Sequence[int]], results: Sequence[Sequence[int]], delay: int
) -> list[int]:
    """Return for each stripe the cycles in which an operand waits, where results outlast the next stripe.

    They take as long as its beats or longer, and are written while the one after that begins,
    without a gap: one that is late makes all that follow late. A stripe begins when the sums of the one
    before the last are read, as there are two banks of them.

    Args:
        operands: of each stripe the bank of each beat, `NO_BANK` where it reads nothing.
        results: of each stripe the bank of the result of each cycle, `NO_BANK` where none comes.
        delay: cycles from the beat behind a stripe to its first result.
    """
    waits: list[int] = []
    written: dict[int, int] = {}
    ends = [0, 0]  # of the last two stripes the cycle behind their last result
    cycle, late = 0, NO_BANK
    for beats, banks in zip(operands, results, strict=True):
        start = max(cycle, ends[-2] - READ_CYCLES)
        beat = waited = 0
        while beat < len(beats):
            bank = beats[beat] if cycle >= start else NO_BANK
            result = written.pop(cycle, NO_BANK)
            if late == bank != NO_BANK:
                waited += 1
            elif cycle >= start:
                beat += 1
            late = result if late != NO_BANK or result == bank else NO_BANK
            cycle += 1
        first = max(cycle + delay, ends[-1])
        written |= {first + place: bank for place, bank in enumerate(banks)}
        ends.append(first + len(banks))
        waits.append(waited)
    return waits


def transfer_losses(
    name: str, fields: Mapping[str, int], core: CoreConfig, first: int, pixels: int, beats: int, pace: int = 1
) -> Losses:
    """Return what a transfer loses to a stripe's operands and results, which lasts as long.

    They are served first. In whose bank the transfer is when the stripe begins is as good as random: the
    mean over all banks. Results of 16 lanes go through their words as a transfer does: they meet once or
    never. Those of 8 come in every second cycle, and a transfer that has met one stays behind it and waits
    for each that follows. Results of fewer lanes are overtaken, and met again after all banks.

    Args:
        name, fields: the command.
        core: the unit.
        first, pixels: the stripe.
        beats: cycles of the stripe in the array.
        pace: cycles from word to word of the transfer, where nothing is in its way.
    """
    banks = core.act_banks
    words = _operands(name, fields, core, first, pixels, min(beats, FEW_BEATS))
    read = np.where(words == NO_BANK, NO_BANK, words % banks).tolist()
    alone = _lost(tuple(read), (), banks, pace) / len(read)
    if fields.get("keep"):
        return Losses(alone * beats, 0.0)
    if core.lanes == CHANNEL_BLOCK:
        groups = ceil_div(min(_block(name, core), fields["out_channels"]), CHANNEL_BLOCK)
        return Losses(alone * beats + groups / banks, 0.0)
    _, results = next(_results(name, fields, core, [(first, pixels)]))
    written = results.banks(core, banks)
    addition = ADDITION_CYCLES if name == "add" else 0
    pair = max(2 * beats, 2 * len(written), beats + HANDOVER_CYCLES + addition + len(written))
    if pair > MOSTLY * 2 * len(written) or pair > FEW_CYCLES:  # results of each stripe are met anew
        looked = min(len(written), FEW_CYCLES)
        words = _operands(name, fields, core, first, pixels, min(beats, looked))
        met = np.where(words == NO_BANK, NO_BANK, words % banks).tolist()
        met += [NO_BANK] * (looked - len(met))
        late = tuple(_delayed(met, written[:looked]))
        lost = _lost(tuple(met), late, banks, pace) * len(written) / looked
        return _split(alone, beats, lost + alone * max(0, beats - len(written)), core, pace)
    # two stripes, one in each bank of sums, whose results follow each other without a gap
    pair_reads, pair_results = [NO_BANK] * pair, [NO_BANK] * pair
    for stripe in range(2):
        words = _operands(name, fields, core, first + stripe * pixels, pixels, beats)
        for beat, word in enumerate(words.tolist()):
            pair_reads[stripe * beats + beat] = NO_BANK if word == NO_BANK else word % banks
    begin = beats + RESULT_CYCLES + addition
    for place, bank in enumerate([*written, *(NO_BANK if b == NO_BANK else b + pixels for b in written)]):
        before = 2 * pixels if begin + place >= pair else 0  # of the two stripes before
        if bank != NO_BANK:
            pair_results[(begin + place) % pair] = (bank - before) % banks
    late = tuple(_delayed(pair_reads, pair_results))
    lost = _lost(tuple(pair_reads), late, banks, pace, turns=2, shift=2 * pixels) / 2
    return _split(alone, beats, lost, core, pace)


def _split(alone: float, beats: int, lost: float, core: CoreConfig, pace: int) -> Losses:
    """Return losses, apart where a transfer goes behind results that are half as fast.

    Args:
        alone: cycles lost to operands in each beat.
        beats: of the stripe.
        lost: cycles lost to operands and results.
        core: the unit.
        pace: of the transfer.
    """
    if 2 * pace * core.lanes != CHANNEL_BLOCK:
        return Losses(lost, 0.0)
    met = min(lost, alone * beats)
    return Losses(met, lost - met)


def _delayed(operands: Sequence[int], results: Sequence[int]) -> list[int]:
    """Return the bank in which a result is written in each cycle: late if an operand was in it."""
    written, late = [], NO_BANK
    for operand, result in zip(operands, results, strict=True):
        if late != NO_BANK:
            written.append(late)
            late = result
        elif result != NO_BANK and result == operand:
            written.append(NO_BANK)
            late = result
        else:
            written.append(result)
    return written


@functools.lru_cache(maxsize=4096)
def _lost(
    operands: tuple[int, ...], results: tuple[int, ...], banks: int, pace: int, turns: int = 1, shift: int = 0
) -> float:
    """Return how often a stream of words waits for operands and results, whatever bank it begins in.

    Args:
        operands: bank of each beat, `NO_BANK` where it reads nothing.
        results: bank of the result of each of these cycles; without any they are not looked at.
        banks: how many there are.
        pace: cycles from word to word of the stream.
        turns: how often all this happens to the stream; what it loses in the last counts.
        shift: by which the banks of a turn are ahead of those of the turn before.
    """
    at, rest = np.arange(banks), np.zeros(banks, np.int64)
    lost = 0
    for _ in range(turns):
        lost = 0
        for operand, result in zip(operands, results or (NO_BANK,) * len(operands), strict=True):
            free = (at != operand) & (at != result)
            asks = rest == 0
            lost += int(np.count_nonzero(asks & ~free))
            moves = asks & free
            rest = np.where(moves, pace - 1, np.maximum(rest - 1, 0))
            at = (at + moves) % banks
        at = (at - shift) % banks
    return lost / banks


def _block(name: str, core: CoreConfig) -> int:
    """Return the output channels that an operator makes at a time."""
    return {"conv": core.columns, "depthwise": core.rows}.get(name, CHANNEL_BLOCK)


def _results(
    name: str, fields: Mapping[str, int], core: CoreConfig, lengths: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, Results]]:
    """Yield for each stripe the words from the first block's operands to its block's, and its results."""
    parts = core.rows // CHANNEL_BLOCK
    block = _block(name, core)
    channels, in_plane, out_plane = (fields.get(key, 0) for key in ("out_channels", "in_plane", "out_plane"))
    in_part, out_part = fields.get("in_part", 0), fields.get("out_part", 0)  # of the word, where it is shared
    for number, first in enumerate(range(0, channels, block)):
        groups = ceil_div(min(block, channels - first), CHANNEL_BLOCK)
        planes = tuple((out_part + group) // parts * out_plane for group in range(groups))
        if name in ("conv", "depthwise"):
            plane, offset = number * (block // core.rows), 0 if name == "conv" else number * in_plane
        else:
            plane, offset = (out_part + number) // parts, (in_part + number) // parts * in_plane
        for pixel, pixels in lengths:
            base = fields.get("out_base", 0) + plane * out_plane + pixel
            yield offset, Results(base, pixels, planes)


def _operands(
    name: str, fields: Mapping[str, int], core: CoreConfig, first: int, pixels: int, count: int
) -> Int64:
    """Return the word of the first block that each of a stripe's first beats reads, `NO_BANK` for none."""
    if name == "depthwise" and fields.get("slide"):
        return _sliding(fields, core, first, pixels, count)
    base = fields.get("in_base", 0)
    passes, length = passes_of(name, fields, core, pixels)
    beat = np.arange(count)
    turn, place = beat // length, beat % length
    reads, pixel = (turn < passes) & (place < pixels), first + place
    if name == "add":
        words = np.where(turn == 0, base, fields.get("in2_base", 0)) + pixel
        return np.where(reads, words, NO_BANK)
    kernel_h, kernel_w = fields["kernel_h"], fields["kernel_w"]
    column, rest = turn % kernel_w, turn // kernel_w
    row, plane = rest % kernel_h, rest // kernel_h
    width = fields.get("out_width", 1)
    out_row, out_column = pixel // width, pixel % width
    dilation_h, dilation_w = fields.get("dilation_h", 1), fields.get("dilation_w", 1)
    stride_h, stride_w = fields.get("stride_h", 1), fields.get("stride_w", 1)
    y = fields.get("in_row", 0) + out_row * stride_h + row * dilation_h
    x = fields.get("in_column", 0) + out_column * stride_w + column * dilation_w
    words = base + plane * fields.get("in_plane", 0)
    words = words + out_row * fields.get("in_row_step", 0) + out_column * stride_w
    words = words + row * fields.get("tap_row_step", 0) + column * dilation_w
    inside = (y >= 0) & (y < fields.get("in_height", 0)) & (x >= 0) & (x < fields.get("in_width", 0))
    return np.where(inside & reads, words, NO_BANK)


def passes_of(name: str, fields: Mapping[str, int], core: CoreConfig, pixels: int) -> tuple[int, int]:
    """Return the passes of a stripe whose words do not slide, and the cycles of each: a pixel or a weight."""
    if name == "add":
        return 2, pixels
    passes = fields["kernel_h"] * fields["kernel_w"]
    if name == "conv":
        return passes * ceil_div(fields["in_channels"], core.rows), max(pixels, weight_tile_words(core))
    tile = depthwise_weight_tile_words(core, 1) if name == "depthwise" else 0
    return passes, max(pixels, tile)


def _sliding(fields: Mapping[str, int], core: CoreConfig, first: int, pixels: int, count: int) -> Int64:
    """Return the word of each of the first beats of a stripe whose words slide through the array."""
    width, stride_w, in_width = fields["out_width"], fields["stride_w"], fields.get("in_width", 1)
    in_height, stride_h = fields.get("in_height", 0), fields.get("stride_h", 1)
    base, row_step = fields.get("in_base", 0), fields.get("in_row_step", 0)
    row, column = first // width, first % width
    ends = (first + pixels - 1) // width - row
    words = 1 + (pixels - 1 - ends) * stride_w + ends * fields["row_advance"]
    parts: list[Int64] = []
    for kernel_row in range(fields["kernel_h"]):
        for start, taps in layout.tap_groups(fields["kernel_w"], core.dw_taps):
            x = fields["in_column"] + column * stride_w + start
            y = fields.get("in_row", 0) + row * stride_h + kernel_row * fields.get("dilation_h", 1)
            at = max(x, 0) + np.arange(words + taps - 1 + min(x, 0))
            rows = at // in_width
            row_zero = base - fields["in_column"] + (row + rows) * row_step
            word = row_zero + kernel_row * fields.get("tap_row_step", 0) + at % in_width
            inside = (y + rows * stride_h >= 0) & (y + rows * stride_h < in_height)
            parts.append(np.where(inside, word, NO_BANK))
            if sum(map(len, parts)) >= count:
                return np.concatenate(parts)[:count]
    return np.concatenate(parts)
