# SPDX-License-Identifier: Apache-2.0
"""Emission pass: every part becomes commands, in an order in which they could run one by one.

A command says which words of which memory it reads and writes; the next pass derives tokens, fences and
events from that (`schedule`). Weights and parameters pass through their scratchpads as through a ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from hw.interface import PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelRange, within
from mapping.compiler.chunks import Chunk, LoadedChunk, ParameterScratchpads, chunks_of
from mapping.compiler.cycle_law import cycle_law, stripe_lengths, stripe_of
from mapping.compiler.graph import Rect
from mapping.compiler.operators import Fields, OutputTile, commands
from mapping.compiler.place import PlacedPart
from mapping.compiler.plan import CapacityError
from mapping.compiler.regions import Region, ceil_div

LOAD, COMPUTE, STORE = range(3)
TARGETS = {"activations": 0, "weights": 1, "parameters": 2}
MAX_LINE_WORDS = 65535
WORDS_PER_WEIGHT_WORD = WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES

LATENCY = 40
"""Estimate of the cycles from a transfer's last request to its completion."""
DRAIN = 24
"""Estimate of the cycles from a command's last product to its completion, beside writing the last stripe."""
GAP = 12
"""Estimate of the cycles between two commands of the compute engine."""
MARK_CYCLES = 2
"""Estimate of the cycles of a time stamp."""

Access = tuple[str, int, int, int]
"""Words that are read or written: memory, its unit (0 for the external memory), first word, end."""


class Command(NamedTuple):
    """One command with its accesses to memories.

    Attributes:
        unit, engine: who executes it.
        layer: place of the operator in the graph.
        name, fields: the command.
        reads, writes: words of the memories "act", "weights", "params" (of the unit) and "memory" (16 bytes).
        cycles: estimate of the time until the engine can start its next command.
        tail: estimate of the time from then to the command's completion.
        after: commands of the same section that must be complete, by number, beside those that the accesses
            imply.
    """

    unit: int
    engine: int
    layer: int
    name: str
    fields: Fields
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    cycles: int
    tail: int
    after: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class EmittedPart(PlacedPart):
    """A part with its commands; those of all parts of a section, in order, are numbered from 0."""

    commands: tuple[Command, ...]

    def moved_bytes(self, engine: int) -> int:
        """Return the bytes that an engine, LOAD or STORE, moves for the part, its time stamp left out."""
        moves = (item.fields for item in self.commands if item.engine == engine and item.name != "mark")
        words = sum(fields["planes"] * fields["lines"] * fields["line_words"] for fields in moves)
        return words * TRANSFER_WORD_BYTES


def emit(parts: Sequence[PlacedPart], overlap: bool, word_cycles: int) -> tuple[EmittedPart, ...]:
    """Return the parts with their commands, layer after layer; the last command of each is its time stamp.

    Afterwards, were the commands run one by one in this order, each would read only words that have been
    written before it, of scratchpads since the section began, and every part would have made and stored all
    its outputs.

    Args:
        parts: the parts, unit by unit.
        overlap: cut into chunks and tiles so that transfers hide behind the computation.
        word_cycles: cycles that the port takes for 16 bytes.

    Raises:
        CapacityError: a scratchpad or a command's field is too small for a part.
    """
    emitters: dict[tuple[int, int], _Emitter] = {}
    emitted: list[EmittedPart] = []
    numbers: dict[int, int] = {}  # of the next command of each section
    for part in sorted(parts, key=lambda part: part.index):
        emitter = emitters.setdefault((part.unit, part.section), _Emitter(part, overlap, word_cycles))
        number = numbers.get(part.section, 0)
        of_part = list(emitter.emit(part))
        last = max((number + i for i, item in enumerate(of_part) if item.engine == COMPUTE), default=-1)
        fields = {"mem_address": part.mark, "id": part.index}
        of_part.append(
            Command(part.unit, STORE, part.index, "mark", fields, (), (), MARK_CYCLES, LATENCY, after=(last,))
        )
        numbers[part.section] = number + len(of_part)
        emitted.append(EmittedPart(**vars(part), commands=tuple(of_part)))
    return tuple(emitted)


def commands_of(parts: Iterable[EmittedPart], section: int) -> list[Command]:
    """Return the commands of a section, by their numbers."""
    return [command for part in parts if part.section == section for command in part.commands]


class _Emitter:
    """Writes the commands of one unit in one section; knows what is in the unit's scratchpads.

    Args:
        first: the unit's first part in the section.
        overlap: cut into chunks and tiles so that transfers hide behind the computation.
        word_cycles: cycles that the port takes for 16 bytes.
    """

    def __init__(self, first: PlacedPart, overlap: bool, word_cycles: int) -> None:
        self.unit = first.unit
        self.core = first.core
        self.overlap = overlap
        self.word_cycles = word_cycles
        self._first = first
        self._scratchpads = ParameterScratchpads(first.core)
        self._present: dict[str, int] = {}  # of kept tensors: pixels from the top that have been loaded

    # ------------------------------------------------------------------------------------------------- a part
    def emit(self, part: PlacedPart) -> Iterator[Command]:
        """Yield the commands of a part."""
        tiling = part.tiling
        chunks = chunks_of(part, self._scratchpads, self.overlap, part is self._first)
        tiles = _tiles(part)
        resident = self._scratchpads.fit(part)
        streams = part.op.kind == "conv2d" and any(tiling.sources)
        sliced = any(not chunk.reduction.last for chunk in chunks)
        streams_channels = part.op.channelwise and any((*tiling.sources, tiling.target))
        if sliced or (streams and not resident):
            yield from self._tiles_of_chunks(part, chunks, tiles)
        elif len(tiles) > 1 and resident and not streams_channels:
            yield from self._bands(part, chunks, tiles)
        else:
            number = 0  # of the tile, for buffers that take turns
            for chunk in chunks:
                loaded, loads = self._load_chunk(part, chunk)
                yield from loads
                for rect in tiles:
                    yield from self._work(part, [loaded], rect, number, [chunk.channels])
                    number += 1

    def _tiles_of_chunks(
        self, part: PlacedPart, chunks: Sequence[Chunk], tiles: Sequence[Rect]
    ) -> Iterator[Command]:
        """For every tile all chunks: the parameters are loaded again for every tile."""
        number = 0  # of what the sources' buffers hold
        for rect in tiles:
            for j, chunk in enumerate(chunks):
                loaded, loads = self._load_chunk(part, chunk)
                last = j + 1 == len(chunks) or chunks[j + 1].channels != chunk.channels
                fresh = j == 0 or part.tiling.planes > 0
                number += fresh
                yield from loads
                stores = [chunk.channels] if last else []
                yield from self._work(part, [loaded], rect, number, stores, fresh)

    def _bands(self, part: PlacedPart, chunks: Sequence[Chunk], tiles: Sequence[Rect]) -> Iterator[Command]:
        """All parameters stay; the first tile starts with the first chunk, others are one command a range."""
        words = self._scratchpads.weights.take(sum(chunk.weight_words for chunk in chunks))
        params = self._scratchpads.params.take(sum(chunk.param_words for chunk in chunks))
        ranges: list[LoadedChunk] = []
        loaded_chunks: list[tuple[LoadedChunk, list[Command]]] = []
        for _, group in groupby(chunks, key=lambda chunk: chunk.parameters.channels):
            of_range = list(group)
            parameters = of_range[0].parameters
            entire = replace(of_range[0], first=0, blocks=parameters.blocks)
            bases = {}
            for count in parameters.params:
                bases[count] = params
                params += entire.set_words
            ranges.append(LoadedChunk(entire, words, bases))
            for chunk in of_range:
                offset = chunk.first * parameters.param_words
                chunk_bases = {count: base + offset for count, base in bases.items()}
                loaded = LoadedChunk(chunk, words + chunk.weight_offset, chunk_bases)
                loaded_chunks.append((loaded, self._parameter_loads(part, loaded)))
            words += entire.weight_words
        all_channels = [item.chunk.channels for item in ranges]
        if part.remote:  # weights do not wait behind what another unit has yet to make
            for _, loads in loaded_chunks:
                yield from loads
        for j, (loaded, loads) in enumerate(loaded_chunks):
            if not part.remote:
                yield from loads
            stores = all_channels if j + 1 == len(loaded_chunks) else []
            yield from self._work(part, [loaded], tiles[0], 0, stores, fresh=j == 0)
        for i, rect in enumerate(tiles[1:], 1):
            yield from self._work(part, ranges, rect, i, all_channels)

    def _work(
        self,
        part: PlacedPart,
        loaded: Sequence[LoadedChunk],
        rect: Rect,
        number: int,
        stores: Sequence[ChannelRange],
        fresh: bool = True,
    ) -> Iterator[Command]:
        """Yield one tile of some chunks: loads of what is missing, the operator, stores of some channels.

        `number`: of the tile, for buffers that take turns. `fresh`: the tile's streamed inputs are not in
        their buffers yet.
        """
        needed: Sequence[ChannelRange] = part.needed
        if part.op.channelwise:
            needed = [item.chunk.channels for item in loaded]
        first = min(item.first for item in needed)
        if part.tiling.planes and not part.op.channelwise:
            summed = _summed_channels(part, loaded[0].chunk)
            first, needed = summed.first, within(needed, summed)
        pixels = _source_rows(part, rect)
        sources: list[Region] = []
        for name, buffers in zip(part.op.sources, part.tiling.sources, strict=True):
            if not buffers:
                region = part.kept[name].region(*part.op.source_shape[:2], self.core)
                yield from self._complete(part, name, region, pixels)
            else:
                region = self._buffer(buffers, number, first, pixels)
                for channels in needed if fresh else ():
                    yield from self._load(part, name, region, channels, pixels)
            sources.append(region)
        if part.tiling.target:
            outputs = [item.chunk.channels for item in loaded] if part.op.channelwise else part.ranges
            first = min(item.first for item in outputs)
            target = self._buffer(part.tiling.target, number, first, rect)
        else:
            target = part.kept[part.op.name].region(*part.op.shape[:2], self.core)
        for item in loaded:
            yield from self._compute(part, item, rect, sources, target)
        for channels in stores if part.stores else ():
            words = rect.pixels * ceil_div(channels.count, CHANNEL_BLOCK)
            for fields in target.transfers(part.stored[part.op.name], channels, rect):
                yield self._transfer(part, STORE, "store", fields, words)

    def _buffer(self, buffers: Sequence[int], number: int, first: int, rect: Rect) -> Region:
        """Return the buffer whose turn it is, as a region: a rectangle of the channels from one on."""
        plane = first // self.core.rows * self.core.rows
        return Region(buffers[number % len(buffers)], rect, plane, self.core.rows)

    # --------------------------------------------------------------------------------------------- parameters
    def _load_chunk(self, part: PlacedPart, chunk: Chunk) -> tuple[LoadedChunk, list[Command]]:
        """Give a chunk room in the scratchpads; return where it is and the loads that bring it there."""
        params: dict[int, int] = {}
        for count in chunk.parameters.params if chunk.reduction.last else ():
            params[count] = self._scratchpads.params.take(chunk.set_words)
        loaded = LoadedChunk(chunk, self._scratchpads.weights.take(chunk.weight_words), params)
        return loaded, self._parameter_loads(part, loaded)

    def _parameter_loads(self, part: PlacedPart, loaded: LoadedChunk) -> list[Command]:
        """Return the loads of a chunk's parameters."""
        chunk, slot, loads = loaded.chunk, loaded.chunk.slot, []
        for count, base in loaded.params.items():
            offset = chunk.first * chunk.parameters.param_words
            address = slot.params[count] + offset * TRANSFER_WORD_BYTES
            loads.append(self._line(part, "parameters", address, base, chunk.set_words))
        if chunk.weight_words:
            address = slot.weights + chunk.weight_offset * WEIGHT_WORD_BYTES
            first, words = (item * WORDS_PER_WEIGHT_WORD for item in (loaded.weights, chunk.weight_words))
            loads.append(self._line(part, "weights", address, first, words))
        return loads

    def _line(self, part: PlacedPart, target: str, address: int, local: int, words: int) -> Command:
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
        write = (memory, self.unit, local, local + words)
        cycles = words * self.word_cycles
        return Command(self.unit, LOAD, part.index, "load", fields, (), (write,), cycles, LATENCY)

    # ------------------------------------------------------------------------------------------ transfers
    def _complete(self, part: PlacedPart, name: str, region: Region, pixels: Rect) -> Iterator[Command]:
        """Yield the loads that bring what a kept tensor lacks, down to the last row of some pixels."""
        arriving = part.loads.get(name, ())
        present = self._present.get(name, 0) // region.rect.columns
        end = pixels.row + pixels.rows
        if not arriving or present >= end:
            return
        rect = Rect(present, end - present, 0, region.rect.columns)
        for channels in arriving:
            yield from self._load(part, name, region, channels, rect)
        self._present[name] = end * region.rect.columns

    def _load(
        self, part: PlacedPart, name: str, region: Region, channels: ChannelRange, rect: Rect
    ) -> Iterator[Command]:
        words = rect.pixels * ceil_div(channels.count, CHANNEL_BLOCK)
        for fields in region.transfers(part.stored[name], channels, rect):
            yield self._transfer(part, LOAD, "load", fields, words)

    def _transfer(self, part: PlacedPart, engine: int, name: str, fields: Fields, words: int) -> Command:
        planes_per_word = self.core.rows // CHANNEL_BLOCK
        plane_words = fields["line_words"] * fields["lines"]
        local: list[Access] = []
        memory: list[Access] = []
        for plane in range(fields["planes"]):
            start = (fields["local_address"] + plane * fields["local_plane_stride"]) // planes_per_word
            local.append(("act", self.unit, start, start + plane_words))
            for i in range(fields["lines"]):
                address = fields["mem_address"] + plane * fields["plane_stride"] + i * fields["line_stride"]
                first = address // TRANSFER_WORD_BYTES
                memory.append(("memory", 0, first, first + fields["line_words"]))
        reads, writes = (memory, local) if engine == LOAD else (local, memory)
        return Command(
            self.unit, engine, part.index, name, fields, tuple(reads), tuple(writes), words, LATENCY
        )

    # ------------------------------------------------------------------------------------------ computation
    def _compute(
        self, part: PlacedPart, loaded: LoadedChunk, rect: Rect, sources: Sequence[Region], target: Region
    ) -> Iterator[Command]:
        """Yield the commands that compute a tile of a chunk."""
        core, chunk, channels = self.core, loaded.chunk, loaded.chunk.channels
        tile = OutputTile(
            op=part.op, core=core, sources=sources, target=target, rect=rect, channels=channels,
            weight_base=loaded.weights, param_bases=loaded.params, slides=part.slides,
            in_channels=part.in_channels, reduction=chunk.reduction,
        )  # fmt: skip
        read = [channels] if part.op.channelwise else within(part.in_ranges, _summed_channels(part, chunk))
        read_pixels = part.op.source_rect(rect)
        reads: list[Access] = [
            ("act", self.unit, first, end)
            for region in sources
            for item in read
            for first, end in region.spans(item, read_pixels)
        ]
        if chunk.weight_words:
            first = loaded.weights * WORDS_PER_WEIGHT_WORD
            end = first + chunk.weight_words * WORDS_PER_WEIGHT_WORD
            reads.append(("weights", self.unit, first, end))
        reads += [("params", self.unit, base, base + chunk.set_words) for base in loaded.params.values()]
        writes = tuple(("act", self.unit, first, end) for first, end in target.spans(channels, rect))
        of_tile = list(commands(tile))
        cycles = _cycles(part, chunk, rect) // len(of_tile) + GAP
        stripe = stripe_of(rect.pixels, core.stripe_depth)
        tail = DRAIN + stripe * ceil_div(min(channels.count, core.columns), CHANNEL_BLOCK)
        for name, fields in of_tile:
            yield Command(self.unit, COMPUTE, part.index, name, fields, tuple(reads), writes, cycles, tail)


def _tiles(part: PlacedPart) -> list[Rect]:
    """Return the part's output tiles, row by row."""
    (height, width, _), rows, columns = part.op.shape, part.tiling.rows, part.tiling.columns
    return [
        Rect(row, min(rows, height - row), column, min(columns, width - column))
        for row in range(0, height, rows)
        for column in range(0, width, columns)
    ]


def _source_rows(part: PlacedPart, rect: Rect) -> Rect:
    """Return the input pixels that are there for a tile: whole rows where its outputs are whole rows."""
    pixels = part.op.source_rect(rect)
    if rect.columns == part.op.shape[1]:
        return Rect(pixels.row, pixels.rows, 0, part.op.source_shape[1])
    return pixels


def _summed_channels(part: PlacedPart, chunk: Chunk) -> ChannelRange:
    """Return the input channels that a chunk of a convolution sums."""
    first = chunk.reduction.plane * part.core.rows
    return ChannelRange(first, min(part.in_channels - first, chunk.reduction.planes * part.core.rows))


def _cycles(part: PlacedPart, chunk: Chunk, rect: Rect) -> int:
    """Return the cycles of the array or of the requantiser, whichever is slower, by the cycle law."""
    op, core, channels = part.op, part.core, chunk.channels.count
    lengths = stripe_lengths(rect.pixels, core.stripe_depth)
    pixel_cycles = CHANNEL_BLOCK // core.lanes  # of the requantiser, for 16 channels
    # while a stripe's 16 channels are requantised, the parameters of the next 16 are read
    requantised = chunk.groups * sum(max(n * pixel_cycles, PARAM_GROUP_WORDS) for n in lengths)
    if op.kind == "conv2d":
        law = cycle_law(op, core, channels, _summed_channels(part, chunk).count, lengths=lengths)
        law = law * chunk.reduction.rows // op.kernel[0]
        return max(law, requantised) if chunk.reduction.last else law
    law = cycle_law(op, core, channels, part.in_channels, part.slides) * rect.pixels // op.pixels
    if part.slides:  # words that slide in before the first output
        law += ceil_div(channels, core.rows) * len(lengths) * op.kernel[0]
    return max(law, requantised)
