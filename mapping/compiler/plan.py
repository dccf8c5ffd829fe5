# SPDX-License-Identifier: Apache-2.0
"""Planning pass: which tensors stay in a unit's activation scratchpad, and how the others are cut into tiles.

A tensor that a unit makes or reads is *kept*, whole, from its first use on the unit to its last, if the
scratchpad has room; what another unit makes of it is loaded into its place. A section begins with nothing
kept: what those before have made is loaded as if another unit had made it. Other tensors are *streamed*:
they pass through buffers, output tile by output tile. Where there is no room, the largest tensor goes first
that the layer itself does not need, unless tensors of at most 16 channels can share words (`share`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

from common.errors import NpuloopError
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.graph import Graph, Op, Rect
from mapping.compiler.pack import PackedPart, laid_for_part
from mapping.compiler.regions import Region, ceil_div, lowest_gap
from mapping.compiler.share import Request, requests_of, sharings, tensors_of

MAX_WORDS = 65535
"""Words of a scratchpad that a command's fields can address."""
Bands: TypeAlias = Literal["exchanged", "all", "streamed"]
"""Layers that are cut into bands: those that exchange data with memory that no other part has; all; only
those that stream, which always are."""
BANDS = 8
"""Output tiles into which a layer is cut, at most, so that transfers hide behind the computation."""


class CapacityError(NpuloopError):
    """A layer of which not even one tile fits a scratchpad, or a network that does not fit the memory."""


@dataclass(frozen=True)
class Kept:
    """A tensor that stays in a scratchpad: its first word, the channel that a plane's words begin with.

    A tensor that is not in the first 16 bytes of its words begins with channels before its own.
    """

    base: int
    first: int

    def region(self, height: int, width: int, core: CoreConfig) -> Region:
        """Return it as a region of a tensor with that height and width."""
        return Region(self.base, Rect(0, height, 0, width), self.first, core.rows)


@dataclass(frozen=True)
class Tiling:
    """How a part is cut, and where the buffers of streamed tensors lie.

    Attributes:
        rows, columns: outputs of a tile.
        planes: input planes (of ROWS channels) that a streamed source's buffer holds, 0: all. An operator
            that works channel by channel makes as many output planes; a convolution adds them up, its weights
            in parts too.
        sources: for each source the first words of its buffers, used in turns; none if it is kept.
        target: the same for the output.
    """

    rows: int
    columns: int
    planes: int
    sources: tuple[tuple[int, ...], ...]
    target: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class PlannedPart(PackedPart):
    """A part with its place in the scratchpad.

    Attributes:
        tiling: how it is cut.
        kept: those of its tensors that stay in the scratchpad, by name.
        stores: whether the output is written to memory.
    """

    tiling: Tiling
    kept: Mapping[str, Kept]
    stores: bool


def plan(
    graph: Graph,
    parts: Sequence[PackedPart],
    observed: Collection[str],
    overlap: bool,
    bands: Bands = "exchanged",
) -> tuple[PlannedPart, ...]:
    """Return the parts with their places in the activation scratchpads.

    Afterwards no two tensors or buffers that are alive at the same time share bytes of a scratchpad, every
    part's output tiles cover its output, and what another unit, the host, a later section or a later tile
    reads is stored.

    Args:
        graph: the graph.
        parts: the parts, unit by unit.
        observed: values that the host reads.
        overlap: cut layers into bands, so that transfers hide behind the computation.
        bands: which layers are.

    Raises:
        CapacityError: not even one tile of a layer fits.
    """
    computed = {op.name for op in graph.ops}
    stored = {name for part in parts for name in part.loads if name in computed} | set(observed)
    plans: list[tuple[PackedPart, Tiling, dict[str, Kept]]] = []
    for _, group in groupby(parts, key=lambda part: (part.unit, part.section)):
        of_unit = list(group)
        banded = _banded(of_unit, stored, bands) if overlap else None
        plans += zip(of_unit, *_plan_unit(graph, of_unit, banded), strict=True)
    streamed = {name for part, _, kept in plans for name in tensors_of(part.op) if name not in kept}
    stored |= streamed & computed
    return tuple(
        PlannedPart(**vars(_laid(part, kept)), tiling=tiling, kept=kept, stores=part.op.name in stored)
        for part, tiling, kept in plans
    )


def _laid(part: PackedPart, kept: Mapping[str, Kept]) -> PackedPart:
    """Return a part whose weights are for where its input lies in the words."""
    source = kept.get(part.op.sources[0])
    if part.op.kind != "conv2d" or source is None or source.first >= 0:
        return part
    return laid_for_part(part, -source.first)


def _banded(parts: Sequence[PackedPart], stored: Collection[str], bands: Bands) -> set[int]:
    """Return the operators that are cut into bands, beside those that stream: see `Bands`."""
    if bands == "all":
        return {part.index for part in parts}
    if bands == "streamed":
        return set()
    banded: set[int] = set()
    seen: set[str] = set()
    for part in parts:
        if part.op.name in stored or any(name not in seen for name in part.loads):
            banded.add(part.index)
        seen.update(part.op.sources)
    return banded


def _plan_unit(
    graph: Graph, parts: Sequence[PackedPart], banded: Collection[int] | None
) -> tuple[list[Tiling], list[dict[str, Kept]]]:
    """Plan a unit's activation scratchpad: for each part how it is cut and what of its tensors is kept.

    Args:
        graph: the graph.
        parts: the unit's parts, in order.
        banded: places of the operators that are cut into bands, beside those that stream; None: cut none.

    Raises:
        CapacityError: not even one tile of a layer fits.
    """
    core = parts[0].core
    capacity = min(core.act_kib * 1024 // core.rows, MAX_WORDS)
    requests = tuple(item for item in requests_of(graph, parts) if item.words <= capacity)
    settled = _settle(parts, requests, capacity, banded)
    while settled.dropped:
        shared = sharings(requests, core.rows // CHANNEL_BLOCK)
        attempts = (_settle(parts, item, capacity, banded) for item in shared)
        best = min(attempts, key=lambda item: item.dropped, default=settled)
        if best.dropped >= settled.dropped:
            break
        requests, settled = best.requests, best
    kept = {
        name: Kept(base, item.first - i * CHANNEL_BLOCK)
        for item, base in settled.addresses.items()
        for i, name in enumerate(item.names)
    }
    of_parts = [{name: kept[name] for name in tensors_of(part.op) if name in kept} for part in parts]
    return settled.tilings, of_parts


@dataclass(frozen=True)
class _Settled:
    """What a scratchpad has room for.

    Attributes:
        requests: what was asked for.
        addresses: the first word of what is kept.
        tilings: how each part is cut.
        dropped: words of the tensors that are not kept.
    """

    requests: tuple[Request, ...]
    addresses: Mapping[Request, int]
    tilings: list[Tiling]
    dropped: int


def _settle(
    parts: Sequence[PackedPart], requests: tuple[Request, ...], capacity: int, banded: Collection[int] | None
) -> _Settled:
    """Keep as many tensors as there is room for; arguments and errors as in `_plan_unit`."""
    left, dropped = list(requests), 0
    while True:
        addresses, too_large = _addresses(left, capacity)
        tilings: list[Tiling] = []
        if too_large is None:
            tilings, too_large = _tilings(parts, addresses, capacity, banded)
        if too_large is None:
            return _Settled(requests, addresses, tilings, dropped)
        dropped += too_large.words * len(too_large.names)
        left.remove(too_large)


def _addresses(requests: list[Request], capacity: int) -> tuple[dict[Request, int], Request | None]:
    """Place tensors, the largest first, each as low as those allow that are alive with it.

    Returns:
        The first word of each, and what found no room.
    """
    addresses: dict[Request, int] = {}
    for request in sorted(requests, key=lambda item: (-item.words, item.start)):
        taken = ((start, start + item.words) for item, start in addresses.items() if item.meets(request))
        address = lowest_gap(taken, request.words)
        if address + request.words > capacity:
            return addresses, request
        addresses[request] = address
    return addresses, None


def _hole(addresses: Mapping[Request, int], alive: Sequence[Request], capacity: int) -> tuple[int, int]:
    """Return (first word, words) of the largest gap between the tensors that are alive."""
    edges = sorted((addresses[item], addresses[item] + item.words) for item in alive)
    best, end = (0, 0), 0
    for start, stop in [*edges, (capacity, capacity)]:
        if start - end > best[1]:
            best = (end, start - end)
        end = max(end, stop)
    return best


def _tilings(
    parts: Sequence[PackedPart],
    addresses: Mapping[Request, int],
    capacity: int,
    banded: Collection[int] | None,
) -> tuple[list[Tiling], Request | None]:
    """Cut every part into tiles; return what has to go where a part finds no room."""
    tilings: list[Tiling] = []
    kept = {name for item in addresses for name in item.names}
    for part in parts:
        alive = [item for item in addresses if item.start <= part.index <= item.end]
        start, words = _hole(addresses, alive, capacity)
        streams = banded is not None and any(name not in kept for name in tensors_of(part.op))
        in_bands = streams or (banded is not None and part.index in banded)
        tiling = _tiling(part, kept, start, words, in_bands, tight=not alive)
        if tiling is not None:
            tilings.append(tiling)
            continue
        if not alive:
            raise CapacityError(f"layer {part.op.name!r}: not even what one output reads fits")
        own = set(tensors_of(part.op))
        return tilings, max(alive, key=lambda item: (own.isdisjoint(item.names), item.words))
    return tilings, None


def smallest_tiling(part: PackedPart, words: int) -> Tiling | None:
    """Return a part's tiling where a scratchpad of `words` words is for it alone, None if it does not fit."""
    return _tiling(part, (), 0, words, banded=False, tight=True)


def _tiling(
    part: PackedPart, kept: Collection[str], start: int, words: int, banded: bool, tight: bool
) -> Tiling | None:
    """Return a part's tiling, its buffers in `words` words from `start` on, or None where they do not fit.

    `tight`: any tile will do, however small.
    """
    height, width, _ = part.op.shape
    depth = part.core.stripe_depth
    streamed = [name not in kept for name in part.op.sources]
    streams_target = part.op.name not in kept
    plane = part.core.rows
    in_planes = ceil_div(part.in_channels, plane)
    out_planes = ceil_div(part.ranges[-1].end, plane) - part.ranges[0].first // plane

    def sizes(rows: int, columns: int, planes: int) -> tuple[int, int]:
        """Return the words of one buffer of a source and of the output."""
        source = (planes or in_planes) * source_pixels(part.op, rows, columns)
        return source, (planes if planes and part.op.channelwise else out_planes) * rows * columns

    def fits(rows: int, columns: int, planes: int, copies: int) -> bool:
        source, target = sizes(rows, columns, planes)
        return copies * (sum(streamed) * source + streams_target * target) <= words

    def build(rows: int, columns: int, planes: int, copies: int) -> Tiling:
        source, target = sizes(rows, columns, planes)
        at = start
        buffers: list[tuple[int, ...]] = []
        for buffered, size in (*((item, source) for item in streamed), (streams_target, target)):
            buffers.append(tuple(at + i * size for i in range(copies)) if buffered else ())
            at += copies * size if buffered else 0
        return Tiling(rows, columns, planes, tuple(buffers[:-1]), buffers[-1])

    limit = depth if part.sliced else height * width
    band = max(ceil_div(2 * depth, width), ceil_div(height, BANDS)) if banded else height
    most = max(1, min(height, band, limit // width))
    widest = min(width, limit)
    if part.op.channelwise and (any(streamed) or streams_target):
        most_planes = max(ceil_div(item.count, plane) for item in part.ranges)
        for planes in range(ceil_div(most_planes, 2), 0, -1):
            if fits(height, width, planes, 2):
                return build(height, width, planes, 2)
    planes = int(part.op.channelwise and (any(streamed) or streams_target))
    # buffers come in pairs, so that one is filled while the other is in use; in the last resort alone
    for copies, narrowest in ((2, min(widest, depth)), *(((1, 1),) if tight else ())):
        for rows in range(most if widest == width else 0, 0, -1):
            if fits(rows, width, planes, copies):
                return build(rows, width, planes, copies)
        whole_rows = part.slides and part.op.kernel[1] > part.core.dw_taps
        for columns in range(widest, (width if whole_rows else narrowest) - 1, -1):
            if fits(1, columns, planes, copies):
                return build(1, columns, planes, copies)
    # a convolution can take its weights and its input in parts, again for every block and every output
    if tight and part.op.kind == "conv2d" and any(streamed):
        for planes in range(in_planes // 2, 0, -1):
            if fits(1, 1, planes, 2):
                return build(1, 1, planes, 2)
    return None


def source_pixels(op: Op, rows: int, columns: int) -> int:
    """Return the most input pixels that a tile of that many outputs reads."""
    height, width, _ = op.source_shape
    if op.kind == "add":
        return rows * columns
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = op.kernel, op.stride, op.dilation
    in_rows = min(height, (rows - 1) * stride_h + (kernel_h - 1) * dilation_h + 1)
    in_columns = min(width, (columns - 1) * stride_w + (kernel_w - 1) * dilation_w + 1)
    return in_rows * (width if columns == op.shape[1] else in_columns)
