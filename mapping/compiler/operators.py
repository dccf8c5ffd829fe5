# SPDX-License-Identifier: Apache-2.0
"""The fields of operator commands: one output tile, a rectangle of one range of channels.

Average pooling has one command for each rectangle of outputs that average the same number of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hw.core import CoreConfig
from hw.interface import PARAM_GROUP_WORDS
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelRange
from mapping.compiler.cycle_law import stripe_of
from mapping.compiler.graph import Op, Rect
from mapping.compiler.pools import pool_spans, reciprocal, rounds_once
from mapping.compiler.regions import Region


@dataclass(frozen=True)
class ReductionSlice:
    """What of a convolution's sum a command adds up, where not all weights of an output block fit.

    Attributes:
        plane, planes: input planes (of ROWS channels): the first, and how many.
        row, rows: kernel rows: the first, and how many.
        first, last: whether the sum begins and ends here.
    """

    plane: int
    planes: int
    row: int
    rows: int
    first: bool = True
    last: bool = True


class OutputTile(NamedTuple):
    """What one command, or for average pooling a few, makes.

    Attributes:
        op: the operator.
        core: the unit.
        sources, target: where the tensors lie.
        rect: the outputs; more than one row only if they are the target's whole width.
        channels: the output channels.
        weight_base: first 32-byte word of their weights.
        param_bases: first 16-byte word of their parameters; by averaged count, other operators under 0.
        slides: whether a depthwise kernel slides through the array.
        in_channels: channels of the input in memory, which a convolution sums.
        reduction: what of that sum this tile adds up.
    """

    op: Op
    core: CoreConfig
    sources: Sequence[Region]
    target: Region
    rect: Rect
    channels: ChannelRange
    weight_base: int
    param_bases: Mapping[int, int]
    slides: bool
    in_channels: int
    reduction: ReductionSlice


Fields = dict[str, int]


def commands(tile: OutputTile) -> Iterator[tuple[str, Fields]]:
    """Yield the commands of an output tile: name and fields."""
    kind = tile.op.kind
    if kind == "add":
        yield from _add(tile)
    elif kind == "average_pool":
        yield from _average(tile)
    elif kind == "max_pool":
        yield "max_pool", _window(tile, tile.rect) | _pooled(tile) | {"pad_value": -128}
    else:
        yield _weighted(tile)


def _output(tile: OutputTile, rect: Rect, channels: ChannelRange) -> Fields:
    """Return the fields that all operators share."""
    return {
        "out_plane": tile.target.rect.pixels,
        "out_channels": channels.count,
        "out_pixels": rect.pixels,
        "stripe_pixels": stripe_of(rect.pixels, tile.core.stripe_depth),
        "out_base": tile.target.word(channels.first, rect.row, rect.column),
        "out_part": tile.target.part(channels.first),
        "act_min": tile.op.layer.act_min,
        "act_max": tile.op.layer.act_max,
        "param_base": tile.param_bases.get(0, 0),
    }


def _window(tile: OutputTile, rect: Rect) -> Fields:
    """Return the fields of an operator with a window."""
    op, source = tile.op, tile.sources[0]
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = op.kernel, op.stride, op.dilation
    row, column = rect.row * stride_h - op.padding[0], rect.column * stride_w - op.padding[2]
    channel = tile.channels.first
    if op.kind == "conv2d":
        channel, kernel_h = tile.reduction.plane * source.rows, tile.reduction.rows
        row += tile.reduction.row * dilation_h
    return _output(tile, rect, tile.channels) | {
        "in_base": source.word(channel, row, column),
        "in_plane": source.rect.pixels,
        "in_height": source.rect.rows,
        "in_width": source.rect.columns,
        "in_row": row - source.rect.row,
        "in_column": column - source.rect.column,
        "in_row_step": stride_h * source.rect.columns,
        "tap_row_step": dilation_h * source.rect.columns,
        "in_channels": tile.channels.count,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": stride_h,
        "stride_w": stride_w,
        "dilation_h": dilation_h,
        "dilation_w": dilation_w,
        "out_width": rect.columns,
    }


def _pooled(tile: OutputTile) -> Fields:
    """Return where in a word a pooling's channels lie; a convolution's weights say it."""
    return {"in_part": tile.sources[0].part(tile.channels.first)}


def _weighted(tile: OutputTile) -> tuple[str, Fields]:
    op, layer = tile.op, tile.op.layer
    fields = _window(tile, tile.rect) | {
        "pad_value": layer.input_zero_point,
        "out_zero_point": layer.output_zero_point,
        "weight_base": tile.weight_base,
        "single_rounding": int(layer.single_rounding),
    }
    if op.kind == "conv2d":
        reduction, rows = tile.reduction, tile.core.rows
        fields["in_channels"] = min(tile.in_channels - reduction.plane * rows, reduction.planes * rows)
        fields |= {"accumulate": int(not reduction.first), "keep": int(not reduction.last)}
        return "conv", fields
    if tile.slides:
        advance = tile.sources[0].rect.columns - (tile.rect.columns - 1) * op.stride[1]
        fields |= {"slide": 1, "row_advance": advance}
    return "depthwise", fields


def _average(tile: OutputTile) -> Iterator[tuple[str, Fields]]:
    rect = tile.rect
    columns = _clip(pool_spans(tile.op, 1), rect.column, rect.columns)
    for row, rows, valid_h in _clip(pool_spans(tile.op, 0), rect.row, rect.rows):
        # the results of a command are contiguous: where the count varies along a row, tiles of single rows
        height = rows if len(columns) == 1 else 1
        for first in range(row, row + rows, height):
            for column, width, valid_w in columns:
                count = valid_h * valid_w
                fields = _averaging(tile.op, count) | {"param_base": tile.param_bases[count]}
                window = _window(tile, Rect(first, height, column, width))
                yield "average_pool", window | _pooled(tile) | fields


def _averaging(op: Op, count: int) -> Fields:
    """Return the fields that say how an average is requantised."""
    if op.layer.op == "average_pool":
        return {"left_shift": reciprocal(count)[0], "single_rounding": int(rounds_once(count))}
    layer = op.layer  # a mean, which has its own scale and zero points
    return {"out_zero_point": layer.output_zero_point, "single_rounding": int(layer.single_rounding)}


def _clip(spans: list[tuple[int, int, int]], first: int, count: int) -> list[tuple[int, int, int]]:
    clipped = ((max(a, first), min(a + n, first + count), valid) for a, n, valid in spans)
    return [(a, b - a, valid) for a, b, valid in clipped if b > a]


def _add(tile: OutputTile) -> Iterator[tuple[str, Fields]]:
    layer, rect = tile.op.layer, tile.rect
    first, second = tile.sources
    # both inputs have one field for the distance of planes; where they differ, a command has one plane
    step = tile.channels.count if first.rect.pixels == second.rect.pixels else tile.core.rows
    for offset in range(0, tile.channels.count, step):
        channels = ChannelRange(tile.channels.first + offset, min(step, tile.channels.count - offset))
        param = tile.param_bases[0] + offset // CHANNEL_BLOCK * PARAM_GROUP_WORDS
        yield (
            "add",
            _output(tile, rect, channels)
            | {
                "param_base": param,
                "in_plane": first.rect.pixels,
                "in_base": first.word(channels.first, rect.row, rect.column),
                "in2_base": second.word(channels.first, rect.row, rect.column),
                "in_part": first.part(channels.first),
                "in2_part": second.part(channels.first),
                "left_shift": layer.left_shift,
                "out_zero_point": layer.output_zero_point,
                "zero_point1": layer.input1_zero_point,
                "zero_point2": layer.input2_zero_point,
                "multiplier1": layer.input1_multiplier,
                "multiplier2": layer.input2_multiplier,
                "shift1": layer.input1_shift,
                "shift2": layer.input2_shift,
            },
        )
