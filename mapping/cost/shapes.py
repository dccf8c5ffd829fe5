# SPDX-License-Identifier: Apache-2.0
"""Shapes: what decides how long a layer takes, without its values; and the file that lists them.

    - {name: stem, op: conv2d, in_channels: 3, out_channels: 16, in_height: 32, in_width: 32,
       kernel: [3, 3], stride: [1, 1], padding: same}
    - {name: wide, op: conv2d, in_channels: 64, out_channels: 80, in_height: 16, in_width: 16,
       kernel: [3, 3], stride: [1, 1], padding: same, split: {npu8: 16, npu_lb: 64}}
    - {name: dense, op: fully_connected, in_channels: 256, out_channels: 10, in_height: 1, in_width: 1}

docs/how-to/measuring.md says more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.errors import NpuloopError, ShapeError
from common.files import read_yaml
from golden.arithmetic import MAX_SHIFT, MIN_SHIFT, weight_range
from golden.layer import OPS, POOL_OPS, WEIGHTED_OPS, Layer, kernel_size, macs, out_channels
from golden.network import Network, placeholder
from mapping.compiler.legalise import FIELD_MAX, spatial
from mapping.compiler.regions import ceil_div

__all__ = [
    "Shape", "ShapeError", "blank_layer", "layer_of", "load_shapes", "shapes_of_network",
    "shapes_text",
]  # fmt: skip

WINDOW_OPS = ("conv2d", "depthwise_conv2d", *POOL_OPS)
PADDINGS = ("same", "valid")
SIZES = ("in_channels", "out_channels", "in_height", "in_width")
WINDOW = ("kernel", "stride", "padding")
MAX_SIZE = 65_536
"""Most channels, rows or columns."""
MAX_BYTES = 16 << 20
"""Most bytes of an input, an output, or the weights: the test memory's."""


@dataclass(frozen=True)
class Shape:
    """The shape of one layer. One that exists is valid.

    Attributes:
        name: for messages and reports.
        op: one of golden.layer.OPS.
        in_channels, out_channels: equal, except for conv2d and fully_connected; of a depthwise layer
            out_channels may be a multiple.
        in_height, in_width: pixels of the input; 1 for fully_connected.
        kernel, stride: (vertical, horizontal), pixels; (1, 1) for operators without a window.
        padding: as in TensorFlow: "same" (an odd pixel is at the bottom and right) or "valid" (none).
        split: output channels that each unit makes, by its name, where several share the layer. The units'
            channels lie in the order that the units have in the system, however they stand here.

    Raises:
        ShapeError: the shape is none; the message has the remedy, but not the name.
    """

    name: str
    op: str
    in_channels: int
    out_channels: int
    in_height: int
    in_width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: str = "valid"
    split: Mapping[str, int] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        """Check the shape; see the class."""
        _check(self)

    @property
    def key(self) -> str:
        """Canonical JSON of everything but the name."""
        return json.dumps({k: v for k, v in self.entry().items() if k != "name"}, sort_keys=True)

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        return self._outputs(0)

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        return self._outputs(1)

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right), pixels."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        pads = []
        for axis, size in enumerate((self.in_height, self.in_width)):
            reach = (self._outputs(axis) - 1) * self.stride[axis] + self.kernel[axis]
            total = max(reach - size, 0)
            pads += [total // 2, total - total // 2]
        return pads[0], pads[1], pads[2], pads[3]

    @property
    def weights(self) -> int:
        """Number of weights."""
        if self.op not in WEIGHTED_OPS:
            return 0
        inputs = 1 if self.op == "depthwise_conv2d" else self.in_channels
        return self.kernel[0] * self.kernel[1] * inputs * self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the mathematics, padding included; 0 for add and the pools."""
        return self.out_height * self.out_width * self.weights

    def _outputs(self, axis: int) -> int:
        size = (self.in_height, self.in_width)[axis]
        reach = size if self.padding == "same" else size - self.kernel[axis] + 1
        return ceil_div(reach, self.stride[axis])

    def entry(self) -> dict[str, Any]:
        """Return the shape as plain data, an entry of the file."""
        entry: dict[str, Any] = {key: getattr(self, key) for key in ("name", "op", *SIZES)}
        if self.op in WINDOW_OPS:
            entry |= {"kernel": list(self.kernel), "stride": list(self.stride), "padding": self.padding}
        if self.split is not None:
            entry["split"] = dict(self.split)
        return entry

    @classmethod
    def from_entry(cls, entry: Any) -> Shape:
        """Return the shape of an entry of the file.

        Raises:
            ShapeError: the entry is no shape; the message has the remedy, but neither file nor name.
        """
        if not isinstance(entry, dict):
            raise ShapeError(f"is {entry!r}; write {{name: ..., op: ..., in_channels: ...}}")
        windowed = entry.get("op") in WINDOW_OPS
        required = ("name", "op", *SIZES, *(WINDOW if windowed else ()))
        for key in entry:
            if key not in ("name", "op", *SIZES, *WINDOW, "split"):
                raise ShapeError(
                    f"unknown key {key!r}; there are name, op, {', '.join((*SIZES, *WINDOW))}, split"
                )
        if "op" in entry:
            _check_op(entry["op"])
        for key in required:
            if key not in entry:
                raise ShapeError(f"key {key!r} is missing; {entry.get('op', 'a shape')} needs it")
        values = dict(entry)
        for key in ("kernel", "stride"):
            if key in values:
                pair = values[key]
                if not isinstance(pair, list) or len(pair) != 2:
                    raise ShapeError(f"{key} is {pair!r}; write [vertical, horizontal], as in [3, 3]")
                values[key] = (pair[0], pair[1])
        return cls(**values)


def _check_op(op: Any) -> None:
    if op not in OPS:
        raise ShapeError(f"unknown operator {op!r}; there are {', '.join(OPS)}")


def _check_number(key: str, value: Any, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ShapeError(f"{key} is {value!r}; write an integer from 1 to {most}")


def _check(shape: Shape) -> None:
    if not isinstance(shape.name, str) or not shape.name or not shape.name.isprintable():
        raise ShapeError(f"name is {shape.name!r}; write a name, in quotes if it looks like a number")
    _check_op(shape.op)
    for key in SIZES:
        _check_number(key, getattr(shape, key), MAX_SIZE)
    for key in ("kernel", "stride"):
        for value in getattr(shape, key):
            _check_number(key, value, FIELD_MAX)
    if shape.padding not in PADDINGS:
        raise ShapeError(f"padding is {shape.padding!r}; write same or valid")
    if shape.op not in WINDOW_OPS:
        if (shape.kernel, shape.stride) != ((1, 1), (1, 1)):
            raise ShapeError(f"{shape.op} has no kernel and no stride; leave them out")
        object.__setattr__(shape, "padding", "valid")  # one shape, one key
    if shape.op == "fully_connected" and (shape.in_height, shape.in_width) != (1, 1):
        raise ShapeError(
            f"fully_connected reads {shape.in_height}x{shape.in_width} pixels; write in_height: 1, in_width: "
            "1 and in_channels: height * width * channels"
        )
    depthwise = shape.op == "depthwise_conv2d"
    rest = shape.out_channels % shape.in_channels if depthwise else shape.out_channels - shape.in_channels
    if shape.op not in ("conv2d", "fully_connected") and rest:
        raise ShapeError(
            f"out_channels is {shape.out_channels}, of {shape.op} on {shape.in_channels} in_channels; write "
            f"{'a multiple of in_channels' if depthwise else 'as many'}"
        )
    if shape.padding == "valid" and (shape.kernel[0] > shape.in_height or shape.kernel[1] > shape.in_width):
        raise ShapeError(
            f"kernel {list(shape.kernel)} is larger than the input of {shape.in_height}x{shape.in_width} "
            "pixels without padding; write a smaller kernel or padding: same"
        )
    sizes = {
        "input": shape.in_height * shape.in_width * shape.in_channels,
        "output": shape.out_height * shape.out_width * shape.out_channels,
        "weights": shape.weights,
    }
    for key, size in sizes.items():
        if size > MAX_BYTES:
            raise ShapeError(f"{key} has {size} values, more than the memory's {MAX_BYTES}; make it smaller")
    if shape.split is not None:
        _check_split(shape)


def _check_split(shape: Shape) -> None:
    split = shape.split
    if not isinstance(split, Mapping) or len(split) < 2:
        raise ShapeError(
            f"split is {split!r}; write the channels of every unit, as in {{npu8: 16, npu_lb: 48}}, or leave "
            "split out"
        )
    for unit, count in split.items():
        if not isinstance(unit, str) or not unit.isidentifier():
            raise ShapeError(f"split names unit {unit!r}; write the name of a unit of the system")
        _check_number(f"split, {unit},", count, MAX_SIZE)
    if sum(split.values()) != shape.out_channels:
        raise ShapeError(
            f"split gives {sum(split.values())} channels; they must add up to out_channels: "
            f"{shape.out_channels}"
        )


# ------------------------------------------------------------------------------------------------------- file
def load_shapes(path: str | Path) -> list[Shape]:
    """Read a file of shapes.

    Raises:
        ShapeError: one message that names the file, the entry, what is wrong and what to write.
    """
    path = Path(path)
    document = read_yaml(path, ShapeError, "list of shapes")
    if not isinstance(document, list) or not document:
        what = "empty" if not document else f"a {type(document).__name__}"
        raise ShapeError(f"{path}: is {what}; write a list of shapes: - {{name: ..., op: ...}}")
    shapes: list[Shape] = []
    numbers: dict[str, int] = {}
    for number, entry in enumerate(document, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"{path}, entry {number}" + (f" ({name!r})" if name is not None else "")
        try:
            shapes.append(Shape.from_entry(entry))
        except ShapeError as error:
            raise ShapeError(f"{where}: {error}") from None
        first = numbers.setdefault(shapes[-1].name, number)
        if first != number:
            raise ShapeError(f"{where}: the name stands in entry {first} too; rename one")
    return shapes


def shapes_text(shapes: Iterable[Shape]) -> str:
    """Return the file of shapes."""
    entries = [shape.entry() for shape in shapes]
    return yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=110)


# ----------------------------------------------------------------------------------------------------- layers
def layer_of(shape: Shape, w_bits: int = 8, acc_bits: int = 32) -> Layer:
    """Return a layer of the shape; equal shapes (the name apart) have equal values, whatever runs them.

    Weights are random in the range of `w_bits`, and small enough for sums of `acc_bits` bits; requantisation
    spreads the outputs over int8.
    """
    seed = hashlib.sha256(shape.key.encode()).digest()
    rng = np.random.default_rng(list(seed))
    values = _values(shape)
    for key in ("input", "input2"):
        if key in values:
            values[key] = rng.integers(-128, 128, values[key].shape, np.int8)
    if shape.op in WEIGHTED_OPS:
        outputs = shape.out_channels
        low, high = weight_range(w_bits)
        most = (2 ** (acc_bits - 1) - 1) // (256 * shape.weights // outputs)
        low, high = max(low, -most), min(high, most)
        zero_point = int(rng.integers(-128, 128))
        deviations = np.hypot(74, zero_point), max(0.8, high / np.sqrt(3))  # of inputs and of weights
        spread = np.prod(deviations) * np.sqrt(shape.weights / outputs)
        shift = min(max(1 - round(np.log2(spread / 40)), MIN_SHIFT), MAX_SHIFT)
        values |= {
            "weights": rng.integers(low, high + 1, values["weights"].shape, np.int8),
            "bias": rng.integers(-1000, 1000, outputs, np.int32),
            "shift": np.full(outputs, shift, np.int32),
            "input_zero_point": zero_point,
            "output_zero_point": int(rng.integers(-32, 33)),
        }
    return Layer(**values)


def blank_layer(shape: Shape) -> Layer:
    """Return a layer of the shape whose inputs and weights are zeros that take no memory."""
    return Layer(**_values(shape))


def _values(shape: Shape) -> dict[str, Any]:
    """Return the fields of a layer of the shape; inputs and weights zero, without memory of their own."""
    pixels = (shape.in_height, shape.in_width, shape.in_channels)
    dense = shape.op == "fully_connected"
    values: dict[str, Any] = {
        "name": shape.name,
        "op": shape.op,
        "input": placeholder(pixels[2:] if dense else pixels),
    }
    if shape.op in WINDOW_OPS:
        values |= {"stride": shape.stride, "padding": shape.pads}
    if shape.op in POOL_OPS:
        values["kernel"] = shape.kernel
    elif shape.op == "add":
        values["input2"] = placeholder(pixels)
        values |= {f"{key}_multiplier": 1 << 30 for key in ("input1", "input2", "output")}
        values |= {"left_shift": 20, "output_shift": -18}
    else:
        outputs = shape.out_channels
        sizes = {
            "conv2d": (outputs, *shape.kernel, shape.in_channels),
            "depthwise_conv2d": (1, *shape.kernel, outputs),
            "fully_connected": (outputs, shape.in_channels),
        }
        values |= {
            "weights": placeholder(sizes[shape.op]),
            "bias": np.zeros(outputs, np.int32),
            "multiplier": np.full(outputs, 1 << 30, np.int32),
            "shift": np.zeros(outputs, np.int32),
        }
    return values


def shapes_of_network(network: Network) -> list[Shape]:
    """Return the shapes of a network's layers that run on a unit, in their order.

    Raises:
        ShapeError: a layer that no shape describes: dilation, or padding that is neither same nor valid.
    """
    layers = [(node.name, node.layer) for node in network.nodes if node.layer is not None]
    return [_shape_of(name, layer) for name, layer in layers]


def _shape_of(name: str, layer: Layer) -> Shape:
    height, width, channels = spatial(layer.input.shape)
    sizes: dict[str, Any] = {
        "name": name,
        "op": layer.op,
        "in_channels": channels,
        "out_channels": out_channels(layer),
        "in_height": height,
        "in_width": width,
    }
    try:
        if layer.op not in WINDOW_OPS:
            return Shape(**sizes)
        if layer.dilation != (1, 1):
            raise ShapeError(f"dilation {layer.dilation}; a shape has none")
        for padding in ("valid", "same"):
            if padding == "valid" and any(layer.padding):
                continue
            shape = Shape(**sizes, kernel=kernel_size(layer), stride=layer.stride, padding=padding)
            if shape.pads == layer.padding:
                assert shape.macs == macs(layer)
                return shape
        raise ShapeError(f"padding {layer.padding} is neither same nor valid")
    except NpuloopError as error:
        raise ShapeError(f"layer {name!r}: {error}") from None
