# SPDX-License-Identifier: Apache-2.0
"""What the compiler makes: command lists and a memory image, of a graph or of a single layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from common.arrays import Bytes, Int8
from common.errors import UnsupportedError
from golden.layer import Layer, output_shape
from hw import layout
from hw.core import CoreConfig
from mapping.compiler.channels import ChannelOrder
from mapping.compiler.fold import Fold
from mapping.compiler.graph import Graph
from mapping.compiler.plan import Bands
from mapping.compiler.regions import Stored, ceil_div
from mapping.compiler.schedule import Entry


@dataclass(frozen=True)
class Choice:
    """What a plan may do in one way or another, and either may be faster.

    Attributes:
        bands: the layers that are cut into bands.
        shares: whether values that are alive at different times share memory: what overwrites one waits for
            its last reader.
    """

    bands: Bands = "exchanged"
    shares: bool = True


PLAIN = Choice()
"""The plan that is looked at first."""


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
class Section:
    """What units run from one start to their interrupts: the whole graph, or what lies between two cuts.

    A section of a graph that is cut finds its inputs in memory and leaves there what those behind it read.

    Attributes:
        lists: each unit's commands, for those that have work.
        starts: for each of them (byte address, number of commands) of its list.
        estimate: cycles that the schedule expects.
    """

    lists: Mapping[str, tuple[Entry, ...]]
    starts: Mapping[str, tuple[int, int]]
    estimate: int


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled graph.

    Attributes:
        graph: the graph, folded.
        cores: the units of the system.
        segments: memory image without the inputs, (byte address, bytes); command lists included.
        sections: what is started one after the other: a graph that is not cut has one.
        stored: values that have a place in memory.
        orders: their channels.
        folds: inputs that the host folds.
        observed: values that can be read after the run: the outputs, or all.
        parts: what each unit does, in order.
        end: first byte address behind everything.
        choice: how it was planned.
    """

    graph: Graph
    cores: tuple[CoreConfig, ...]
    segments: tuple[tuple[int, Bytes], ...]
    sections: tuple[Section, ...]
    stored: Mapping[str, Stored]
    orders: Mapping[str, ChannelOrder]
    folds: Mapping[str, Fold]
    observed: tuple[str, ...]
    parts: tuple[PartReport, ...]
    end: int
    choice: Choice

    @property
    def cuts(self) -> tuple[str, ...]:
        """The layers after which it is cut."""
        last = [
            max(entry.layer for entries in item.lists.values() for entry in entries) for item in self.sections
        ]
        return tuple(self.graph.ops[layer].name for layer in last[:-1])

    @property
    def whole(self) -> Section:
        """The one section of a program that is not cut.

        Raises:
            UnsupportedError: it has several.
        """
        if len(self.sections) > 1:
            raise UnsupportedError(
                f"{self.graph.name!r} is cut into {len(self.sections)} sections, which are started one after "
                "the other; compile it without cuts"
            )
        return self.sections[0]

    @property
    def lists(self) -> Mapping[str, tuple[Entry, ...]]:
        """Each unit's commands, see `whole`."""
        return self.whole.lists

    @property
    def starts(self) -> Mapping[str, tuple[int, int]]:
        """Where each unit's list lies, see `whole`."""
        return self.whole.starts

    @property
    def estimate(self) -> int:
        """Cycles that the schedule expects, of all sections one after the other."""
        return sum(section.estimate for section in self.sections)

    def input_segments(self, inputs: Mapping[str, Int8]) -> list[tuple[int, Bytes]]:
        """Return the memory segments of the inputs: int8 by name, in any shape of the same values."""
        segments = []
        for value in self.graph.inputs:
            x = inputs[value.name]
            if value.name in self.folds:
                fold = self.folds[value.name]
                x = fold.input(x.reshape(fold.op.source_shape))
            physical = self.orders[value.name].scatter(x.reshape(value.shape)).astype(np.int8)
            data = layout.block_activations(physical).reshape(-1).view(np.uint8)
            segments.append((self.stored[value.name].address, data))
        return segments

    def read_of(self, name: str) -> tuple[int, int]:
        """Return (byte address, bytes) of a value in memory."""
        stored = self.stored[name]
        blocks = ceil_div(self.orders[name].physical_channels, layout.CHANNEL_BLOCK)
        return stored.address, blocks * stored.plane_bytes

    def decode(self, name: str, raw: Bytes) -> Int8:
        """Return a value, (H, W, C) int8, from its bytes in memory."""
        height, width, _ = self.graph.values[name].shape
        order = self.orders[name]
        blocks = raw.view(np.int8).reshape(-1, height, width, layout.CHANNEL_BLOCK)
        physical = layout.unblock_activations(blocks, order.physical_channels)
        return np.ascontiguousarray(physical[:, :, order.physical_index])


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
