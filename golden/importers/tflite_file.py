# SPDX-License-Identifier: Apache-2.0
"""Reads the flatbuffer of a `.tflite` file, and trusts nothing in it.

What `tflite` needs of the file is offered as plain values, parsed when asked for. Work and memory are
bounded by the size of the file: a length or offset in it never decides how much is allocated or how long a
loop runs. Damage shows up as ModelFileError, or as one of `PARSE_ERRORS` out of the flatbuffer accessors,
which `golden.importers.tflite.load_tflite` turns into ModelFileError.

Source: TensorFlow Lite schema.fbs (version 3), as generated in the package `tflite`.
"""

import functools
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from common.arrays import Array, Bytes, Floats, Int8, Int64
from common.errors import ModelFileError, UnsupportedError
from common.files import MAX_DATA_VARIABLE, max_data_bytes, read_bytes
from golden.network_file import MAX_TENSOR_VALUES

MAX_OPERATORS = 10_000
MAX_RANK = 8
MAX_LISTED = 64
"""Inputs or outputs of an operator that are looked at; no operator that is supported has nearly as many."""

PARSE_ERRORS = (struct.error, ValueError, TypeError, IndexError, OverflowError, MemoryError)
"""What flatbuffer accessors raise where an offset or a length leads out of the file."""


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_READABLE = ("float32", "int32", "int64", "int8", "uint8", "int4", "int2")
_PACKED_BITS = {"int4": 4, "int2": 2}
_TYPE_NAMES = _names(tflite.TensorType) | {19: "INT2"}  # newer than the package's schema
_OPERATOR_NAMES = _names(tflite.BuiltinOperator)


@dataclass(frozen=True, kw_only=True, eq=False)
class FileTensor:
    """One tensor as the file has it.

    Attributes:
        index: its place in the file.
        shape: with the batch axis; every axis is 1 or more, up to MAX_TENSOR_VALUES values in all.
        dtype: one of `_READABLE`; another one in capitals as the schema names it.
        scales: (1,) or (channels,) float64, values of float32; empty without quantisation.
        zero_points: as many as scales, int64.
        axis: that the scales belong to where there are several.
        data: the bytes of a constant, (N,) uint8, else None.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str
    scales: Floats
    zero_points: Int64
    axis: int
    data: Bytes | None

    def values(self, *dtypes: str) -> Array:
        """Return the constant as an array of `shape`: a view of the file, or int8 of narrower integers.

        Raises:
            UnsupportedError: it is no constant or of none of the types.
            ModelFileError: its buffer has another size.
        """
        if self.data is None:
            raise UnsupportedError(f"tensor {self.index} is not constant; it must be part of the file")
        if self.dtype not in dtypes:
            raise UnsupportedError(f"tensor {self.index} is {self.dtype}; supported is {' or '.join(dtypes)}")
        count, bits = math.prod(self.shape), self.bits
        if self.data.size != (count * bits + 7) // 8:
            raise ModelFileError(
                f"tensor {self.index} of {self.dtype} {self.shape} has a buffer of {self.data.size} bytes"
            )
        if bits < 8:
            return _unpack(self.data, bits, count).reshape(self.shape)
        result: Array = self.data.view(np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)
        return result

    @property
    def bits(self) -> int:
        """Bits of one value in the file."""
        return _PACKED_BITS.get(self.dtype) or 8 * np.dtype(self.dtype).itemsize


def _unpack(data: Bytes, bits: int, count: int) -> Int8:
    """Return packed two's complement integers, the first in a byte's low bits, as (count,) int8."""
    places = np.arange(0, 8, bits, dtype=np.uint8)
    values = (data[:, None] >> places & (1 << bits) - 1).reshape(-1)[:count].astype(np.int8)
    sign = np.int8(1 << (bits - 1))
    result: Int8 = (values ^ sign) - sign
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class FileOperator:
    """One operator as the file has it.

    Attributes:
        index: its place in the file.
        name: as the schema spells it, such as CONV_2D; a custom operator is CUSTOM (its name).
        inputs: indices of tensors, -1 for an optional one that is left out; the first MAX_LISTED.
        outputs: indices of the tensors that it makes; the first MAX_LISTED.
        listed: how many inputs and outputs it has.
        table: the flatbuffer table, for `options`.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    listed: tuple[int, int]
    table: Any

    @property
    def where(self) -> str:
        """The operator as messages name it."""
        return f"operator {self.index} ({self.name})"

    @property
    def output(self) -> int:
        """Index of the tensor that an operator with one output makes."""
        return self.outputs[0]

    def check_lists(self) -> None:
        """Check that the operator has lists as supported operators have them.

        Raises:
            ModelFileError: inputs without end.
            UnsupportedError: other than one output.
        """
        if self.listed[0] > MAX_RANK:
            raise ModelFileError(f"a list of {self.listed[0]} entries where at most {MAX_RANK} make sense")
        if self.listed[1] != 1:
            raise UnsupportedError(f"has {self.listed[1]} outputs; supported is one")

    def options(self, kind: str) -> Any:
        """Return the operator's options: an accessor of the schema's table `kind`, such as "Conv2DOptions".

        Raises:
            ModelFileError: they are missing or of another kind.
        """
        table = self.table.BuiltinOptions()
        if table is None or self.table.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind):
            raise ModelFileError(f"its options are not {kind}")
        options = getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options


def vector(values: Any) -> Array:
    """Return a flatbuffer vector, for which the accessors give 0 where it is missing, as an array (n,)."""
    return values if isinstance(values, np.ndarray) else np.zeros(0, np.int64)


def _indices(values: Any, limit: int) -> tuple[int, ...]:
    array = vector(values)
    if array.size > limit:
        raise ModelFileError(f"a list of {array.size} entries where at most {limit} make sense")
    return tuple(int(value) for value in array)


_SIGNS = (
    (b"version https://git-lfs", ": a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"PK\x03\x04", ": an archive (.npz, .keras, .zip or .pt)"),
    (b"\x89HDF", ": an HDF5 file (Keras); convert it with TensorFlow Lite's converter"),
    (b"\x1f\x8b", ": compressed; unpack it with gunzip"),
    (b"<", ": a web page or XML, such as what a download gives in place of a file"),
    (b"{", ": JSON"),
)


def _looks_like(content: bytes) -> str:
    """Return what a file that is no model seems to be, to follow a message."""
    start = content[:64].lstrip()
    if not start:
        return ", but empty"
    return next((what for sign, what in _SIGNS if start.startswith(sign)), ", or cut off")


class TfliteFile:
    """A `.tflite` file.

    Attributes:
        operators: of the first graph, in the order in which they run.
        inputs, outputs: tensor indices of that graph.
        graphs: how many graphs the file has.

    Raises:
        ModelFileError: it is no `.tflite` file, or contradicts itself.
        UnsupportedError: it has no or far too many inputs, outputs or operators.
        PARSE_ERRORS: it is damaged.
    """

    def __init__(self, content: bytes) -> None:
        if not tflite.Model.ModelBufferHasIdentifier(content, 0):
            raise ModelFileError(f"not a .tflite file (no TFL3 in its header){_looks_like(content)}")
        self._model = tflite.Model.GetRootAs(content, 0)
        if self._model.Version() != 3:
            raise UnsupportedError(f"schema version {self._model.Version()}; supported is 3")
        self.graphs = self._model.SubgraphsLength()
        if self.graphs < 1:
            raise ModelFileError("has no graph")
        self._graph = self._model.Subgraphs(0)
        self.inputs = _indices(self._graph.InputsAsNumpy(), MAX_LISTED)
        self.outputs = _indices(self._graph.OutputsAsNumpy(), MAX_LISTED)
        if not self.inputs or not self.outputs:
            raise UnsupportedError(
                f"{len(self.inputs)} inputs and {len(self.outputs)} outputs; supported is one or more of each"
            )
        count = self._graph.OperatorsLength()
        if not 1 <= count <= MAX_OPERATORS:
            raise UnsupportedError(f"{count} operators; supported are 1 to {MAX_OPERATORS}")
        self.operators = [self._operator(index) for index in range(count)]
        self.tensor = functools.cache(self._tensor)

    def _operator(self, index: int) -> FileOperator:
        table = self._graph.Operators(index)
        code_index = table.OpcodeIndex()
        if code_index >= self._model.OperatorCodesLength():
            raise ModelFileError(f"operator {index} has the code {code_index}, which does not exist")
        code = self._model.OperatorCodes(code_index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _OPERATOR_NAMES.get(number, f"number {number}")
        if name == "CUSTOM":
            name = f"CUSTOM ({(code.CustomCode() or b'')[:64].decode('utf-8', 'replace')})"
        inputs, outputs = vector(table.InputsAsNumpy()), vector(table.OutputsAsNumpy())
        return FileOperator(
            index=index,
            name=name,
            inputs=_indices(inputs[:MAX_LISTED], MAX_LISTED),
            outputs=_indices(outputs[:MAX_LISTED], MAX_LISTED),
            listed=(inputs.size, outputs.size),
            table=table,
        )

    def _tensor(self, index: int) -> FileTensor:
        if not 0 <= index < self._graph.TensorsLength():
            raise ModelFileError(f"tensor {index} does not exist")
        table = self._graph.Tensors(index)
        shape = _indices(table.ShapeAsNumpy(), MAX_RANK)
        if any(size < 1 for size in shape) or math.prod(shape) > MAX_TENSOR_VALUES:
            raise UnsupportedError(
                f"tensor {index} of shape {shape}; supported are axes of 1 or more and up to "
                f"{MAX_TENSOR_VALUES} values"
            )
        if table.Sparsity() is not None or table.IsVariable() or table.VariantTensorsLength():
            raise UnsupportedError(f"tensor {index} is sparse, a variable or a variant")
        dtype = _TYPE_NAMES.get(table.Type(), f"type {table.Type()}")
        scales, zero_points, axis = self._quantization(index, table)
        return FileTensor(
            index=index,
            shape=shape,
            dtype=dtype.lower() if dtype.lower() in _READABLE else dtype,
            scales=scales,
            zero_points=zero_points,
            axis=axis,
            data=self._data(index, table.Buffer()),
        )

    def _quantization(self, index: int, table: Any) -> tuple[Array, Array, int]:
        quantization = table.Quantization()
        if quantization is None or not quantization.ScaleLength():
            return np.zeros(0), np.zeros(0, np.int64), 0
        if quantization.DetailsType():
            raise UnsupportedError(f"tensor {index} has custom quantisation")
        with np.errstate(invalid="ignore"):  # a signalling NaN
            scales = vector(quantization.ScaleAsNumpy()).astype(np.float64)
        zero_points = vector(quantization.ZeroPointAsNumpy())
        if zero_points.size != scales.size:
            raise ModelFileError(
                f"tensor {index} has {scales.size} scales and {zero_points.size} zero points"
            )
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise ModelFileError(f"tensor {index} has a scale that is not finite and positive")
        return scales, zero_points, quantization.QuantizedDimension()

    def _data(self, index: int, buffer_index: int) -> Bytes | None:
        if buffer_index == 0:  # stands for "no data"
            return None
        if buffer_index >= self._model.BuffersLength():
            raise ModelFileError(f"tensor {index} has the buffer {buffer_index}, which does not exist")
        buffer = self._model.Buffers(buffer_index)
        if buffer.Offset() or buffer.Size():
            raise UnsupportedError(f"buffer {buffer_index} lies outside the flatbuffer")
        data = vector(buffer.DataAsNumpy())
        return data if data.size else None


def read_content(path: Path) -> bytes:
    """Return the bytes of a model file.

    Raises:
        ModelFileError: it cannot be read or is larger than `common.files.max_data_bytes`.
    """
    return read_bytes(path, max_data_bytes(), ModelFileError, f"model (or set {MAX_DATA_VARIABLE})")
