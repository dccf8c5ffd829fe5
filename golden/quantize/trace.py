"""From a float `torch.nn.Module` to a graph of the operators of `golden.layer`, still in floating point.

The module is traced with torch.fx in evaluation mode. Batch normalisation is folded into the convolution or
linear layer before it, ReLU and ReLU6 become the clamp of the operator before them, dropout disappears.
Shapes are channels last and without the batch axis, as in `golden.network`; weights keep PyTorch's order of
axes, except that a linear layer behind a flattened image has its columns moved from (C, H, W) to (H, W, C).
"""

import copy
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from common.errors import NetworkError, UnsupportedError
from golden.operators import output_size

Pair: TypeAlias = tuple[int, int]

SUPPORTED = (
    "Conv2d (plain or depthwise), Linear, BatchNorm1d and BatchNorm2d after them, ReLU, ReLU6, addition of "
    "two tensors, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, mean over height and width, flattening, "
    "ZeroPad2d before a convolution, Dropout, Identity; and the functional forms of those without weights"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNode:
    """One operator in floating point.

    Attributes:
        name: the module's path, or torch.fx's name of a function call.
        op: an operator of `golden.layer.OPS`, or reshape.
        inputs: names of the tensors it reads.
        shape: of its output, (H, W, C) or (C,).
        weight: of conv2d (K, C, KH, KW), of depthwise_conv2d (K, 1, KH, KW), of fully_connected (K, C).
        bias: (K,).
        stride, dilation, kernel: (vertical, horizontal); the kernel is that of a pool.
        padding: (top, bottom, left, right) zeros.
        low, high: the clamp of its output: (0, inf) is a ReLU.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    weight: Tensor | None = None
    bias: Tensor | None = None
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    kernel: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatGraph:
    """A float network. The last node makes the output.

    Attributes:
        input_name: the name of the module's argument.
        input_shape: (H, W, C) or (C,).
        nodes: in an order in which they can run.
    """

    input_name: str
    input_shape: tuple[int, ...]
    nodes: tuple[FloatNode, ...]


def trace(model: nn.Module, example: Tensor) -> FloatGraph:
    """The graph of a trained float module, which stays as it is.

    Args:
        model: the module; it takes one tensor, (N, C, H, W) or (N, C), and returns one.
        example: such a tensor; its shape counts, and the module is run on it once.

    Raises: UnsupportedError, naming the module's path or the function, for anything outside `SUPPORTED`;
        NetworkError where the module cannot be traced, run, or does nothing.
    """
    if example.ndim not in (2, 4) or not example.is_floating_point():
        raise UnsupportedError(
            f"the module's input is {example.dtype} {tuple(example.shape)}; supported are floating-point "
            "images (N, C, H, W) and vectors (N, C)"
        )
    model = copy.deepcopy(model).eval().cpu().float()
    if type(model) in _MODULES:  # torch.fx looks into the outermost module, whatever it is
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
    return _Builder(graph_module, shapes.shapes, shapes.sizes).build()


class _Shapes(fx.Interpreter):
    """Runs a traced module and remembers every tensor's shape, and the sizes computed from shapes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.sizes: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Runs one node; see the class."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        else:
            self.sizes[n] = result
        return result


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    items = tuple(int(item) for item in value)
    return (items[0], items[0]) if len(items) == 1 else (items[0], items[1])


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without its batch axis, channels last."""
    return (*shape[2:], shape[1])


class _Builder:
    """Turns the nodes of a traced module into `FloatNode`s, one after the other.

    Attributes:
        shapes: of every tensor of torch.fx, with the batch axis.
        sizes: the value of every node of torch.fx that is no tensor.
        sources: for every node of torch.fx that makes a tensor, the name of ours that holds it.
        nodes: those made so far, by name.
        pads: zeros, (top, bottom, left, right), that the readers of a torch.fx node add before they read.
        columns: (C, H, W) of the flattened images.
    """

    def __init__(
        self, module: fx.GraphModule, shapes: Mapping[fx.Node, tuple[int, ...]], sizes: Mapping[fx.Node, Any]
    ) -> None:
        self.modules = dict(module.named_modules())
        self.graph = module.graph
        self.shapes = shapes
        self.sizes = sizes
        self.sources: dict[fx.Node, str] = {}
        self.nodes: dict[str, FloatNode] = {}
        self.pads: dict[fx.Node, tuple[int, int, int, int]] = {}
        self.columns: dict[str, tuple[int, int, int]] = {}
        self.input_name = ""
        self.input_shape: tuple[int, ...] = ()

    def build(self) -> FloatGraph:
        """The graph; see `trace`."""
        for node in self.graph.nodes:
            self._add_node(node)
        if not self.nodes:
            raise NetworkError("the module has no operators")
        return FloatGraph(
            input_name=self.input_name, input_shape=self.input_shape, nodes=tuple(self.nodes.values())
        )

    def _add_node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if not node.users:
                return
            if self.input_name:
                raise UnsupportedError(f"the module takes a second input {node.target!r}; one is supported")
            self.input_name, self.input_shape = str(node.target), _channels_last(self.shapes[node])
            self.sources[node] = self.input_name
        elif node.op == "output":
            self._check_output(node)
        elif node in self.shapes:
            self._add_operator(node)
        # what remains are sizes, which `sizes` holds

    def _check_output(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node) or result not in self.sources:
            raise UnsupportedError("the module returns something else than one tensor that it computed")
        self._no_pad(result, "the module's output")
        columns = self.columns.get(self.sources[result], (1, 1, 1))
        if columns[1:] != (1, 1):
            raise UnsupportedError(
                f"the module's output is a flattened image of {columns}: its values would change places, as "
                "a network holds channels last; return the image itself"
            )

    def _add_operator(self, node: fx.Node) -> None:
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            handler: Callable[..., None] | None = _MODULES.get(type(module))
            if handler is None:
                raise self._unsupported(node, type(module).__name__)
            handler(self, node, module)
            return
        table: Mapping[Any, Callable[..., None]] = {"call_function": _FUNCTIONS, "call_method": _METHODS}.get(
            node.op, {}
        )
        handler = table.get(node.target)
        if handler is None:
            raise self._unsupported(node, getattr(node.target, "__name__", str(node.target)))
        handler(self, node, None)

    # ------------------------------------------------------------------------------------------- helpers
    def _where(self, node: fx.Node) -> str:
        kinds = {"call_module": "module", "call_function": "function", "call_method": "method"}
        kind = kinds.get(node.op, "value")
        name = str(node.target) if node.op in ("call_module", "get_attr") else node.name
        return f"{kind} {name!r}"

    def _unsupported(self, node: fx.Node, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self._where(node)}: {what} is not supported; supported are {SUPPORTED}")

    def _refuse(self, node: fx.Node, why: str) -> UnsupportedError:
        return UnsupportedError(f"{self._where(node)}: {why}")

    def _arguments(self, node: fx.Node, **defaults: Any) -> dict[str, Any]:
        """The arguments after the first of a call, by name, with `defaults` where they are not given."""
        given = dict(zip(defaults, node.args[1:], strict=False)) | dict(node.kwargs)
        given.pop("input", None)
        unknown = set(given) - set(defaults)
        if unknown or len(node.args) > len(defaults) + 1:
            raise self._refuse(node, f"its arguments {sorted(unknown)} are not understood")
        return {
            name: fx.node.map_arg(value, lambda source: self.sizes.get(source, source))
            for name, value in (defaults | given).items()
        }

    def _input(self, node: fx.Node) -> fx.Node:
        source = node.args[0] if node.args else node.kwargs.get("input")
        if not isinstance(source, fx.Node) or source not in self.sources:
            raise self._refuse(node, "it reads something else than a tensor that the network computed")
        return source

    def _no_pad(self, source: fx.Node, reader: str) -> None:
        if source in self.pads:
            raise UnsupportedError(f"{reader} reads padded data; only a convolution can")

    def _name(self, node: fx.Node) -> str:
        """A name for the operator that no other has: the module's path, or torch.fx's name of the call."""
        wanted = str(node.target) if node.op == "call_module" else node.name
        return self._unique(node.name if wanted in self.nodes else wanted)

    def _unique(self, wanted: str) -> str:
        names = (wanted, *(f"{wanted}_{i}" for i in range(2, len(self.nodes) + 4)))
        return next(name for name in names if name not in self.nodes and name != self.input_name)

    def _append(self, node: fx.Node, op: str, inputs: tuple[fx.Node, ...], **values: Any) -> FloatNode:
        """Makes the operator of a torch.fx node; its output has the shape that the module computed."""
        made = FloatNode(
            name=self._name(node),
            op=op,
            inputs=tuple(self.sources[source] for source in inputs),
            shape=_channels_last(self.shapes[node]),
            **values,
        )
        self.nodes[made.name] = made
        self.sources[node] = made.name
        return made

    def _image(self, node: fx.Node, source: fx.Node) -> tuple[int, ...]:
        """(H, W) of the image that a node reads."""
        if len(self.shapes[source]) != 4:
            raise self._refuse(node, f"it reads {self.shapes[source][1:]}, not an image (C, H, W)")
        return self.shapes[source][2:]

    def _fusable(self, node: fx.Node, source: fx.Node, ops: tuple[str, ...], what: str) -> FloatNode:
        """The operator before `node` that can take `node` in.

        It is one of `ops`, and nothing but `node` reads what it makes.
        """
        self._no_pad(source, self._where(node))
        producer = self.nodes.get(self.sources[source])
        if producer is None or producer.op not in ops:
            before = "the network's input" if producer is None else producer.op
            raise self._refuse(node, f"{what} comes after {before}; it must follow one of {', '.join(ops)}")
        others = self._readers(producer.name) - {node}
        if others:
            raise self._refuse(
                node,
                f"{what} changes the output of {producer.name!r}, which "
                f"{', '.join(sorted(reader.name for reader in others))} read without it; "
                "that is supported only where nothing else reads it",
            )
        return producer

    def _readers(self, name: str) -> set[fx.Node]:
        """The nodes of torch.fx that read our tensor `name` and make another one, or are the output."""
        return {
            reader
            for source, holder in self.sources.items()
            if holder == name
            for reader in source.users
            if self.sources.get(reader) != name and (reader in self.shapes or reader.op == "output")
        }

    # ----------------------------------------------------------------------------- operators with weights
    def _weighted_parameters(self, node: fx.Node, module: nn.Conv2d | nn.Linear) -> tuple[Tensor, Tensor]:
        calls = self.graph.find_nodes(op="call_module", target=node.target)
        if len(calls) > 1:
            raise self._refuse(node, "it is called more than once; shared weights are not supported")
        weight = module.weight.detach().clone()
        bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().clone()
        return weight, bias

    def conv2d(self, node: fx.Node, module: nn.Conv2d) -> None:
        """A plain or a depthwise convolution."""
        source = self._input(node)
        self._image(node, source)
        if module.groups == 1:
            op = "conv2d"
        elif module.groups == module.in_channels:
            op = "depthwise_conv2d"
        else:
            raise self._refuse(
                node,
                f"groups={module.groups} with {module.in_channels} channels; supported are 1 and depthwise",
            )
        if module.padding_mode != "zeros":
            raise self._refuse(node, f"padding_mode={module.padding_mode!r}; supported is 'zeros'")
        dilation, kernel = _pair(module.dilation), _pair(module.kernel_size)
        if module.padding == "same":  # an odd pixel goes to the end
            totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            own = tuple(size for total in totals for size in (total // 2, total - total // 2))
        else:
            vertical, horizontal = (0, 0) if module.padding == "valid" else _pair(module.padding)
            own = (vertical, vertical, horizontal, horizontal)
        before = self.pads.get(source, (0, 0, 0, 0))
        weight, bias = self._weighted_parameters(node, module)
        self._append(
            node,
            op,
            (source,),
            weight=weight,
            bias=bias,
            stride=_pair(module.stride),
            dilation=dilation,
            padding=tuple(a + b for a, b in zip(before, own, strict=True)),
        )

    def linear(self, node: fx.Node, module: nn.Linear) -> None:
        """A fully connected layer; the columns of its weights follow the flattened image."""
        source = self._input(node)
        self._no_pad(source, self._where(node))
        if len(self.shapes[source]) != 2:
            raise self._refuse(node, f"it reads {self.shapes[source][1:]}; flatten the image before it")
        weight, bias = self._weighted_parameters(node, module)
        columns = self.columns.get(self.sources[source])
        if columns is not None:
            weight = weight.reshape(-1, *columns).permute(0, 2, 3, 1).flatten(start_dim=1)
        self._append(node, "fully_connected", (source,), weight=weight, bias=bias)

    def batch_norm(self, node: fx.Node, module: nn.BatchNorm2d) -> None:
        """Folds a normalisation with its running statistics into the layer before it."""
        source = self._input(node)
        ops = ("conv2d", "depthwise_conv2d", "fully_connected")
        producer = self._fusable(node, source, ops, "batch normalisation")
        if (producer.low, producer.high) != (-math.inf, math.inf):
            raise self._refuse(node, f"batch normalisation comes after the ReLU of {producer.name!r}")
        if module.running_mean is None or module.running_var is None:
            raise self._refuse(node, "it has no running statistics; supported is track_running_stats=True")
        assert producer.weight is not None
        assert producer.bias is not None
        deviation = (module.running_var.double() + module.eps).sqrt()
        gain = (1.0 if module.weight is None else module.weight.detach().double()) / deviation
        shift = 0.0 if module.bias is None else module.bias.detach().double()
        weight = producer.weight.double() * gain.reshape(-1, *[1] * (producer.weight.ndim - 1))
        bias = (producer.bias.double() - module.running_mean.double()) * gain + shift
        self.nodes[producer.name] = replace(producer, weight=weight.float(), bias=bias.float())
        self.sources[node] = producer.name

    # -------------------------------------------------------------------------- operators without weights
    def relu(self, node: fx.Node, module: nn.Module | None, high: float = math.inf) -> None:
        """Makes a rectifier the clamp of the operator before it."""
        if module is None and node.op == "call_function":
            self._arguments(node, inplace=False)
        ops = ("conv2d", "depthwise_conv2d", "fully_connected", "add", "average_pool", "max_pool")
        producer = self._fusable(node, self._input(node), ops, "a ReLU")
        self.nodes[producer.name] = replace(
            producer, low=max(producer.low, 0.0), high=min(producer.high, high)
        )
        self.sources[node] = producer.name

    def relu6(self, node: fx.Node, module: nn.Module | None) -> None:
        """As `relu`, with 6 as the largest value."""
        self.relu(node, module, 6.0)

    def add(self, node: fx.Node, _module: None) -> None:
        """The sum of two tensors of one shape."""
        scale = self._arguments(node, other=None, alpha=1)
        first, second = self._input(node), scale["other"]
        if not isinstance(second, fx.Node) or second not in self.sources or scale["alpha"] != 1:
            raise self._refuse(node, "supported is the sum of two tensors that the network computed")
        if self.shapes[first] != self.shapes[second]:
            shapes = f"{self.shapes[first][1:]} and {self.shapes[second][1:]}"
            raise self._refuse(node, f"it adds {shapes}; both must have one shape")
        for source in (first, second):
            self._no_pad(source, self._where(node))
        later = {other for other in self._readers(self.sources[first]) - {node} if other not in self.sources}
        if node.target in (operator.iadd, "add_") and later:
            names = ", ".join(sorted(other.name for other in later))
            raise self._refuse(node, f"it adds in place to what {names} read later; write x = x + y")
        columns = [self.columns.get(self.sources[source]) for source in (first, second)]
        if columns[0] != columns[1]:
            raise self._refuse(node, "it adds a flattened image to a vector; add before flattening")
        made = self._append(node, "add", (first, second))
        if columns[0] is not None:
            self.columns[made.name] = columns[0]

    def _pool(self, node: fx.Node, op: str, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        source = self._input(node)
        size = self._image(node, source)
        kernel = _pair(kernel)
        stride = kernel if stride is None or stride == [] else _pair(stride)
        vertical, horizontal = _pair(padding)
        if source in self.pads:
            raise self._refuse(node, "zeros before a pool would count; supported is the pool's own padding")
        made = self._append(
            node, op, (source,), kernel=kernel, stride=stride,
            padding=(vertical, vertical, horizontal, horizontal),
        )  # fmt: skip
        pads = (vertical, horizontal)
        floor = tuple(output_size(size[i], kernel[i], stride[i], pads[i], pads[i]) for i in range(2))
        if ceil_mode and made.shape[:2] != floor:
            raise self._refuse(node, "ceil_mode=True makes a window that leaves the padded image; use False")

    def max_pool(self, node: fx.Node, module: nn.MaxPool2d | None) -> None:
        """The maximum under a window."""
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        if module is None:
            defaults = (None, None, 0, 1, False, False)
            values = self._arguments(node, **dict(zip(names, defaults, strict=True)))
        else:
            values = {name: getattr(module, name) for name in names}
        if _pair(values["dilation"]) != (1, 1) or values["return_indices"]:
            raise self._refuse(node, "dilation and return_indices of a maximum pool are not supported")
        self._pool(
            node, "max_pool", values["kernel_size"], values["stride"], values["padding"], values["ceil_mode"]
        )

    def average_pool(self, node: fx.Node, module: nn.AvgPool2d | None) -> None:
        """The mean under a window, without padding or with padding that does not count."""
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        if module is None:
            defaults = (None, None, 0, False, True, None)
            values = self._arguments(node, **dict(zip(names, defaults, strict=True)))
        else:
            values = {name: getattr(module, name) for name in names}
        if values["count_include_pad"] and _pair(values["padding"]) != (0, 0):
            raise self._refuse(
                node, "padding that counts in the mean is not supported; use count_include_pad=False"
            )
        if values["divisor_override"] is not None:
            raise self._refuse(node, "divisor_override is not supported")
        self._pool(
            node, "average_pool", values["kernel_size"], values["stride"], values["padding"],
            values["ceil_mode"],
        )  # fmt: skip

    def adaptive_average_pool(self, node: fx.Node, module: nn.AdaptiveAvgPool2d | None) -> None:
        """The mean to a given output size that divides the image's."""
        source = self._input(node)
        size = self._image(node, source)
        given = self._arguments(node, output_size=None) if module is None else vars(module)
        wanted = given["output_size"]
        wanted = (wanted, wanted) if wanted is None or isinstance(wanted, int) else tuple(wanted)
        target = [own if want is None else int(want) for own, want in zip(size, wanted, strict=True)]
        if any(own % want for own, want in zip(size, target, strict=True)):
            raise self._refuse(
                node, f"an image of {tuple(size)} to {tuple(target)}: supported are sizes that divide exactly"
            )
        kernel = tuple(own // want for own, want in zip(size, target, strict=True))
        self._pool(node, "average_pool", kernel, kernel, 0, False)

    def mean(self, node: fx.Node, _module: None) -> None:
        """The mean over height and width: a pool, and a reshape where the axes are dropped."""
        source = self._input(node)
        size = self._image(node, source)
        values = self._arguments(node, dim=None, keepdim=False, dtype=None)
        dims = values["dim"] if isinstance(values["dim"], (tuple, list)) else [values["dim"]]
        if values["dtype"] is not None or {d % 4 if isinstance(d, int) else d for d in dims} != {2, 3}:
            raise self._refuse(node, f"a mean over {values['dim']}; supported is (2, 3), height and width")
        self._no_pad(source, self._where(node))
        name, shape = self._name(node), (1, 1, self.shapes[source][1])
        pool = FloatNode(
            name=name if values["keepdim"] else self._unique(f"{name}_pool"),
            op="average_pool",
            inputs=(self.sources[source],),
            shape=shape,
            kernel=_pair(size),
            stride=_pair(size),
        )
        self.nodes[pool.name] = pool
        self.sources[node] = pool.name
        if not values["keepdim"]:
            self.nodes[name] = FloatNode(name=name, op="reshape", inputs=(pool.name,), shape=shape[2:])
            self.sources[node] = name

    def reshape(self, node: fx.Node, _module: nn.Module | None) -> None:
        """Flattening of an image, or a reshape that changes nothing."""
        source = self._input(node)
        self._no_pad(source, self._where(node))
        before, after = self.shapes[source], self.shapes[node]
        if before == after:
            self.sources[node] = self.sources[source]
        elif after == (before[0], math.prod(before[1:])):
            made = self._append(node, "reshape", (source,))
            self.columns[made.name] = (before[1], before[2], before[3])
        else:
            raise self._refuse(
                node, f"it turns {before[1:]} into {after[1:]}; supported is flattening to (N, C * H * W)"
            )

    def pad(self, node: fx.Node, module: nn.ZeroPad2d | None) -> None:
        """Zeros around an image, for the convolution that reads them."""
        source = self._input(node)
        self._image(node, source)
        if module is not None:
            sizes: Any = module.padding
        else:
            values = self._arguments(node, pad=None, mode="constant", value=None)
            sizes = values["pad"]
            if values["mode"] != "constant" or values["value"] not in (None, 0) or len(sizes) != 4:
                raise self._refuse(node, "supported is padding of height and width with zeros")
        left, right, top, bottom = (int(size) for size in sizes)
        if min(left, right, top, bottom) < 0:
            raise self._refuse(node, f"padding {sizes} is negative")
        before = self.pads.get(source, (0, 0, 0, 0))
        self.pads[node] = (before[0] + top, before[1] + bottom, before[2] + left, before[3] + right)
        self.sources[node] = self.sources[source]

    def dropout(self, node: fx.Node, _module: None) -> None:
        """The function; its default is to drop in evaluation too."""
        if self._arguments(node, p=0.5, training=True, inplace=False)["training"]:
            raise self._refuse(node, "it drops in evaluation mode too; give training=self.training")
        self.drop(node, None)

    def drop(self, node: fx.Node, _module: nn.Module | None) -> None:
        """Something that does nothing in evaluation mode."""
        source = self._input(node)
        self.sources[node] = self.sources[source]
        if source in self.pads:
            self.pads[node] = self.pads[source]


_MODULES: Mapping[type[nn.Module], Callable[..., None]] = {
    nn.Conv2d: _Builder.conv2d,
    nn.Linear: _Builder.linear,
    nn.BatchNorm1d: _Builder.batch_norm,
    nn.BatchNorm2d: _Builder.batch_norm,
    nn.ReLU: _Builder.relu,
    nn.ReLU6: _Builder.relu6,
    nn.MaxPool2d: _Builder.max_pool,
    nn.AvgPool2d: _Builder.average_pool,
    nn.AdaptiveAvgPool2d: _Builder.adaptive_average_pool,
    nn.Flatten: _Builder.reshape,
    nn.ZeroPad2d: _Builder.pad,
    nn.Dropout: _Builder.drop,
    nn.Dropout2d: _Builder.drop,
    nn.Identity: _Builder.drop,
}
_FUNCTIONS: Mapping[Any, Callable[..., None]] = {
    functional.relu: _Builder.relu,
    torch.relu: _Builder.relu,
    functional.relu6: _Builder.relu6,
    operator.add: _Builder.add,
    operator.iadd: _Builder.add,
    torch.add: _Builder.add,
    functional.max_pool2d: _Builder.max_pool,
    torch.max_pool2d: _Builder.max_pool,
    functional.avg_pool2d: _Builder.average_pool,
    functional.adaptive_avg_pool2d: _Builder.adaptive_average_pool,
    torch.mean: _Builder.mean,
    torch.flatten: _Builder.reshape,
    torch.reshape: _Builder.reshape,
    torch.squeeze: _Builder.reshape,
    functional.pad: _Builder.pad,
    functional.dropout: _Builder.dropout,
}
_METHODS: Mapping[Any, Callable[..., None]] = {
    "relu": _Builder.relu,
    "relu_": _Builder.relu,
    "add": _Builder.add,
    "add_": _Builder.add,
    "mean": _Builder.mean,
    "flatten": _Builder.reshape,
    "view": _Builder.reshape,
    "reshape": _Builder.reshape,
    "squeeze": _Builder.reshape,
    "contiguous": _Builder.drop,
}
