# SPDX-License-Identifier: Apache-2.0
"""Imports int8 `.tflite` models, with the constants that TensorFlow Lite's reference kernels compute with.

A network that is imported gives, tensor by tensor, the numbers of the interpreter with its reference kernels.
`golden.importers.tflite_operators` has the operators that are supported; the others are refused by name, all
of them in one message.

Names: the network's inputs are "input", "input_1" and so on; the node of operator number i of the file is
"<operator>_<i>", such as "conv2d_0" or "add_3", with the operator's name here and not the file's. A reshape
that only the file's shapes imply is "reshape_<i>_in" or "reshape_<i>_out". The batch axis, which must be 1,
is dropped. An operator whose output nothing reads is refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from common.errors import ArithmeticRangeError, ModelFileError, NpuloopError, UnsupportedError, together
from golden.importers.tflite_file import PARSE_ERRORS, FileOperator, TfliteFile, read_content
from golden.importers.tflite_graph import TfliteGraph
from golden.importers.tflite_operators import CONVERTERS, refusal
from golden.network import Network

_NAMED = 6  # operators that one reason names


@dataclass(frozen=True)
class OperatorReport:
    """What became of one operator of a file.

    Attributes:
        index, name: its place in the file, and its name there.
        runs: where it runs, as in `tflite_operators.Converter`; "" where it is refused.
        nodes: names of the nodes that it became.
        reason: why it is refused, else "".
    """

    index: int
    name: str
    runs: str
    nodes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, eq=False)
class TfliteReport:
    """What became of a file.

    Attributes:
        operators: all operators, in the file's order.
        network: the network; None where anything is refused.
        error: what `load_tflite` raises then.
    """

    operators: tuple[OperatorReport, ...]
    network: Network | None
    error: NpuloopError | None


def load_tflite(path: str | Path) -> Network:
    """Read an int8 `.tflite` model.

    Raises:
        UnsupportedError: a model that is valid but not supported, naming all operators that are not, and what
            is supported.
        ModelFileError: a file that is missing, damaged or contradicts itself. Both name the file.
    """
    report = examine_tflite(path)
    if report.network is None:
        assert report.error is not None
        raise report.error
    return report.network


def examine_tflite(path: str | Path) -> TfliteReport:
    """Read an int8 `.tflite` model, and say what became of each of its operators.

    Raises:
        UnsupportedError: the file as a whole is not supported.
        ModelFileError: it is missing or damaged. Both name the file.
    """
    path = Path(path)
    content = read_content(path)
    try:
        return _Examination(TfliteFile(content), len(content), path).report()
    except (UnsupportedError, ArithmeticRangeError) as error:
        raise UnsupportedError(f"{path}: {error}") from None
    except NpuloopError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except PARSE_ERRORS as error:
        raise ModelFileError(f"{path}: damaged or cut off ({type(error).__name__}: {error})") from None


class _Examination:
    """Converts the operators one after the other, and collects all reasons against them."""

    def __init__(self, file: TfliteFile, size: int, path: Path) -> None:
        self._file, self._path = file, path
        self._unknown = [operator for operator in file.operators if operator.name not in CONVERTERS]
        self._damaged = False
        self._reasons: list[tuple[FileOperator, str]] = []
        try:
            self._graph = TfliteGraph(file, size)
        except NpuloopError as error:
            if not self._unknown:
                raise
            lines = [str(error), *_lines([(item, refusal(item.name)) for item in self._unknown])]
            raise type(error)(together(lines, "cannot be imported")) from None

    def report(self) -> TfliteReport:
        """Return what became of the file."""
        made = [self._operator(operator) for operator in self._file.operators]
        # a TRANSPOSE becomes a node only when another operator reads it
        late = {f"transpose_{operator.index}" for operator in self._file.operators}
        present = {node.name for node in self._graph.nodes}
        operators = tuple(
            replace(item, nodes=tuple(
                name for name in (*item.nodes, f"transpose_{item.index}")
                if name in present and (name not in late or name == f"transpose_{item.index}")
            ))
            for item in made
        )  # fmt: skip
        lines = list(_lines(self._reasons))
        outputs: tuple[str, ...] = ()
        if self._file.graphs > 1:
            lines.insert(0, f"{self._file.graphs} subgraphs; supported is one")
        if not lines:
            outputs = self._graph.finish()
            if outputs == (self._graph.nodes[-1].name,):
                outputs = ()
        if self._unknown:
            supported = f"supported are {', '.join(CONVERTERS)}"
            lines = [f"{lines[0]}; {supported}"] if len(lines) == 1 else [*lines, supported]
        if lines:
            kind = ModelFileError if self._damaged else UnsupportedError
            error = kind(f"{self._path}: {together(lines, 'cannot be imported')}")
            return TfliteReport(operators, None, error)
        (name, first), *others = self._graph.inputs.items()
        network = Network(
            name=self._path.stem, input_name=name, input=first, more_inputs=dict(others),
            nodes=tuple(self._graph.nodes), outputs=outputs,
        )  # fmt: skip
        return TfliteReport(operators, network, None)

    def _operator(self, operator: FileOperator) -> OperatorReport:
        before = len(self._graph.nodes)
        converter = CONVERTERS.get(operator.name)
        reason = ""
        if converter is None:
            reason = refusal(operator.name)
        else:
            try:
                operator.check_lists()
                self._graph.start(operator)
                converter.convert(self._graph, operator)
            except (UnsupportedError, ArithmeticRangeError) as error:
                reason = str(error)
            except NpuloopError as error:
                reason, self._damaged = str(error), True
        if converter is None or reason:
            self._graph.fail(operator)
            self._reasons.append((operator, reason))
            reason = reason or "not supported"
        nodes = tuple(node.name for node in self._graph.nodes[before:])
        runs = converter.runs if converter and not reason else ""
        return OperatorReport(operator.index, operator.name, runs, nodes, reason)


def _lines(reasons: Sequence[tuple[FileOperator, str]]) -> Iterator[str]:
    """Yield one line for each reason, with all operators that it speaks against."""
    grouped: dict[tuple[str, str], list[FileOperator]] = {}
    for operator, reason in reasons:
        unknown = operator.name if operator.name not in CONVERTERS else ""
        grouped.setdefault((unknown, reason), []).append(operator)
    for (unknown, reason), operators in grouped.items():
        where = operators[0].where
        if len(operators) > 1:
            named = ", ".join(_named(operator, unknown) for operator in islice(operators, _NAMED))
            more = f" and {len(operators) - _NAMED} more" if len(operators) > _NAMED else ""
            where = f"operators {named}{more}" + (f" ({unknown})" if unknown else "")
        if unknown:
            where += " is not supported" if len(operators) == 1 else " are not supported"
        yield f"{where}: {reason}" if reason else where


def _named(operator: FileOperator, unknown: str) -> str:
    return str(operator.index) if unknown else f"{operator.index} ({operator.name})"
