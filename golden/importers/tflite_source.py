# SPDX-License-Identifier: Apache-2.0
"""Compares an imported network with the file that it comes from, as TFLite's reference kernels compute it.

The reference is `ai-edge-litert` with its `BUILTIN_REF` kernels, where that is installed: an operator that
the importer misread would otherwise run exactly, and wrong, on golden model and units alike.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import Array
from common.errors import ModelFileError
from golden.network import Network, run_network

GET_REFERENCE = "pip install ai-edge-litert"


def has_reference() -> bool:
    """Return whether TFLite's reference kernels are installed."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def compare_with_source(network: Network, path: Path, inputs: Mapping[str, Array]) -> str:
    """Run one input through the file's operators and through the network, and compare every output.

    Args:
        network: imported from the file.
        path: the `.tflite` file.
        inputs: one input, each of the network's by name, without a batch axis.

    Returns:
        One line: that they are equal, or why they were not compared.

    Raises:
        ModelFileError: an output differs; naming the file and the first layer that differs.
    """
    if not has_reference():
        return f"not compared with TFLite's reference kernels, which are not installed ({GET_REFERENCE})"
    try:
        reference = _interpreter(path)
        expected = _run(reference, network, inputs)
    except (RuntimeError, ValueError) as error:  # files that the interpreter does not take
        return f"not compared with TFLite's reference kernels, which refuse the file ({_line(error)})"
    values = run_network(network, {name: array[None] for name, array in inputs.items()})
    wrong = [name for name in network.output_names if not _equal(values[name], expected[name])]
    if not wrong:
        return "equal to TFLite's reference kernels on the first input"
    layers = [name for name in _layers(network) if name in expected]
    alike = [name for name in layers if expected[name].size == values[name].size]  # a fused one is another
    first = next((name for name in alike if not _equal(values[name], expected[name])), wrong[0])
    raise ModelFileError(
        f"{path}: imported wrong: output {wrong[0]!r} differs from TFLite's reference kernels, first at "
        f"layer {first!r}; please report this model"
    )


def _interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: Any, network: Network, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the file's outputs, and of each layer the result of the operator that it is called after."""
    for name, detail in zip(network.inputs, interpreter.get_input_details(), strict=True):
        interpreter.set_tensor(detail["index"], inputs[name].reshape(detail["shape"]))
    interpreter.invoke()
    results = {}
    operators = interpreter._get_ops_details()
    for name in _layers(network):
        place = int(name.rpartition("_")[2])
        if place < len(operators):
            results[name] = interpreter.get_tensor(int(operators[place]["outputs"][0]))
    for name, detail in zip(network.output_names, interpreter.get_output_details(), strict=True):
        results[name] = interpreter.get_tensor(detail["index"])
    return results


def _layers(network: Network) -> list[str]:
    return [node.name for node in network.nodes if node.name.rpartition("_")[2].isdecimal()]


def _equal(value: Array, expected: Array) -> bool:
    same = value.dtype == expected.dtype and value.size == expected.size
    return same and np.array_equal(value.ravel(), expected.ravel(), equal_nan=value.dtype.kind == "f")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
