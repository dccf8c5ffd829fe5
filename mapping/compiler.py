"""Compiles one layer into a unit's command list and memory image.

The layer's tensors lie whole in the scratchpads. The work is cut into bands of output rows, so that loading,
computing and storing overlap:

    load     parameters, weights, input band 0 | band 1 | band 2 ...
    compute                                    | band 0 | band 1 ...
    store                                               | band 0 ...

Commands are in an order in which they could run one after the other, so they cannot dead-lock
(docs/reference/commands.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from golden import layout
from golden.arithmetic import check_accumulator, folded_bias, reduced_shift, weight_range
from golden.errors import NpuloopError, UnsupportedError
from golden.layer import WEIGHTED_OPS, Layer, kernel_size, out_channels, output_shape
from tb.commands import Words, command_list, encode
from tb.config import CoreConfig
from tb.interface import COMMAND_BYTES, PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES

Bytes = npt.NDArray[np.uint8]
BLOCK = layout.CHANNEL_BLOCK
MARK_BYTES = 16
MAX_POOL_COUNT = 1024
"""Largest average-pooling window: up to here the reciprocal's rounding is proven exact (`reciprocal`)."""
FIELD_MAX = {"kernel": 255, "stride": 255, "dilation": 255}
"""Largest values of the command's fields."""


class CapacityError(NpuloopError):
    """A layer that does not fit the scratchpads of the unit."""


@dataclass(frozen=True)
class Program:
    """One layer, compiled for one unit.

    Attributes:
        layer: the layer.
        unit: the unit.
        segments: memory image, (byte address, bytes); command list included.
        commands: (byte address, number) of the command list.
        output: (byte address, bytes) of the output, channel-blocked.
        mark: byte address of the time stamp written at the layer's end.
        end: first byte address behind everything.
    """

    layer: Layer
    unit: CoreConfig
    segments: tuple[tuple[int, Bytes], ...]
    commands: tuple[int, int]
    output: tuple[int, int]
    mark: int
    end: int

    def decode_output(self, raw: Bytes) -> npt.NDArray[np.int8]:
        """Return the output, int8 in the layer's shape, from the `output` bytes of the memory."""
        shape = output_shape(self.layer)
        height, width, channels = spatial(shape)
        blocks = raw.view(np.int8).reshape(-1, height, width, BLOCK)
        return layout.unblock_activations(blocks, channels).reshape(shape)


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


# ---------------------------------------------------------------------------------------------- tensors
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


@dataclass
class Image:
    """Memory image under construction: aligned allocation from `base` upwards."""

    base: int
    segments: list[tuple[int, Bytes]] = field(default_factory=list)

    def reserve(self, size: int, align: int = 64) -> int:
        """Return the address of `size` new bytes."""
        address = ceil_div(self.base, align) * align
        self.base = address + size
        return address

    def place(self, data: npt.NDArray[Any]) -> int:
        """Return the address of the data."""
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        address = self.reserve(raw.size)
        self.segments.append((address, raw))
        return address


# ---------------------------------------------------------------------------------------------- legalise
def legalise(layer: Layer, unit: CoreConfig) -> Layer:
    """Return an equal layer that the unit has a command for, or refuse it.

    Fully connected layers become convolutions of one pixel, depthwise ones with a channel multiplier become
    convolutions with zero weights between channels.

    Raises:
        UnsupportedError: a weight the unit cannot hold, or a window beyond the command's fields.
    """
    if layer.op in WEIGHTED_OPS:
        low, high = weight_range(unit.w_bits)
        low = -128 if unit.w_bits == 8 else low
        smallest, largest = int(layer.weights.min()), int(layer.weights.max())
        if smallest < low or largest > high:
            raise UnsupportedError(
                f"layer {layer.name!r}: weights from {smallest} to {largest} do not fit {unit.name}, which "
                f"has {unit.w_bits}-bit weights ({low} to {high}); quantise the layer to {unit.w_bits} bits, "
                "or clip it with --clip-weights"
            )
    for key, values in (
        ("kernel", kernel_size(layer)),
        ("stride", layer.stride),
        ("dilation", layer.dilation),
    ):
        if max(values) > FIELD_MAX[key]:
            raise UnsupportedError(f"layer {layer.name!r}: {key} {values} is above {FIELD_MAX[key]}")
    if layer.op == "fully_connected":
        k, c = layer.weights.shape
        expected = None if layer.expected is None else layer.expected.reshape(1, 1, -1)
        return replace(
            layer,
            op="conv2d",
            input=layer.input.reshape(1, 1, -1),
            weights=layer.weights.reshape(k, 1, 1, c),
            expected=expected,
        )
    if layer.op == "depthwise_conv2d" and layer.weights.shape[3] != layer.input.shape[2]:
        _, kernel_h, kernel_w, k = layer.weights.shape
        c = layer.input.shape[2]
        weights = np.zeros((k, kernel_h, kernel_w, c), np.int8)
        channel = np.arange(k)
        weights[channel, :, :, channel // (k // c)] = np.moveaxis(layer.weights[0], 2, 0)
        return replace(layer, op="conv2d", weights=weights)
    return layer


# ---------------------------------------------------------------------------------------------- operators
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
    """Return whether a depthwise kernel can and should slide through the array's columns.

    The stream of input words is continuous from row to row: every pass needs at least one word for its first
    output, its first taps lie in their row, and rows follow each other by at least one word.
    """
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


def window_bands(
    layer: Layer, unit: CoreConfig, source: Plane, target: Plane, common: dict[str, int], step: int
) -> Iterator[Band]:
    """Yield convolution, depthwise or max-pooling bands of `step` full output rows."""
    (kernel_h, kernel_w), (stride_h, stride_w) = kernel_size(layer), layer.stride
    dilation_h, dilation_w = layer.dilation
    top, _, left, _ = layer.padding
    for first in range(0, target.height, step):
        rows = min(step, target.height - first)
        in_row = first * stride_h - top
        last_row = (first + rows - 1) * stride_h - top + (kernel_h - 1) * dilation_h
        pixels = rows * target.width
        yield Band(
            name={"conv2d": "conv", "depthwise_conv2d": "depthwise", "max_pool": "max_pool"}[layer.op],
            fields=common
            | {
                "in_base": source.base + in_row * source.width - left,
                "in_height": source.height,
                "in_width": source.width,
                "in_row": in_row,
                "in_column": -left,
                "in_row_step": stride_h * source.width,
                "tap_row_step": dilation_h * source.width,
                "in_plane": source.words,
                "in_channels": source.channels,
                "kernel_h": kernel_h,
                "kernel_w": kernel_w,
                "stride_h": stride_h,
                "stride_w": stride_w,
                "dilation_h": dilation_h,
                "dilation_w": dilation_w,
                "out_width": target.width,
                "out_pixels": pixels,
                "stripe_pixels": stripe_of(pixels, unit.stripe_depth),
                "out_base": target.base + first * target.width,
            },
            in_rows=min(source.height, max(last_row + 1, 0)),
            out_first=first,
            out_rows=rows,
        )


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


def compile_layer(
    layer: Layer,
    unit: CoreConfig,
    base: int = 0,
    *,
    mem_bytes: int = 16 << 20,
    overlap: bool = True,
    input_address: int | None = None,
) -> Program:
    """Compile a layer for a unit.

    Args:
        layer: the layer; its input is part of the memory image.
        unit: the unit that runs it.
        base: first byte address of the memory image.
        mem_bytes: size of the memory.
        overlap: cut the work into bands, so that transfers hide behind the computation; otherwise everything
            is loaded, computed and stored one after the other.
        input_address: where the (first) input will lie, channel-blocked, if another job or unit writes it; by
            default the layer's own input is part of the image.

    Raises:
        UnsupportedError: the unit has no command for the layer.
        CapacityError: the layer does not fit the unit's scratchpads, or the memory.
        ArithmeticRangeError: an accumulator could leave 32 bits.
    """
    legal = legalise(layer, unit)
    source_shape, target_shape = spatial(legal.input.shape), spatial(output_shape(legal))
    source = Plane(0, *source_shape, unit.rows)
    second = Plane(source.size, *source_shape, unit.rows) if legal.op == "add" else None
    target = Plane(source.size + (second.size if second else 0), *target_shape, unit.rows)
    used = target.base + target.size
    _capacity(layer, unit, "activations", used * unit.rows, unit.act_kib)
    if target.words > 65535 or source.words > 65535:
        raise CapacityError(
            f"layer {layer.name!r}: a plane of {max(target.words, source.words)} pixels; 65535 fit a command"
        )

    image = Image(base)
    weights: Bytes = np.zeros(0, np.uint8)
    slide = False
    channels = out_channels(legal)
    if legal.op == "conv2d":
        weights = layout.pack_conv_weights(legal.weights, unit.rows, unit.columns, unit.w_bits)
    elif legal.op == "depthwise_conv2d":
        slide = slides(legal, unit.dw_taps)
        weights = layout.pack_depthwise_weights(
            legal.weights, unit.rows, unit.dw_taps if slide else 1, unit.w_bits
        )
    _capacity(layer, unit, "weights", weights.size, unit.weight_kib)
    sets = _parameters(legal, unit)
    params = np.concatenate([data for _, data in sets]) if sets else np.zeros(0, np.uint8)
    _capacity(layer, unit, "parameters", params.size, unit.param_kib)

    if input_address is None:
        input_address = image.place(layout.block_activations(legal.input.reshape(source_shape)))
    second_address = (
        image.place(layout.block_activations(legal.input2.reshape(source_shape))) if second else 0
    )
    weight_address = image.place(weights) if weights.size else 0
    param_address = image.place(params)
    output_bytes = ceil_div(channels, BLOCK) * target.words * TRANSFER_WORD_BYTES
    output_address = image.reserve(output_bytes)
    mark_address = image.reserve(MARK_BYTES)

    common = {
        "out_plane": target.words,
        "out_channels": channels,
        "act_min": legal.act_min,
        "act_max": legal.act_max,
    }
    step = band_rows(target.height, target.width, unit.stripe_depth) if overlap else target.height
    bands = _bands(legal, unit, source, second, target, common, slide, dict(sets_offsets(sets)), step)

    commands: list[Words] = []
    loaded = 0
    _load(commands, "parameters", param_address, params.size // TRANSFER_WORD_BYTES)
    # The tiles of the first output block come first: the first band starts with them while the rest arrives.
    blocks = ceil_div(channels, unit.columns) if legal.op == "conv2d" and overlap else 1
    per_block = weights.size // WEIGHT_WORD_BYTES // blocks
    _load(commands, "weights", weight_address, per_block * WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES)
    for i, band in enumerate(bands):
        rows = band.in_rows - loaded
        if rows > 0:
            for plane, address in ((source, input_address), (second, second_address)):
                transfers = plane.transfers(address, loaded, rows) if plane else ()
                commands.extend(encode("load", target=0, **transfer) for transfer in transfers)
            loaded = band.in_rows
        if i == 0 or rows > 0:
            _post(commands, "compute")
        pieces = _pieces(band, unit, blocks, per_block) if i == 0 else [band.fields]
        for j, piece in enumerate(pieces):
            if j > 0:
                words = per_block * WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES
                _load(commands, "weights", weight_address + j * words * TRANSFER_WORD_BYTES, words, j * words)
                _post(commands, "compute")
            # commands complete in order: one token covers all
            stores = j == len(pieces) - 1 and band.out_rows > 0
            wait = int(i == 0 or rows > 0 or j > 0)
            commands.append(encode(band.name, wait_load=wait, post_store=int(stores), **piece))
        transfers = target.transfers(output_address, band.out_first, band.out_rows) if band.out_rows else ()
        for k, transfer in enumerate(transfers):
            commands.append(encode("store", wait_compute=int(k == 0), **transfer))
    commands.append(encode("mark", mem_address=mark_address, id=0))

    list_address = image.place(command_list(commands))
    if image.base > mem_bytes:
        raise CapacityError(
            f"layer {layer.name!r}: its memory image ends at {image.base} bytes; the memory has {mem_bytes}"
        )
    return Program(
        layer=layer,
        unit=unit,
        segments=tuple(image.segments),
        commands=(list_address, len(commands)),
        output=(output_address, output_bytes),
        mark=mark_address,
        end=image.base,
    )


def _capacity(layer: Layer, unit: CoreConfig, what: str, size: int, kib: int) -> None:
    if size > kib * 1024:
        raise CapacityError(
            f"layer {layer.name!r}: {size} bytes of {what} do not fit the {kib} KiB that {unit.name} has for "
            "them; use a smaller layer or a unit with a larger scratchpad"
        )


def _load(commands: list[Words], target: str, address: int, words: int, local: int = 0) -> None:
    """Append the transfer of contiguous 16-byte words, cut where the command's fields end."""
    number = {"weights": 1, "parameters": 2}[target]
    while words > 0:
        count = min(words, 65535)
        commands.append(
            encode(
                "load", target=number, mem_address=address, local_address=local,
                line_words=count, lines=1, planes=1, local_step=1,
            )
        )  # fmt: skip
        address, local, words = address + count * TRANSFER_WORD_BYTES, local + count, words - count


def _post(commands: list[Words], engine: str) -> None:
    """Let the last command post a token: it is complete after all loads before it."""
    bit = {"load": 16, "compute": 17, "store": 18}[engine]
    commands[-1] = commands[-1].copy()
    commands[-1][0] |= np.uint32(1 << bit)


def _pieces(band: Band, unit: CoreConfig, blocks: int, per_block: int) -> list[dict[str, int]]:
    """Return the first band's commands, one for each output block of a convolution."""
    if blocks == 1:
        return [band.fields]
    groups, planes = unit.columns // BLOCK, unit.columns // unit.rows
    return [
        band.fields
        | {
            "out_channels": min(unit.columns, band.fields["out_channels"] - block * unit.columns),
            "weight_base": block * per_block,
            "param_base": band.fields["param_base"] + block * groups * PARAM_GROUP_WORDS,
            "out_base": band.fields["out_base"] + block * planes * band.fields["out_plane"],
        }
        for block in range(blocks)
    ]


def _parameters(layer: Layer, unit: CoreConfig) -> list[tuple[int, Bytes]]:
    """Return the requantisation parameters as (count, packed): one set, or one for each averaging count."""
    channels = out_channels(layer)
    zeros, ones = np.zeros(channels, np.int32), np.ones(channels, np.int32)
    if layer.op in WEIGHTED_OPS:
        axes = (1, 2, 3) if layer.op == "conv2d" else (0, 1, 2)
        weights = layer.weights.astype(np.int64)
        check_accumulator(np.abs(weights).sum(axis=axes), unit.a_bits)
        bias = folded_bias(layer.bias, weights.sum(axis=axes), layer.input_zero_point, unit.a_bits)
        shift = reduced_shift(layer.shift, unit.a_bits)
        packed = layout.pack_requant_params(
            bias.numpy().astype(np.int32), layer.multiplier, shift.numpy().astype(np.int32)
        )
        return [(0, packed)]
    if layer.op == "add":
        return [
            (0, layout.pack_requant_params(zeros, ones * layer.output_multiplier, ones * layer.output_shift))
        ]
    if layer.op == "max_pool":  # times one
        return [(0, layout.pack_requant_params(zeros, ones << 30, ones))]
    counts = sorted({h * w for *_, h in _pool_spans(layer, 0) for *_, w in _pool_spans(layer, 1)})
    sets = []
    for count in counts:
        try:
            _, multiplier, shift_value = reciprocal(count)
        except UnsupportedError as error:
            raise UnsupportedError(f"layer {layer.name!r}: {error}") from None
        sets.append((count, layout.pack_requant_params(zeros, ones * multiplier, ones * shift_value)))
    return sets


def sets_offsets(sets: Sequence[tuple[int, Bytes]]) -> Iterator[tuple[int, int]]:
    """Yield (count, first 16-byte word in the parameter scratchpad)."""
    offset = 0
    for count, data in sets:
        yield count, offset
        offset += data.size // TRANSFER_WORD_BYTES


def _pool_spans(layer: Layer, axis: int) -> list[tuple[int, int, int]]:
    return spans(
        layer.input.shape[axis], layer.kernel[axis], layer.stride[axis], layer.padding[2 * axis],
        output_shape(layer)[axis],
    )  # fmt: skip


def _bands(
    layer: Layer,
    unit: CoreConfig,
    source: Plane,
    second: Plane | None,
    target: Plane,
    common: dict[str, int],
    slide: bool,
    params: dict[int, int],
    step: int,
) -> list[Band]:
    """Return the commands of the layer, in order."""
    if layer.op == "add":
        assert second is not None
        return list(_add_bands(layer, unit, source, second, target, common, step))
    if layer.op == "average_pool":
        return list(_average_bands(layer, unit, source, target, common, params, step))
    if layer.op == "max_pool":
        return list(window_bands(layer, unit, source, target, common | {"pad_value": -128}, step))
    common = common | {
        "pad_value": layer.input_zero_point,
        "out_zero_point": layer.output_zero_point,
        "param_base": 0,
        "weight_base": 0,
    }
    if slide:
        advance = source.width - (target.width - 1) * layer.stride[1]
        common |= {"slide": 1, "row_advance": advance}
    return list(window_bands(layer, unit, source, target, common, step))


def _add_bands(
    layer: Layer,
    unit: CoreConfig,
    source: Plane,
    second: Plane,
    target: Plane,
    common: dict[str, int],
    step: int,
) -> Iterator[Band]:
    for first in range(0, target.height, step):
        rows = min(step, target.height - first)
        offset, pixels = first * target.width, rows * target.width
        yield Band(
            name="add",
            fields=common
            | {
                "in_base": source.base + offset,
                "in2_base": second.base + offset,
                "in_plane": source.words,
                "out_pixels": pixels,
                "stripe_pixels": stripe_of(pixels, unit.stripe_depth),
                "out_base": target.base + offset,
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


def _average_bands(
    layer: Layer,
    unit: CoreConfig,
    source: Plane,
    target: Plane,
    common: dict[str, int],
    params: dict[int, int],
    step: int,
) -> Iterator[Band]:
    """Yield one band for each run of rows with one valid height; within it a command per valid width.

    Where the valid width varies along a row, the pieces of a row are commands of their own: the results of a
    command are contiguous.
    """
    columns = _pool_spans(layer, 1)
    top, _, left, _ = layer.padding
    for run_first, run_rows, valid_h in _pool_spans(layer, 0):
        height = min(step, run_rows) if len(columns) == 1 else 1
        for first in range(run_first, run_first + run_rows, height):
            rows = min(height, run_first + run_rows - first)
            in_row = first * layer.stride[0] - top
            for column, width, valid_w in columns:
                left_shift, _, _ = reciprocal(valid_h * valid_w)
                in_column = column * layer.stride[1] - left
                yield Band(
                    name="average_pool",
                    fields=common
                    | {
                        "in_base": source.base + in_row * source.width + in_column,
                        "in_height": source.height,
                        "in_width": source.width,
                        "in_row": in_row,
                        "in_column": in_column,
                        "in_row_step": layer.stride[0] * source.width,
                        "tap_row_step": source.width,
                        "in_plane": source.words,
                        "in_channels": source.channels,
                        "kernel_h": layer.kernel[0],
                        "kernel_w": layer.kernel[1],
                        "stride_h": layer.stride[0],
                        "stride_w": layer.stride[1],
                        "dilation_h": 1,
                        "dilation_w": 1,
                        "left_shift": left_shift,
                        "out_width": width,
                        "out_pixels": rows * width,
                        "stripe_pixels": stripe_of(rows * width, unit.stripe_depth),
                        "out_base": target.base + first * target.width + column,
                        "param_base": params[valid_h * valid_w],
                    },
                    in_rows=min(
                        source.height, max(in_row + (rows - 1) * layer.stride[0] + layer.kernel[0], 0)
                    ),
                    out_first=first,
                    # the row is stored when its last piece is done
                    out_rows=rows if column + width == target.width else 0,
                )


def command_bytes(program: Program) -> int:
    """Return the bytes of the program's command list."""
    return program.commands[1] * COMMAND_BYTES
