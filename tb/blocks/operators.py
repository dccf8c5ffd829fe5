# SPDX-License-Identifier: Apache-2.0
"""Random operator commands and what the sequencer must make of them, from plain loops over coordinates.

The reference multiplies out every address from coordinates; the hardware only ever adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from hw.commands import encode
from hw.interface import PARAM_GROUP_WORDS
from tb.blocks.structures import Fields
from tb.blocks.support import join

MAX_BEATS = 1500
LOCAL_MASK = (1 << 20) - 1
"""Addresses in scratchpads are of 20 bits; what a command adds up to wraps."""
OPERATORS = ("conv", "depthwise", "sliding", "average", "max", "add")
MACS = ("conv", "depthwise", "sliding")
FAR = ("in_plane", "out_plane", "out_base", "param_base")
"""Fields of 16 bits that hold an address or a distance; where there are weights, `weight_base` too."""
NAMES = {"sliding": "depthwise", "average": "average_pool", "max": "max_pool"}  # where the command's differs


@dataclass(frozen=True)
class Unit:
    """The array that the block is built for."""

    rows: int
    cols: int
    w_bits: int
    taps: int

    def tile_words(self, values: int) -> int:
        """Return the 32-byte words of a tile of `values` columns."""
        return -(-values * self.rows * self.w_bits // 256)


@dataclass(frozen=True)
class Operator:
    """One operator: the command's fields, and the tensor coordinates that they stand for."""

    kind: str
    unit: Unit
    fields: Fields
    origin: int = 0  # address of the input's pixel (0, 0) in plane 0
    second: int = 0  # the same of an addition's second input

    @property
    def name(self) -> str:
        """The command's name."""
        return NAMES.get(self.kind, self.kind)

    @property
    def command(self) -> int:
        """The command as one vector."""
        return join([int(word) for word in encode(self.name, **self.fields)], 32)

    def stripes(self) -> list[tuple[int, int]]:
        """Return each stripe's first pixel and number of pixels."""
        total, most = self.fields["out_pixels"], self.fields["stripe_pixels"]
        return [(first, min(most, total - first)) for first in range(0, total, most)]

    def in_part(self, phase: int) -> int:
        """Return which 16 channels of an input word hold the first block's; `phase`: of an addition."""
        return self.fields.get("in2_part" if phase else "in_part", 0)

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Give each output block's first channel, channels, and number."""
        size = {"conv": self.unit.cols, "depthwise": self.unit.rows, "sliding": self.unit.rows}.get(
            self.kind, 16
        )
        total = self.fields["out_channels"]
        for number, first in enumerate(range(0, total, size)):
            yield first, min(size, total - first), number


@dataclass
class Want:
    """One expected beat, what goes with it, and for a sliding pass the address that each column must hold."""

    beat: Fields
    stripe: Fields | None = None
    tile: tuple[int, int] | None = None
    no_tile: bool = False
    columns: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """One weight tile's worth of work: input block, kernel row, kernel columns, addition's phase."""

    block: int
    ky: int
    kx: int
    columns: int
    phase: int
    words: int


def passes_of(op: Operator) -> list[Pass]:
    """Return the passes over one stripe in order."""
    f, unit = op.fields, op.unit
    if op.kind == "add":
        return [Pass(0, 0, 0, 1, phase, 0) for phase in (0, 1)]
    kernel = [(ky, kx) for ky in range(f["kernel_h"]) for kx in range(f["kernel_w"])]
    if op.kind == "conv":
        blocks = range(-(-f["in_channels"] // unit.rows))
        return [Pass(block, *tap, 1, 0, unit.tile_words(unit.cols)) for block in blocks for tap in kernel]
    if op.kind == "depthwise":
        return [Pass(0, *tap, 1, 0, unit.tile_words(1)) for tap in kernel]
    if op.kind == "sliding":
        groups = [(j, min(unit.taps, f["kernel_w"] - j)) for j in range(0, f["kernel_w"], unit.taps)]
        return [Pass(0, ky, j, n, 0, unit.tile_words(n)) for ky in range(f["kernel_h"]) for j, n in groups]
    return [Pass(0, *tap, 1, 0, 0) for tap in kernel]


def reference(op: Operator, bank: int) -> tuple[list[Want], int]:
    """Return all beats of an operator in order, and the bank that the next command starts with."""
    f, unit = op.fields, op.unit
    wants: list[Want] = []
    passes = passes_of(op)
    macs = op.kind in ("conv", "depthwise", "sliding")
    per_block = sum(item.words for item in passes)
    tiles: list[tuple[int, int]] = []  # of every pass, in order
    starts: list[int] = []  # index of every pass's first beat
    blocks, stripes = list(op.blocks()), op.stripes()
    for first_channel, channels, number in blocks:
        parts = unit.rows // 16
        vector_plane, part = divmod(number, parts) if not macs else (number, 0)
        for first_pixel, pixels in stripes:
            base = f["weight_base"] + number * per_block if macs else 0
            for index, item in enumerate(passes):
                starts.append(len(wants))
                tiles.append((base & LOCAL_MASK, item.words))
                base += item.words
                plane = item.block if op.kind == "conv" else vector_plane
                common = {
                    "first": int(index == 0 and not f.get("accumulate", 0)),
                    "pass_first": 0,
                    "pass_last": 0,
                    "stripe_first": 0,
                    "stripe_last": 0,
                    "bank": bank,
                    "part": part + op.in_part(item.phase),
                    "phase": item.phase,
                }
                if op.kind == "conv":
                    common["useful_rows"] = min(unit.rows, f["in_channels"] - item.block * unit.rows)
                    common["useful_cols"] = channels
                elif macs:
                    common |= {"useful_rows": channels, "useful_cols": item.columns}
                else:
                    common["useful_rows"] = 0
                make = sliding_pass if op.kind == "sliding" else plain_pass
                beats = make(op, item, plane * f["in_plane"], first_pixel, pixels)
                for want in beats:
                    want.beat |= common
                beats[0].beat |= {"pass_first": 1, "stripe_first": int(index == 0)}
                beats[-1].beat |= {"pass_last": 1, "stripe_last": int(index == len(passes) - 1)}
                if index == 0:
                    group = (first_channel // unit.rows if macs else vector_plane) * f["out_plane"]
                    beats[0].stripe = {
                        "out_addr": f["out_base"] + group + first_pixel & LOCAL_MASK,
                        "out_part": part + f.get("out_part", 0),
                        "out_plane": f["out_plane"],
                        "groups": -(-channels // 16),
                        "param_addr": f["param_base"] + first_channel // 16 * PARAM_GROUP_WORDS & LOCAL_MASK,
                        "reuse": int(first_pixel > 0 and channels <= 16),
                        "pixels": pixels,
                        "bank": bank,
                        "keep": f.get("keep", 0),
                        "last": int(number == len(blocks) - 1 and first_pixel + pixels == f["out_pixels"]),
                        "single": f.get("single_rounding", 0),
                        "zero_point": f["out_zero_point"] & 0xFF,
                        "act_min": f["act_min"] & 0xFF,
                        "act_max": f["act_max"] & 0xFF,
                    }
                wants.extend(beats)
            if not f.get("keep", 0):
                bank ^= 1
    for number, start in enumerate(starts):
        following = tiles[number + 1] if macs and number + 1 < len(tiles) else None
        wants[start].tile, wants[start].no_tile = following, following is None
    return wants, bank


def tap(op: Operator, item: Pass, pixel: int) -> tuple[int, int]:
    """Return the input row and column of a pixel's (first) tap in a pass."""
    f = op.fields
    if op.kind == "add":
        return 0, pixel
    oy, ox = divmod(pixel, f["out_width"])
    return (
        f["in_row"] + oy * f["stride_h"] + item.ky * f["dilation_h"],
        f["in_column"] + ox * f["stride_w"] + item.kx * f["dilation_w"],
    )


def plain_pass(op: Operator, item: Pass, plane: int, first_pixel: int, pixels: int) -> list[Want]:
    """Return a pass of one beat per pixel."""
    f = op.fields
    height, width = (1, f["out_pixels"]) if op.kind == "add" else (f["in_height"], f["in_width"])
    origin = op.second if item.phase else op.origin
    wants = []
    for pixel in range(pixels):
        iy, ix = tap(op, item, first_pixel + pixel)
        inside = 0 <= iy < height and 0 <= ix < width
        beat = {"read": int(inside), "pad": int(not inside), "fire": 1, "pixel": pixel, "tap_pad": 0}
        if inside:
            beat["addr"] = (origin + plane + iy * width + ix) & 0xFFFFFFFF
        if op.kind == "depthwise":
            beat["tap_mask"] = 1
        wants.append(Want(beat))
    return wants


def sliding_pass(op: Operator, item: Pass, plane: int, first_pixel: int, pixels: int) -> list[Want]:
    """Return a pass of one beat per input word, from row to row without a gap."""
    f = op.fields
    height, width = f["in_height"], f["in_width"]

    def address(iy: int, ix: int) -> int:
        return (op.origin + plane + iy * width + ix) & 0xFFFFFFFF

    top, left = tap(op, item, first_pixel)
    place = max(left, 0)  # in a stream in which the rows of the taps follow each other
    first_row = first_pixel // f["out_width"]
    wants: list[Want] = []
    for pixel in range(pixels):
        iy, ix = tap(op, item, first_pixel + pixel)
        row = (first_pixel + pixel) // f["out_width"] - first_row
        newest = row * width + ix + item.columns - 1
        pads, columns = 0, {}
        for i in range(item.columns):
            x = ix + item.columns - 1 - i
            if 0 <= iy < height and 0 <= x < width:
                columns[i] = address(iy, x)
            else:
                pads |= 1 << i
        assert place <= newest, "the drawn operator cannot slide"
        while place <= newest:
            stream_row, x = divmod(place, width)
            y = top + stream_row * f["stride_h"]
            fire = place == newest
            beat = {"read": int(0 <= y < height), "pad": 0, "fire": int(fire), "pixel": pixel}
            if 0 <= y < height:
                beat["addr"] = address(y, x)
            if fire:
                beat |= {"tap_mask": (1 << item.columns) - 1}
            wants.append(Want(beat, columns=columns if fire else {}))
            if fire:
                # which columns see padding: those in use, as the mask hides the others
                wants[-1].beat["tap_pad"] = pads
            place += 1
    return wants


def draw(kind: str, unit: Unit, rng: np.random.Generator, beats: int = MAX_BEATS) -> Operator:
    """Return a random operator that takes at most `beats` beats."""
    while True:
        op = _draw(kind, unit, rng)
        if op is not None and 0 < len(reference(op, 0)[0]) <= beats:
            return op


def _draw(kind: str, unit: Unit, rng: np.random.Generator) -> Operator | None:
    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    f: Fields = {
        "out_plane": pick(0, 500),
        "out_base": pick(0, 5000),
        "param_base": pick(0, 500),
        "stripe_pixels": pick(1, 12) if pick(0, 1) else pick(1, 200),
        "out_zero_point": pick(-128, 127),
        "act_min": pick(-128, 127),
        "act_max": pick(-128, 127),
        "out_channels": pick(1, 3 * max(unit.cols if kind == "conv" else unit.rows, 16)),
        "in_plane": pick(0, 65535) if pick(0, 3) == 0 else pick(0, 200),
    }
    if unit.rows > 16 and pick(0, 2) == 0:
        f |= _parts(kind, unit, rng) | {"out_channels": pick(1, 16)}
    if kind != "add":
        f["single_rounding"] = pick(0, 1)
    origin, second = pick(0, 4000), pick(-4000, 4000)
    if kind == "add":
        f |= {"out_pixels": pick(1, 60), "in_base": origin, "in2_base": second}
        return Operator(kind, unit, f, origin, second)
    height, width = pick(1, 12), pick(1, 12)
    kernel_h, kernel_w = pick(1, 4), pick(1, 9) if kind == "sliding" else pick(1, 4)
    stride_h, stride_w, dilation_h = pick(1, 3), pick(1, 3), pick(1, 3)
    dilation_w = 1 if kind == "sliding" else pick(1, 3)
    reach_h, reach_w = (kernel_h - 1) * dilation_h + 1, (kernel_w - 1) * dilation_w + 1
    top, bottom, left, right = pick(0, reach_h), pick(0, reach_h), pick(0, reach_w), pick(0, reach_w)
    out_height = (height + top + bottom - reach_h) // stride_h + 1
    out_width = (width + left + right - reach_w) // stride_w + 1
    if out_height < 1 or out_width < 1:
        return None
    if kind == "sliding":
        groups = [(j, min(unit.taps, kernel_w - j)) for j in range(0, kernel_w, unit.taps)]
        fits = width >= (out_width - 1) * stride_w + 1 and all(
            n + min(j - left, 0) >= 1 and (out_width - 1) * stride_w - left + j < width for j, n in groups
        )
        if not fits:
            return None
        f |= {"slide": 1, "row_advance": width - (out_width - 1) * stride_w}
    skipped = pick(0, out_height - 1)  # output rows that an earlier command has done
    pixels = (out_height - skipped) * out_width
    f |= {
        "in_height": height,
        "in_width": width,
        "in_row": skipped * stride_h - top,
        "in_column": -left,
        "in_row_step": stride_h * width,
        "tap_row_step": dilation_h * width,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": stride_h,
        "stride_w": stride_w,
        "dilation_h": dilation_h,
        "dilation_w": dilation_w,
        "out_width": out_width,
        "out_pixels": pixels if pick(0, 2) else pick(1, pixels),
        "weight_base": pick(0, 5000),
        "in_channels": pick(1, 3 * unit.rows) if kind == "conv" else f["out_channels"],
    }
    f["in_base"] = origin + f["in_row"] * width + f["in_column"]
    if kind == "conv" and pick(0, 3) == 0:
        f["out_channels"] = pick(1, 16 if f.get("out_part", 0) else unit.cols)
        f["stripe_pixels"] = pick(f["out_pixels"], 255) if f["out_pixels"] <= 255 else 0
        if not f["stripe_pixels"]:
            return None
        f |= {"accumulate": pick(0, 1), "keep": pick(0, 1)}
    return Operator(kind, unit, f, origin)


def _parts(kind: str, unit: Unit, rng: np.random.Generator) -> Fields:
    """Return the part of the words in which each tensor of at most 16 channels lies."""
    names = {"add": ("in_part", "in2_part", "out_part"), "average": ("in_part", "out_part")}
    names["max"] = names["average"]
    return {name: int(rng.integers(unit.rows // 16)) for name in names.get(kind, ("out_part",))}


def moved(op: Operator, rng: np.random.Generator) -> Operator:
    """Return the work on tensors, weights and parameters that lie far away: in a field's larger half.

    The input is part of an image with so many rows and columns before it that every step and base has its
    highest bit set which geometry does not forbid. Of a kernel that slides only one row of outputs is left,
    as the words between two rows would be many; or few words are before it, and rows are far apart. There
    are more channels, for the sums of many planes.
    """

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    names = (*FAR, "weight_base") if op.kind in MACS else FAR
    f = op.fields | {name: pick(1 << 15, (1 << 16) - 1) for name in names}
    if not any(f.get(name, 0) for name in ("keep", "accumulate", "in_part", "in2_part", "out_part")):
        f["out_channels"] += 8 * (op.unit.cols if op.kind == "conv" else op.unit.rows)
    origin, second = -pick(1, 1 << 31), pick(1 << 30, (1 << 31) - 1)
    if op.kind == "add":
        if pick(0, 1):
            origin, second = second, origin
        return replace(op, fields=f | {"in_base": origin, "in2_base": second}, origin=origin, second=second)
    if op.kind != "conv":
        f["in_channels"] = f["out_channels"]
    rows = 32767 - max(f["in_row"], 0) - pick(0, 3)
    columns = 32767 - max(f["in_column"], 0)
    if op.kind == "sliding" and pick(0, 1):
        rows, columns = 65535 - f["in_height"], pick(130, 200)
        f |= {"in_row": -rows, "stride_h": 255, "out_pixels": min(f["out_pixels"], 2 * f["out_width"])}
    elif op.kind == "sliding":
        f |= {"stride_h": 1, "dilation_h": 1, "out_pixels": min(f["out_pixels"], f["out_width"])}
    widest = 65535 // max(f["stride_h"], f["dilation_h"])
    columns = min(widest - f["in_width"], columns) - pick(0, 3)
    width = f["in_width"] + columns
    f |= {
        "in_height": f["in_height"] + rows,
        "in_width": width,
        "in_row": f["in_row"] + rows,
        "in_column": f["in_column"] + columns,
        "in_row_step": f["stride_h"] * width,
        "tap_row_step": f["dilation_h"] * width,
    }
    if op.kind == "sliding":
        f["row_advance"] = width - (f["out_width"] - 1) * f["stride_w"]
    base = origin + f["in_row"] * width + f["in_column"]
    return replace(op, fields=f | {"in_base": (base + (1 << 31)) % (1 << 32) - (1 << 31)}, origin=origin)


def long(kind: str, unit: Unit) -> Operator:
    """Return an operator of one tap whose counts use all bits of their fields: pixels, or else channels."""
    most = 32768 + 250
    count = {"out_pixels": most, "out_width": most, "in_width": most} if kind == "max" else {}
    if kind != "add":
        count = dict.fromkeys(("in_height", "in_width", "kernel_h", "kernel_w", "out_width"), 1) | count
        count |= dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w"), 1)
        count |= {"in_channels": most if kind == "conv" else 16}
        count |= {"in_row": 0, "in_column": 0, "weight_base": 0}
    fields = {
        "out_channels": 16 if kind in ("conv", "max") else most, "in_base": 0, "in_plane": 1, "out_plane": 1,
        "out_base": 0, "param_base": 0, "stripe_pixels": 255, "out_pixels": 1, "out_zero_point": 0,
        "act_min": -128, "act_max": 127,
    }  # fmt: skip
    return Operator(kind, unit, fields | count)
