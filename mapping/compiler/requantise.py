# SPDX-License-Identifier: Apache-2.0
"""Requantisation pass: the numbers with which each unit turns its sums of a layer into int8.

It comes first, because it refuses what a unit cannot calculate: weights wider than the unit's, and sums that
could leave an accumulator. Folding taps and ordering channels change neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import Bools, Int32
from common.errors import NpuloopError, UnsupportedError, together
from golden.arithmetic import check_accumulator, folded_bias, integer_range, reduced_shift
from golden.layer import WEIGHTED_OPS
from golden.network import channel_weights
from hw.core import CoreConfig
from mapping.compiler.channels import ChannelAssignment, ChannelOrder
from mapping.compiler.graph import Graph, Op
from mapping.compiler.pools import pool_counts, reciprocal


@dataclass(frozen=True, eq=False)
class Requantisation:
    """What a unit adds to the sums of each channel, and by what it multiplies them: (K,) int32 each."""

    bias: Int32
    multiplier: Int32
    shift: Int32

    def scattered(self, order: ChannelOrder) -> Requantisation:
        """Return the numbers of the physical channels of an order; those that fill up have zeros."""
        return Requantisation(*(order.scatter(item) for item in (self.bias, self.multiplier, self.shift)))


Requantisations = Mapping[tuple[str, int], Mapping[int, Requantisation]]
"""By operator and unit: one set under 0, or of average pooling one for each number of averaged values."""


def requantise(
    graph: Graph, units: Mapping[str, ChannelAssignment], cores: Sequence[CoreConfig]
) -> Requantisations:
    """Return the requantisation of every operator on each unit that makes channels of it.

    Afterwards every weight fits the unit of its channel, no accumulator can leave its bits, and the input's
    zero point is part of the bias.

    Raises:
        UnsupportedError: weights that a unit cannot hold, with the layer, the unit and the remedy; an average
            over too many values.
        ArithmeticRangeError: an accumulator could leave its bits. Of several reasons all are said.
    """
    sets: dict[tuple[str, int], Mapping[int, Requantisation]] = {}
    errors: list[NpuloopError] = []
    for op in graph.ops:
        owners = units[op.name]
        try:
            for unit in np.unique(owners):
                sets[op.name, int(unit)] = _sets(op, owners == unit, cores[unit])
        except NpuloopError as error:
            errors.append(error)
    if errors:
        raise type(errors[0])(together([str(error) for error in errors], f"network {graph.name!r}"))
    return sets


def _sets(op: Op, on_unit: Bools, core: CoreConfig) -> dict[int, Requantisation]:
    """Return an operator's sets on a unit; `on_unit`, (K,), says which channels the unit makes."""
    layer, channels = op.layer, op.shape[2]
    zeros, ones = np.zeros(channels, np.int32), np.ones(channels, np.int32)
    if op.layer.op in WEIGHTED_OPS:
        if op.kind in WEIGHTED_OPS:
            return {0: _weighted(op, on_unit, core)}
        (count,) = pool_counts(op)
        if core.a_bits != 8:
            raise UnsupportedError(
                f"layer {op.name!r}: a mean over {count} values needs activations of 8 bits, and {core.name} "
                f"has {core.a_bits}; give it to a unit with A_BITS=8"
            )
        return {count: _weighted(op, on_unit, core)}
    if op.kind == "add":
        return {0: Requantisation(zeros, ones * layer.output_multiplier, ones * layer.output_shift)}
    if op.kind == "max_pool":  # times one
        return {0: Requantisation(zeros, ones << 30, ones)}
    sets: dict[int, Requantisation] = {}
    for count in pool_counts(op):
        try:
            _, multiplier, shift = reciprocal(count)
        except UnsupportedError as error:
            raise UnsupportedError(f"layer {op.name!r}: {error}") from None
        sets[count] = Requantisation(zeros, ones * multiplier, ones * shift)
    return sets


def _weighted(op: Op, on_unit: Bools, core: CoreConfig) -> Requantisation:
    layer = op.layer
    weights = channel_weights(layer).astype(np.int64)
    low, high = integer_range(core.w_bits)
    smallest, largest = int(weights[on_unit].min()), int(weights[on_unit].max())
    if smallest < low or largest > high:
        raise UnsupportedError(
            f"layer {op.name!r}: weights from {smallest} to {largest} do not fit {core.name}, which "
            f"has {core.w_bits}-bit weights ({low} to {high}); quantise these channels to {core.w_bits} "
            "bits (npuloop quantize), or clip a single layer with --clip-weights"
        )
    try:
        check_accumulator(np.abs(weights[on_unit]).sum(axis=1), core.a_bits, core.acc_bits)
        bias = folded_bias(layer.bias, weights.sum(axis=1), layer.input_zero_point, core.a_bits)
        shift = reduced_shift(layer.shift, core.a_bits)
    except NpuloopError as error:
        raise type(error)(f"layer {op.name!r}: {error}") from None
    return Requantisation(bias.numpy().astype(np.int32), layer.multiplier, shift.numpy().astype(np.int32))
