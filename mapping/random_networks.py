"""Random networks with random mappings: branches, additions, every operator, from one seed each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.arithmetic import weight_range
from golden.layer import Layer, out_channels, output_shape
from golden.network import Network, Node, Tensor, placeholder
from mapping.channels import Units
from tb.config import CoreConfig

CHANNELS = (3, 8, 16, 17, 24, 32, 40, 64)


def random_units(rng: np.random.Generator, channels: int, cores: int) -> Units:
    """Draw which unit makes each channel: one unit, a cut, or any."""
    kind = rng.choice(("one", "cut", "any"), p=(0.3, 0.45, 0.25)) if cores > 1 else "one"
    if kind == "one":
        return np.full(channels, rng.integers(cores), np.int64)
    if kind == "cut":
        return np.sort(rng.integers(0, cores, channels)).astype(np.int64)
    return rng.integers(0, cores, channels).astype(np.int64)


def random_network(
    seed: int, cores: Sequence[CoreConfig], layers: int = 8
) -> tuple[Network, dict[str, Units], npt.NDArray[np.int8]]:
    """Return a random network, a random mapping that its weights fit, and an input.

    Equal arguments give equal results.
    """
    rng = np.random.default_rng(seed)
    builder = _Builder(rng, cores)
    channels = int(rng.choice((1, 3, 16, 20)))
    height, width = (int(v) for v in rng.integers(4, 20, 2))
    source = Tensor(shape=(height, width, channels), zero_point=int(rng.integers(-128, 128)))
    builder.tensors["image"] = source
    last = builder.weighted("image", "conv2d")
    for _ in range(layers):
        op = rng.choice(
            ("conv2d", "depthwise_conv2d", "add", "average_pool", "max_pool"), p=(0.4, 0.2, 0.2, 0.1, 0.1)
        )
        if op == "add":
            last = builder.add(last)
        elif op in ("average_pool", "max_pool"):
            last = builder.pool(last, str(op))
        else:
            last = builder.weighted(last, str(op))
    if rng.random() < 0.7:
        last = builder.flatten(last)
        last = builder.weighted(last, "fully_connected")
    network = Network(name=f"random_{seed}", input_name="image", input=source, nodes=tuple(builder.nodes))
    return network, builder.units, rng.integers(-128, 128, source.shape).astype(np.int8)


class _Builder:
    """A network under construction."""

    def __init__(self, rng: np.random.Generator, cores: Sequence[CoreConfig]) -> None:
        self.rng = rng
        self.cores = cores
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.units: dict[str, Units] = {}

    def _push(
        self, op: str, inputs: tuple[str, ...], layer: Layer | None, output: Tensor, **fields: Any
    ) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(Node(name=name, op=op, inputs=inputs, layer=layer, output=output, **fields))
        self.tensors[name] = output
        return name

    def _window(self, shape: tuple[int, ...], pool: bool) -> dict[str, Any]:
        kernel = [min(int(self.rng.choice((1, 2, 3, 3, 5))), size) for size in shape[:2]]
        stride = [int(self.rng.choice((1, 1, 1, 2))) for _ in range(2)]
        before = [int(self.rng.integers(0, (k + 1) // 2 if not pool else max(1, k // 2 + 1))) for k in kernel]
        after = [int(self.rng.integers(0, (k + 1) // 2)) for k in kernel]
        return {
            "kernel": tuple(kernel),
            "stride": tuple(stride),
            "padding": (before[0], after[0], before[1], after[1]),
        }

    def weighted(self, source: str, op: str) -> str:
        """Append a convolution, depthwise convolution or fully connected layer."""
        rng, tensor = self.rng, self.tensors[source]
        inputs = tensor.shape[-1]
        outputs = inputs if op == "depthwise_conv2d" else int(rng.choice(CHANNELS))
        window = self._window(tensor.shape, pool=False) if len(tensor.shape) == 3 else {}
        kernel = window.pop("kernel", ())
        shape = {
            "conv2d": (outputs, *kernel, inputs),
            "depthwise_conv2d": (1, *kernel, inputs),
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
        assert out_channels(layer) == outputs
        name = self._push(
            op, (source,), layer, Tensor(shape=output_shape(layer), zero_point=zero_point),
            weight_scales=np.ones(outputs), weight_bits=bits.astype(np.int8),
        )  # fmt: skip
        self.units[name] = units
        return name

    def pool(self, source: str, op: str) -> str:
        """Append a pool."""
        tensor = self.tensors[source]
        window = self._window(tensor.shape, pool=True)
        padding = tuple(min(p, window["kernel"][i // 2] - 1) for i, p in enumerate(window.pop("padding")))
        layer = Layer(
            name=op, op=op, input=placeholder(tensor.shape), padding=padding, **window,
            output_zero_point=tensor.zero_point,
        )  # fmt: skip
        name = self._push(
            op, (source,), layer, Tensor(shape=output_shape(layer), zero_point=tensor.zero_point)
        )
        self.units[name] = random_units(self.rng, tensor.shape[2], len(self.cores))
        return name

    def add(self, source: str) -> str:
        """Append the sum of a tensor and an earlier one of its shape, itself if there is no other."""
        rng, tensor = self.rng, self.tensors[source]
        others = [
            name for name, item in self.tensors.items() if item.shape == tensor.shape and name != "image"
        ]
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

    def flatten(self, source: str) -> str:
        """Append a reshape to a vector."""
        tensor = self.tensors[source]
        shape = (int(np.prod(tensor.shape)),)
        return self._push("reshape", (source,), None, Tensor(shape=shape, zero_point=tensor.zero_point))
