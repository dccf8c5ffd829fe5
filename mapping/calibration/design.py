# SPDX-License-Identifier: Apache-2.0
"""Which shapes are measured: corners of the tile loops, what the fit is least sure of, random ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from common.arrays import Floats
from common.errors import NpuloopError
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from hw.system import System
from mapping.cost.model import shape_program
from mapping.cost.real_networks import real_networks
from mapping.cost.shapes import Shape

OPERATORS = ("conv2d", "depthwise_conv2d", "fully_connected", "add", "average_pool", "max_pool")
SHARES = (0.5, 0.2, 0.1, 0.08, 0.06, 0.06)
"""How often a random shape has each operator."""
MOST_MACS = 100_000_000
MOST_VALUES = 2_000_000
"""Largest random shapes: multiply-accumulates, and values of input or output."""
NOISE = 0.003
"""Relative error of a prediction that more measurements would not mend."""
RARE = 0.1
"""Weight of shapes that no real network visits."""


def random_shape(rng: np.random.Generator, name: str) -> Shape:
    """Return a random shape; channels are ragged, whole blocks or powers of two, pixels log-uniform."""

    def channels() -> int:
        drawn = (rng.integers(1, 65), 16 * rng.integers(1, 33), 2 ** rng.integers(3, 10))
        return int(drawn[rng.integers(3)])

    while True:
        op = str(rng.choice(OPERATORS, p=SHARES))
        in_channels, out_channels = channels(), channels()
        height, width = (round(2.0 ** rng.uniform(0, 6.5)) for _ in range(2))
        kernel_h, kernel_w = (int(rng.choice((1, 1, 3, 3, 3, 5, 7))) for _ in range(2))
        stride = int(rng.choice((1, 1, 1, 2)))
        padding = str(rng.choice(("same", "same", "valid")))
        width = height if rng.random() < 0.7 else width
        kernel_w = kernel_h if rng.random() < 0.85 else kernel_w
        if op == "fully_connected":
            height = width = 1
        sizes = (op, in_channels, out_channels if op in ("conv2d", "fully_connected") else in_channels)
        window = () if op in ("fully_connected", "add") else ((kernel_h, kernel_w), (stride, stride), padding)
        try:
            shape = Shape(name, *sizes, height, width, *window)
        except NpuloopError:  # a kernel larger than the input
            continue
        outputs = shape.out_height * shape.out_width * shape.out_channels
        values = max(height * width * shape.in_channels, outputs)
        if shape.macs <= MOST_MACS and values <= MOST_VALUES:
            return shape


def random_split(rng: np.random.Generator, name: str, units: Sequence[str]) -> Shape:
    """Return a random shape whose output channels several units share; cut on a block's edge, or anywhere."""
    while True:
        shape = random_shape(rng, name)
        if shape.out_channels < len(units):
            continue
        cuts = []
        for _ in units[1:]:
            cut = int(rng.integers(1, shape.out_channels))
            cuts.append(cut // CHANNEL_BLOCK * CHANNEL_BLOCK if rng.random() < 0.75 else cut)
        edges = [0, *sorted(cuts), shape.out_channels]
        counts = [end - start for start, end in itertools.pairwise(edges)]
        if all(counts):
            return replace(shape, split=dict(zip(units, counts, strict=True)))


def random_shapes(
    config: System, units: Sequence[str], count: int, seed: int, taken: set[str], prefix: str
) -> list[Shape]:
    """Return random shapes that a unit can run, or that several share, none of them among `taken`.

    Args:
        config: the system.
        units: the unit, or those that share every shape.
        count: how many.
        seed: of the random numbers.
        taken: keys of shapes; it grows.
        prefix: of the names.
    """
    rng = np.random.default_rng(seed)
    shapes: list[Shape] = []
    while len(shapes) < count:
        name = f"{prefix}_{len(shapes)}"
        shape = random_split(rng, name, units) if len(units) > 1 else random_shape(rng, name)
        if shape.key not in taken and runs(config, shape, units[0]):
            taken.add(shape.key)
            shapes.append(shape)
    return shapes


def runs(config: System, shape: Shape, unit: str | None = None) -> bool:
    """Return whether a unit, or those of the shape's split, can run a shape."""
    try:
        shape_program(shape, unit, config)
    except NpuloopError:
        return False
    return True


def corners(core: CoreConfig) -> Iterator[Shape]:
    """Yield the corners of the staircase: sizes on both sides of each edge of the tile loops."""
    rows, columns, depth = core.rows, core.columns, core.stripe_depth
    side = max(1, round(depth**0.5))

    def conv(
        name: str, inputs: int, outputs: int, height: int, width: int, kernel: int, stride: int = 1
    ) -> Shape:
        sizes = (inputs, outputs, height, width, (kernel, kernel), (stride, stride), "same")
        return Shape(f"corner_{name}", "conv2d", *sizes)

    for outputs in dict.fromkeys((CHANNEL_BLOCK, columns, columns + 1, 2 * columns)):
        yield conv(f"columns_{outputs}", 2 * rows, outputs, side, side, 3)
    for inputs in (rows, rows + 1, 4 * rows):
        yield conv(f"rows_{inputs}", inputs, columns, side, side, 3)
    for width in (1, depth - 1, depth, depth + 1, 2 * depth):
        yield conv(f"stripe_{width}", rows, columns, 1, width, 1)
    for kernel in (1, 3, 5, 7):
        yield conv(f"kernel_{kernel}", rows, columns, 2 * side, 2 * side, kernel)
        yield conv(f"strided_{kernel}", rows, columns, 2 * side, 2 * side, kernel, 2)
        for channels in (rows, 4 * rows):
            for stride in (1, 2):
                window = ((kernel, kernel), (stride, stride), "same")
                name = f"corner_depthwise_{kernel}_{channels}_{stride}"
                yield Shape(name, "depthwise_conv2d", channels, channels, 2 * side, 2 * side, *window)
    half = max(1, core.weight_kib * 1024 * 8 // 2 // core.w_bits // (rows * columns * 9))
    for blocks in (half, half + 1, 2 * half + 1):  # weights of a block against half of their scratchpad
        yield conv(f"weights_{blocks}", blocks * rows, columns, 4, 4, 3)
    edge = int((core.act_kib * 1024 / rows) ** 0.5)
    for size in (edge // 2, edge):  # activations against their scratchpad
        yield conv(f"activations_{size}", rows, CHANNEL_BLOCK, size, size, 1)
    for inputs, outputs in ((rows, columns), (8 * rows, 10), (16 * rows, 4 * columns), (64, 12 * 64)):
        yield Shape(f"corner_dense_{inputs}_{outputs}", "fully_connected", inputs, outputs, 1, 1)
    for channels, size in ((CHANNEL_BLOCK, 4), (4 * CHANNEL_BLOCK, side), (4 * CHANNEL_BLOCK, 4 * side)):
        yield Shape(f"corner_add_{channels}_{size}", "add", channels, channels, size, size)
        for op in ("max_pool", "average_pool"):
            window = ((2, 2), (2, 2), "valid")
            yield Shape(f"corner_{op}_{channels}_{size}", op, channels, channels, size, size, *window)


def visits(shapes: Sequence[Shape]) -> Floats:
    """Return for each shape how often real networks visit shapes like it: RARE to 1 + RARE.

    A real layer of the same operator counts by exp(-d^2 / 2), d the distance of the logarithms (base 2) of
    channels, pixels and kernel.
    """

    def features(shape: Shape) -> Floats:
        pixels = shape.out_height * shape.out_width
        kernel = shape.kernel[0] * shape.kernel[1]
        return np.log2([shape.in_channels, shape.out_channels, pixels, kernel])

    real = [shape for layers in real_networks().values() for shape in layers]
    counts = []
    for shape in shapes:
        near = np.array([features(shape) - features(other) for other in real if other.op == shape.op])
        counts.append(float(np.exp(-0.5 * (near**2).sum(axis=1)).sum()) if len(near) else 0.0)
    weights: Floats = np.array(counts)
    weights /= max(weights.max(), 1e-9)
    return weights + RARE


def choose(counts: Floats, cycles: Floats, weights: Floats, resampled: Floats, number: int) -> list[int]:
    """Return the candidates that would teach the fit most, one after the other.

    The bootstrap's coefficients disagree about a candidate's cycles; the largest disagreement, relative and
    weighted, is next. What measuring it would teach is taken off the coefficients' covariance before the one
    after is chosen.

    Args:
        counts: (N, K) counts of the candidates' phases.
        cycles: (N,) their predicted cycles.
        weights: (N,) how often they are visited.
        resampled: (B, K) coefficients of the bootstrap.
        number: how many.
    """
    rows = counts / cycles[:, None]
    covariance = np.cov(resampled.T)
    chosen: list[int] = []
    for _ in range(min(number, len(rows))):
        variance = np.einsum("nk,kl,nl->n", rows, covariance, rows)
        score = np.sqrt(np.maximum(variance, 0.0)) * weights
        score[chosen] = -1.0
        best = int(score.argmax())
        chosen.append(best)
        reach = covariance @ rows[best]
        covariance = covariance - np.outer(reach, reach) / (NOISE**2 + float(rows[best] @ reach))
    return chosen
