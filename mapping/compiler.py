"""Compiles one layer into a unit's command list and memory image: legalise, cut into bands, emit commands.

The layer's tensors lie whole in the scratchpads. The work is cut into bands of output rows, so that loading,
computing and storing overlap:

    load     parameters, weights, input band 0 | band 1 | band 2 ...
    compute                                    | band 0 | band 1 ...
    store                                               | band 0 ...

Commands are in an order in which they could run one after the other, so they cannot dead-lock
(docs/reference/commands.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from golden import layout
from golden.arithmetic import check_accumulator, folded_bias, reduced_shift
from golden.errors import NpuloopError, UnsupportedError
from golden.layer import WEIGHTED_OPS, Layer, out_channels, output_shape
from mapping.bands import (
    BLOCK,
    Band,
    Plane,
    Work,
    band_rows,
    bands_of,
    ceil_div,
    pool_spans,
    reciprocal,
    slides,
    spatial,
)
from mapping.legalise import legalise
from tb.commands import CommandError, command_list, encode
from tb.config import CoreConfig
from tb.interface import PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES

Bytes = npt.NDArray[np.uint8]
MARK_BYTES = 16
Command = tuple[str, dict[str, int]]
"""Name and fields of a command, before it is encoded."""


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
    slide = slides(legal, unit.dw_taps)
    channels = out_channels(legal)
    if legal.op == "conv2d":
        weights = layout.pack_conv_weights(legal.weights, unit.rows, unit.columns, unit.w_bits)
    elif legal.op == "depthwise_conv2d":
        weights = layout.pack_depthwise_weights(
            legal.weights, unit.rows, unit.dw_taps if slide else 1, unit.w_bits
        )
    _capacity(layer, unit, "weights", weights.size, unit.weight_kib)
    sets = _parameters(legal, unit)
    params = np.concatenate(list(sets.values()))
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

    offsets = np.cumsum([0, *(data.size // TRANSFER_WORD_BYTES for data in sets.values())])
    step = band_rows(target.height, target.width, unit.stripe_depth) if overlap else target.height
    first_words = dict(zip(sets, offsets.tolist(), strict=False))
    work = Work(legal, unit, source, second, target, first_words, step, slide)

    commands: list[Command] = []
    loaded = 0
    _load(commands, "parameters", param_address, params.size // TRANSFER_WORD_BYTES)
    # The tiles of the first output block come first: the first band starts with them while the rest arrives.
    blocks = ceil_div(channels, unit.columns) if legal.op == "conv2d" and overlap else 1
    per_block = weights.size // WEIGHT_WORD_BYTES // blocks
    _load(commands, "weights", weight_address, per_block * WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES)
    for i, band in enumerate(bands_of(work)):
        rows = band.in_rows - loaded
        if rows > 0:
            for plane, address in ((source, input_address), (second, second_address)):
                transfers = plane.transfers(address, loaded, rows) if plane else ()
                commands.extend(("load", {"target": 0} | transfer) for transfer in transfers)
            loaded = band.in_rows
        if i == 0 or rows > 0:
            _post_to_compute(commands)
        pieces = _pieces(band, unit, blocks, per_block) if i == 0 else [band.fields]
        for j, piece in enumerate(pieces):
            if j > 0:
                words = per_block * WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES
                _load(commands, "weights", weight_address + j * words * TRANSFER_WORD_BYTES, words, j * words)
                _post_to_compute(commands)
            # commands complete in order: one token covers all
            stores = j == len(pieces) - 1 and band.out_rows > 0
            wait = int(i == 0 or rows > 0 or j > 0)
            commands.append((band.name, {"wait_load": wait, "post_store": int(stores)} | piece))
        transfers = target.transfers(output_address, band.out_first, band.out_rows) if band.out_rows else ()
        for k, transfer in enumerate(transfers):
            commands.append(("store", {"wait_compute": int(k == 0)} | transfer))
    commands.append(("mark", {"mem_address": mark_address}))

    try:
        encoded = [encode(name, **fields) for name, fields in commands]
    except CommandError as error:
        raise UnsupportedError(f"layer {layer.name!r} is beyond a command: {error}") from None
    list_address = image.place(command_list(encoded))
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


def _load(commands: list[Command], target: str, address: int, words: int, local: int = 0) -> None:
    """Append the transfer of contiguous 16-byte words, cut where the command's fields end."""
    number = {"weights": 1, "parameters": 2}[target]
    while words > 0:
        count = min(words, 65535)
        fields = {"target": number, "mem_address": address, "local_address": local, "line_words": count}
        commands.append(("load", fields | {"lines": 1, "planes": 1, "local_step": 1}))
        address, local, words = address + count * TRANSFER_WORD_BYTES, local + count, words - count


def _post_to_compute(commands: list[Command]) -> None:
    """Let the last command, a load, post a token: it is complete after all loads before it."""
    commands[-1][1]["post_compute"] = 1


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
            "param_base": block * groups * PARAM_GROUP_WORDS,
            "out_base": band.fields["out_base"] + block * planes * band.fields["out_plane"],
        }
        for block in range(blocks)
    ]


def _parameters(layer: Layer, unit: CoreConfig) -> dict[int, Bytes]:
    """Return the packed requantisation parameters: one set under 0, or one for each averaging count."""
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
        return {0: packed}
    if layer.op == "add":
        return {
            0: layout.pack_requant_params(zeros, ones * layer.output_multiplier, ones * layer.output_shift)
        }
    if layer.op == "max_pool":  # times one
        return {0: layout.pack_requant_params(zeros, ones << 30, ones)}
    counts = sorted({h * w for *_, h in pool_spans(layer, 0) for *_, w in pool_spans(layer, 1)})
    sets: dict[int, Bytes] = {}
    for count in counts:
        try:
            _, multiplier, shift_value = reciprocal(count)
        except UnsupportedError as error:
            raise UnsupportedError(f"layer {layer.name!r}: {error}") from None
        sets[count] = layout.pack_requant_params(zeros, ones * multiplier, ones * shift_value)
    return sets
