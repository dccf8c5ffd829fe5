"""The float graph of a traced module under construction: names, shapes, padding and what can be fused."""

from collections.abc import Mapping
from typing import Any

from torch import fx

from common.errors import UnsupportedError
from golden.quantize.float_graph import FloatNode, Pair

SUPPORTED = (
    "Conv2d (plain or depthwise), Linear, BatchNorm1d and BatchNorm2d after them, ReLU, ReLU6, addition of "
    "two tensors, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, mean over height and width, flattening, "
    "ZeroPad2d before a convolution, Dropout, Identity; and the functional forms of those without weights"
)


def pair(value: Any) -> Pair:
    """Return (vertical, horizontal) from one number for both, or from one or two numbers."""
    if isinstance(value, int):
        return value, value
    items = tuple(int(item) for item in value)
    return (items[0], items[0]) if len(items) == 1 else (items[0], items[1])


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its batch axis, channels last."""
    return (*shape[2:], shape[1])


class GraphBuilder:
    """A float graph under construction, from the nodes of a traced module, one after the other.

    Attributes:
        modules: the module's parts, by path.
        traced: the graph of torch.fx.
        shapes: of every tensor of torch.fx, with the batch axis.
        sizes: the value of every node of torch.fx that is no tensor.
        sources: for every node of torch.fx that makes a tensor, the name of ours that holds it.
        nodes: those made so far, by name.
        pads: zeros, (top, bottom, left, right), that the readers of a torch.fx node add before they read.
        columns: (C, H, W) of the flattened images.
        input_name, input_shape: of the network's input; empty until it is known.
    """

    def __init__(
        self, module: fx.GraphModule, shapes: Mapping[fx.Node, tuple[int, ...]], sizes: Mapping[fx.Node, Any]
    ) -> None:
        self.modules = dict(module.named_modules())
        self.traced = module.graph
        self.shapes = shapes
        self.sizes = sizes
        self.sources: dict[fx.Node, str] = {}
        self.nodes: dict[str, FloatNode] = {}
        self.pads: dict[fx.Node, tuple[int, int, int, int]] = {}
        self.columns: dict[str, tuple[int, int, int]] = {}
        self.input_name = ""
        self.input_shape: tuple[int, ...] = ()

    def where(self, node: fx.Node) -> str:
        """Return what a message calls a node: its kind and its path or name."""
        kinds = {"call_module": "module", "call_function": "function", "call_method": "method"}
        kind = kinds.get(node.op, "value")
        name = str(node.target) if node.op in ("call_module", "get_attr") else node.name
        return f"{kind} {name!r}"

    def unsupported(self, node: fx.Node, what: str) -> UnsupportedError:
        """Return the error of a node whose kind is not supported."""
        return UnsupportedError(f"{self.where(node)}: {what} is not supported; supported are {SUPPORTED}")

    def refuse(self, node: fx.Node, why: str) -> UnsupportedError:
        """Return the error of a node that is supported, but not so."""
        return UnsupportedError(f"{self.where(node)}: {why}")

    def arguments(self, node: fx.Node, **defaults: Any) -> dict[str, Any]:
        """Return the arguments after the first of a call, by name, with `defaults` where they are not given.

        Raises:
            UnsupportedError: there is another argument.
        """
        given = dict(zip(defaults, node.args[1:], strict=False)) | dict(node.kwargs)
        given.pop("input", None)
        unknown = set(given) - set(defaults)
        if unknown or len(node.args) > len(defaults) + 1:
            raise self.refuse(node, f"its arguments {sorted(unknown)} are not understood")
        return {
            name: fx.node.map_arg(value, lambda source: self.sizes.get(source, source))
            for name, value in (defaults | given).items()
        }

    def input_of(self, node: fx.Node) -> fx.Node:
        """Return the node that makes the first tensor that a node reads.

        Raises:
            UnsupportedError: the network has not computed it.
        """
        source = node.args[0] if node.args else node.kwargs.get("input")
        if not isinstance(source, fx.Node) or source not in self.sources:
            raise self.refuse(node, "it reads something else than a tensor that the network computed")
        return source

    def check_no_padding(self, source: fx.Node, reader: str) -> None:
        """Check that a tensor is read without padding.

        Raises:
            UnsupportedError: a padding comes before `reader`.
        """
        if source in self.pads:
            raise UnsupportedError(f"{reader} reads padded data; only a convolution can")

    def new_name(self, node: fx.Node) -> str:
        """Return a name that no operator has: the module's path, or torch.fx's name of the call."""
        preferred = str(node.target) if node.op == "call_module" else node.name
        return self.unique(node.name if preferred in self.nodes else preferred)

    def unique(self, preferred: str) -> str:
        """Return a name as wanted, with a number behind it where it is taken."""
        names = (preferred, *(f"{preferred}_{i}" for i in range(2, len(self.nodes) + 4)))
        return next(name for name in names if name not in self.nodes and name != self.input_name)

    def append(self, node: fx.Node, op: str, inputs: tuple[fx.Node, ...], **values: Any) -> FloatNode:
        """Append the operator of a torch.fx node; its output has the shape that the module computed."""
        appended = FloatNode(
            name=self.new_name(node),
            op=op,
            inputs=tuple(self.sources[source] for source in inputs),
            shape=channels_last(self.shapes[node]),
            **values,
        )
        self.nodes[appended.name] = appended
        self.sources[node] = appended.name
        return appended

    def image(self, node: fx.Node, source: fx.Node) -> tuple[int, ...]:
        """Return (H, W) of the image that a node reads.

        Raises:
            UnsupportedError: it reads no image.
        """
        if len(self.shapes[source]) != 4:
            raise self.refuse(node, f"it reads {self.shapes[source][1:]}, not an image (C, H, W)")
        return self.shapes[source][2:]

    def fusable(self, node: fx.Node, source: fx.Node, ops: tuple[str, ...], what: str) -> FloatNode:
        """Return the operator before `node` that can take `node` in.

        It is one of `ops`, and nothing but `node` reads what it makes.

        Raises:
            UnsupportedError: there is no such operator.
        """
        self.check_no_padding(source, self.where(node))
        producer = self.nodes.get(self.sources[source])
        if producer is None or producer.op not in ops:
            before = "the network's input" if producer is None else producer.op
            raise self.refuse(node, f"{what} comes after {before}; it must follow one of {', '.join(ops)}")
        others = self.readers(producer.name) - {node}
        if others:
            raise self.refuse(
                node,
                f"{what} changes the output of {producer.name!r}, which "
                f"{', '.join(sorted(reader.name for reader in others))} read without it; "
                "that is supported only where nothing else reads it",
            )
        return producer

    def readers(self, name: str) -> set[fx.Node]:
        """Return the nodes of torch.fx that read our tensor `name` and make another, or are the output."""
        return {
            reader
            for source, holder in self.sources.items()
            if holder == name
            for reader in source.users
            if self.sources.get(reader) != name and (reader in self.shapes or reader.op == "output")
        }
