"""Planning pass: which tensors stay in a unit's activation scratchpad, and how the others are cut into tiles.

A tensor that a unit makes or reads is *kept*, whole, from its first use on the unit to its last, if the
scratchpad has room; what the other unit made of it is loaded into its place. Other tensors are *streamed*:
they pass through buffers, tile by tile. Where there is no room, the largest tensor that the layer itself does
not need goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import NpuloopError
from golden.layer import kernel_size
from hw.core import CoreConfig
from hw.interface import WEIGHT_WORD_BYTES
from mapping.compiler.channels import ChannelRange
from mapping.compiler.graph import Graph, Op
from mapping.compiler.operators import slides, source_rect
from mapping.compiler.pack import PackedParameters
from mapping.compiler.regions import Rect, Region, ceil_div, lowest_gap

MAX_WORDS = 65535
"""Words of a scratchpad that a command's fields can address."""
BANDS = 8
"""Tiles into which a layer is cut, at most, so that transfers hide behind the computation."""


class CapacityError(NpuloopError):
    """A layer of which not even one tile fits a scratchpad, or a network that does not fit the memory."""


@dataclass(frozen=True, eq=False)
class Part:
    """What one unit does of an operator.

    Attributes:
        index: the operator's place in the graph.
        op: the operator.
        unit, core: index and parameters of the unit.
        runs: output channels in memory that the unit makes.
        constants: weights and parameters of each run.
        in_places: channels of the input in memory.
    """

    index: int
    op: Op
    unit: int
    core: CoreConfig
    runs: tuple[ChannelRange, ...]
    constants: tuple[PackedParameters, ...]
    in_places: int

    @property
    def in_parts(self) -> bool:
        """Whether the weights of one block of a convolution are too many for half of their scratchpad."""
        half = self.core.weight_kib * 1024 // WEIGHT_WORD_BYTES // 2
        return self.op.layer.op == "conv2d" and any(item.weight_words > half for item in self.constants)

    def needed(self) -> tuple[ChannelRange, ...]:
        """Return the input channels in memory that the part reads."""
        return self.runs if self.op.channelwise else (ChannelRange(0, self.in_places),)


@dataclass(frozen=True)
class Kept:
    """A tensor that stays in a scratchpad: its first word, the first of its channels there."""

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


@dataclass
class UnitPlan:
    """A unit's plan: kept tensors by name, tilings by the operator's place in the graph."""

    kept: dict[str, Kept] = field(default_factory=dict)
    tilings: dict[int, Tiling] = field(default_factory=dict)


@dataclass(frozen=True)
class _Request:
    """A tensor that could be kept: words, and the operators between which it is alive."""

    name: str
    first: int
    words: int
    start: int
    end: int


def plan_unit(graph: Graph, parts: Sequence[Part], core: CoreConfig, banded: Mapping[int, bool]) -> UnitPlan:
    """Plan a unit's activation scratchpad.

    Args:
        graph: the graph.
        parts: the unit's parts, in order.
        core: the unit.
        banded: for each operator's place, whether it is cut into bands so that its transfers hide.

    Raises:
        CapacityError: not even one tile of a layer fits.
    """
    capacity = min(core.act_kib * 1024 // core.rows, MAX_WORDS)
    requests = {item.name: item for item in _requests(graph, parts, core) if item.words <= capacity}
    while True:
        placed, failed = _place(list(requests.values()), capacity)
        if failed is None:
            plan, failed = _tile(parts, placed, requests, capacity, banded)
        if failed is None:
            return plan
        del requests[failed]


def _requests(graph: Graph, parts: Sequence[Part], core: CoreConfig) -> Iterator[_Request]:
    for name, value in graph.values.items():
        uses = [part for part in parts if part.op.name == name or name in part.op.sources]
        if not uses:
            continue
        runs = [run for part in uses for run in (part.runs if part.op.name == name else part.needed())]
        first = min(run.first for run in runs) // core.rows * core.rows
        places = max(run.first + run.count for run in runs) - first
        words = ceil_div(places, core.rows) * value.pixels
        yield _Request(name, first, words, uses[0].index, uses[-1].index)


def _overlap(a: _Request, b: _Request) -> bool:
    return a.start <= b.end and b.start <= a.end


def _place(requests: list[_Request], capacity: int) -> tuple[dict[str, int], str | None]:
    """Place tensors, the largest first, each as low as those allow that are alive with it."""
    placed: dict[str, int] = {}
    done: list[_Request] = []
    for request in sorted(requests, key=lambda item: (-item.words, item.start)):
        taken = (
            (placed[item.name], placed[item.name] + item.words) for item in done if _overlap(item, request)
        )
        address = lowest_gap(taken, request.words)
        if address + request.words > capacity:
            return placed, request.name
        placed[request.name] = address
        done.append(request)
    return placed, None


def _hole(placed: Mapping[str, int], alive: Sequence[_Request], capacity: int) -> tuple[int, int]:
    """Return (first word, words) of the largest gap between the tensors that are alive."""
    edges = sorted((placed[item.name], placed[item.name] + item.words) for item in alive)
    best, end = (0, 0), 0
    for start, stop in [*edges, (capacity, capacity)]:
        if start - end > best[1]:
            best = (end, start - end)
        end = max(end, stop)
    return best


def _tile(
    parts: Sequence[Part],
    placed: Mapping[str, int],
    requests: Mapping[str, _Request],
    capacity: int,
    banded: Mapping[int, bool],
) -> tuple[UnitPlan, str | None]:
    """Cut every part into tiles; return the tensor that has to go where a part finds no room."""
    plan = UnitPlan({name: Kept(placed[name], item.first) for name, item in requests.items()})
    for part in parts:
        alive = [item for item in requests.values() if item.start <= part.index <= item.end]
        start, words = _hole(placed, alive, capacity)
        tiling = tile(part, plan.kept, start, words, banded[part.index], tight=not alive)
        if tiling is not None:
            plan.tilings[part.index] = tiling
            continue
        own = (*part.op.sources, part.op.name)
        if not alive:
            raise CapacityError(
                f"layer {part.op.name!r}: not even what one output reads fits the "
                f"{part.core.act_kib} KiB that {part.core.name} has for activations; use a unit "
                "with a larger scratchpad"
            )
        return plan, max(alive, key=lambda item: (item.name not in own, item.words)).name
    return plan, None


def tile(
    part: Part, kept: Mapping[str, Kept], start: int, words: int, banded: bool, tight: bool
) -> Tiling | None:
    """Return a part's tiling, its buffers in `words` words from `start` on, or None where they do not fit.

    `tight`: any tile will do, however small.
    """
    height, width, _ = part.op.shape
    depth = part.core.stripe_depth
    streamed = [name not in kept for name in part.op.sources]
    streams_target = part.op.name not in kept
    planes_of = part.core.rows
    in_planes = ceil_div(part.in_places, planes_of)
    out_planes = (
        ceil_div(part.runs[-1].first + part.runs[-1].count, planes_of) - part.runs[0].first // planes_of
    )

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
        for wanted, size in (*((item, source) for item in streamed), (streams_target, target)):
            buffers.append(tuple(at + i * size for i in range(copies)) if wanted else ())
            at += copies * size if wanted else 0
        return Tiling(rows, columns, planes, tuple(buffers[:-1]), buffers[-1])

    limit = depth if part.in_parts else height * width
    band = max(ceil_div(2 * depth, width), ceil_div(height, BANDS)) if banded else height
    most = max(1, min(height, band, limit // width))
    widest = min(width, limit)
    if part.op.channelwise and (any(streamed) or streams_target):
        runs = max(ceil_div(run.count, planes_of) for run in part.runs)
        for planes in range(ceil_div(runs, 2), 0, -1):
            if fits(height, width, planes, 2):
                return build(height, width, planes, 2)
    planes = int(part.op.channelwise and (any(streamed) or streams_target))
    # buffers come in pairs, so that one is filled while the other is in use; in the last resort alone
    for copies, narrowest in ((2, min(widest, depth)), *(((1, 1),) if tight else ())):
        for rows in range(most if widest == width else 0, 0, -1):
            if fits(rows, width, planes, copies):
                return build(rows, width, planes, copies)
        whole_rows = slides(part.op.layer, part.core) and kernel_size(part.op.layer)[1] > part.core.dw_taps
        for columns in range(widest, (width if whole_rows else narrowest) - 1, -1):
            if fits(1, columns, planes, copies):
                return build(1, columns, planes, copies)
    # a convolution can take its weights and its input in parts, again for every block and every output
    if tight and part.op.layer.op == "conv2d" and any(streamed):
        for planes in range(in_planes // 2, 0, -1):
            if fits(1, 1, planes, 2):
                return build(1, 1, planes, 2)
    return None


def source_pixels(op: Op, rows: int, columns: int) -> int:
    """Return the most input pixels that a tile of that many outputs reads."""
    height, width, _ = op.source_shape
    if op.layer.op == "add":
        return rows * columns
    kernel, stride, dilation = kernel_size(op.layer), op.layer.stride, op.layer.dilation
    in_rows = min(height, (rows - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1)
    in_columns = min(width, (columns - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1)
    return in_rows * (width if columns == op.shape[1] else in_columns)


def tile_source(op: Op, rect: Rect) -> Rect:
    """Return the input pixels that a tile reads: whole rows where the outputs are whole rows."""
    source = source_rect(op.layer, rect)
    if rect.columns == op.shape[1]:
        return Rect(source.row, source.rows, 0, op.source_shape[1])
    return source
