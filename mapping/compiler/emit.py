"""Emission pass: a unit's parts become steps, a command each, in an order in which they could run one by one.

A step says which words of which memory it reads and writes; the next pass derives tokens, fences and events
from that (`schedule`). Weights and parameters pass through their scratchpads as through a ring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from golden.layer import kernel_size
from hw.interface import PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelRange
from mapping.compiler.operators import (
    OutputTile,
    ReductionSlice,
    commands,
    slides,
    source_rect,
    stripe_lengths,
    stripe_of,
)
from mapping.compiler.pack import PackedParameters, cycle_law
from mapping.compiler.plan import CapacityError, Part, Tiling, UnitPlan, tile_source
from mapping.compiler.regions import Rect, Region, Stored, ceil_div

LOAD, COMPUTE, STORE = range(3)
TARGETS = {"activations": 0, "weights": 1, "parameters": 2}
CHUNK_BYTES = 8192
"""Weights that one chunk of output channels should have at least: enough to hide a command behind."""
MAX_LINE_WORDS = 65535

Span = tuple[str, int, int, int]
"""Memory, its unit (0 for the external memory), first word, end."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        unit, engine: who executes it.
        layer: place of the operator in the graph.
        name, fields: the command.
        reads, writes: words of the memories "act", "weights", "params" (of the unit) and "memory" (16 bytes).
        cycles: estimate of the time until the engine can start its next command.
        tail: estimate of the time from then to the command's completion.
        after: steps that must be complete, by number, beside those that the words imply.
    """

    unit: int
    engine: int
    layer: int
    name: str
    fields: dict[str, int]
    reads: tuple[Span, ...]
    writes: tuple[Span, ...]
    cycles: int
    tail: int
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class MemorySlot:
    """Where the compiler has put a run's constants in memory: byte addresses."""

    weights: int
    params: dict[int, int]


@dataclass(frozen=True)
class Traffic:
    """What a part exchanges with memory.

    Attributes:
        stored: values that have a place in memory.
        loads: input channels of each source that are not made on this unit, by value.
        stores: whether the output is written to memory.
        remote: whether another unit makes some of the input.
    """

    stored: Mapping[str, Stored]
    loads: Mapping[str, tuple[ChannelRange, ...]]
    stores: bool
    remote: bool


@dataclass
class _Ring:
    """A scratchpad through which constants pass in the order of their use."""

    size: int
    head: int = 0

    def take(self, words: int) -> int:
        if self.head + words > self.size:
            self.head = 0
        self.head += words
        return self.head - words


@dataclass(frozen=True)
class _Chunk:
    """Output channels whose constants travel together: `blocks` blocks of a run from `first` on.

    `share`: of a convolution, what of the sum, where a block's weights are loaded in parts; `shares` counts
    the kernel rows of all planes, `kernel_rows` those of one.
    """

    constants: PackedParameters
    placed: MemorySlot
    first: int
    blocks: int
    share: ReductionSlice
    shares: int
    kernel_rows: int

    @property
    def run(self) -> ChannelRange:
        return self.constants.channels(self.first, self.blocks)

    @property
    def weight_words(self) -> int:
        return self.blocks * self.constants.weight_words * self.share.planes * self.share.rows // self.shares

    @property
    def weight_offset(self) -> int:
        """First 32-byte word of its weights in those of the run."""
        words, share = self.constants.weight_words, self.share
        before = share.plane * self.kernel_rows + share.row
        return self.first * words + words * before // self.shares

    @property
    def groups(self) -> int:
        return ceil_div(self.run.count, CHANNEL_BLOCK)

    @property
    def param_words(self) -> int:
        return len(self.constants.params) * self.groups * PARAM_GROUP_WORDS


@dataclass(frozen=True)
class _InPlace:
    """A chunk's constants in the scratchpads: first words."""

    chunk: _Chunk
    weights: int
    params: dict[int, int]


@dataclass
class Emitter:
    """Writes the steps of one unit; holds what is in the unit's scratchpads.

    Attributes:
        unit: index of the unit.
        plan: its plan.
        overlap: cut into chunks and tiles so that transfers hide behind the computation.
        word_cycles: cycles that the port takes for 16 bytes.
    """

    unit: int
    plan: UnitPlan
    parts: Sequence[Part]
    overlap: bool = True
    word_cycles: int = 1
    _weights: _Ring = field(init=False)
    _params: _Ring = field(init=False)
    _present: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        core = self.parts[0].core
        self._weights = _Ring(core.weight_kib * 1024 // WEIGHT_WORD_BYTES)
        self._params = _Ring(core.param_kib * 1024 // TRANSFER_WORD_BYTES)

    # ------------------------------------------------------------------------------------------------- a part
    def part(self, part: Part, placed: Sequence[MemorySlot], traffic: Traffic) -> Iterator[Step]:
        """Yield the steps of a part.

        Args:
            part: the part.
            placed: where the constants of each run lie in memory.
            traffic: what it exchanges with memory.
        """
        tiling = self.plan.tilings[part.index]
        chunks = self._chunks(part, placed, tiling)
        tiles = self._tiles(part, tiling)
        resident = self._fits(part)
        streams = part.op.layer.op == "conv2d" and any(tiling.sources)
        split = any(not chunk.share.last for chunk in chunks)
        if split or (streams and not resident):
            yield from self._tiles_of_chunks(part, chunks, tiles, tiling, traffic)
        elif (
            len(tiles) > 1
            and resident
            and not (part.op.channelwise and any((*tiling.sources, tiling.target)))
        ):
            yield from self._bands(part, chunks, tiles, tiling, traffic)
        else:
            number = 0  # of the tile, for buffers that take turns
            for chunk in chunks:
                ready, steps = self._load_constants(part, chunk)
                yield from steps
                for rect in tiles:
                    yield from self._work(part, [ready], rect, number, tiling, traffic, [chunk.run])
                    number += 1

    def _tiles_of_chunks(
        self, part: Part, chunks: list[_Chunk], tiles: list[Rect], tiling: Tiling, traffic: Traffic
    ) -> Iterator[Step]:
        """For every tile all chunks: the constants are loaded again for every tile."""
        number = 0  # of what the sources' buffers hold
        for rect in tiles:
            for j, chunk in enumerate(chunks):
                ready, steps = self._load_constants(part, chunk)
                last = j + 1 == len(chunks) or chunks[j + 1].run != chunk.run
                fresh = j == 0 or tiling.planes > 0
                number += fresh
                yield from steps
                yield from self._work(
                    part, [ready], rect, number, tiling, traffic, [chunk.run] if last else [], fresh
                )

    def _bands(
        self, part: Part, chunks: list[_Chunk], tiles: list[Rect], tiling: Tiling, traffic: Traffic
    ) -> Iterator[Step]:
        """All constants stay; the first tile starts with the first chunk, others are one command a run."""
        words = self._weights.take(sum(chunk.weight_words for chunk in chunks))
        params = self._params.take(sum(chunk.param_words for chunk in chunks))
        whole: list[_InPlace] = []
        ready: list[tuple[_InPlace, list[Step]]] = []
        for constants in {id(chunk.constants): chunk.constants for chunk in chunks}.values():
            mine = [chunk for chunk in chunks if chunk.constants is constants]
            entire = replace(mine[0], first=0, blocks=constants.blocks)
            bases = {}
            for count in constants.params:
                bases[count] = params
                params += entire.groups * PARAM_GROUP_WORDS
            whole.append(_InPlace(entire, words, bases))
            for chunk in mine:
                offset = chunk.first * constants.param_words
                at = _InPlace(
                    chunk, words + chunk.weight_offset, {n: base + offset for n, base in bases.items()}
                )
                ready.append((at, self._constants(part, at)))
            words += entire.weight_words
        if traffic.remote:  # weights do not wait behind what another unit has yet to make
            for _, steps in ready:
                yield from steps
        for j, (at, steps) in enumerate(ready):
            if not traffic.remote:
                yield from steps
            last = j + 1 == len(ready)
            runs = [item.chunk.run for item in whole] if last else []
            yield from self._work(part, [at], tiles[0], 0, tiling, traffic, runs, fresh=j == 0)
        for i, rect in enumerate(tiles[1:], 1):
            yield from self._work(part, whole, rect, i, tiling, traffic, [item.chunk.run for item in whole])

    def _work(
        self,
        part: Part,
        ready: Sequence[_InPlace],
        rect: Rect,
        number: int,
        tiling: Tiling,
        traffic: Traffic,
        stores: Sequence[ChannelRange],
        fresh: bool = True,
    ) -> Iterator[Step]:
        """Yield one tile of some chunks: loads of what is missing, the operator, stores of the given runs.

        `fresh`: the tile's streamed inputs are not in their buffers yet.
        """
        core = part.core
        needed = [item.chunk.run for item in ready] if part.op.channelwise else list(part.needed())
        if tiling.planes and not part.op.channelwise:
            needed = [self._plane_run(part, ready[0].chunk)]
        sources: list[Region] = []
        for name, buffers in zip(part.op.sources, tiling.sources, strict=True):
            wanted = tile_source(part.op, rect)
            if not buffers:
                height, width, _ = part.op.source_shape
                region = self.plan.kept[name].region(height, width, core)
                yield from self._complete(part, name, region, wanted, traffic)
            else:
                first = min(run.first for run in needed) // core.rows * core.rows
                region = Region(buffers[number % len(buffers)], wanted, first, core.rows)
                if fresh:
                    for run in needed:
                        yield from self._load(part, name, region, run, wanted, traffic)
            sources.append(region)
        if tiling.target:
            all_runs = [item.chunk.run for item in ready] if part.op.channelwise else list(part.runs)
            first = min(run.first for run in all_runs) // core.rows * core.rows
            target = Region(tiling.target[number % len(tiling.target)], rect, first, core.rows)
        else:
            target = self.plan.kept[part.op.name].region(part.op.shape[0], part.op.shape[1], core)
        for item in ready:
            yield from self._compute(part, item, rect, sources, target)
        if traffic.stores:
            for run in stores:
                for fields in target.transfers(traffic.stored[part.op.name], run, rect):
                    yield self._transfer(
                        part, STORE, "store", fields, rect.pixels * ceil_div(run.count, CHANNEL_BLOCK)
                    )

    # ---------------------------------------------------------------------------------------------- constants
    def _fits(self, part: Part) -> bool:
        """Return whether all constants of a part fit the scratchpads at once."""
        words = sum(constants.blocks * constants.weight_words for constants in part.constants)
        params = sum(
            len(constants.params) * ceil_div(constants.run.count, CHANNEL_BLOCK) * PARAM_GROUP_WORDS
            for constants in part.constants
        )
        return words <= self._weights.size and params <= self._params.size

    def _chunks(self, part: Part, placed: Sequence[MemorySlot], tiling: Tiling) -> list[_Chunk]:
        """Cut the output channels into chunks that fit half of the scratchpads: the next one can come."""
        chunks: list[_Chunk] = []
        planes = ceil_div(part.in_places, part.core.rows)
        kernel_h = kernel_size(part.op.layer)[0]
        share = ReductionSlice(0, planes, 0, kernel_h)
        whole = not self.overlap and self._fits(part)
        for constants, place in zip(part.constants, placed, strict=True):
            group_words = len(constants.params) * constants.param_words
            most_words, most_params = self._weights.size // 2, self._params.size // 2
            if whole:
                most_words, most_params = self._weights.size, self._params.size
            if part.in_parts or (tiling.planes and part.op.layer.op == "conv2d"):
                chunks += self._shared_chunks(part, constants, place, planes, tiling)
                continue
            blocks = min(constants.blocks, most_params // group_words)
            if constants.weight_words:
                blocks = min(blocks, most_words // constants.weight_words)
                if self.overlap:
                    blocks = min(
                        blocks, max(1, ceil_div(CHUNK_BYTES, constants.weight_words * WEIGHT_WORD_BYTES))
                    )
            if tiling.planes:
                blocks = min(blocks, tiling.planes)
            if blocks < 1:
                raise CapacityError(
                    f"layer {part.op.name!r}: the parameters of {constants.block} channels do not fit "
                    "half of the "
                    f"{part.core.param_kib} KiB that {part.core.name} has for them; use a larger scratchpad"
                )
            # nothing computes yet: start as soon as one block's weights are there
            start = 1 if self.overlap and part is self.parts[0] and not chunks else blocks
            for first in (0, *range(start, constants.blocks, blocks)):
                count = min(blocks if first else start, constants.blocks - first)
                chunks.append(_Chunk(constants, place, first, count, share, planes * kernel_h, kernel_h))
        return chunks

    def _shared_chunks(
        self, part: Part, constants: PackedParameters, placed: MemorySlot, planes: int, tiling: Tiling
    ) -> Iterator[_Chunk]:
        """Yield chunks of one block each: some of its input planes, or of one plane some kernel rows."""
        kernel_h = kernel_size(part.op.layer)[0]
        shares = planes * kernel_h
        most = self._weights.size // 3 * shares // constants.weight_words  # kernel rows at a time
        if part.op.layer.op != "conv2d" or most < 1:
            raise CapacityError(
                f"layer {part.op.name!r}: the weights of one kernel row of one block of channels do not "
                "fit a third of "
                f"the {part.core.weight_kib} KiB that {part.core.name} has for them; use a larger scratchpad"
            )
        if most >= kernel_h:
            step = ceil_div(planes, ceil_div(planes, min(most // kernel_h, tiling.planes or planes)))
            cuts = [(plane, min(step, planes - plane), 0, kernel_h) for plane in range(0, planes, step)]
        else:
            step = ceil_div(kernel_h, ceil_div(kernel_h, most))
            cuts = [
                (plane, 1, row, min(step, kernel_h - row))
                for plane in range(planes)
                for row in range(0, kernel_h, step)
            ]
        for block in range(constants.blocks):
            for i, cut in enumerate(cuts):
                share = ReductionSlice(*cut, first=i == 0, last=i == len(cuts) - 1)
                yield _Chunk(constants, placed, block, 1, share, shares, kernel_h)

    def _load_constants(self, part: Part, chunk: _Chunk) -> tuple[_InPlace, list[Step]]:
        params: dict[int, int] = {}
        for count in chunk.constants.params if chunk.share.last else ():
            params[count] = self._params.take(chunk.groups * PARAM_GROUP_WORDS)
        at = _InPlace(chunk, self._weights.take(chunk.weight_words), params)
        return at, self._constants(part, at)

    def _constants(self, part: Part, at: _InPlace) -> list[Step]:
        """Return the loads of a chunk's constants."""
        chunk, steps = at.chunk, []
        for count, base in at.params.items():
            offset = chunk.first * chunk.constants.param_words
            address = chunk.placed.params[count] + offset * TRANSFER_WORD_BYTES
            steps.append(self._line(part, "parameters", address, base, chunk.groups * PARAM_GROUP_WORDS))
        if chunk.weight_words:
            address = chunk.placed.weights + chunk.weight_offset * WEIGHT_WORD_BYTES
            scale = WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES
            steps.append(self._line(part, "weights", address, at.weights * scale, chunk.weight_words * scale))
        return steps

    def _line(self, part: Part, target: str, address: int, local: int, words: int) -> Step:
        """Return the transfer of contiguous words."""
        if words > MAX_LINE_WORDS:
            raise CapacityError(
                f"layer {part.op.name!r}: {words} words of {target}; {MAX_LINE_WORDS} fit a command"
            )
        fields = {
            "target": TARGETS[target], "mem_address": address, "local_address": local, "line_words": words,
            "lines": 1, "planes": 1, "local_step": 1,
        }  # fmt: skip
        memory = "weights" if target == "weights" else "params"
        span = (memory, self.unit, local, local + words)
        cycles = words * self.word_cycles
        return Step(self.unit, LOAD, part.index, "load", fields, (), (span,), cycles, LATENCY)

    # ------------------------------------------------------------------------------------------ transfers
    def _complete(
        self, part: Part, name: str, region: Region, wanted: Rect, traffic: Traffic
    ) -> Iterator[Step]:
        """Yield the loads that bring what a kept tensor lacks, down to the last row that is wanted."""
        runs = traffic.loads.get(name, ())
        present = self._present.get(name, 0) // region.rect.columns
        end = wanted.row + wanted.rows
        if not runs or present >= end:
            return
        rect = Rect(present, end - present, 0, region.rect.columns)
        for run in runs:
            yield from self._load(part, name, region, run, rect, traffic)
        self._present[name] = end * region.rect.columns

    def _load(
        self, part: Part, name: str, region: Region, run: ChannelRange, rect: Rect, traffic: Traffic
    ) -> Iterator[Step]:
        height, width, _ = part.op.source_shape
        memory = replace(traffic.stored[name], height=height, width=width)
        for fields in region.transfers(memory, run, rect):
            yield self._transfer(part, LOAD, "load", fields, rect.pixels * ceil_div(run.count, CHANNEL_BLOCK))

    def _transfer(self, part: Part, engine: int, name: str, fields: dict[str, int], words: int) -> Step:
        parts = part.core.rows // CHANNEL_BLOCK
        line = fields["line_words"] * fields["lines"]
        local_spans, memory_spans = [], []
        for plane in range(fields["planes"]):
            start = fields["local_address"] + plane * fields["local_plane_stride"]
            local_spans.append(("act", self.unit, start // parts, start // parts + line))
            for i in range(fields["lines"]):
                address = fields["mem_address"] + plane * fields["plane_stride"] + i * fields["line_stride"]
                first = address // TRANSFER_WORD_BYTES
                memory_spans.append(("memory", 0, first, first + fields["line_words"]))
        reads, writes = (memory_spans, local_spans) if engine == LOAD else (local_spans, memory_spans)
        return Step(self.unit, engine, part.index, name, fields, tuple(reads), tuple(writes), words, LATENCY)

    # ------------------------------------------------------------------------------------------ computation
    def _compute(
        self, part: Part, at: _InPlace, rect: Rect, sources: Sequence[Region], target: Region
    ) -> Iterator[Step]:
        layer, core, chunk = part.op.layer, part.core, at.chunk
        piece = OutputTile(
            layer=layer, core=core, sources=sources, target=target, rect=rect, run=chunk.run,
            weight_base=at.weights, param_bases=at.params, slide=slides(layer, core),
            in_places=part.in_places, share=chunk.share,
        )  # fmt: skip
        spans: list[Span] = []
        wanted = source_rect(layer, rect)
        for region in sources:
            used = [chunk.run] if part.op.channelwise else [self._plane_run(part, chunk)]
            for run in used:
                spans += [("act", self.unit, a, b) for a, b in region.spans(run, wanted)]
        scale = WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES
        if chunk.weight_words:
            first = at.weights * scale
            spans.append(("weights", self.unit, first, first + chunk.weight_words * scale))
        for base in at.params.values():
            spans.append(("params", self.unit, base, base + chunk.groups * PARAM_GROUP_WORDS))
        writes = tuple(("act", self.unit, a, b) for a, b in target.spans(chunk.run, rect))
        made = list(commands(piece))
        cycles = self._cycles(part, chunk, rect) // len(made)
        stripe = stripe_of(rect.pixels, core.stripe_depth)
        tail = DRAIN + stripe * ceil_div(min(chunk.run.count, core.columns), CHANNEL_BLOCK)
        for name, fields in made:
            yield Step(self.unit, COMPUTE, part.index, name, fields, tuple(spans), writes, cycles + GAP, tail)

    def _plane_run(self, part: Part, chunk: _Chunk) -> ChannelRange:
        first = chunk.share.plane * part.core.rows
        return ChannelRange(first, min(part.in_places - first, chunk.share.planes * part.core.rows))

    def _cycles(self, part: Part, chunk: _Chunk, rect: Rect) -> int:
        """Return the cycles of the array or of the requantiser, whichever is slower, by the cycle law."""
        op, core = part.op, part.core
        height, width, _ = op.shape
        groups = ceil_div(chunk.run.count, CHANNEL_BLOCK)
        lengths = stripe_lengths(rect.pixels, core.stripe_depth)
        # while a stripe's 16 channels are requantised, the parameters of the next 16 are read
        requantised = groups * sum(max(n * (CHANNEL_BLOCK // core.lanes), PARAM_GROUP_WORDS) for n in lengths)
        if op.layer.op == "conv2d":
            law = cycle_law(op, chunk.run.count, self._plane_run(part, chunk).count, core, lengths)
            law = law * chunk.share.rows // kernel_size(op.layer)[0]
            return max(law, requantised) if chunk.share.last else law
        law = cycle_law(op, chunk.run.count, part.in_places, core) * rect.pixels // (height * width)
        if op.layer.op == "add":  # both inputs pass through the requantiser too, apart from the drain
            both = 2 * rect.pixels * groups * (CHANNEL_BLOCK // core.lanes)
            return both + requantised + ADD_STRIPE * groups * len(lengths)
        if slides(op.layer, core):  # words that slide in before the first output
            law += ceil_div(chunk.run.count, core.rows) * len(lengths) * kernel_size(op.layer)[0]
        return max(law, requantised)

    @staticmethod
    def _tiles(part: Part, tiling: Tiling) -> list[Rect]:
        height, width, _ = part.op.shape
        return [
            Rect(row, min(tiling.rows, height - row), column, min(tiling.columns, width - column))
            for row in range(0, height, tiling.rows)
            for column in range(0, width, tiling.columns)
        ]


LATENCY = 40
"""Estimate of the cycles from a transfer's last request to its completion."""
DRAIN = 24
"""Estimate of the cycles from a command's last product to its completion, beside writing the last stripe."""
GAP = 12
"""Estimate of the cycles between two commands of the compute engine."""


ADD_STRIPE = 6
"""Estimate of the cycles that an addition's pipeline takes to turn round, for each stripe and 16 channels."""
