"""From a float `torch.nn.Module` to a graph of the operators of `golden.layer`, still in floating point.

The module is traced with torch.fx in evaluation mode. Batch normalisation is folded into the convolution or
linear layer before it, ReLU and ReLU6 become the clamp of the operator before them, dropout disappears.
`golden.quantize.traced_operators` says what each module and function becomes.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from common.errors import NetworkError, UnsupportedError
from golden.quantize.float_graph import FloatGraph
from golden.quantize.graph_builder import GraphBuilder, channels_last
from golden.quantize.traced_operators import FUNCTIONS, METHODS, MODULES


def trace(model: nn.Module, example: Tensor) -> FloatGraph:
    """Return the graph of a trained float module, which stays as it is.

    Args:
        model: the module; it takes one tensor, (N, C, H, W) or (N, C), and returns one.
        example: such a tensor; its shape counts, and the module is run on it once.

    Raises:
        UnsupportedError: something is outside `SUPPORTED`; the message has the module's path or the function.
        NetworkError: the module cannot be traced, run, or does nothing.
    """
    if example.ndim not in (2, 4) or not example.is_floating_point():
        raise UnsupportedError(
            f"the module's input is {example.dtype} {tuple(example.shape)}; supported are floating-point "
            "images (N, C, H, W) and vectors (N, C)"
        )
    model = copy.deepcopy(model).eval().cpu().float()
    if type(model) in MODULES:  # torch.fx looks into the outermost module, whatever it is
        model = nn.Sequential(model)
    try:
        graph_module = fx.symbolic_trace(model)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise NetworkError(
            f"{type(model).__name__} cannot be traced by torch.fx ({error}); its forward must not "
            "depend on the data"
        ) from error
    graph_module.graph.eliminate_dead_code()
    # Two different images, so that a shape that depends on the batch's size shows.
    image = example[:1].detach().cpu().float()
    shapes = _Shapes(graph_module)
    try:
        with torch.no_grad():
            shapes.run(torch.cat([image, image]))
    except Exception as error:  # as above
        raise NetworkError(f"{type(model).__name__} cannot run on {tuple(example.shape)}: {error}") from error
    graph = GraphBuilder(graph_module, shapes.shapes, shapes.sizes)
    for node in graph_module.graph.nodes:
        _add_node(graph, node)
    if not graph.nodes:
        raise NetworkError("the module has no operators")
    return FloatGraph(
        input_name=graph.input_name, input_shape=graph.input_shape, nodes=tuple(graph.nodes.values())
    )


class _Shapes(fx.Interpreter):
    """Runs a traced module and remembers every tensor's shape, and the sizes computed from shapes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.sizes: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node; see the class."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        else:
            self.sizes[n] = result
        return result


def _add_node(graph: GraphBuilder, node: fx.Node) -> None:
    if node.op == "placeholder":
        if not node.users:
            return
        if graph.input_name:
            raise UnsupportedError(f"the module takes a second input {node.target!r}; one is supported")
        graph.input_name, graph.input_shape = str(node.target), channels_last(graph.shapes[node])
        graph.sources[node] = graph.input_name
    elif node.op == "output":
        _check_output(graph, node)
    elif node in graph.shapes:
        _add_operator(graph, node)
    # what remains are sizes, which `sizes` holds


def _check_output(graph: GraphBuilder, node: fx.Node) -> None:
    result = node.args[0]
    if not isinstance(result, fx.Node) or result not in graph.sources:
        raise UnsupportedError("the module returns something else than one tensor that it computed")
    graph.check_no_padding(result, "the module's output")
    columns = graph.columns.get(graph.sources[result], (1, 1, 1))
    if columns[1:] != (1, 1):
        raise UnsupportedError(
            f"the module's output is a flattened image of {columns}: its values would change places, as "
            "a network holds channels last; return the image itself"
        )


def _add_operator(graph: GraphBuilder, node: fx.Node) -> None:
    if node.op == "call_module":
        module = graph.modules[str(node.target)]
        handler: Callable[..., None] | None = MODULES.get(type(module))
        if handler is None:
            raise graph.unsupported(node, type(module).__name__)
        handler(graph, node, module)
        return
    tables: dict[str, Mapping[Any, Callable[..., None]]] = {
        "call_function": FUNCTIONS,
        "call_method": METHODS,
    }
    handler = tables.get(node.op, {}).get(node.target)
    if handler is None:
        raise graph.unsupported(node, getattr(node.target, "__name__", str(node.target)))
    handler(graph, node, None)
