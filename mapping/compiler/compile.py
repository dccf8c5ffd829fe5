"""The compiler: a network, or one layer, becomes command lists and a memory image.

A chain of passes, each in its own module:

    legalise   operators that the units have commands for            mapping.compiler.legalise
    assign     output channels to units, order of channels           assignment, channels
    fold       taps of the first layer into channels                 mapping.compiler.fold
    pack       weights and parameters as the units read them         mapping.compiler.pack
    plan       tensors kept in the scratchpads, tiles, memory        plan, memory
    emit       one step for each command                             mapping.compiler.emit
    schedule   tokens, fences, events; order of the lists            mapping.compiler.schedule

Every unit that has work gets one list: one start and one interrupt for the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.errors import UnsupportedError
from golden.layer import Layer, macs, output_shape
from hw import layout
from hw.commands import CommandError, command_list, encode
from hw.core import CoreConfig
from hw.interface import COMMANDS, TRANSFER_WORD_BYTES
from mapping.compiler.channels import (
    ChannelAssignment,
    ChannelOrder,
    ChannelRange,
    check_weights,
    order_channels,
    runs_of,
    runs_where,
)
from mapping.compiler.emit import COMPUTE, LOAD, STORE, Emitter, MemorySlot, Step, Traffic
from mapping.compiler.fold import Fold, fold
from mapping.compiler.graph import Graph, Op
from mapping.compiler.legalise import legalise
from mapping.compiler.memory import Image, place_values
from mapping.compiler.pack import constant_words, cycle_law, pack
from mapping.compiler.plan import CapacityError, Part, UnitPlan, plan_unit
from mapping.compiler.regions import Stored, ceil_div
from mapping.compiler.schedule import Entry, lists

Bytes = npt.NDArray[np.uint8]
Int8 = npt.NDArray[np.int8]
MARK_BYTES = 16

__all__ = ["CapacityError", "LayerProgram", "PartReport", "Program", "compile_graph", "compile_layer"]


@dataclass(frozen=True)
class PartReport:
    """What the compiler knows of one unit's part of a layer.

    Attributes:
        layer: the layer's name.
        unit: the unit's name.
        channels: output channels of the network that it makes.
        macs: multiply-accumulates that the network asks for.
        law_cycles: the cycle law, after folding.
        bound_cycles: the larger of the law and of the time that the port takes for what must cross it:
            weights, parameters, the network's input and output.
        load_bytes, store_bytes: what it moves.
        commands: number of commands.
        mark: byte address of the time stamp of its end.
    """

    layer: str
    unit: str
    channels: int
    macs: int
    law_cycles: int
    bound_cycles: int
    load_bytes: int
    store_bytes: int
    commands: int
    mark: int


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled graph.

    Attributes:
        graph: the graph, folded.
        cores: the units of the system.
        segments: memory image without the inputs, (byte address, bytes); command lists included.
        lists: each unit's commands, for those that have work.
        starts: for each of them (byte address, number of commands) of its list.
        stored: values that have a place in memory.
        orders: their channels.
        folds: inputs that the host folds.
        observed: values that can be read after the run: the outputs, or all.
        parts: what each unit does, in order.
        estimate: cycles that the schedule expects.
        end: first byte address behind everything.
    """

    graph: Graph
    cores: tuple[CoreConfig, ...]
    segments: tuple[tuple[int, Bytes], ...]
    lists: Mapping[str, tuple[Entry, ...]]
    starts: Mapping[str, tuple[int, int]]
    stored: Mapping[str, Stored]
    orders: Mapping[str, ChannelOrder]
    folds: Mapping[str, Fold]
    observed: tuple[str, ...]
    parts: tuple[PartReport, ...]
    estimate: int
    end: int

    def input_segments(self, inputs: Mapping[str, Int8]) -> list[tuple[int, Bytes]]:
        """Return the memory segments of the inputs, (H, W, C) int8 by name."""
        segments = []
        for value in self.graph.inputs:
            x = inputs[value.name]
            if value.name in self.folds:
                x = self.folds[value.name].input(x)
            spread = self.orders[value.name].spread(x.reshape(value.shape)).astype(np.int8)
            data = layout.block_activations(spread).reshape(-1).view(np.uint8)
            segments.append((self.stored[value.name].address, data))
        return segments

    def read_of(self, name: str) -> tuple[int, int]:
        """Return (byte address, bytes) of a value in memory."""
        stored = self.stored[name]
        blocks = ceil_div(self.orders[name].places, layout.CHANNEL_BLOCK)
        return stored.address, blocks * stored.plane_bytes

    def decode(self, name: str, raw: Bytes) -> Int8:
        """Return a value, (H, W, C) int8, from its bytes in memory."""
        height, width, _ = self.graph.values[name].shape
        order = self.orders[name]
        blocks = raw.view(np.int8).reshape(-1, height, width, layout.CHANNEL_BLOCK)
        places = layout.unblock_activations(blocks, order.places)
        return np.ascontiguousarray(places[:, :, order.position])


def compile_graph(
    graph: Graph,
    cores: Sequence[CoreConfig],
    units: Mapping[str, ChannelAssignment],
    *,
    base: int = 0,
    mem_bytes: int = 16 << 20,
    observe: bool = False,
    overlap: bool = True,
    folding: bool = True,
    addresses: Mapping[str, int] | None = None,
    port_bytes: int = 16,
    image_wanted: bool = True,
) -> Program:
    """Compile a graph.

    Args:
        graph: the graph.
        cores: the units of the system.
        units: for each operator the index of the unit of every output channel.
        base: first byte address of the memory image.
        mem_bytes: size of the memory.
        observe: store every value, so that all can be compared.
        overlap: cut layers into tiles, so that transfers hide behind the computation.
        folding: fold the taps of first layers into channels.
        addresses: where inputs lie that another job or unit writes, by name.
        port_bytes: width of the memory port.
        image_wanted: make the memory image; without it there are lists but no bytes, for estimates.

    Raises:
        UnsupportedError: weights that a unit cannot hold, or a layer beyond a command's fields.
        CapacityError: not even a tile of a layer fits, or the memory is too small.
        ArithmeticRangeError: an accumulator could leave 32 bits.
    """
    if image_wanted:
        for op in graph.ops:
            check_weights(op, units[op.name], cores)
    folds: dict[str, Fold] = {}
    if folding:
        graph, folds = fold(graph, lambda op: _first_layer_cycles(op, units[op.name], cores))
    orders = order_channels(graph, units, cores)
    parts = _parts(graph, units, orders, cores, sizes_only=not image_wanted)
    observed = tuple(op.name for op in graph.ops) if observe else graph.outputs
    loads = {unit: _loads(graph, mine, orders) for unit, mine in parts.items()}
    plans, stores = _plans(graph, parts, cores, loads, observed, overlap)

    image = Image(base, sizes_only=not image_wanted)
    placed = {
        id(part): [_place(image, constants.weights, constants.params) for constants in part.constants]
        for mine in parts.values()
        for part in mine
    }
    marks = {id(part): image.reserve(MARK_BYTES) for mine in parts.values() for part in mine}
    # with more units, who may overwrite whose tensors would take more events than there are
    stored = place_values(image, graph, orders, stores, observed, addresses or {}, reuse=len(parts) < 3)
    traffic = _Traffics(graph, parts, loads, plans, stores, stored)
    word_cycles = TRANSFER_WORD_BYTES // port_bytes
    steps = list(_steps(graph, parts, plans, placed, marks, traffic, overlap, word_cycles))
    made, estimate = lists(steps, len(cores))
    starts = {}
    for core, entries in zip(cores, made, strict=True):
        if entries:
            raw = _encode(graph, entries)
            starts[core.name] = (image.place(raw), len(entries))
    if image.base > mem_bytes:
        raise CapacityError(
            f"{graph.name!r}: its memory image ends at {image.base} bytes; the memory has {mem_bytes}"
        )
    return Program(
        graph=graph,
        cores=tuple(cores),
        segments=tuple(image.segments),
        lists={core.name: tuple(entries) for core, entries in zip(cores, made, strict=True) if entries},
        starts=starts,
        stored=stored,
        orders=orders,
        folds=folds,
        observed=observed,
        parts=tuple(_reports(graph, parts, orders, steps, units, marks, word_cycles)),
        estimate=estimate,
        end=image.base,
    )


def _first_layer_cycles(op: Op, units: ChannelAssignment, cores: Sequence[CoreConfig]) -> int:
    """Return the cycles of an operator whose input comes from memory: array or port, whichever is slower."""
    height, width, channels = op.source_shape
    worst = 0
    for index in np.unique(units):
        mine, core = int((units == index).sum()), cores[index]
        words = height * width * ceil_div(channels, layout.CHANNEL_BLOCK) + constant_words(
            op, mine, channels, core
        )
        worst = max(worst, cycle_law(op, mine, channels, core), words)
    return worst


def _parts(
    graph: Graph,
    units: Mapping[str, ChannelAssignment],
    orders: Mapping[str, ChannelOrder],
    cores: Sequence[CoreConfig],
    sizes_only: bool,
) -> dict[int, list[Part]]:
    """Return the parts of every unit that has work, in order."""
    parts: dict[int, list[Part]] = {}
    for index, op in enumerate(graph.ops):
        source, target = orders[op.sources[0]], orders[op.name]
        for unit, core in enumerate(cores):
            runs = tuple(runs_of(units[op.name], target, unit))
            if runs:
                constants = tuple(pack(op, run, source, target, core, sizes_only=sizes_only) for run in runs)
                parts.setdefault(unit, []).append(Part(index, op, unit, core, runs, constants, source.places))
    return parts


def _mask(runs: Sequence[ChannelRange], places: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(places, bool)
    for run in runs:
        mask[run.first : run.first + run.count] = True
    return mask


def _loads(
    graph: Graph, parts: Sequence[Part], orders: Mapping[str, ChannelOrder]
) -> dict[str, tuple[ChannelRange, ...]]:
    """Return for every value that a unit reads the channels that it does not make itself."""
    loads: dict[str, tuple[ChannelRange, ...]] = {}
    for name in graph.values:
        places = orders[name].places
        needed = np.zeros(places, bool)
        for part in parts:
            if name in part.op.sources:
                needed |= _mask(part.needed(), places)
        for part in parts:
            if part.op.name == name:
                needed &= ~_mask(part.runs, places)
        if needed.any():
            loads[name] = tuple(runs_where(needed))
    return loads


def _plans(
    graph: Graph,
    parts: Mapping[int, list[Part]],
    cores: Sequence[CoreConfig],
    loads: Mapping[int, Mapping[str, tuple[ChannelRange, ...]]],
    observed: Sequence[str],
    overlap: bool,
) -> tuple[dict[int, UnitPlan], set[str]]:
    """Plan every unit; return the plans and the values that are written to memory."""
    made = {op.name for op in graph.ops}
    exchanged = {name for mine in loads.values() for name in mine if name in made} | set(observed)
    plans = {}
    streamed: set[str] = set()
    for unit, mine in parts.items():
        banded: dict[int, bool] = {}
        seen: set[str] = set()
        for part in mine:
            arriving = [name for name in part.op.sources if name in loads[unit] and name not in seen]
            seen.update(part.op.sources)
            banded[part.index] = overlap and bool(arriving or part.op.name in exchanged)
        plans[unit] = plan_unit(graph, mine, cores[unit], banded)
        streamed |= {name for part in mine for name in part.op.sources if name not in plans[unit].kept}
        streamed |= {part.op.name for part in mine if part.op.name not in plans[unit].kept}
    return plans, exchanged | (streamed & made)


def _place(image: Image, weights: Bytes, params: Mapping[int, Bytes]) -> MemorySlot:
    address = image.place(weights) if weights.size else 0
    return MemorySlot(address, {count: image.place(data) for count, data in params.items()})


@dataclass(frozen=True)
class _Traffics:
    """What each part exchanges with memory."""

    graph: Graph
    parts: Mapping[int, list[Part]]
    loads: Mapping[int, Mapping[str, tuple[ChannelRange, ...]]]
    plans: Mapping[int, UnitPlan]
    stores: set[str]
    stored: Mapping[str, Stored]

    def of(self, part: Part) -> Traffic:
        loads = self.loads[part.unit]
        made = {op.name for op in self.graph.ops}
        remote = any(name in loads and name in made for name in part.op.sources)
        return Traffic(self.stored, loads, part.op.name in self.stores, remote)


def _steps(
    graph: Graph,
    parts: Mapping[int, list[Part]],
    plans: Mapping[int, UnitPlan],
    placed: Mapping[int, Sequence[MemorySlot]],
    marks: Mapping[int, int],
    traffic: _Traffics,
    overlap: bool,
    word_cycles: int,
) -> Iterator[Step]:
    """Yield the steps of all units, layer after layer, with a time stamp at each part's end."""
    emitters = {unit: Emitter(unit, plans[unit], mine, overlap, word_cycles) for unit, mine in parts.items()}
    waiting = {unit: list(mine) for unit, mine in parts.items()}
    number = 0
    for index in range(len(graph.ops)):
        for unit, mine in waiting.items():
            if not mine or mine[0].index != index:
                continue
            part = mine.pop(0)
            last = -1
            for step in emitters[unit].part(part, placed[id(part)], traffic.of(part)):
                last = number if step.engine == COMPUTE else last
                number += 1
                yield step
            fields = {"mem_address": marks[id(part)], "id": index}
            yield Step(unit, STORE, index, "mark", fields, (), (), 2, 40, after=(last,))
            number += 1


def _encode(graph: Graph, entries: Sequence[Entry]) -> Bytes:
    words = []
    for entry in entries:
        engine = entry.engine if COMMANDS[entry.name][2] is None else None
        try:
            words.append(encode(entry.name, engine=engine, **entry.fields))
        except CommandError as error:
            raise UnsupportedError(
                f"layer {graph.ops[entry.layer].name!r} is beyond a command: {error}"
            ) from None
    return command_list(words)


def _reports(
    graph: Graph,
    parts: Mapping[int, list[Part]],
    orders: Mapping[str, ChannelOrder],
    steps: Sequence[Step],
    units: Mapping[str, ChannelAssignment],
    marks: Mapping[int, int],
    word_cycles: int,
) -> Iterator[PartReport]:
    moved: dict[tuple[int, int], list[int]] = {}
    for step in steps:
        entry = moved.setdefault((step.unit, step.layer), [0, 0, 0])
        entry[2] += 1
        if step.engine == COMPUTE or step.name == "mark":
            continue
        fields = step.fields
        size = fields["planes"] * fields["lines"] * fields["line_words"] * TRANSFER_WORD_BYTES
        entry[0 if step.engine == LOAD else 1] += size
    inputs = {item.name for item in graph.inputs}
    every = (part for mine in parts.values() for part in mine)
    for part in sorted(every, key=lambda item: (item.index, item.unit)):
        op = part.op
        load, store, commands = moved[part.unit, part.index]
        channels = int((units[op.name] == part.unit).sum())
        places = sum(run.count for run in part.runs)
        law = cycle_law(op, places, part.in_places, part.core)
        words = sum(constants.bytes for constants in part.constants) // TRANSFER_WORD_BYTES
        for name in op.sources:
            if name in inputs:
                words += graph.values[name].pixels * ceil_div(orders[name].places, layout.CHANNEL_BLOCK)
        height, width, _ = op.shape
        blocks = ceil_div(places, layout.CHANNEL_BLOCK)
        out_words = height * width * blocks if op.name in graph.outputs else 0
        yield PartReport(
            layer=op.name,
            unit=part.core.name,
            channels=channels,
            macs=macs(op.layer) * channels // op.shape[2],
            law_cycles=law,
            bound_cycles=max(law, word_cycles * words, word_cycles * out_words),
            load_bytes=load,
            store_bytes=store,
            commands=commands,
            mark=marks[id(part)],
        )


# ---------------------------------------------------------------------------------------------- single layers
@dataclass(frozen=True, eq=False)
class LayerProgram:
    """One layer, compiled for one unit, with its input in the memory image.

    Attributes:
        layer: the layer.
        unit: the unit.
        program: its program.
        segments: memory image, (byte address, bytes); command list and input included.
    """

    layer: Layer
    unit: CoreConfig
    program: Program
    segments: tuple[tuple[int, Bytes], ...] = field(repr=False)

    @property
    def commands(self) -> tuple[int, int]:
        """(byte address, number) of the command list."""
        return self.program.starts[self.unit.name]

    @property
    def output(self) -> tuple[int, int]:
        """(byte address, bytes) of the output, channel-blocked."""
        return self.program.read_of(self.program.graph.outputs[0])

    @property
    def mark(self) -> int:
        """Byte address of the time stamp written at the layer's end."""
        return self.program.parts[0].mark

    @property
    def end(self) -> int:
        """First byte address behind everything."""
        return self.program.end

    def decode_output(self, raw: Bytes) -> Int8:
        """Return the output, int8 in the layer's shape, from the `output` bytes of the memory."""
        value = self.program.decode(self.program.graph.outputs[0], raw)
        return value.reshape(output_shape(self.layer))


def compile_layer(
    layer: Layer,
    unit: CoreConfig,
    base: int = 0,
    *,
    mem_bytes: int = 16 << 20,
    overlap: bool = True,
    folding: bool = False,
    input_address: int | None = None,
) -> LayerProgram:
    """Compile a layer for a unit: a network of one layer.

    Args:
        layer: the layer; its input is part of the memory image.
        unit: the unit that runs it.
        base: first byte address of the memory image.
        mem_bytes: size of the memory.
        overlap: cut the work into tiles, so that transfers hide behind the computation; otherwise everything
            that fits is loaded, computed and stored one after the other.
        folding: fold taps into channels where that is faster, as for the first layer of a network.
        input_address: where the (first) input will lie, channel-blocked, if another job or unit writes it; by
            default the layer's own input is part of the image.

    Raises:
        UnsupportedError: the unit has no command for the layer.
        CapacityError: not even a tile of the layer fits the unit's scratchpads, or it does not fit the
        memory.
        ArithmeticRangeError: an accumulator could leave 32 bits.
    """
    graph = legalise(layer)
    units = {op.name: np.zeros(op.shape[2], np.int64) for op in graph.ops}
    addresses = {} if input_address is None else {graph.inputs[0].name: input_address}
    program = compile_graph(
        graph,
        (unit,),
        units,
        base=base,
        mem_bytes=mem_bytes,
        overlap=overlap,
        folding=folding,
        addresses=addresses,
    )
    tensors = (layer.input, layer.input2)
    data = {value.name: x.reshape(value.shape) for value, x in zip(graph.inputs, tensors, strict=False)}
    inputs = [
        segment
        for value, segment in zip(graph.inputs, program.input_segments(data), strict=True)
        if value.name not in addresses
    ]
    return LayerProgram(layer, unit, program, (*inputs, *program.segments))
