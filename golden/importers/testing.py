"""Builds small int8 `.tflite` models for tests, and runs them in the reference interpreter."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import pytest

schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")

_TYPES = {"int8": 9, "float32": 0, "int32": 2, "int64": 4, "uint8": 3, "int16": 7}
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
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CONV_2D": {"strideW": 1, "strideH": 1},
    "DEPTHWISE_CONV_2D": {"strideW": 1, "strideH": 1, "depthMultiplier": 1},
    "AVERAGE_POOL_2D": {"strideW": 1, "strideH": 1, "filterWidth": 1, "filterHeight": 1},
    "MAX_POOL_2D": {"strideW": 1, "strideH": 1, "filterWidth": 1, "filterHeight": 1},
    "SOFTMAX": {"beta": 1.0},
}


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
        data: npt.NDArray[Any] | None = None,
        axis: int = 0,
    ) -> int:
        """Adds a tensor, constant where it has data; returns its index."""
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
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, values: Any, dtype: str = "int32") -> int:
        """Adds a constant without quantisation."""
        array = np.asarray(values, dtype)
        return self.tensor(array.shape, dtype, data=array)

    def operator(self, name: str, inputs: Sequence[int], output: int, **options: Any) -> None:
        """Adds an operator by its name in the schema; options by their names in the object API."""
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
        """The model as the bytes of a `.tflite` file."""
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
    """TensorFlow Lite's interpreter on one thread with the reference kernels, tensors allocated."""
    runtime: Any = pytest.importorskip("ai_edge_litert.interpreter")
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": model}
    made = runtime.Interpreter(
        **source,
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=preserve,
        num_threads=1,
    )
    made.allocate_tensors()
    return made


def invoke(made: Any, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The interpreter's output for every input of (N, ...), one at a time: (N, ...)."""
    source, result = made.get_input_details()[0]["index"], made.get_output_details()[0]["index"]
    outputs = []
    for item in batch:
        made.set_tensor(source, item[None])
        made.invoke()
        outputs.append(made.get_tensor(result)[0])
    return np.stack(outputs)
