# SPDX-License-Identifier: Apache-2.0
"""What holds of the parts: after division, packing, planning and placement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from common.arrays import Bytes, Int32, Int64
from golden.layer import WEIGHTED_OPS
from hw import layout
from hw.interface import WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import mask_of
from mapping.compiler.emit import EmittedPart
from mapping.compiler.graph import Graph
from mapping.compiler.invariants.require import require
from mapping.compiler.passes import Compilation
from mapping.compiler.plan import MAX_WORDS
from mapping.compiler.regions import ceil_div


def check_divided(compilation: Compilation) -> None:
    """Every channel is made once, by its unit; what a part reads its unit makes or loads."""
    program = compilation.program
    parts_of: dict[str, list[EmittedPart]] = defaultdict(list)
    for part in compilation.parts:
        parts_of[part.op.name].append(part)
    for op in program.graph.ops:
        order = program.orders[op.name]
        channels = order.channels
        makers = np.sum([mask_of(part.ranges, len(channels)) for part in parts_of[op.name]], axis=0)
        once = np.array_equal(makers, order.made.astype(int))
        require(once, f"layer {op.name!r}: a channel is not made by exactly one part")
        for part in parts_of[op.name]:
            logical = channels[mask_of(part.ranges, len(channels))]
            logical = logical[logical >= 0]
            own = (compilation.units[op.name][logical] == part.unit).all() and len(logical) == part.channels
            require(own, f"layer {op.name!r}: {part.core.name} makes channels of another unit")
    for part in compilation.parts:
        for source in part.op.sources:
            size = program.orders[source].physical_channels
            there = mask_of(part.loads.get(source, ()), size)
            for maker in parts_of.get(source, ()):
                if (maker.unit, maker.section) == (part.unit, part.section):
                    both = there & mask_of(maker.ranges, size)
                    require(not both.any(), f"layer {part.op.name!r}: loads what its unit makes")
                    there |= mask_of(maker.ranges, size)
            missing = mask_of(part.needed, size) & ~there
            require(not missing.any(), f"layer {part.op.name!r}: nobody brings a channel of {source!r}")


def check_packed(compilation: Compilation) -> None:
    """Every range has the weights and parameters of its channels; what fills up is zero."""
    for part in compilation.parts:
        where = f"layer {part.op.name!r} on {part.core.name}"
        require(
            tuple(item.channels for item in part.parameters) == part.ranges, f"{where}: parameters of others"
        )
        for item in part.parameters:
            size = item.blocks * item.weight_words * WEIGHT_WORD_BYTES
            require(item.weights.size == size, f"{where}: weights of another size")
            if compilation.requantisations is None:
                continue
            target = compilation.program.orders[part.op.name].channels[
                item.channels.first : item.channels.end
            ]
            _check_weights(compilation, part, item.weights, target, where)
            sets = compilation.requantisations[part.op.name, part.unit]
            require(sets.keys() == item.params.keys(), f"{where}: other averaging counts")
            for count, raw in item.params.items():
                expected = (sets[count].bias, sets[count].multiplier, sets[count].shift)
                unpacked = layout.unpack_requant_params(raw, item.channels.count)
                same = all(np.array_equal(a, _at(b, target)) for a, b in zip(unpacked, expected, strict=True))
                require(same, f"{where}: other requantisation parameters")


def _at(values: Int32, channels: Int64) -> Int32:
    """Return the values of some logical channels; of -1 it is 0."""
    return np.where(channels >= 0, values[channels], 0).astype(np.int32)


def _check_weights(
    compilation: Compilation, part: EmittedPart, packed: Bytes, target: Int64, where: str
) -> None:
    op, core, (kernel_h, kernel_w) = part.op, part.core, part.op.kernel
    if op.kind not in WEIGHTED_OPS:
        return
    shape = (len(target), kernel_h, kernel_w, part.in_channels)
    if op.kind == "conv2d":
        source = compilation.program.orders[op.sources[0]].channels
        expected = np.zeros(shape, np.int8)
        rows = np.zeros((len(target), kernel_h, kernel_w, op.source_shape[2]), np.int8)
        rows[target >= 0] = op.layer.weights[target[target >= 0]]
        expected[..., source >= 0] = rows[..., source[source >= 0]]
        place = part.kept.get(op.sources[0])
        before = max(0, -place.first) if place else 0  # channels of other tensors in the input's words
        expected = np.pad(expected, ((0, 0), (0, 0), (0, 0), (before, 0)))
        shape = (*shape[:3], part.in_channels + before)
        unpacked = layout.unpack_conv_weights(packed, shape, core.rows, core.columns, core.w_bits)
    else:
        expected = np.zeros((1, kernel_h, kernel_w, len(target)), np.int8)
        expected[..., target >= 0] = op.layer.weights[..., target[target >= 0]]
        taps = core.dw_taps if part.slides else 1
        unpacked = layout.unpack_depthwise_weights(
            packed, (1, kernel_h, kernel_w, len(target)), core.rows, taps, core.w_bits
        )
    require(np.array_equal(unpacked, expected), f"{where}: other weights")


@dataclass(frozen=True)
class _Area:
    """Addresses `first` to `end - 1`, used from operator `start` to operator `stop`.

    `parts`: of words that tensors share, those 16 channels that it uses; none: all.
    """

    what: str
    first: int
    end: int
    start: int
    stop: int
    parts: frozenset[int] = frozenset()

    def meets(self, other: _Area) -> bool:
        same_time = self.start <= other.stop and other.start <= self.stop
        if self.parts and other.parts and self.parts.isdisjoint(other.parts):
            return False
        return same_time and self.first < other.end and other.first < self.end


def _check_apart(areas: Iterable[_Area], where: str) -> None:
    for a, b in combinations(areas, 2):
        require(not a.meets(b), f"{where}: {a.what} and {b.what} overlap")


def check_planned(compilation: Compilation) -> None:
    """What is in a scratchpad at the same time lies apart; what somebody else reads is stored."""
    graph = compilation.program.graph
    computed = {op.name for op in graph.ops}
    read = {name for part in compilation.parts for name in part.loads if name in computed}
    read |= set(compilation.program.observed)
    for part in compilation.parts:
        tensors = zip(
            (*part.op.sources, part.op.name), (*part.tiling.sources, part.tiling.target), strict=True
        )
        for name, buffers in tensors:
            require(bool(buffers) != (name in part.kept), f"{part.op.name!r}: {name!r} is kept and streamed")
            read |= {name} & computed if buffers else set()
    for part in compilation.parts:
        require(part.stores or part.op.name not in read, f"layer {part.op.name!r}: not stored, but read")
    for unit, section in {(part.unit, part.section) for part in compilation.parts}:
        parts = [part for part in compilation.parts if (part.unit, part.section) == (unit, section)]
        areas = [*_kept(graph, parts), *(area for part in parts for area in _buffers(part))]
        capacity = min(parts[0].core.act_kib * 1024 // parts[0].core.rows, MAX_WORDS)
        for area in areas:
            inside = area.first >= 0 and area.end <= capacity
            require(inside, f"{parts[0].core.name}: {area.what} is outside the scratchpad")
        _check_apart(areas, parts[0].core.name)


def _kept(graph: Graph, parts: list[EmittedPart]) -> Iterator[_Area]:
    """Yield the areas of a unit's kept tensors."""
    for name, value in graph.values.items():
        users = [part for part in parts if name in (*part.op.sources, part.op.name)]
        places = {part.kept[name] for part in users if name in part.kept}
        if not places:
            continue
        require(len(places) == 1 and all(name in part.kept for part in users), f"{name!r}: kept now and then")
        (place,) = places
        ranges = [item for part in users for item in (part.ranges if part.op.name == name else part.needed)]
        require(min(item.first for item in ranges) >= place.first, f"{name!r}: channels before its place")
        last = max(item.end for item in ranges) - place.first
        planes = ceil_div(last, parts[0].core.rows)
        # of one plane only the 16 channels count that it uses: other tensors may have the others
        first = min(item.first for item in ranges) - place.first
        blocks = range(first // CHANNEL_BLOCK, ceil_div(last, CHANNEL_BLOCK)) if planes == 1 else ()
        indices = [part.index for part in users]
        end = place.base + planes * value.pixels
        yield _Area(name, place.base, end, min(indices), max(indices), frozenset(blocks))


def _buffers(part: EmittedPart) -> Iterator[_Area]:
    """Yield the areas of a part's buffers, from the tiles that pass through them."""
    op, tiling, rows = part.op, part.tiling, part.core.rows
    in_pixels = max(_source_pixels(part, row) for row in range(0, op.shape[0], tiling.rows))
    in_planes = tiling.planes or ceil_div(part.in_channels, rows)
    all_out = ceil_div(part.ranges[-1].end, rows) - part.ranges[0].first // rows
    out_planes = tiling.planes if tiling.planes and op.channelwise else all_out
    out_pixels = min(tiling.rows, op.shape[0]) * min(tiling.columns, op.shape[1])
    buffers = [(item, in_planes * in_pixels) for item in tiling.sources]
    for i, (addresses, words) in enumerate([*buffers, (tiling.target, out_planes * out_pixels)]):
        for address in addresses:
            yield _Area(f"buffer {i} of {op.name!r}", address, address + words, part.index, part.index)


def _source_pixels(part: EmittedPart, row: int) -> int:
    """Return the most input pixels that a buffer holds for a tile that begins in a row of outputs."""
    op, (rows, columns) = part.op, (part.tiling.rows, part.tiling.columns)
    if op.kind == "add":
        return rows * columns
    first_row = max(row * op.stride[0] - op.padding[0], 0)
    last_output = min(row + rows, op.shape[0]) - 1
    last_row = last_output * op.stride[0] - op.padding[0] + (op.kernel[0] - 1) * op.dilation[0]
    in_rows = min(last_row, op.source_shape[0] - 1) - first_row + 1
    in_columns = op.source_shape[1]
    if columns < op.shape[1]:
        in_columns = min(in_columns, (columns - 1) * op.stride[1] + (op.kernel[1] - 1) * op.dilation[1] + 1)
    return max(in_rows, 1) * in_columns


def check_placed(compilation: Compilation) -> None:
    """In memory nothing overlaps that is needed at the same time, and what a part moves has a place."""
    program, given = compilation.program, compilation.options.addresses
    last = len(program.graph.ops)
    areas: list[_Area] = []
    for part in compilation.parts:
        what = f"{part.op.name!r} on {part.core.name}"
        areas.append(_Area(f"time stamp of {what}", part.mark, part.mark + 16, 0, last))
        for slot, item in zip(part.slots, part.parameters, strict=True):
            areas.append(_Area(f"weights of {what}", slot.weights, slot.weights + item.weights.size, 0, last))
            for count, data in item.params.items():
                address = slot.params[count]
                areas.append(_Area(f"parameters of {what}", address, address + data.size, 0, last))
        loaded = set(part.loads) | {part.op.name} if part.stores else set(part.loads)
        require(loaded <= part.stored.keys(), f"layer {part.op.name!r}: moves a value without a place")
    reuse = len({part.unit for part in compilation.parts}) < 3
    inputs = {value.name for value in program.graph.inputs}
    for name, place in program.stored.items():
        if name in given:
            require(place.address == given[name], f"{name!r}: not where it was asked for")
            continue
        uses = [i for i, op in enumerate(program.graph.ops) if name in (*op.sources, op.name)]
        start = 0 if name in inputs or not reuse else min(uses)
        stop = last if name in program.observed or not reuse else max(uses, default=0)
        areas.append(_Area(name, place.address, sum(program.read_of(name)), start, stop))
    for starts in (section.starts for section in program.sections):
        for unit, (address, count) in starts.items():
            areas.append(_Area(f"commands of {unit}", address, address + 64 * count, 0, last))
    areas = [area for area in areas if area.end > area.first]
    for area in areas:
        inside = compilation.options.base <= area.first and area.end <= program.end
        require(inside, f"{area.what} is outside the image")
    _check_apart(areas, "memory")
