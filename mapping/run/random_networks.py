# SPDX-License-Identifier: Apache-2.0
"""Random networks with random mappings, as strange as a network may be, from one seed each.

Branches, several readers of one tensor (the input too), sums of a tensor with itself, layers that nobody
reads, reshapes to other rows, windows larger than their input, padding beyond the kernel, ragged channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from common.arrays import Int8
from common.errors import ShapeError
from golden.arithmetic import integer_range, weight_range
from golden.layer import POOL_OPS, Layer, output_shape
from golden.network import Network, Node, Tensor, placeholder
from hw.core import CoreConfig
from mapping.compiler.assignment import MappingError
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.legalise import legalise_network

CHANNELS = (1, 3, 8, 16, 17, 24, 32, 40, 64)
OPERATORS = ("conv2d", "depthwise_conv2d", "multiplied", "add", "average_pool", "max_pool", "reshape")
"""Operators of a random network; `multiplied` is a depthwise convolution with a channel multiplier."""
MAX_VALUES = 60_000


def random_units(rng: np.random.Generator, channels: int, cores: int) -> ChannelAssignment:
    """Draw which unit makes each channel: one unit, a cut, or any."""
    kind = rng.choice(("one", "cut", "any"), p=(0.3, 0.45, 0.25)) if cores > 1 else "one"
    if kind == "one":
        return np.full(channels, rng.integers(cores), np.int64)
    if kind == "cut":
        return np.sort(rng.integers(0, cores, channels)).astype(np.int64)
    return rng.integers(0, cores, channels).astype(np.int64)


def _fit(weights: Int8, core: CoreConfig) -> bool:
    """Return whether a core holds these weights, which may be none."""
    low, high = integer_range(core.w_bits)
    return bool(((weights >= low) & (weights <= high)).all())


def random_mapping(
    rng: np.random.Generator, network: Network, cores: Sequence[CoreConfig]
) -> dict[str, ChannelAssignment]:
    """Draw which unit makes each channel of a network that exists, among those whose weights are wide enough.

    Raises:
        MappingError: a layer's weights fit no core.
        NpuloopError: see `legalise_network`.
    """
    units = {}
    for op in legalise_network(network).ops:
        weights = op.layer.weights
        able = [index for index, core in enumerate(cores) if _fit(weights, core)]
        if not able:
            widest = max(core.w_bits for core in cores)
            raise MappingError(f"layer {op.name!r}: its weights do not fit {widest} bits, the widest unit's")
        units[op.name] = np.array(able)[random_units(rng, op.shape[2], len(able))]
    return units


def random_network(
    seed: int, cores: Sequence[CoreConfig], layers: int = 8
) -> tuple[Network, dict[str, ChannelAssignment], Int8]:
    """Return a random network, a random mapping that its weights fit, and an input.

    Equal arguments give equal results.
    """
    rng = np.random.default_rng(seed)
    builder = _Builder(rng, cores)
    channels = int(rng.choice((1, 3, 16, 20, 33)))
    height, width = (int(v) for v in rng.integers(1, 20, 2))
    source = Tensor(shape=(height, width, channels), zero_point=int(rng.integers(-128, 128)))
    builder.tensors["image"] = source
    builder.weighted("image", "conv2d")
    for _ in range(layers):
        op = str(rng.choice(OPERATORS, p=(0.35, 0.2, 0.05, 0.15, 0.1, 0.1, 0.05)))
        builder.append(op, builder.some_tensor())
    if rng.random() < 0.5:
        builder.weighted(builder.flatten(builder.some_tensor()), "fully_connected")
    while builder.nodes[-1].op == "reshape":  # it may be that of an inner layer, which cannot be the output
        builder.nodes.pop()
    network = Network(name=f"random_{seed}", input_name="image", input=source, nodes=tuple(builder.nodes))
    return network, builder.units, rng.integers(-128, 128, source.shape).astype(np.int8)


def narrow_network(
    seed: int, cores: Sequence[CoreConfig], pixels: int, layers: int = 8
) -> tuple[Network, dict[str, ChannelAssignment], Int8]:
    """Return a random network of which most tensors have one size and at most 16 channels.

    Several of them are alive at a time, so that they compete for a scratchpad, or share its words.

    Args:
        seed: of the draws; equal arguments give equal results.
        cores: the units.
        pixels: of a tensor, about.
        layers: operators behind the first one.
    """
    rng = np.random.default_rng(seed)
    builder = _NarrowBuilder(rng, cores)
    width = int(rng.integers(max(1, round(pixels**0.5) - 3), round(pixels**0.5) + 4))
    source = Tensor(shape=(pixels // width, width, 3), zero_point=int(rng.integers(-128, 128)))
    builder.tensors["image"] = source
    builder.weighted("image", "conv2d")
    for _ in range(layers):
        op = str(rng.choice(("conv2d", "depthwise_conv2d", "add", *POOL_OPS), p=(0.45, 0.1, 0.25, 0.1, 0.1)))
        builder.append(op, builder.some_tensor())
    network = Network(name=f"narrow_{seed}", input_name="image", input=source, nodes=tuple(builder.nodes))
    return network, builder.units, rng.integers(-128, 128, source.shape).astype(np.int8)


class _Builder:
    """A network under construction."""

    channels: tuple[int, ...] = CHANNELS
    """What a convolution's output channels are drawn from."""

    def __init__(self, rng: np.random.Generator, cores: Sequence[CoreConfig]) -> None:
        self.rng = rng
        self.cores = cores
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.units: dict[str, ChannelAssignment] = {}

    def _push(
        self, op: str, inputs: tuple[str, ...], layer: Layer | None, output: Tensor, **fields: Any
    ) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(Node(name=name, op=op, inputs=inputs, layer=layer, output=output, **fields))
        self.tensors[name] = output
        return name

    def some_tensor(self) -> str:
        """Return one of the last tensors, or sometimes any, the input included."""
        names = [name for name, tensor in self.tensors.items() if len(tensor.shape) == 3]
        return str(self.rng.choice(names if self.rng.random() < 0.2 else names[-2:]))

    def append(self, op: str, source: str) -> None:
        """Append an operator; one whose output is too large is left out."""
        if op == "add":
            self.add(source)
        elif op == "reshape":
            self.rows(source)
        elif op in POOL_OPS:
            self.pool(source, op)
        else:
            with suppress(ShapeError):
                self.weighted(source, op)

    def _window(self, shape: tuple[int, ...]) -> dict[str, Any]:
        strange = self.rng.random() < 0.2
        sizes, strides = ((1, 2, 5, 7, 9), (1, 2, 3, 4)) if strange else ((1, 2, 3, 3, 5), (1, 1, 1, 2))
        dilation = tuple(int(self.rng.choice((1, 2, 3))) if strange else 1 for _ in range(2))
        kernel = tuple(int(self.rng.choice(sizes)) for _ in range(2))
        padding: list[int] = []
        for size, taps, gap in zip(shape[:2], kernel, dilation, strict=True):
            least = max(0, (taps - 1) * gap + 1 - size)  # a window may be larger than the input
            more = int(self.rng.integers(0, 4 if strange else (taps + 1) // 2))
            padding += [(least + 1) // 2 + more, least // 2 + int(self.rng.integers(0, (taps + 1) // 2))]
        return {
            "kernel": kernel,
            "stride": tuple(int(self.rng.choice(strides)) for _ in range(2)),
            "dilation": dilation,
            "padding": tuple(padding),
        }

    def _pool_window(self, shape: tuple[int, ...]) -> dict[str, Any]:
        rng = self.rng
        kernel = [min(int(rng.choice((1, 2, 3, 5, 8))), size) for size in shape[:2]]
        padding = tuple(int(rng.integers(0, (kernel[i // 2] + 1) // 2)) for i in range(4))
        stride = (int(rng.choice((1, 2, 3))), int(rng.choice((1, 1, 2))))
        return {"kernel": (kernel[0], kernel[1]), "stride": stride, "padding": padding}

    def weighted(self, source: str, op: str) -> str:
        """Append a convolution, depthwise convolution or fully connected layer."""
        rng, tensor = self.rng, self.tensors[source]
        inputs = tensor.shape[-1]
        outputs = inputs if op == "depthwise_conv2d" else int(rng.choice(self.channels))
        if op == "multiplied":
            op, outputs = "depthwise_conv2d", 2 * inputs
        window = self._window(tensor.shape) if len(tensor.shape) == 3 else {}
        kernel = window.pop("kernel", ())
        shape = {
            "conv2d": (outputs, *kernel, inputs),
            "depthwise_conv2d": (1, *kernel, outputs),
            "fully_connected": (outputs, inputs),
        }[op]
        units = random_units(rng, outputs, len(self.cores))
        bits = np.array([core.w_bits for core in self.cores])[units]
        high = np.array([weight_range(int(b))[1] for b in bits])
        if op == "depthwise_conv2d":
            weights = rng.integers(-high, high + 1, shape)
        else:
            column = high.reshape(-1, *[1] * (len(shape) - 1))
            weights = rng.integers(-column, column + 1, shape)
        fan_in = np.prod(shape) / outputs
        shift = -np.round(np.log2(np.sqrt(fan_in) * 45 * high / 60)).astype(int) + rng.integers(
            -1, 2, outputs
        )
        zero_point = int(rng.integers(-100, 100))
        layer = Layer(
            name=op, op=op, input=placeholder(tensor.shape), weights=weights.astype(np.int8),
            bias=rng.integers(-1000, 1000, outputs).astype(np.int32),
            multiplier=rng.integers(1 << 30, 1 << 31, outputs, dtype=np.int64).astype(np.int32),
            shift=np.clip(shift, -31, 22).astype(np.int32),
            input_zero_point=tensor.zero_point, output_zero_point=zero_point,
            act_min=int(rng.choice((-128, zero_point))), single_rounding=bool(rng.integers(2)), **window,
        )  # fmt: skip
        if np.prod(output_shape(layer)) > MAX_VALUES:
            raise ShapeError("too large for a small test")
        name = self._push(
            op, (source,), layer, Tensor(shape=output_shape(layer), zero_point=zero_point),
            weight_scales=np.ones(outputs), weight_bits=bits.astype(np.int8),
        )  # fmt: skip
        self.units[name] = units
        return name

    def pool(self, source: str, op: str) -> str:
        """Append a pool."""
        rng, tensor = self.rng, self.tensors[source]
        layer = Layer(
            name=op,
            op=op,
            input=placeholder(tensor.shape),
            output_zero_point=tensor.zero_point,
            **self._pool_window(tensor.shape),
        )
        name = self._push(
            op, (source,), layer, Tensor(shape=output_shape(layer), zero_point=tensor.zero_point)
        )
        self.units[name] = random_units(rng, tensor.shape[2], len(self.cores))
        return name

    def add(self, source: str) -> str:
        """Append the sum of a tensor and an earlier one of its shape, itself if there is no other."""
        rng, tensor = self.rng, self.tensors[source]
        others = [name for name, item in self.tensors.items() if item.shape == tensor.shape]
        other = str(rng.choice(others))
        zero_point = int(rng.integers(-100, 100))
        scales: dict[str, Any] = {
            f"{key}_multiplier": int(rng.integers(1 << 30, 1 << 31)) for key in ("input1", "input2", "output")
        }
        layer = Layer(
            name="add", op="add", input=placeholder(tensor.shape), input2=placeholder(tensor.shape),
            input1_zero_point=tensor.zero_point, input2_zero_point=self.tensors[other].zero_point,
            output_zero_point=zero_point, left_shift=20, input1_shift=-1, input2_shift=-1, output_shift=-18,
            **scales,
        )  # fmt: skip
        name = self._push("add", (source, other), layer, Tensor(shape=tensor.shape, zero_point=zero_point))
        self.units[name] = random_units(rng, tensor.shape[2], len(self.cores))
        return name

    def rows(self, source: str) -> str:
        """Append a reshape to other rows of the same pixels."""
        tensor = self.tensors[source]
        pixels = tensor.shape[0] * tensor.shape[1]
        height = int(self.rng.choice([size for size in range(1, pixels + 1) if pixels % size == 0]))
        shape = (height, pixels // height, tensor.shape[2])
        return self._push("reshape", (source,), None, Tensor(shape=shape, zero_point=tensor.zero_point))

    def flatten(self, source: str) -> str:
        """Append a reshape to a vector."""
        tensor = self.tensors[source]
        shape = (int(np.prod(tensor.shape)),)
        return self._push("reshape", (source,), None, Tensor(shape=shape, zero_point=tensor.zero_point))


class _NarrowBuilder(_Builder):
    """Operators whose outputs are as large as their inputs, with at most 16 channels."""

    channels = (16, 16, 16, 13, 5)

    def _window(self, shape: tuple[int, ...]) -> dict[str, Any]:
        kernel = int(self.rng.choice([size for size in (1, 3, 3, 3, 5) if size <= min(shape[:2])]))
        return {"kernel": (kernel, kernel), "padding": (kernel // 2,) * 4}

    _pool_window = _window
