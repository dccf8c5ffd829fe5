# SPDX-License-Identifier: Apache-2.0
"""Builds small int8 `.tflite` models for tests, and runs them in the reference interpreter."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from common.arrays import Array
from golden.importers.tflite import load_tflite
from golden.network import Network, run_network

SEED = 20261122

schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")

_TYPES = {"int8": 9, "float32": 0, "int32": 2, "int64": 4, "uint8": 3, "int16": 7, "int4": 17, "int2": 19}
_PACKED = {"int4": 4, "int2": 2}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "SQUEEZE": "SqueezeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "MUL": "MulOptions",
    "LOG_SOFTMAX": "LogSoftmaxOptions",
    "TRANSPOSE": "TransposeOptions",
    "ARG_MAX": "ArgMaxOptions",
    "SHAPE": "ShapeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "PACK": "PackOptions",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CONV_2D": {"strideW": 1, "strideH": 1},
    "DEPTHWISE_CONV_2D": {"strideW": 1, "strideH": 1, "depthMultiplier": 1},
    "AVERAGE_POOL_2D": {"strideW": 1, "strideH": 1, "filterWidth": 1, "filterHeight": 1},
    "MAX_POOL_2D": {"strideW": 1, "strideH": 1, "filterWidth": 1, "filterHeight": 1},
    "SOFTMAX": {"beta": 1.0},
}


def _bytes(data: Array, dtype: str) -> Array:
    """Return a constant's bytes; of integers below 8 bits several in one, the first in the low bits."""
    if dtype not in _PACKED:
        return np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
    bits = _PACKED[dtype]
    values = np.asarray(data, np.int64).ravel() & ((1 << bits) - 1)
    values = np.pad(values, (0, -len(values) % (8 // bits))).reshape(-1, 8 // bits)
    packed: Array = (values << np.arange(0, 8, bits)).sum(axis=1).astype(np.uint8)
    return packed


@dataclass
class Builder:
    """A model under construction: add tensors and operators, then `build`."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        data: Array | None = None,
        axis: int = 0,
    ) -> int:
        """Add a tensor, constant where it has data; return its index."""
        tensor = schema.TensorT()
        tensor.name = f"tensor{len(self.tensors)}"
        tensor.shape = list(shape)
        tensor.type = _TYPES[dtype]
        tensor.buffer = 0
        if scale is not None:
            scales = [float(v) for v in np.atleast_1d(scale)]
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = [zero_point] * len(scales)
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = _bytes(data, dtype)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, values: Any, dtype: str = "int32") -> int:
        """Add a constant without quantisation."""
        array = np.asarray(values, dtype)
        return self.tensor(array.shape, dtype, data=array)

    def operator(self, name: str, inputs: Sequence[int], output: int, **options: Any) -> None:
        """Add an operator by its name in the schema; options by their names in the object API."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.codes) - 1
        operator.inputs = list(inputs)
        operator.outputs = [output]
        if name in _OPTIONS:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[name])
            operator.builtinOptions = getattr(schema, f"{_OPTIONS[name]}T")()
            for key, value in {**_DEFAULTS.get(name, {}), **options}.items():
                assert hasattr(operator.builtinOptions, key), key
                setattr(operator.builtinOptions, key, value)
        self.operators.append(operator)

    def build(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the model as the bytes of a `.tflite` file."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs, graph.name = list(inputs), list(outputs), "main"
        model = schema.ModelT()
        model.version, model.description = 3, "test"
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def interpreter(model: bytes | str, preserve: bool = False) -> Any:
    """Return TensorFlow Lite's interpreter on one thread with the reference kernels, tensors allocated."""
    runtime: Any = pytest.importorskip("ai_edge_litert.interpreter")
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": model}
    reference = runtime.Interpreter(
        **source,
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=preserve,
        num_threads=1,
    )
    reference.allocate_tensors()
    return reference


def invoke(reference: Any, batch: Array) -> Array:
    """Return the interpreter's output for every input of (N, ...), one at a time: (N, ...)."""
    source, result = reference.get_input_details()[0]["index"], reference.get_output_details()[0]["index"]
    outputs = []
    for item in batch:
        reference.set_tensor(source, item[None])
        reference.invoke()
        outputs.append(reference.get_tensor(result)[0])
    return np.stack(outputs)


@dataclass
class Case:
    """A model under construction with one chain of operators; `tensor` is where the next one reads."""

    rng: np.random.Generator
    builder: Builder
    input: int
    tensor: int
    weight_type: str = "int8"

    @classmethod
    def start(cls, shape: Sequence[int], seed: Any = 0, quantised: bool = True) -> "Case":
        rng, builder = np.random.default_rng((SEED, seed)), Builder()
        if quantised:
            tensor = builder.tensor(shape, scale=0.1, zero_point=int(rng.integers(-128, 128)))
        else:
            tensor = builder.tensor(shape, "float32")
        return cls(rng, builder, tensor, tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.builder.tensors[self.tensor].shape)

    @property
    def quantisation(self) -> tuple[float, int]:
        quantization = self.builder.tensors[self.tensor].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def then(self, operator: str, output: int, *more: int, **options: Any) -> "Case":
        self.builder.operator(operator, [self.tensor, *more], output, **options)
        self.tensor = output
        return self

    def output(self, shape: Sequence[int], keep: bool = False) -> int:
        """Return a new activation, with the quantisation of the present one or a random one."""
        scale, zero_point = self.quantisation if keep else (0.05, int(self.rng.integers(-100, 100)))
        return self.builder.tensor(shape, scale=float(np.float32(scale)), zero_point=zero_point)

    def weights(self, shape: Sequence[int], axis: int, per_tensor: bool, taps: int) -> int:
        """Return random weights whose accumulators spread over the outputs' int8."""
        channels = 1 if per_tensor else shape[axis]
        high = {"int8": 127, "int4": 7, "int2": 1}[self.weight_type]
        low = -high if self.weight_type == "int8" else -high - 1
        scale = 40 * 0.05 / (self.quantisation[0] * 74 * 0.58 * high * math.sqrt(taps))
        return self.builder.tensor(
            shape, self.weight_type, (scale * self.rng.uniform(0.5, 2, channels)).tolist(), axis=axis,
            data=self.rng.integers(low, high + 1, shape),
        )  # fmt: skip

    def bias(self, channels: int, scale: float = 1.0) -> int:
        """Return random biases."""
        values = self.rng.integers(-20000, 20000, channels)
        return self.builder.tensor((channels,), "int32", scale, data=values)

    def convolution(
        self,
        kernel: tuple[int, int] = (3, 3),
        outputs: int = 4,
        multiplier: int = 0,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: str = "SAME",
        activation: int = 0,
        per_tensor: bool = False,
        with_bias: bool = True,
    ) -> "Case":
        """Append CONV_2D, or DEPTHWISE_CONV_2D where there is a multiplier."""
        _, height, width, channels = self.shape
        outputs = multiplier * channels if multiplier else outputs
        size = [
            -(-pixels // step) if padding == "SAME" else -(-(pixels - (taps - 1) * spread) // step)
            for pixels, taps, step, spread in zip((height, width), kernel, stride, dilation, strict=True)
        ]
        shape = (1, *kernel, outputs) if multiplier else (outputs, *kernel, channels)
        taps = math.prod(kernel) * (1 if multiplier else channels)
        weights = self.weights(shape, 3 if multiplier else 0, per_tensor, taps)
        options: dict[str, Any] = {"depthMultiplier": multiplier} if multiplier else {}
        return self.then(
            "DEPTHWISE_CONV_2D" if multiplier else "CONV_2D",
            self.output((1, *size, outputs)),
            weights,
            *([self.bias(outputs)] if with_bias else []),
            strideH=stride[0], strideW=stride[1], dilationHFactor=dilation[0], dilationWFactor=dilation[1],
            padding=0 if padding == "SAME" else 1, fusedActivationFunction=activation, **options,
        )  # fmt: skip

    def fully_connected(
        self,
        outputs: int,
        per_tensor: bool = True,
        bias: str = "yes",
        activation: int = 0,
        keep: bool = False,
    ) -> "Case":
        """Append FULLY_CONNECTED; bias "yes", "no" (two inputs) or "none" (left out as -1)."""
        columns = self.shape[-1] if keep else math.prod(self.shape)
        weights = self.weights((outputs, columns), 0, per_tensor, columns)
        product = self.quantisation[0] * float(self.builder.tensors[weights].quantization.scale[0])
        more = {"yes": [self.bias(outputs, product)], "no": [], "none": [-1]}[bias]
        shape = (*self.shape[:-1], outputs) if keep else (1, outputs)
        return self.then(
            "FULLY_CONNECTED", self.output(shape), weights, *more,
            fusedActivationFunction=activation, keepNumDims=keep,
        )  # fmt: skip

    def pool(
        self,
        operator: str,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: str,
        activation: int = 0,
    ) -> "Case":
        """Append AVERAGE_POOL_2D or MAX_POOL_2D."""
        size = [
            -(-pixels // step) if padding == "SAME" else -(-(pixels - taps + 1) // step)
            for pixels, taps, step in zip(self.shape[1:3], kernel, stride, strict=True)
        ]
        return self.then(
            operator, self.output((1, *size, self.shape[3]), keep=True),
            filterHeight=kernel[0], filterWidth=kernel[1], strideH=stride[0], strideW=stride[1],
            padding=0 if padding == "SAME" else 1, fusedActivationFunction=activation,
        )  # fmt: skip

    def pad(self, top: int, bottom: int, left: int, right: int, value: int | None = None) -> "Case":
        """Append PAD, or PADV2 where a value is given."""
        _, height, width, channels = self.shape
        output = self.output((1, height + top + bottom, width + left + right, channels), keep=True)
        more = [self.builder.constant([[0, 0], [top, bottom], [left, right], [0, 0]])]
        if value is not None:
            scale, zero_point = self.quantisation
            more.append(self.builder.tensor((1,), "int8", scale, zero_point, np.array([value])))
        return self.then("PAD" if value is None else "PADV2", output, *more)

    def mean(
        self, keep_dims: bool, quantisation: tuple[float, int] | None, axes: Sequence[int] = (1, 2)
    ) -> "Case":
        """Append MEAN over height and width; None keeps the quantisation."""
        channels = self.shape[-1]
        scale, zero_point = quantisation or self.quantisation
        output = self.builder.tensor(
            (1, 1, 1, channels) if keep_dims else (1, channels), scale=scale, zero_point=zero_point
        )
        return self.then("MEAN", output, self.builder.constant(axes), keepDims=keep_dims)

    def softmax(self, beta: float = 1.0) -> "Case":
        """Append SOFTMAX."""
        return self.then("SOFTMAX", self.builder.tensor(self.shape, "int8", 1 / 256, -128), beta=beta)

    def build(self) -> bytes:
        """Return the model that ends here."""
        return self.builder.build([self.input], [self.tensor])


def written(content: bytes, folder: Path) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


def imported(content: bytes, folder: Path) -> Network:
    return load_tflite(written(content, folder))


def random_inputs(network: Network, rng: np.random.Generator, count: int) -> dict[str, Array]:
    """Return inputs by name, (2 * count, ...): wide ones, and ones near zero."""
    inputs: dict[str, Array] = {}
    for name, tensor in network.inputs.items():
        shape = (count, *tensor.shape)
        if tensor.dtype == "float32":
            inputs[name] = rng.normal(0, 5, (2 * count, *tensor.shape)).astype(np.float32)
            continue
        limits = np.iinfo(tensor.dtype)
        wide = rng.integers(limits.min, limits.max + 1, shape)
        near = tensor.zero_point + rng.integers(-2, 3, shape)
        inputs[name] = np.concatenate([wide, near]).clip(limits.min, limits.max).astype(tensor.dtype)
    return inputs


def agree(content: bytes, folder: Path, count: int = 8, seed: int = SEED) -> Network:
    """Check that the imported network makes what the interpreter makes, to the last bit, and return it."""
    network = imported(content, folder)
    inputs = random_inputs(network, np.random.default_rng(seed), count)
    got = run_network(network, inputs)
    reference = interpreter(content)
    sources = {name: item["index"] for name, item in zip(inputs, reference.get_input_details(), strict=True)}
    results = [item["index"] for item in reference.get_output_details()]
    for i in range(2 * count):
        for name, index in sources.items():
            reference.set_tensor(index, inputs[name][i][None])
        reference.invoke()
        for name, index in zip(network.output_names, results, strict=True):
            expected = reference.get_tensor(index)
            value = got[name][i].reshape(expected.shape)
            assert value.dtype == expected.dtype
            np.testing.assert_array_equal(value, expected, err_msg=f"{name} of input {i}")
    return network


def check(case: Case, folder: Path, count: int = 8) -> Network:
    """Check that the imported network makes what the interpreter makes, on wide and on narrow inputs."""
    return agree(case.build(), folder, count, int(case.rng.integers(1 << 30)))


def conv(**options: Any) -> Case:
    return Case.start((1, 8, 8, 4)).convolution(**options)
