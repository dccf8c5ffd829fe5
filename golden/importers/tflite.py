"""Imports int8 `.tflite` models, with the constants that TensorFlow Lite's reference kernels compute with.

A network that is imported gives, tensor by tensor, the numbers of the interpreter with its reference kernels.
`golden.importers.tflite_operators` has the operators that are supported; the others are refused by name.

Names: the network's input is "input"; the node of operator number i of the file is "<operator>_<i>", such as
"conv2d_0" or "add_3", with the operator's name here and not the file's. A reshape that only the file's shapes
imply is "reshape_<i>_in" or "reshape_<i>_out". The batch axis, which must be 1, is dropped. A PAD makes no
node but becomes padding of the convolution that reads it. An operator whose output nothing reads is refused.
"""

from pathlib import Path

from common.errors import ArithmeticRangeError, ModelFileError, NpuloopError, UnsupportedError
from golden.importers.tflite_file import PARSE_ERRORS, TfliteFile, read_content
from golden.importers.tflite_graph import INPUT_NAME, TfliteGraph
from golden.importers.tflite_operators import CONVERTERS
from golden.network import Network


def load_tflite(path: str | Path) -> Network:
    """Read an int8 `.tflite` model.

    Raises:
        UnsupportedError: a model that is valid but not supported, naming the operator and what is supported.
        ModelFileError: a file that is missing, damaged or contradicts itself. Both name the file.
    """
    path = Path(path)
    content = read_content(path)
    try:
        return _network(path.stem, TfliteFile(content), len(content))
    except (UnsupportedError, ArithmeticRangeError) as error:
        raise UnsupportedError(f"{path}: {error}") from None
    except NpuloopError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except PARSE_ERRORS as error:
        raise ModelFileError(f"{path}: damaged or cut off ({type(error).__name__}: {error})") from None


def _network(name: str, file: TfliteFile, size: int) -> Network:
    graph = TfliteGraph(file, size)
    for operator in file.operators:
        convert = CONVERTERS.get(operator.name)
        where = f"operator {operator.index} ({operator.name})"
        if convert is None:
            raise UnsupportedError(f"{where} is not supported; supported are {', '.join(CONVERTERS)}")
        try:
            graph.start(operator)
            convert(graph, operator)
        except (UnsupportedError, ArithmeticRangeError) as error:
            raise UnsupportedError(f"{where}: {error}") from None
        except NpuloopError as error:
            raise ModelFileError(f"{where}: {error}") from None
    graph.finish()
    return Network(name=name, input_name=INPUT_NAME, input=graph.input, nodes=tuple(graph.nodes))
