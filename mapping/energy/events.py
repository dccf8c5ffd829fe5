# SPDX-License-Identifier: Apache-2.0
"""How often each thing that takes energy happens, from the command lists: exact, and nothing is simulated.

What decides is the RTL: an event is an enable of a register or of a memory's port in a cycle. Counts do not
depend on time: stalls, banks and other units move events, they do not make any.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, fields

from hw.core import CoreConfig
from hw.interface import COMMAND_BYTES, PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK, tap_groups
from hw.system import System
from mapping.compiler.cycle_law import depthwise_weight_tile_words, weight_tile_words
from mapping.compiler.emit import TARGETS
from mapping.compiler.program import Program
from mapping.compiler.regions import ceil_div
from mapping.compiler.schedule import Entry

FETCH_WORDS = COMMAND_BYTES // TRANSFER_WORD_BYTES
"""16-byte words of a command."""


@dataclass(frozen=True)
class Events:
    """What happens, and how often.

    Attributes:
        array_beats: the array multiplies: slices of 16 columns that have channels, or in depthwise layers
            the columns of the taps.
        column_beats: columns that multiply, summed over these beats.
        operand_words: words of ROWS activations that enter the array; depthwise words may come between beats.
        macs_useful: MACs that the layer asks for; those with padding of the input count.
        macs_padding: multipliers in columns that see a word, without a channel of the layer: their weights
            are zero. All other columns see zeros.
        macs_between: multiplications of words that come between the beats of a depthwise layer, in the
            columns of the taps and in rows with channels: no sum needs them.
        column_swaps: columns that take their weights from the shadow tile, summed over the passes.
        weight_words: 32-byte words from the weight scratchpad into the shadow tile.
        operand_reads: words of ROWS bytes read from the activation scratchpad; padding is not read.
        vector_words: 16 values that a pool or an addition takes on its own path into the accumulators.
        accumulations: of one column, in a slice of 16 that has channels.
        accumulator_reads: of one column, to add to it. The first contribution reads nothing.
        drain_reads: of one column, in the slice of 16 that is drained.
        requantised: results of a lane, for 16 channels always.
        result_words: 16 bytes written to the activation scratchpad.
        parameter_reads: 16 bytes read from the parameter scratchpad.
        activation_loads, weight_loads, parameter_loads: 16 bytes loaded into that scratchpad.
        stores: 16 bytes read from the activation scratchpad and stored.
        marks: time stamps stored, of 16 bytes.
        fetches: 16 bytes of commands.
        commands: commands.
    """

    array_beats: int = 0
    column_beats: int = 0
    operand_words: int = 0
    macs_useful: int = 0
    macs_padding: int = 0
    macs_between: int = 0
    column_swaps: int = 0
    weight_words: int = 0
    operand_reads: int = 0
    vector_words: int = 0
    accumulations: int = 0
    accumulator_reads: int = 0
    drain_reads: int = 0
    requantised: int = 0
    result_words: int = 0
    parameter_reads: int = 0
    activation_loads: int = 0
    weight_loads: int = 0
    parameter_loads: int = 0
    stores: int = 0
    marks: int = 0
    fetches: int = 0
    commands: int = 0

    def __add__(self, other: Events) -> Events:
        return Events(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def bus_words(self) -> int:
        """16-byte words through the load and the store engine."""
        return self.activation_loads + self.weight_loads + self.parameter_loads + self.stores + self.marks

    @property
    def external_bytes(self) -> int:
        """Bytes over the memory's port, commands included."""
        return TRANSFER_WORD_BYTES * (self.bus_words + self.fetches)


NAMES = tuple(item.name for item in fields(Events))


def events(program: Program, config: System) -> dict[tuple[str, str], Events]:
    """Return the events of each layer on each unit; a command that is fetched counts for its layer.

    Args:
        program: command lists.
        config: the system that they are for.

    Returns:
        By (layer, unit), in the order of the lists.
    """
    counted: dict[tuple[str, str], list[tuple[int, ...]]] = defaultdict(list)
    ops = program.graph.ops
    for section in program.sections:
        for unit, entries in section.lists.items():
            core = config.cores[config.index(unit)]
            for entry in entries:
                counted[ops[entry.layer].name, unit].append(_counted(entry, core))
    return {key: Events(*map(sum, zip(*counts, strict=True))) for key, counts in counted.items()}


def command_events(name: str, fields: Mapping[str, int], core: CoreConfig) -> Events:
    """Return the events of one command: its name, its fields, the unit."""
    return Events(*_counted(Entry(name, 0, dict(fields), 0), core))


_USED = {
    "conv": (
        "in_height", "in_width", "in_row", "in_column", "in_channels", "kernel_h", "kernel_w", "stride_h",
        "stride_w", "dilation_h", "dilation_w", "out_width", "out_pixels", "stripe_pixels", "out_channels",
        "accumulate", "keep", "slide", "row_advance",
    ),
    "add": ("out_pixels", "stripe_pixels", "out_channels"),
    "load": ("target", "line_words", "lines", "planes"),
}  # fmt: skip
_USED |= dict.fromkeys(("depthwise", "average_pool", "max_pool"), _USED["conv"])
_USED |= {"store": _USED["load"]}


def _counted(entry: Entry, core: CoreConfig) -> tuple[int, ...]:
    """Return the numbers of an Events: equal commands are counted once."""
    used = _USED.get(entry.name, ())
    values = entry.fields
    return _count(entry.name, tuple([values.get(name, 0) for name in used]), core)


@functools.lru_cache(maxsize=1 << 16)
def _count(name: str, values: tuple[int, ...], core: CoreConfig) -> tuple[int, ...]:
    given = dict(zip(_USED.get(name, ()), values, strict=True))
    counts: dict[str, int] = {"fetches": FETCH_WORDS, "commands": 1}
    if name in ("load", "store"):
        words = given["line_words"] * given["lines"] * given["planes"]
        target = {number: kind for kind, number in TARGETS.items()}[given["target"]]
        counts["stores" if name == "store" else f"{target.removesuffix('s')}_loads"] = words
    elif name == "mark":
        counts["marks"] = 1
    elif name in ("conv", "depthwise", "average_pool", "max_pool", "add"):
        counts |= _drained(name, given, core)
        if name == "conv":
            counts |= _conv(given, core)
        elif name == "depthwise":
            counts |= _depthwise(given, core)
        else:
            counts |= _vector(name, given)
    return tuple(counts.get(item, 0) for item in NAMES)


# -------------------------------------------------------------------------------------------------- operators
def _drained(name: str, given: Mapping[str, int], core: CoreConfig) -> dict[str, int]:
    """Return the events of the drain."""
    if given.get("keep"):
        return {}
    pixels, channels = given["out_pixels"], given["out_channels"]
    block = {"conv": core.columns, "depthwise": core.rows}.get(name, CHANNEL_BLOCK)
    stripes = ceil_div(pixels, given["stripe_pixels"])
    groups = words = 0
    for first in range(0, channels, block):
        in_block = ceil_div(min(block, channels - first), CHANNEL_BLOCK)
        groups += in_block
        # of one group the parameters stay from stripe to stripe
        words += PARAM_GROUP_WORDS * in_block * (stripes if in_block > 1 else 1)
    return {
        "drain_reads": groups * pixels * CHANNEL_BLOCK,
        "requantised": groups * pixels * CHANNEL_BLOCK,
        "result_words": groups * pixels,
        "parameter_reads": words,
    }


def _slices(channels: int, block: int) -> int:
    """Return the slices of 16 columns that have channels, summed over a layer's blocks of channels."""
    return sum(ceil_div(min(block, channels - first), CHANNEL_BLOCK) for first in range(0, channels, block))


def _accumulated(beats: int, first: int) -> dict[str, int]:
    """Return the events of the accumulators: beats of slices, of them those that read nothing."""
    return {"accumulations": beats * CHANNEL_BLOCK, "accumulator_reads": (beats - first) * CHANNEL_BLOCK}


def _conv(given: Mapping[str, int], core: CoreConfig) -> dict[str, int]:
    pixels, channels, places = given["out_pixels"], given["out_channels"], given["in_channels"]
    passes = ceil_div(places, core.rows) * given["kernel_h"] * given["kernel_w"]  # of a block of columns
    blocks, slices = ceil_div(channels, core.columns), _slices(channels, core.columns)
    stripes = ceil_div(pixels, given["stripe_pixels"])
    columns = passes * pixels * slices * CHANNEL_BLOCK
    useful = pixels * given["kernel_h"] * given["kernel_w"] * places * channels
    return {
        "array_beats": blocks * passes * pixels,
        "column_beats": columns,
        "operand_words": blocks * passes * pixels,
        "macs_useful": useful,
        "macs_padding": columns * core.rows - useful,
        "column_swaps": passes * stripes * slices * CHANNEL_BLOCK,
        "weight_words": blocks * passes * stripes * weight_tile_words(core),
        "operand_reads": blocks * ceil_div(places, core.rows) * _inside(given),
    } | _accumulated(passes * pixels * slices, 0 if given["accumulate"] else pixels * slices)


def _depthwise(given: Mapping[str, int], core: CoreConfig) -> dict[str, int]:
    pixels, channels = given["out_pixels"], given["out_channels"]
    kernel_h, kernel_w = given["kernel_h"], given["kernel_w"]
    blocks, slices = ceil_div(channels, core.rows), _slices(channels, core.rows)
    stripes = ceil_div(pixels, given["stripe_pixels"])
    groups = tap_groups(kernel_w, core.dw_taps if given["slide"] else 1)
    beats = kernel_h * len(groups) * pixels  # of a block of rows
    columns = kernel_h * kernel_w * pixels
    if given["slide"]:
        passes = list(_slid(given, groups))
        words, reads, seen = (sum(item) for item in zip(*passes, strict=True))
    else:
        words, reads, seen = beats, _inside(given), columns
    tiles = kernel_h * sum(depthwise_weight_tile_words(core, taps) for _, taps in groups)
    return {
        "array_beats": blocks * beats,
        "column_beats": blocks * columns,
        "operand_words": blocks * words,
        "macs_useful": columns * channels,
        "macs_padding": seen * (blocks * core.rows - channels),
        "macs_between": (seen - columns) * channels,
        "column_swaps": blocks * stripes * kernel_h * len(groups) * CHANNEL_BLOCK,
        "weight_words": blocks * stripes * tiles,
        "operand_reads": blocks * reads,
    } | _accumulated(beats * slices, pixels * slices)


def _vector(name: str, given: Mapping[str, int]) -> dict[str, int]:
    pixels, blocks = given["out_pixels"], ceil_div(given["out_channels"], CHANNEL_BLOCK)
    if name == "add":
        beats = reads = 2 * blocks * pixels
    else:
        beats = blocks * given["kernel_h"] * given["kernel_w"] * pixels
        reads = blocks * _inside(given)
    return {"vector_words": beats, "operand_reads": reads} | _accumulated(beats, blocks * pixels)


def _inside(given: Mapping[str, int]) -> int:
    """Return how many of the taps of all output pixels lie inside the input."""

    def inside(start: int, stride: int, taps: int, dilation: int, size: int, count: int) -> int:
        places = (start + i * stride + k * dilation for i in range(count) for k in range(taps))
        return sum(0 <= place < size for place in places)

    def across(count: int) -> int:
        return inside(
            given["in_column"], given["stride_w"], given["kernel_w"], given["dilation_w"], given["in_width"],
            count,
        )  # fmt: skip

    def down(first: int, count: int) -> int:
        start = given["in_row"] + first * given["stride_h"]
        return inside(
            start, given["stride_h"], given["kernel_h"], given["dilation_h"], given["in_height"], count
        )

    rows, rest = divmod(given["out_pixels"], given["out_width"])
    return down(0, rows) * across(given["out_width"]) + (down(rows, 1) * across(rest) if rest else 0)


def _slid(given: Mapping[str, int], groups: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield for each pass of a sliding depthwise kernel over a block what comes.

    Its words, those that are read, and the sum of the columns that see them: each is seen by those of the
    taps.

    The words of a pass are contiguous from the first one that its first output needs and that exists, from
    row to row; words of rows outside the input are not read.
    """
    pixels, width, in_width = given["out_pixels"], given["out_width"], given["in_width"]
    stride_h, stride_w = given["stride_h"], given["stride_w"]
    for offset in range(0, pixels, given["stripe_pixels"]):
        count = min(given["stripe_pixels"], pixels - offset)
        row, column = divmod(offset, width)
        ends = (offset + count - 1) // width - row  # row ends inside the stripe
        for ky in range(given["kernel_h"]):
            top = given["in_row"] + row * stride_h + ky * given["dilation_h"]
            for start, taps in groups:
                left = given["in_column"] + start + column * stride_w
                words = taps + min(left, 0) + (count - 1 - ends) * stride_w + ends * given["row_advance"]
                read = _read(top, max(left, 0), words, in_width, stride_h, given["in_height"])
                yield words, read, words * taps


def _read(row: int, column: int, words: int, width: int, stride: int, height: int) -> int:
    """Return how many of some words of rows that follow each other are in rows of the input."""
    reads = 0
    while words > 0:
        here = min(words, width - column)
        reads += here if 0 <= row < height else 0
        words -= here
        row, column = row + stride, 0
    return reads
