# SPDX-License-Identifier: Apache-2.0
"""What holds of the graph: after legalisation, requantisation, folding and ordering."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden.arithmetic import INT32_MAX, integer_range
from golden.layer import WEIGHTED_OPS, run_layer
from golden.network import channel_weights
from mapping.compiler.channels import ranges_of
from mapping.compiler.graph import Graph, operator
from mapping.compiler.invariants.require import require
from mapping.compiler.legalise import FIELD_MAX
from mapping.compiler.passes import Compilation

KINDS = ("conv2d", "depthwise_conv2d", "add", "average_pool", "max_pool")
"""Operators that have a command."""


def check_legalised(compilation: Compilation) -> None:
    """Every operator has a command, carries its layer's geometry, and reads what is there before it."""
    for graph in (compilation.graph, compilation.program.graph):
        _check_graph(graph)


def _check_graph(graph: Graph) -> None:
    values = {value.name: value for value in graph.inputs}
    for op in graph.ops:
        where = f"layer {op.name!r}"
        require(op.kind in KINDS, f"{where}: {op.kind} has no command")
        require(op == operator(op.name, op.layer, op.sources), f"{where}: not the geometry of its layer")
        largest = max(*op.kernel, *op.stride, *op.dilation)
        require(largest <= FIELD_MAX, f"{where}: its window is beyond a command's fields")
        require(op.name not in values, f"{where}: two values have this name")
        for source in op.sources:
            require(source in values, f"{where}: reads {source!r} before it is made")
            height, width, channels = op.source_shape
            seen = (values[source].pixels, values[source].shape[2])
            require(seen == (height * width, channels), f"{where}: sees {source!r} in another size")
        if op.channelwise:
            require(op.source_shape[2] == op.shape[2], f"{where}: makes other channels than it reads")
        values[op.name] = graph.values[op.name]
    require(all(name in values for name in graph.outputs), f"{graph.name!r}: an output is not made")


def check_requantised(compilation: Compilation) -> None:
    """Weights fit their units, accumulators fit 32 bits, and biases hold the input's zero point."""
    if compilation.requantisations is None:
        return
    cores = compilation.program.cores
    for op in compilation.graph.ops:
        owners = compilation.units[op.name]
        for unit in np.unique(owners):
            where = f"layer {op.name!r} on {cores[unit].name}"
            sets = compilation.requantisations.get((op.name, int(unit)))
            require(sets, f"{where}: no requantisation")
            for item in (sets or {}).values():
                arrays = (item.bias, item.multiplier, item.shift)
                fit = all(array.shape == (op.shape[2],) and array.dtype == np.int32 for array in arrays)
                require(fit, f"{where}: requantisation of another shape or type")
            if op.kind not in WEIGHTED_OPS:
                continue
            core, layer = cores[unit], op.layer
            weights = channel_weights(layer).astype(np.int64)
            low, high = integer_range(core.w_bits)
            on_unit = weights[owners == unit]
            require(low <= on_unit.min() and on_unit.max() <= high, f"{where}: weights do not fit")
            largest = int(np.abs(on_unit).sum(axis=1).max()) << core.a_bits - 1
            require(largest <= INT32_MAX, f"{where}: an accumulator could leave 32 bits")
            if core.a_bits == 8:
                bias = (layer.bias - layer.input_zero_point * weights.sum(axis=1)).astype(np.int32)
                held = (sets or {})[0].bias
                require((held == bias).all(), f"{where}: the zero point is not in the bias")


def check_folded(compilation: Compilation) -> None:
    """Folded operators give the outputs that they gave; the others are as they were."""
    folds = compilation.program.folds
    after = {op.name: op for op in compilation.program.graph.ops}
    for op in compilation.graph.ops:
        fold = next((folds[name] for name in op.sources if name in folds), None)
        if fold is None:
            require(after[op.name] is op, f"layer {op.name!r}: changed, though its input is not folded")
            continue
        rng = np.random.default_rng(1)
        x = rng.integers(-128, 128, op.source_shape).astype(np.int8)
        before = run_layer(replace(op.layer, input=x))
        folded = run_layer(replace(after[op.name].layer, input=fold.input(x)))
        require(np.array_equal(before, folded), f"layer {op.name!r}: folded, it gives other outputs")
    for name in folds:
        readers = [op for op in compilation.graph.ops if name in op.sources]
        alone = len(readers) == 1 and name not in compilation.graph.outputs
        require(alone, f"input {name!r}: folded, but somebody else reads it")


def check_ordered(compilation: Compilation) -> None:
    """Channels have one place each, corresponding ones the same, and units' ranges begin at whole words."""
    program = compilation.program
    for name, value in program.graph.values.items():
        channels = program.orders[name].channels
        complete = np.array_equal(np.sort(channels[channels >= 0]), np.arange(value.shape[2]))
        require(complete, f"value {name!r}: a channel is missing or is there twice")
    for op in program.graph.ops:
        order = program.orders[op.name]
        for source in op.sources if op.channelwise else ():
            same = np.array_equal(program.orders[source].channels, order.channels)
            require(same, f"layer {op.name!r}: its channels do not lie as those of {source!r}")
        for unit, core in enumerate(program.cores):
            for item in ranges_of(compilation.units[op.name], order, unit):
                require(item.first % core.rows == 0, f"layer {op.name!r}: {item} begins inside a word")
