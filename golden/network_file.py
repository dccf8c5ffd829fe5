# SPDX-License-Identifier: Apache-2.0
"""Network files: a quantised network as an `.npz` without pickles.

Member `network` is JSON text, members `<node>/<constant>` are arrays; docs/reference/network-file.md has the
format.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from common.array_files import read_npz, write_npz
from common.arrays import Array
from common.errors import NetworkError, NpuloopError, ShapeError
from golden.layer import OPS, Layer, layer_keys
from golden.network import Network, Node, Tensor, placeholder

FORMAT_VERSION = 1

MAX_TENSOR_VALUES = 1 << 26
"""A bound on every activation tensor: a damaged file must not ask for endless memory."""

MAX_NAME = 500
_ARRAYS = ("weights", "bias", "multiplier", "shift")
_TENSORS = ("input", "input2", "expected")
_HOST_KEYS = {
    "softmax": ("beta", "axis"),
    "log_softmax": ("axis",),
    "arg_max": ("axis",),
    "transpose": ("permutation",),
}


def save_network(network: Network, path: str | Path) -> None:
    """Write a network file, whole or not at all.

    Raises:
        LayerFileError: it cannot be written.
    """
    arrays: dict[str, Array] = {}
    nodes = []
    for i, node in enumerate(network.nodes):
        entry: dict[str, Any] = {
            "name": node.name,
            "op": node.op,
            "inputs": list(node.inputs),
            "output": _tensor_entry(node.output),
        }
        for key in _HOST_KEYS.get(node.op, ()):
            value = getattr(node, key)
            entry[key] = list(value) if isinstance(value, tuple) else value
        if node.layer is not None and node.layer.single_rounding:
            entry["single_rounding"] = True
        if node.layer is not None:
            for key in layer_keys(node.op):
                if key in _ARRAYS:
                    arrays[f"{i}/{key}"] = getattr(node.layer, key)
                elif key not in _TENSORS:
                    value = getattr(node.layer, key)
                    entry[key] = list(value) if isinstance(value, tuple) else int(value)
        if node.weight_scales is not None and node.weight_bits is not None:
            arrays[f"{i}/weight_scales"] = node.weight_scales
            arrays[f"{i}/weight_bits"] = node.weight_bits
        nodes.append(entry)
    document: dict[str, Any] = {
        "format": "npuloop network",
        "version": FORMAT_VERSION,
        "name": network.name,
        "input_name": network.input_name,
        "input": _tensor_entry(network.input),
        "nodes": nodes,
    }
    if network.more_inputs:
        document["more_inputs"] = {name: _tensor_entry(item) for name, item in network.more_inputs.items()}
    if network.outputs:
        document["outputs"] = list(network.outputs)
    write_npz({"network": np.array(json.dumps(document)), **arrays}, Path(path))


def _tensor_entry(tensor: Tensor) -> dict[str, Any]:
    return {field.name: getattr(tensor, field.name) for field in fields(Tensor)}


def _tensor(entry: Any) -> Tensor:
    shape = entry["shape"]
    if not all(isinstance(size, int) for size in shape) or math.prod(shape) > MAX_TENSOR_VALUES:
        raise ShapeError(f"a tensor of shape {shape}; up to {MAX_TENSOR_VALUES} values are supported")
    return Tensor(
        shape=tuple(shape), dtype=str(entry["dtype"]), scale=float(entry["scale"]),
        zero_point=int(entry["zero_point"]),
    )  # fmt: skip


def load_network(path: str | Path) -> Network:
    """Read and check a network file.

    Raises:
        NetworkError: the file is no valid network; the message names the file, the node and the fault.
        LayerFileError: the file is missing or no `.npz`.
    """
    path = Path(path)
    arrays = read_npz(path)
    if "network" not in arrays or arrays["network"].dtype.kind != "U" or arrays["network"].shape != ():
        raise NetworkError(f"{path}: no network file (member 'network' is missing); see docs/reference")
    try:
        document = json.loads(str(arrays["network"]))
        version = document["version"]
        if document["format"] != "npuloop network" or version != FORMAT_VERSION:
            raise NetworkError(f"format version {version!r}; this npuloop reads version {FORMAT_VERSION}")
        return _network(document, arrays)
    except NpuloopError as error:
        raise NetworkError(f"{path}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise NetworkError(
            f"{path}: damaged network description ({type(error).__name__}: {error}); write the file again"
        ) from None


def _name(value: Any) -> str:
    """Return a name that can be shown.

    Raises:
        NetworkError: it is no text, empty, endless, or has characters that a terminal would obey.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME or not value.isprintable():
        raise NetworkError(f"the name {value!r:.60}: write 1 to {MAX_NAME} printable characters")
    return value


def _network(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> Network:
    source = _tensor(document["input"])
    more_inputs = {_name(name): _tensor(entry) for name, entry in document.get("more_inputs", {}).items()}
    shapes = {str(document["input_name"]): source.shape}
    shapes |= {name: tensor.shape for name, tensor in more_inputs.items()}
    nodes = []
    for i, entry in enumerate(document["nodes"]):
        name, op = _name(entry["name"]), str(entry["op"])
        inputs = tuple(str(item) for item in entry["inputs"])
        output = _tensor(entry["output"])
        own = {key.partition("/")[2]: value for key, value in arrays.items() if key.startswith(f"{i}/")}
        layer = None
        if op in OPS:
            for item in inputs:
                if item not in shapes:
                    raise NetworkError(f"node {name!r} reads {item!r}, which no node before it makes")
            layer = _layer(name, op, entry, own, [shapes[item] for item in inputs])
        scales, bits = own.get("weight_scales"), own.get("weight_bits")
        nodes.append(
            Node(
                name=name,
                op=op,
                inputs=inputs,
                output=output,
                layer=layer,
                weight_scales=None if scales is None else scales.astype(np.float64),
                weight_bits=None if bits is None else bits.astype(np.int8),
                beta=float(entry.get("beta", 1.0)),
                axis=int(entry.get("axis", -1)),
                permutation=tuple(int(axis) for axis in entry.get("permutation", ())),
            )
        )
        shapes[name] = output.shape
    return Network(
        name=_name(document["name"]),
        input_name=_name(document["input_name"]),
        input=source,
        nodes=tuple(nodes),
        more_inputs=more_inputs,
        outputs=tuple(str(item) for item in document.get("outputs", ())),
    )


def _layer(
    name: str, op: str, entry: Mapping[str, Any], own: Mapping[str, Array], shapes: Sequence[tuple[int, ...]]
) -> Layer:
    values: dict[str, Any] = {}
    for key in layer_keys(op):
        if key in _ARRAYS:
            values[key] = own[key]
        elif key in _TENSORS:
            values[key] = placeholder(shapes[0])
        else:
            value = entry[key]
            values[key] = tuple(int(item) for item in value) if isinstance(value, list) else int(value)
    return Layer(name=name, op=op, single_rounding=bool(entry.get("single_rounding", False)), **values)
