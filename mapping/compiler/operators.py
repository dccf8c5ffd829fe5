"""The fields of operator commands: one output rectangle of one run of channels.

Average pooling has one command for each rectangle of outputs that average the same number of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from common.errors import UnsupportedError
from golden.layer import Layer, kernel_size, output_shape
from hw import layout
from hw.core import CoreConfig
from hw.interface import PARAM_GROUP_WORDS
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelRange
from mapping.compiler.regions import Rect, Region, ceil_div

MAX_POOL_COUNT = 1024
"""Largest average-pooling window: up to here the reciprocal's rounding is proven exact (`reciprocal`)."""


def reciprocal(count: int) -> tuple[int, int, int]:
    """Return (left_shift, multiplier, shift) with which requantisation divides a sum of `count` int8 values.

    The result is the quotient rounded half away from zero, exactly: inputs are shifted left first, so that
    the first of the two roundings is far below half of the quotient's smallest step, 1 / (2 count), and the
    multiplier is rounded up, so that ties stay ties or lie outside. A test compares every sum of every count.

    Raises:
        UnsupportedError: count above MAX_POOL_COUNT.
    """
    if not 1 <= count <= MAX_POOL_COUNT:
        raise UnsupportedError(f"average pooling over {count} values; 1 to {MAX_POOL_COUNT} are supported")
    bits = (count - 1).bit_length()  # 2^(bits - 1) < count <= 2^bits
    left_shift = 22 - bits  # |sum| << left_shift <= 2^(7 + bits + 22 - bits)
    multiplier = ceil_div(1 << (30 + bits), count)  # 2^30 <= multiplier <= 2^31
    shift = 1 - bits
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    return left_shift, multiplier, shift - left_shift


def stripe_of(pixels: int, depth: int) -> int:
    """Return the pixels of a stripe: as few stripes as possible, all about equally long."""
    return ceil_div(pixels, ceil_div(pixels, depth))


def stripe_lengths(pixels: int, depth: int) -> list[int]:
    """Return the pixels of each stripe."""
    stripe = stripe_of(pixels, depth)
    return [min(stripe, pixels - first) for first in range(0, pixels, stripe)]


def slides(layer: Layer, core: CoreConfig) -> bool:
    """Return whether a layer is depthwise and its kernel can and should slide through the array's columns.

    The stream of input words is continuous from row to row: every pass needs at least one word for its first
    output, its first taps lie in their row, and rows follow each other by at least one word. A kernel wider
    than DW_TAPS needs whole rows, two of each tensor in the scratchpad.
    """
    if layer.op != "depthwise_conv2d":
        return False
    (_, kernel_w), stride, left = kernel_size(layer), layer.stride[1], layer.padding[2]
    width, out_width = layer.input.shape[1], output_shape(layer)[1]
    if layer.dilation[1] != 1 or kernel_w == 1 or width < (out_width - 1) * stride + 1:
        return False
    groups = layout.tap_groups(kernel_w, core.dw_taps)
    reach = (kernel_size(layer)[0] - 1) * layer.dilation[0] + 1
    if len(groups) > 1 and 2 * (reach * width + out_width) > core.act_kib * 1024 // core.rows:
        return False
    possible = all(
        n + min(first - left, 0) >= 1 and (out_width - 1) * stride - left + first < width
        for first, n in groups
    )
    return possible and width * len(groups) < out_width * kernel_w


def spans(size: int, kernel: int, stride: int, before: int, out_size: int) -> list[tuple[int, int, int]]:
    """Return runs of output positions with the same number of valid inputs: (first, length, valid)."""
    runs: list[tuple[int, int, int]] = []
    for out in range(out_size):
        start = out * stride - before
        valid = min(start + kernel, size) - max(start, 0)
        if runs and runs[-1][2] == valid:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, valid)
        else:
            runs.append((out, 1, valid))
    return runs


def pool_spans(layer: Layer, axis: int) -> list[tuple[int, int, int]]:
    """Return the `spans` of a pool along an axis: 0 rows, 1 columns."""
    return spans(
        layer.input.shape[axis], layer.kernel[axis], layer.stride[axis], layer.padding[2 * axis],
        output_shape(layer)[axis],
    )  # fmt: skip


def pool_counts(layer: Layer) -> list[int]:
    """Return the numbers of values that a pool's outputs average."""
    return sorted({h * w for *_, h in pool_spans(layer, 0) for *_, w in pool_spans(layer, 1)})


def source_rect(layer: Layer, rect: Rect) -> Rect:
    """Return the input pixels that a rectangle of outputs reads."""
    if layer.op == "add":
        return rect

    def extent(axis: int, first: int, count: int) -> tuple[int, int]:
        size, reach = layer.input.shape[axis], (kernel_size(layer)[axis] - 1) * layer.dilation[axis]
        start = first * layer.stride[axis] - layer.padding[2 * axis]
        end = start + (count - 1) * layer.stride[axis] + reach + 1
        low = min(max(start, 0), size - 1)
        return low, max(min(end, size), low + 1) - low

    row, rows = extent(0, rect.row, rect.rows)
    column, columns = extent(1, rect.column, rect.columns)
    return Rect(row, rows, column, columns)


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


@dataclass(frozen=True)
class OutputTile:
    """What one command, or for average pooling a few, makes.

    Attributes:
        layer: the layer.
        core: the unit.
        sources, target: where the tensors lie.
        rect: the outputs; more than one row only if they are the target's whole width.
        run: the output channels.
        weight_base: first 32-byte word of their weights.
        param_bases: first 16-byte word of their parameters; by averaged count, other operators under 0.
        slide: a depthwise kernel slides through the array (see `slides`).
        in_places: channels of the input in memory, which a convolution sums.
        share: what of that sum this piece adds up.
    """

    layer: Layer
    core: CoreConfig
    sources: Sequence[Region]
    target: Region
    rect: Rect
    run: ChannelRange
    weight_base: int
    param_bases: Mapping[int, int]
    slide: bool
    in_places: int
    share: ReductionSlice


def commands(piece: OutputTile) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the commands of a piece: name and fields."""
    op = piece.layer.op
    if op == "add":
        yield from _add(piece)
    elif op == "average_pool":
        yield from _average(piece)
    elif op == "max_pool":
        yield "max_pool", _window(piece, piece.rect) | {"pad_value": -128}
    else:
        yield _weighted(piece)


def _output(piece: OutputTile, rect: Rect, run: ChannelRange) -> dict[str, int]:
    """Return the fields that all operators share."""
    return {
        "out_plane": piece.target.rect.pixels,
        "out_channels": run.count,
        "out_pixels": rect.pixels,
        "stripe_pixels": stripe_of(rect.pixels, piece.core.stripe_depth),
        "out_base": piece.target.word(run.first, rect.row, rect.column),
        "act_min": piece.layer.act_min,
        "act_max": piece.layer.act_max,
        "param_base": piece.param_bases.get(0, 0),
    }


def _window(piece: OutputTile, rect: Rect) -> dict[str, int]:
    """Return the fields of an operator with a window."""
    layer, source = piece.layer, piece.sources[0]
    (kernel_h, kernel_w), (stride_h, stride_w) = kernel_size(layer), layer.stride
    dilation_h, dilation_w = layer.dilation
    row, column = rect.row * stride_h - layer.padding[0], rect.column * stride_w - layer.padding[2]
    place = piece.run.first
    if layer.op == "conv2d":
        place, kernel_h = piece.share.plane * source.rows, piece.share.rows
        row += piece.share.row * dilation_h
    return _output(piece, rect, piece.run) | {
        "in_base": source.word(place, row, column),
        "in_plane": source.rect.pixels,
        "in_height": source.rect.rows,
        "in_width": source.rect.columns,
        "in_row": row - source.rect.row,
        "in_column": column - source.rect.column,
        "in_row_step": stride_h * source.rect.columns,
        "tap_row_step": dilation_h * source.rect.columns,
        "in_channels": piece.run.count,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": stride_h,
        "stride_w": stride_w,
        "dilation_h": dilation_h,
        "dilation_w": dilation_w,
        "out_width": rect.columns,
    }


def _weighted(piece: OutputTile) -> tuple[str, dict[str, int]]:
    layer = piece.layer
    fields = _window(piece, piece.rect) | {
        "pad_value": layer.input_zero_point,
        "out_zero_point": layer.output_zero_point,
        "weight_base": piece.weight_base,
        "single_rounding": int(layer.single_rounding),
    }
    if layer.op == "conv2d":
        share, rows = piece.share, piece.core.rows
        fields["in_channels"] = min(piece.in_places - share.plane * rows, share.planes * rows)
        fields |= {"accumulate": int(not share.first), "keep": int(not share.last)}
        return "conv", fields
    if piece.slide:
        advance = piece.sources[0].rect.columns - (piece.rect.columns - 1) * layer.stride[1]
        fields |= {"slide": 1, "row_advance": advance}
    return "depthwise", fields


def _average(piece: OutputTile) -> Iterator[tuple[str, dict[str, int]]]:
    rect = piece.rect
    columns = _clip(pool_spans(piece.layer, 1), rect.column, rect.columns)
    for row, rows, valid_h in _clip(pool_spans(piece.layer, 0), rect.row, rect.rows):
        # the results of a command are contiguous: where the count varies along a row, pieces of single rows
        height = rows if len(columns) == 1 else 1
        for first in range(row, row + rows, height):
            for column, width, valid_w in columns:
                count = valid_h * valid_w
                fields = {"left_shift": reciprocal(count)[0], "param_base": piece.param_bases[count]}
                yield "average_pool", _window(piece, Rect(first, height, column, width)) | fields


def _clip(runs: list[tuple[int, int, int]], first: int, count: int) -> list[tuple[int, int, int]]:
    clipped = ((max(a, first), min(a + n, first + count), valid) for a, n, valid in runs)
    return [(a, b - a, valid) for a, b, valid in clipped if b > a]


def _add(piece: OutputTile) -> Iterator[tuple[str, dict[str, int]]]:
    layer, rect = piece.layer, piece.rect
    first, second = piece.sources
    # both inputs have one field for the distance of planes; where they differ, a command has one plane
    step = piece.run.count if first.rect.pixels == second.rect.pixels else piece.core.rows
    for offset in range(0, piece.run.count, step):
        run = ChannelRange(piece.run.first + offset, min(step, piece.run.count - offset))
        param = piece.param_bases[0] + offset // CHANNEL_BLOCK * PARAM_GROUP_WORDS
        yield (
            "add",
            _output(piece, rect, run)
            | {
                "param_base": param,
                "in_plane": first.rect.pixels,
                "in_base": first.word(run.first, rect.row, rect.column),
                "in2_base": second.word(run.first, rect.row, rect.column),
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
