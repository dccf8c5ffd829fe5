# SPDX-License-Identifier: Apache-2.0
"""A network under construction from a `.tflite` file: names, what is made and read, padding, constants.

Two operators make no node of their own where another one absorbs them: a PAD becomes padding of the
convolution that reads it, and a TRANSPOSE becomes one only where something reads its values in that order: a
mean, a fully connected layer or another TRANSPOSE looks through it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from common.arrays import Array
from common.errors import ModelFileError, UnsupportedError
from golden.host_operators import check_host_node
from golden.importers.tflite_file import FileOperator, FileTensor, TfliteFile
from golden.network import Node, Tensor

Padding: TypeAlias = tuple[int, int, int, int]
Permutation: TypeAlias = tuple[int, ...]

INPUT_NAME = "input"

_MAX_SHARING = 4  # how often the constants of a file may be read, on average
_REMEDY = "convert the model to int8 (full integer quantisation, inference type int8)"


def _without_batch(tensor: FileTensor) -> tuple[int, ...]:
    if len(tensor.shape) >= 2 and tensor.shape[0] == 1:
        return tensor.shape[1:]
    if len(tensor.shape) == 1:
        return tensor.shape
    raise UnsupportedError(f"tensor {tensor.index} of shape {tensor.shape}: its first axis is no batch of 1")


def activation(tensor: FileTensor) -> Tensor:
    """Return the tensor as the network has it."""
    if tensor.data is not None:
        raise UnsupportedError(f"tensor {tensor.index} is constant where an activation is expected")
    if tensor.dtype in ("float32", "int32", "int64"):
        return Tensor(shape=_without_batch(tensor), dtype=tensor.dtype)
    if tensor.dtype not in ("int8", "uint8"):
        raise UnsupportedError(
            f"tensor {tensor.index} is {tensor.dtype}; activations are int8, at the ends also float32 or "
            f"uint8; {_REMEDY}"
        )
    if tensor.scales.size != 1:
        raise UnsupportedError(
            f"tensor {tensor.index} has {tensor.scales.size} scales; an activation has one"
        )
    return Tensor(
        shape=_without_batch(tensor), dtype=tensor.dtype, scale=float(tensor.scales[0]),
        zero_point=int(tensor.zero_points[0]),
    )  # fmt: skip


def need_int8(*tensors: Tensor) -> None:
    """Check that an operator of the units reads and makes int8.

    Raises:
        UnsupportedError: it does not; the message names the type and the remedy.
    """
    other = next((tensor.dtype for tensor in tensors if tensor.dtype != "int8"), None)
    if other:
        raise UnsupportedError(
            f"reads or makes {other}; the units have int8, and the host turns {other} into int8 by QUANTIZE "
            f"and DEQUANTIZE at the ends only; {_REMEDY}"
        )


@dataclass(frozen=True)
class _Transposed:
    """A tensor that is another one with its axes in another order, made by that operator of the file."""

    name: str
    tensor: Tensor
    permutation: Permutation
    operator: int


class TfliteGraph:
    """A network under construction.

    Attributes:
        file: the file that it comes from.
        nodes: those appended so far.
        inputs: the network's inputs by name.
    """

    def __init__(self, file: TfliteFile, size: int) -> None:
        self.file = file
        self.nodes: list[Node] = []
        self._names: dict[int, str] = {}  # of the tensors that exist
        self._pads: dict[int, tuple[int, Padding]] = {}  # the output of a PAD: what it pads, by how much
        self._transposed: dict[int, _Transposed] = {}  # the output of a TRANSPOSE
        self._flat: dict[int, tuple[int, int]] = {}  # a flattened such output: that, the RESHAPE's place
        self._known: dict[int, list[int]] = {}  # integers that follow from shapes
        self._unread: dict[int, FileOperator] = {}
        self._budget = _MAX_SHARING * size  # bytes of constants
        self.inputs: dict[str, Tensor] = {}
        for place, index in enumerate(file.inputs):
            if index in self._names:
                raise ModelFileError(f"tensor {index} is two of the inputs")
            self._names[index] = f"{INPUT_NAME}_{place}" if place else INPUT_NAME
            self.inputs[self._names[index]] = activation(file.tensor(index))

    # -------------------------------------------------------------------------------------------- what exists
    def start(self, operator: FileOperator) -> None:
        """Check that the operator can run now: its inputs exist, its output does not yet.

        Raises:
            ModelFileError: an input does not exist yet, or the output does.
        """
        for index in operator.inputs:
            if index != -1 and not self._exists(index) and self.file.tensor(index).data is None:
                raise ModelFileError(f"reads tensor {index} before an operator has made it")
            self._unread.pop(index, None)
        if self._exists(operator.output):
            raise ModelFileError(f"makes tensor {operator.output} a second time")
        self._unread[operator.output] = operator

    def _exists(self, index: int) -> bool:
        return any(index in known for known in (self._names, self._transposed, self._flat, self._known))

    def fail(self, operator: FileOperator) -> None:
        """Note that the operator is refused: what reads its outputs can still be judged."""
        for index in operator.inputs:
            self._unread.pop(index, None)
        for index in operator.outputs:
            self._unread.pop(index, None)
            self._names.setdefault(index, f"refused_{operator.index}")

    def finish(self) -> tuple[str, ...]:
        """Check that everything that was made is used; return the names of the network's outputs.

        Raises:
            UnsupportedError: something is not read, or an output is padded or an input.
            ModelFileError: an output does not exist.
        """
        names: list[str] = []
        for index in self.file.outputs:
            if index in self._pads:
                raise UnsupportedError("the network's output is padded; only a convolution can absorb a PAD")
            self._unread.pop(index, None)
            if not self._exists(index):
                raise ModelFileError(f"the output, tensor {index}, is made by no operator")
            if index in self._known or index in self.file.inputs:
                raise UnsupportedError(f"the network's output, tensor {index}, is its input or constant")
            names.append(self._name(index))
        if self._unread:
            operator = next(iter(self._unread.values()))
            raise UnsupportedError(f"{operator.where} makes tensor {operator.output}, which nothing reads")
        return tuple(dict.fromkeys(names))

    # ------------------------------------------------------------------------------------------- what is read
    def _name(self, index: int) -> str:
        """Return the name of a tensor; a TRANSPOSE becomes a node when its values are read in its order."""
        if index in self._flat and index not in self._names:
            source, place = self._flat[index]
            name, shape = self._name(source), activation(self.file.tensor(index)).shape
            tensor = activation(self.file.tensor(source))
            self._names[index], _ = self.reshaped(name, tensor, shape, f"reshape_{place}")
        elif index not in self._names:
            view = self._transposed[index]
            node = Node(
                name=f"transpose_{view.operator}", op="transpose", inputs=(view.name,),
                output=activation(self.file.tensor(index)), permutation=view.permutation,
            )  # fmt: skip
            check_host_node(node, view.tensor)
            self.nodes.append(node)
            self._names[index] = node.name
        return self._names[index]

    def source(self, operator: FileOperator, position: int = 0) -> tuple[str, Tensor]:
        """Return name and tensor of an input that another operator makes.

        Raises:
            ModelFileError: there is none.
            UnsupportedError: it is constant or padded.
        """
        index = self._input(operator, position)
        tensor = activation(self.file.tensor(index))
        if index in self._pads:
            raise UnsupportedError("reads the output of a PAD, which only a convolution can absorb")
        return self._name(index), tensor

    def _input(self, operator: FileOperator, position: int) -> int:
        if position >= len(operator.inputs):
            raise ModelFileError(f"has {len(operator.inputs)} inputs; input {position} is missing")
        return operator.inputs[position]

    def source_shape(self, operator: FileOperator) -> tuple[int, ...]:
        """Return the shape of the first input as the file has it; () where there is none."""
        return self.file.tensor(operator.inputs[0]).shape if operator.inputs else ()

    def transposed_source(self, operator: FileOperator) -> tuple[str, Tensor, Permutation]:
        """Return name and tensor of what the first input is a transposed view of, and the permutation."""
        view = self._transposed.get(self._input(operator, 0))
        if view is not None:
            return view.name, view.tensor, view.permutation
        name, tensor = self.source(operator)
        return name, tensor, tuple(range(len(tensor.shape)))

    def flatten(self, operator: FileOperator) -> bool:
        """Note that the operator flattens a transposed tensor; return whether it does."""
        index = self._input(operator, 0)
        if index not in self._transposed or len(self.output(operator).shape) != 1:
            return False
        view = self._transposed[index]
        if replace(self.output(operator), shape=view.tensor.shape) != view.tensor:
            return False
        self._flat[operator.output] = (index, operator.index)
        return True

    def flat_source(self, operator: FileOperator) -> tuple[str, Tensor, Permutation]:
        """Return what the first input is a flattened transposed view of, as `transposed_source` does.

        A first input that is neither is itself, and the permutation is empty.
        """
        index = self._input(operator, 0)
        index = self._flat.get(index, (index, 0))[0]
        view = self._transposed.get(index)
        if view is None or index in self._names:
            return *self.source(operator), ()
        return view.name, view.tensor, view.permutation

    def transpose(
        self,
        operator: FileOperator,
        name: str,
        tensor: Tensor,
        permutation: Permutation,
        shape: tuple[int, ...],
    ) -> None:
        """Note that the operator's output is a tensor, seen as `shape`, with its axes in another order.

        Raises:
            UnsupportedError: the output has another type, scale or zero point.
        """
        output = self.output(operator)
        if replace(output, shape=tensor.shape) != tensor:
            raise UnsupportedError("input and output must share type, scale and zero point")
        longer = [axis for axis in permutation if shape[axis] > 1]
        reshape = f"reshape_{operator.index}_out"
        if longer == sorted(longer):  # no value moves
            self._names[operator.output], _ = self.reshaped(name, tensor, output.shape, reshape)
        else:
            name, tensor = self.reshaped(name, tensor, shape, reshape)
            self._transposed[operator.output] = _Transposed(name, tensor, permutation, operator.index)

    def padded_source(self, operator: FileOperator) -> tuple[str, Tensor, Padding]:
        """Return name and tensor of the first input, and (top, bottom, left, right) that PADs add to it."""
        index = operator.inputs[0] if operator.inputs else -1
        if index not in self._pads:
            return *self.source(operator), (0, 0, 0, 0)
        origin, padding = self._pads[index]
        return self._name(origin), activation(self.file.tensor(origin)), padding

    def pad(self, operator: FileOperator, padding: Padding) -> None:
        """Note that the operator's output is its input with padding, on top of what its input has."""
        index = operator.inputs[0]
        origin, before = self._pads.get(index, (index, (0, 0, 0, 0)))
        total = (
            before[0] + padding[0], before[1] + padding[1], before[2] + padding[2], before[3] + padding[3]
        )  # fmt: skip
        self._pads[operator.output] = (origin, total)
        self._names[operator.output] = self._name(origin)

    # ---------------------------------------------------------------------------------------------- constants
    def constant(
        self, operator: FileOperator, position: int, *dtypes: str
    ) -> tuple[FileTensor, Array] | None:
        """Return a constant input, or None where the operator leaves it out.

        Raises:
            UnsupportedError: it is something else.
            ModelFileError: it is something else.
        """
        if position >= len(operator.inputs) or operator.inputs[position] == -1:
            return None
        tensor = self.file.tensor(operator.inputs[position])
        values = tensor.values(*dtypes)
        self._budget -= values.nbytes
        if self._budget < 0:
            raise UnsupportedError(f"the constants of the file are read more than {_MAX_SHARING} times")
        return tensor, values

    def integers(self, operator: FileOperator, position: int) -> list[int] | None:
        """Return an input of a few constant integers, flattened, or None where the operator leaves it out."""
        if position < len(operator.inputs) and operator.inputs[position] in self._known:
            return list(self._known[operator.inputs[position]])
        constant_input = self.constant(operator, position, "int32", "int64")
        if constant_input is None:
            return None
        if constant_input[1].size > 64:
            raise UnsupportedError(f"{constant_input[1].size} values where a few are expected")
        return [int(value) for value in constant_input[1].flatten()]

    def is_known(self, operator: FileOperator, position: int) -> bool:
        """Return whether an input is left out, constant, or follows from shapes."""
        index = operator.inputs[position] if position < len(operator.inputs) else -1
        return index == -1 or index in self._known or self.file.tensor(index).data is not None

    def know(self, operator: FileOperator, values: list[int]) -> None:
        """Note that the operator's output is constant: it follows from shapes alone."""
        self._known[operator.output] = values
        self._unread.pop(operator.output, None)

    # ------------------------------------------------------------------------------------------- what is made
    def output(self, operator: FileOperator) -> Tensor:
        """Return the tensor that the operator makes."""
        return activation(self.file.tensor(operator.output))

    def check_shape(self, operator: FileOperator, expected: tuple[int, ...]) -> None:
        """Check the shape of the operator's output as the file has it.

        Raises:
            ModelFileError: it is another.
        """
        shape = self.file.tensor(operator.output).shape
        if shape != expected:
            raise ModelFileError(f"makes {shape}, expected {expected}")

    def reshaped(self, name: str, tensor: Tensor, shape: tuple[int, ...], reshape: str) -> tuple[str, Tensor]:
        """Return name and tensor of a tensor in another shape; `reshape` names the node that it may need."""
        if tensor.shape == shape:
            return name, tensor
        output = Tensor(shape=shape, dtype=tensor.dtype, scale=tensor.scale, zero_point=tensor.zero_point)
        self.nodes.append(Node(name=reshape, op="reshape", inputs=(name,), output=output))
        return reshape, output

    def add(self, operator: FileOperator, node: Node) -> None:
        """Append the operator's node; where the file's output shape is another, a reshape follows."""
        self.nodes.append(node)
        name, output = node.name, self.output(operator)
        if output.shape != node.output.shape and math.prod(output.shape) == math.prod(node.output.shape):
            name, _ = self.reshaped(name, node.output, output.shape, f"reshape_{operator.index}_out")
        self._names[operator.output] = name

    def add_plain(self, operator: FileOperator, op: str, **more: Any) -> None:
        """Append a node of the host that reads the operator's first input."""
        name, source = self.source(operator)
        node = Node(
            name=f"{op}_{operator.index}", op=op, inputs=(name,), output=self.output(operator), **more
        )
        check_host_node(node, source)
        self.add(operator, node)
