"""A network under construction from a `.tflite` file: names, what is made and read, padding, constants."""

import math
from typing import Any, TypeAlias

from common.arrays import Array
from common.errors import ModelFileError, UnsupportedError
from golden.importers.tflite_file import FileOperator, FileTensor, TfliteFile
from golden.network import Node, Tensor

Padding: TypeAlias = tuple[int, int, int, int]

INPUT_NAME = "input"

_MAX_SHARING = 4  # how often the constants of a file may be read, on average


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
    if tensor.dtype == "float32":
        return Tensor(shape=_without_batch(tensor), dtype="float32")
    if tensor.dtype != "int8":
        raise UnsupportedError(f"tensor {tensor.index} is {tensor.dtype}; activations are int8 or float32")
    if tensor.scales.size != 1:
        raise UnsupportedError(
            f"tensor {tensor.index} has {tensor.scales.size} scales; an activation has one"
        )
    return Tensor(
        shape=_without_batch(tensor), scale=float(tensor.scales[0]), zero_point=int(tensor.zero_points[0])
    )


class TfliteGraph:
    """A network under construction.

    Attributes:
        file: the file that it comes from.
        nodes: those appended so far.
        input: the network's input.
    """

    def __init__(self, file: TfliteFile, size: int) -> None:
        self.file = file
        self.nodes: list[Node] = []
        self.input = activation(file.tensor(file.input))
        self._names = {file.input: INPUT_NAME}
        self._pads: dict[int, tuple[int, Padding]] = {}  # the output of a PAD: what it pads, by how much
        self._unread: dict[int, FileOperator] = {}
        self._budget = _MAX_SHARING * size  # bytes of constants

    def start(self, operator: FileOperator) -> None:
        """Check that the operator can run now: its inputs exist, its output does not yet.

        Raises:
            ModelFileError: an input does not exist yet, or the output does.
        """
        for index in operator.inputs:
            if index != -1 and index not in self._names and self.file.tensor(index).data is None:
                raise ModelFileError(f"reads tensor {index} before an operator has made it")
            self._unread.pop(index, None)
        if operator.output in self._names:
            raise ModelFileError(f"makes tensor {operator.output} a second time")
        self._unread[operator.output] = operator

    def finish(self) -> None:
        """Check that everything that was made is used, and the last node makes the output.

        Raises:
            UnsupportedError: something is not read, or the output is padded or the input.
        """
        if self.file.output in self._pads:
            raise UnsupportedError("the network's output is padded; only a convolution can absorb a PAD")
        last = self._unread.pop(self.file.output, None)
        if self._unread:
            operator = next(iter(self._unread.values()))
            raise UnsupportedError(
                f"operator {operator.index} ({operator.name}) makes tensor {operator.output}, "
                "which nothing reads"
            )
        if last is None:
            raise UnsupportedError("the network's output is its input, or read again inside the network")

    def source(self, operator: FileOperator, position: int = 0) -> tuple[str, Tensor]:
        """Return name and tensor of an input that another operator makes.

        Raises:
            ModelFileError: there is none.
            UnsupportedError: it is constant or padded.
        """
        if position >= len(operator.inputs):
            raise ModelFileError(f"has {len(operator.inputs)} inputs; input {position} is missing")
        index = operator.inputs[position]
        tensor = activation(self.file.tensor(index))
        if index in self._pads:
            raise UnsupportedError("reads the output of a PAD, which only a convolution can absorb")
        return self._names[index], tensor

    def padded_source(self, operator: FileOperator) -> tuple[str, Tensor, Padding]:
        """Return name and tensor of the first input, and (top, bottom, left, right) that PADs add to it."""
        index = operator.inputs[0] if operator.inputs else -1
        if index not in self._pads:
            return *self.source(operator), (0, 0, 0, 0)
        origin, padding = self._pads[index]
        return self._names[origin], activation(self.file.tensor(origin)), padding

    def pad(self, operator: FileOperator, padding: Padding) -> None:
        """Note that the operator's output is its input with padding, on top of what its input has."""
        index = operator.inputs[0]
        origin, before = self._pads.get(index, (index, (0, 0, 0, 0)))
        total = (
            before[0] + padding[0], before[1] + padding[1], before[2] + padding[2], before[3] + padding[3]
        )  # fmt: skip
        self._pads[operator.output] = (origin, total)
        self._names[operator.output] = self._names[origin]

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
        """Return a constant input of a few integers, flattened, or None where the operator leaves it out."""
        constant_input = self.constant(operator, position, "int32", "int64")
        if constant_input is None:
            return None
        if constant_input[1].size > 64:
            raise UnsupportedError(f"{constant_input[1].size} values where a few are expected")
        return [int(value) for value in constant_input[1].flatten()]

    def output(self, operator: FileOperator) -> Tensor:
        """Return the tensor that the operator makes."""
        return activation(self.file.tensor(operator.output))

    def add(self, operator: FileOperator, node: Node) -> None:
        """Append the operator's node; where the file's output shape is another, a reshape follows."""
        self.nodes.append(node)
        name, output = node.name, self.output(operator)
        if output.shape != node.output.shape and math.prod(output.shape) == math.prod(node.output.shape):
            name = f"reshape_{operator.index}_out"
            self.nodes.append(Node(name=name, op="reshape", inputs=(node.name,), output=output))
        self._names[operator.output] = name

    def add_plain(self, operator: FileOperator, op: str, **more: Any) -> None:
        """Append a node without a layer that reads the operator's first input."""
        name, _ = self.source(operator)
        node = Node(
            name=f"{op}_{operator.index}", op=op, inputs=(name,), output=self.output(operator), **more
        )
        self.add(operator, node)
