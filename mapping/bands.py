"""Cuts a layer into bands: pieces of the output, one operator command each, in the order of their run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from golden import layout
from golden.errors import UnsupportedError
from golden.layer import Layer, kernel_size, output_shape
from tb.config import CoreConfig
from tb.interface import TRANSFER_WORD_BYTES

BLOCK = layout.CHANNEL_BLOCK
MAX_POOL_COUNT = 1024
"""Largest average-pooling window: up to here the reciprocal's rounding is proven exact (`reciprocal`)."""


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient rounded up."""
    return -(-numerator // denominator)


def spatial(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (height, width, channels): a vector is one pixel, a further leading axis is folded into rows."""
    *outer, channels = shape
    if len(outer) < 2:
        return 1, int(np.prod(outer, dtype=int)), channels
    return int(np.prod(outer[:-1], dtype=int)), outer[-1], channels


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


@dataclass(frozen=True)
class Plane:
    """A tensor in the activation scratchpad: planes of `rows` channels, words of `rows` bytes.

    `base` is the first word; `words` are the words of a plane (its pixels).
    """

    base: int
    height: int
    width: int
    channels: int
    rows: int

    @property
    def words(self) -> int:
        """Words of one plane."""
        return self.height * self.width

    @property
    def size(self) -> int:
        """All words."""
        return ceil_div(self.channels, self.rows) * self.words

    def transfers(self, memory: int, first_row: int, rows: int) -> Iterator[dict[str, int]]:
        """Yield the LOAD or STORE fields that move rows of all channels, memory holding the whole tensor.

        Memory has planes of 16 channels; those that share a scratchpad word go in turns.
        """
        parts = self.rows // BLOCK
        blocks = ceil_div(self.channels, BLOCK)
        plane_bytes = self.words * TRANSFER_WORD_BYTES
        for part in range(min(parts, blocks)):
            yield {
                "mem_address": memory + part * plane_bytes + first_row * self.width * TRANSFER_WORD_BYTES,
                "local_address": (self.base + first_row * self.width) * parts + part,
                "line_words": rows * self.width,
                "lines": 1,
                "planes": ceil_div(blocks - part, parts),
                "local_step": parts,
                "plane_stride": parts * plane_bytes,
                "local_plane_stride": self.words * parts,
            }


@dataclass(frozen=True)
class Work:
    """What is to be done: a legal layer on a unit, its tensors in the activation scratchpad.

    Attributes:
        layer, unit: the layer, see `legalise`, and the unit.
        source, second, target: first and (addition) second input, and output.
        params: first word in the parameter scratchpad; average pooling: by number of averaged values.
        step: output rows of a band.
        slide: a depthwise kernel slides through the array (see `slides`): its weights are packed for that.
    """

    layer: Layer
    unit: CoreConfig
    source: Plane
    second: Plane | None
    target: Plane
    params: dict[int, int]
    step: int
    slide: bool


@dataclass(frozen=True)
class Band:
    """A piece of the work: its command's fields, the input rows it reads and the output rows it makes."""

    name: str
    fields: dict[str, int]
    in_rows: int
    out_first: int
    out_rows: int


def stripe_of(pixels: int, depth: int) -> int:
    """Return the pixels of a stripe: as few stripes as possible, all about equally long."""
    return ceil_div(pixels, ceil_div(pixels, depth))


def band_rows(height: int, width: int, depth: int) -> int:
    """Return the output rows of a band: two full stripes, or everything where that is less."""
    return min(height, max(1, ceil_div(2 * depth, width)))


def slides(layer: Layer, taps: int) -> bool:
    """Return whether a layer is depthwise and its kernel can and should slide through the array's columns.

    The stream of input words is continuous from row to row: every pass needs at least one word for its first
    output, its first taps lie in their row, and rows follow each other by at least one word.
    """
    if layer.op != "depthwise_conv2d":
        return False
    (_, kernel_w), stride, left = kernel_size(layer), layer.stride[1], layer.padding[2]
    width, out_width = layer.input.shape[1], output_shape(layer)[1]
    if layer.dilation[1] != 1 or kernel_w == 1 or width < (out_width - 1) * stride + 1:
        return False
    groups = layout.tap_groups(kernel_w, taps)
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


def bands_of(work: Work) -> list[Band]:
    """Return the bands of a layer, in order."""
    layer = work.layer
    if layer.op == "add":
        return list(_add_bands(work))
    if layer.op == "average_pool":
        return list(_average_bands(work))
    if layer.op == "max_pool":
        return list(_window_bands(work, "max_pool", {"pad_value": -128}))
    constants = {"pad_value": layer.input_zero_point, "out_zero_point": layer.output_zero_point}
    if work.slide:
        advance = work.source.width - (work.target.width - 1) * layer.stride[1]
        constants |= {"slide": 1, "row_advance": advance}
    return list(_window_bands(work, "conv" if layer.op == "conv2d" else "depthwise", constants))


def _output_fields(work: Work, first: int, column: int, pixels: int) -> dict[str, int]:
    """Return the fields that all operators share, for `pixels` outputs from (first, column) on."""
    return {
        "out_plane": work.target.words,
        "out_channels": work.target.channels,
        "out_pixels": pixels,
        "stripe_pixels": stripe_of(pixels, work.unit.stripe_depth),
        "out_base": work.target.base + first * work.target.width + column,
        "in_plane": work.source.words,
        "act_min": work.layer.act_min,
        "act_max": work.layer.act_max,
    }


def _window_band(
    work: Work, name: str, fields: dict[str, int], first: int, rows: int, column: int, width: int
) -> Band:
    """Return the band of an operator with a window: `rows` x `width` outputs from (first, column) on."""
    layer, source = work.layer, work.source
    (kernel_h, kernel_w), (stride_h, stride_w) = kernel_size(layer), layer.stride
    dilation_h, dilation_w = layer.dilation
    in_row, in_column = first * stride_h - layer.padding[0], column * stride_w - layer.padding[2]
    last_row = in_row + (rows - 1) * stride_h + (kernel_h - 1) * dilation_h
    return Band(
        name=name,
        fields=_output_fields(work, first, column, rows * width)
        | {
            "in_base": source.base + in_row * source.width + in_column,
            "in_height": source.height,
            "in_width": source.width,
            "in_row": in_row,
            "in_column": in_column,
            "in_row_step": stride_h * source.width,
            "tap_row_step": dilation_h * source.width,
            "in_channels": source.channels,
            "kernel_h": kernel_h,
            "kernel_w": kernel_w,
            "stride_h": stride_h,
            "stride_w": stride_w,
            "dilation_h": dilation_h,
            "dilation_w": dilation_w,
            "out_width": width,
        }
        | fields,
        in_rows=min(source.height, max(last_row + 1, 0)),
        out_first=first,
        # a row is stored when its last piece is done
        out_rows=rows if column + width == work.target.width else 0,
    )


def _window_bands(work: Work, name: str, fields: dict[str, int]) -> Iterator[Band]:
    """Yield bands of full rows."""
    for first in range(0, work.target.height, work.step):
        rows = min(work.step, work.target.height - first)
        yield _window_band(work, name, fields, first, rows, 0, work.target.width)


def _average_bands(work: Work) -> Iterator[Band]:
    """Yield bands in which every output averages the same number of values.

    Where the valid width varies along a row, the pieces of a row are bands of their own: the results of a
    command are contiguous.
    """
    columns = pool_spans(work.layer, 1)
    for run_first, run_rows, valid_h in pool_spans(work.layer, 0):
        height = min(work.step, run_rows) if len(columns) == 1 else 1
        for first in range(run_first, run_first + run_rows, height):
            rows = min(height, run_first + run_rows - first)
            for column, width, valid_w in columns:
                count = valid_h * valid_w
                fields = {"left_shift": reciprocal(count)[0], "param_base": work.params[count]}
                yield _window_band(work, "average_pool", fields, first, rows, column, width)


def _add_bands(work: Work) -> Iterator[Band]:
    layer, width = work.layer, work.target.width
    assert work.second is not None  # an addition has two inputs
    for first in range(0, work.target.height, work.step):
        rows = min(work.step, work.target.height - first)
        yield Band(
            name="add",
            fields=_output_fields(work, first, 0, rows * width)
            | {
                "in_base": work.source.base + first * width,
                "in2_base": work.second.base + first * width,
                "left_shift": layer.left_shift,
                "out_zero_point": layer.output_zero_point,
                "zero_point1": layer.input1_zero_point,
                "zero_point2": layer.input2_zero_point,
                "multiplier1": layer.input1_multiplier,
                "multiplier2": layer.input2_multiplier,
                "shift1": layer.input1_shift,
                "shift2": layer.input2_shift,
            },
            in_rows=first + rows,
            out_first=first,
            out_rows=rows,
        )
