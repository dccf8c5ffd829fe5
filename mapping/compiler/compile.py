# SPDX-License-Identifier: Apache-2.0
"""The compiler's entries: a graph, or one layer, becomes command lists and a memory image.

The passes between are in `mapping.compiler.passes`. Every unit that has work gets one list: one start and one
interrupt for the whole network, or for each section of one that is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from golden.layer import Layer
from hw.core import CoreConfig
from hw.interface import TRANSFER_WORD_BYTES
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.graph import Graph
from mapping.compiler.legalise import legalise
from mapping.compiler.passes import Options, Price, run_passes
from mapping.compiler.program import PLAIN, Choice, LayerProgram, Program


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
    first_event: int = 0,
    cuts: Sequence[str] = (),
    choice: Choice = PLAIN,
    price: Price | None = None,
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
        first_event: the first event counter that the units use, if others run beside them.
        cuts: layers, in the order of the graph, after each of which it is cut: every section has lists of its
            own, and between two of them other programs may use the units.
        choice: how it is planned, as in `Program.choice`.
        price: what the lists of a program take; with it other plans are tried too, and the cheapest is taken.

    Raises:
        CutError: a cut that cannot be.
        UnsupportedError: weights that a unit cannot hold, or a layer beyond a command's fields.
        CapacityError: not even a tile of a layer fits, or the memory is too small.
        ArithmeticRangeError: an accumulator could leave 32 bits.
    """
    options = Options(
        base=base,
        mem_bytes=mem_bytes,
        observe=observe,
        overlap=overlap,
        folding=folding,
        addresses=addresses or {},
        word_cycles=TRANSFER_WORD_BYTES // port_bytes,
        image_wanted=image_wanted,
        first_event=first_event,
        cuts=tuple(cuts),
        choice=choice,
    )
    return run_passes(graph, cores, units, options, price).program


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
    data = {value.name: x for value, x in zip(graph.inputs, tensors, strict=False)}
    inputs = [
        segment
        for value, segment in zip(graph.inputs, program.input_segments(data), strict=True)
        if value.name not in addresses
    ]
    return LayerProgram(layer, unit, program, (*inputs, *program.segments))
