"""What each module, function and method of a traced PyTorch module becomes in the float graph."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from golden.operators import output_size
from golden.quantize.float_graph import FloatNode
from golden.quantize.graph_builder import GraphBuilder, pair


# ------------------------------------------------------------------------------------ operators with weights
def _weighted_parameters(
    graph: GraphBuilder, node: fx.Node, module: nn.Conv2d | nn.Linear
) -> tuple[Tensor, Tensor]:
    calls = graph.traced.find_nodes(op="call_module", target=node.target)
    if len(calls) > 1:
        raise graph.refuse(node, "it is called more than once; shared weights are not supported")
    weight = module.weight.detach().clone()
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().clone()
    return weight, bias


def conv2d(graph: GraphBuilder, node: fx.Node, module: nn.Conv2d) -> None:
    """Append a plain or a depthwise convolution."""
    source = graph.input_of(node)
    graph.image(node, source)
    if module.groups == 1:
        op = "conv2d"
    elif module.groups == module.in_channels:
        op = "depthwise_conv2d"
    else:
        raise graph.refuse(
            node, f"groups={module.groups} with {module.in_channels} channels; supported are 1 and depthwise"
        )
    if module.padding_mode != "zeros":
        raise graph.refuse(node, f"padding_mode={module.padding_mode!r}; supported is 'zeros'")
    dilation, kernel = pair(module.dilation), pair(module.kernel_size)
    if module.padding == "same":  # an odd pixel goes to the end
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        own = tuple(size for total in totals for size in (total // 2, total - total // 2))
    else:
        vertical, horizontal = (0, 0) if module.padding == "valid" else pair(module.padding)
        own = (vertical, vertical, horizontal, horizontal)
    before = graph.pads.get(source, (0, 0, 0, 0))
    weight, bias = _weighted_parameters(graph, node, module)
    graph.append(
        node,
        op,
        (source,),
        weight=weight,
        bias=bias,
        stride=pair(module.stride),
        dilation=dilation,
        padding=tuple(a + b for a, b in zip(before, own, strict=True)),
    )


def linear(graph: GraphBuilder, node: fx.Node, module: nn.Linear) -> None:
    """Append a fully connected layer; the columns of its weights follow the flattened image."""
    source = graph.input_of(node)
    graph.check_no_padding(source, graph.where(node))
    if len(graph.shapes[source]) != 2:
        raise graph.refuse(node, f"it reads {graph.shapes[source][1:]}; flatten the image before it")
    weight, bias = _weighted_parameters(graph, node, module)
    columns = graph.columns.get(graph.sources[source])
    if columns is not None:
        weight = weight.reshape(-1, *columns).permute(0, 2, 3, 1).flatten(start_dim=1)
    graph.append(node, "fully_connected", (source,), weight=weight, bias=bias)


def batch_norm(graph: GraphBuilder, node: fx.Node, module: nn.BatchNorm2d) -> None:
    """Fold a normalisation with its running statistics into the layer before it."""
    source = graph.input_of(node)
    ops = ("conv2d", "depthwise_conv2d", "fully_connected")
    producer = graph.fusable(node, source, ops, "batch normalisation")
    if (producer.low, producer.high) != (-math.inf, math.inf):
        raise graph.refuse(node, f"batch normalisation comes after the ReLU of {producer.name!r}")
    if module.running_mean is None or module.running_var is None:
        raise graph.refuse(node, "it has no running statistics; supported is track_running_stats=True")
    assert producer.weight is not None
    assert producer.bias is not None
    deviation = (module.running_var.double() + module.eps).sqrt()
    gain = (1.0 if module.weight is None else module.weight.detach().double()) / deviation
    shift = 0.0 if module.bias is None else module.bias.detach().double()
    weight = producer.weight.double() * gain.reshape(-1, *[1] * (producer.weight.ndim - 1))
    bias = (producer.bias.double() - module.running_mean.double()) * gain + shift
    graph.nodes[producer.name] = replace(producer, weight=weight.float(), bias=bias.float())
    graph.sources[node] = producer.name


# --------------------------------------------------------------------------------- operators without weights
def relu(graph: GraphBuilder, node: fx.Node, module: nn.Module | None, high: float = math.inf) -> None:
    """Make a rectifier the clamp of the operator before it."""
    if module is None and node.op == "call_function":
        graph.arguments(node, inplace=False)
    ops = ("conv2d", "depthwise_conv2d", "fully_connected", "add", "average_pool", "max_pool")
    producer = graph.fusable(node, graph.input_of(node), ops, "a ReLU")
    graph.nodes[producer.name] = replace(producer, low=max(producer.low, 0.0), high=min(producer.high, high))
    graph.sources[node] = producer.name


def relu6(graph: GraphBuilder, node: fx.Node, module: nn.Module | None) -> None:
    """Do as `relu`, with 6 as the largest value."""
    relu(graph, node, module, 6.0)


def add(graph: GraphBuilder, node: fx.Node, _module: None) -> None:
    """Append the sum of two tensors of one shape."""
    scale = graph.arguments(node, other=None, alpha=1)
    first, second = graph.input_of(node), scale["other"]
    if not isinstance(second, fx.Node) or second not in graph.sources or scale["alpha"] != 1:
        raise graph.refuse(node, "supported is the sum of two tensors that the network computed")
    if graph.shapes[first] != graph.shapes[second]:
        shapes = f"{graph.shapes[first][1:]} and {graph.shapes[second][1:]}"
        raise graph.refuse(node, f"it adds {shapes}; both must have one shape")
    for source in (first, second):
        graph.check_no_padding(source, graph.where(node))
    later = {other for other in graph.readers(graph.sources[first]) - {node} if other not in graph.sources}
    if node.target in (operator.iadd, "add_") and later:
        names = ", ".join(sorted(other.name for other in later))
        raise graph.refuse(node, f"it adds in place to what {names} read later; write x = x + y")
    columns = [graph.columns.get(graph.sources[source]) for source in (first, second)]
    if columns[0] != columns[1]:
        raise graph.refuse(node, "it adds a flattened image to a vector; add before flattening")
    appended = graph.append(node, "add", (first, second))
    if columns[0] is not None:
        graph.columns[appended.name] = columns[0]


def _pool(
    graph: GraphBuilder, node: fx.Node, op: str, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> None:
    source = graph.input_of(node)
    size = graph.image(node, source)
    kernel = pair(kernel)
    stride = kernel if stride is None or stride == [] else pair(stride)
    vertical, horizontal = pair(padding)
    if source in graph.pads:
        raise graph.refuse(node, "zeros before a pool would count; supported is the pool's own padding")
    appended = graph.append(
        node, op, (source,), kernel=kernel, stride=stride,
        padding=(vertical, vertical, horizontal, horizontal),
    )  # fmt: skip
    pads = (vertical, horizontal)
    floor = tuple(output_size(size[i], kernel[i], stride[i], pads[i], pads[i]) for i in range(2))
    if ceil_mode and appended.shape[:2] != floor:
        raise graph.refuse(node, "ceil_mode=True makes a window that leaves the padded image; use False")


def max_pool(graph: GraphBuilder, node: fx.Node, module: nn.MaxPool2d | None) -> None:
    """Append the maximum under a window."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    if module is None:
        defaults = (None, None, 0, 1, False, False)
        values = graph.arguments(node, **dict(zip(names, defaults, strict=True)))
    else:
        values = {name: getattr(module, name) for name in names}
    if pair(values["dilation"]) != (1, 1) or values["return_indices"]:
        raise graph.refuse(node, "dilation and return_indices of a maximum pool are not supported")
    _pool(
        graph,
        node,
        "max_pool",
        values["kernel_size"],
        values["stride"],
        values["padding"],
        values["ceil_mode"],
    )


def average_pool(graph: GraphBuilder, node: fx.Node, module: nn.AvgPool2d | None) -> None:
    """Append the mean under a window, without padding or with padding that does not count."""
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    if module is None:
        defaults = (None, None, 0, False, True, None)
        values = graph.arguments(node, **dict(zip(names, defaults, strict=True)))
    else:
        values = {name: getattr(module, name) for name in names}
    if values["count_include_pad"] and pair(values["padding"]) != (0, 0):
        raise graph.refuse(
            node, "padding that counts in the mean is not supported; use count_include_pad=False"
        )
    if values["divisor_override"] is not None:
        raise graph.refuse(node, "divisor_override is not supported")
    _pool(graph,
        node, "average_pool", values["kernel_size"], values["stride"], values["padding"],
        values["ceil_mode"],
    )  # fmt: skip


def adaptive_average_pool(graph: GraphBuilder, node: fx.Node, module: nn.AdaptiveAvgPool2d | None) -> None:
    """Append the mean to a given output size that divides the image's."""
    source = graph.input_of(node)
    size = graph.image(node, source)
    given = graph.arguments(node, output_size=None) if module is None else vars(module)
    requested_size = given["output_size"]
    requested_size = (
        (requested_size, requested_size)
        if requested_size is None or isinstance(requested_size, int)
        else tuple(requested_size)
    )
    target = [own if want is None else int(want) for own, want in zip(size, requested_size, strict=True)]
    if any(own % want for own, want in zip(size, target, strict=True)):
        raise graph.refuse(
            node, f"an image of {tuple(size)} to {tuple(target)}: supported are sizes that divide exactly"
        )
    kernel = tuple(own // want for own, want in zip(size, target, strict=True))
    _pool(graph, node, "average_pool", kernel, kernel, 0, False)


def mean(graph: GraphBuilder, node: fx.Node, _module: None) -> None:
    """Append the mean over height and width: a pool, and a reshape where the axes are dropped."""
    source = graph.input_of(node)
    size = graph.image(node, source)
    values = graph.arguments(node, dim=None, keepdim=False, dtype=None)
    dims = values["dim"] if isinstance(values["dim"], (tuple, list)) else [values["dim"]]
    if values["dtype"] is not None or {d % 4 if isinstance(d, int) else d for d in dims} != {2, 3}:
        raise graph.refuse(node, f"a mean over {values['dim']}; supported is (2, 3), height and width")
    graph.check_no_padding(source, graph.where(node))
    name, shape = graph.new_name(node), (1, 1, graph.shapes[source][1])
    pool = FloatNode(
        name=name if values["keepdim"] else graph.unique(f"{name}_pool"),
        op="average_pool",
        inputs=(graph.sources[source],),
        shape=shape,
        kernel=pair(size),
        stride=pair(size),
    )
    graph.nodes[pool.name] = pool
    graph.sources[node] = pool.name
    if not values["keepdim"]:
        graph.nodes[name] = FloatNode(name=name, op="reshape", inputs=(pool.name,), shape=shape[2:])
        graph.sources[node] = name


def reshape(graph: GraphBuilder, node: fx.Node, _module: nn.Module | None) -> None:
    """Append the flattening of an image, or pass on a reshape that changes nothing."""
    source = graph.input_of(node)
    graph.check_no_padding(source, graph.where(node))
    before, after = graph.shapes[source], graph.shapes[node]
    if before == after:
        graph.sources[node] = graph.sources[source]
    elif after == (before[0], math.prod(before[1:])):
        appended = graph.append(node, "reshape", (source,))
        graph.columns[appended.name] = (before[1], before[2], before[3])
    else:
        raise graph.refuse(
            node, f"it turns {before[1:]} into {after[1:]}; supported is flattening to (N, C * H * W)"
        )


def pad(graph: GraphBuilder, node: fx.Node, module: nn.ZeroPad2d | None) -> None:
    """Note zeros around an image, for the convolution that reads them."""
    source = graph.input_of(node)
    graph.image(node, source)
    if module is not None:
        sizes: Any = module.padding
    else:
        values = graph.arguments(node, pad=None, mode="constant", value=None)
        sizes = values["pad"]
        if values["mode"] != "constant" or values["value"] not in (None, 0) or len(sizes) != 4:
            raise graph.refuse(node, "supported is padding of height and width with zeros")
    left, right, top, bottom = (int(size) for size in sizes)
    if min(left, right, top, bottom) < 0:
        raise graph.refuse(node, f"padding {sizes} is negative")
    before = graph.pads.get(source, (0, 0, 0, 0))
    graph.pads[node] = (before[0] + top, before[1] + bottom, before[2] + left, before[3] + right)
    graph.sources[node] = graph.sources[source]


def dropout(graph: GraphBuilder, node: fx.Node, _module: None) -> None:
    """Pass on what the function reads; its default is to drop in evaluation too, which is refused."""
    if graph.arguments(node, p=0.5, training=True, inplace=False)["training"]:
        raise graph.refuse(node, "it drops in evaluation mode too; give training=self.training")
    drop(graph, node, None)


def drop(graph: GraphBuilder, node: fx.Node, _module: nn.Module | None) -> None:
    """Pass on what something reads that does nothing in evaluation mode."""
    source = graph.input_of(node)
    graph.sources[node] = graph.sources[source]
    if source in graph.pads:
        graph.pads[node] = graph.pads[source]


MODULES: Mapping[type[nn.Module], Callable[..., None]] = {
    nn.Conv2d: conv2d,
    nn.Linear: linear,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.ReLU: relu,
    nn.ReLU6: relu6,
    nn.MaxPool2d: max_pool,
    nn.AvgPool2d: average_pool,
    nn.AdaptiveAvgPool2d: adaptive_average_pool,
    nn.Flatten: reshape,
    nn.ZeroPad2d: pad,
    nn.Dropout: drop,
    nn.Dropout2d: drop,
    nn.Identity: drop,
}
FUNCTIONS: Mapping[Any, Callable[..., None]] = {
    functional.relu: relu,
    torch.relu: relu,
    functional.relu6: relu6,
    operator.add: add,
    operator.iadd: add,
    torch.add: add,
    functional.max_pool2d: max_pool,
    torch.max_pool2d: max_pool,
    functional.avg_pool2d: average_pool,
    functional.adaptive_avg_pool2d: adaptive_average_pool,
    torch.mean: mean,
    torch.flatten: reshape,
    torch.reshape: reshape,
    torch.squeeze: reshape,
    functional.pad: pad,
    functional.dropout: dropout,
}
METHODS: Mapping[Any, Callable[..., None]] = {
    "relu": relu,
    "relu_": relu,
    "add": add,
    "add_": add,
    "mean": mean,
    "flatten": reshape,
    "view": reshape,
    "reshape": reshape,
    "squeeze": reshape,
    "contiguous": drop,
}
