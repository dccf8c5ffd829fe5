# SPDX-License-Identifier: Apache-2.0
"""What each function of PyTorch becomes in the float graph: the table.

A recording names functions, methods and operators of Python alike: `add` is torch.add, x + y, x.add(y) and
x.add_(y). Modules need no table of their own, because what counts is the functions that they call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from golden.quantize import (
    traced_arithmetic as arithmetic,
    traced_pools as pools,
    traced_views as views,
    traced_weights as weights,
)
from golden.quantize.graph_builder import GraphBuilder
from golden.quantize.recorder import Call

Handler = Callable[[GraphBuilder, Call], None]


@dataclass(frozen=True)
class Supported:
    """A function that comes in.

    Attributes:
        handler: puts the call into the graph.
        becomes: what happens to it, for the reference.
    """

    handler: Handler
    becomes: str


_CONVOLUTION = Supported(
    weights.convolution, "a convolution, plain or depthwise; one dimension is an image of height 1"
)
_NORM = Supported(
    arithmetic.batch_norm, "part of the layer before it, or else a depthwise convolution of one pixel"
)
_SCALED = "a constant becomes part of the layer before it, or else a depthwise convolution of one pixel"
_CLAMP = "the clamp of the operator before it, or a pool of one pixel where others read that too"
_VIEW = Supported(
    views.view,
    "no arithmetic: where values are is followed; flattening an image is a reshape, every n-th pixel a pool",
)
_SAME = Supported(views.same, "nothing")
_CAST = Supported(views.cast, "nothing")
_MAXIMUM = Supported(pools.max_pool, "a maximum pool")
_AVERAGE = Supported(pools.average_pool, "an average pool; padding must not count")
_ADAPTIVE = Supported(pools.adaptive_pool, "a pool, where the output size divides the image's")

FUNCTIONS: Mapping[str, Supported] = {
    "conv1d": _CONVOLUTION,
    "conv2d": _CONVOLUTION,
    "linear": Supported(weights.linear, "a fully connected layer"),
    "matmul": Supported(weights.matmul, "with a constant matrix: a fully connected layer"),
    "mm": Supported(weights.matmul, "with a constant matrix: a fully connected layer"),
    "batch_norm": _NORM,
    "add": Supported(arithmetic.add, f"an addition of two tensors of one shape; {_SCALED}"),
    "sub": Supported(arithmetic.subtract, f"an addition, with the second factor negated; {_SCALED}"),
    "subtract": Supported(arithmetic.subtract, "as sub"),
    "rsub": Supported(arithmetic.reverse_subtract, "as sub, the other way round"),
    "mul": Supported(arithmetic.multiply, _SCALED),
    "multiply": Supported(arithmetic.multiply, "as mul"),
    "div": Supported(arithmetic.divide, _SCALED),
    "divide": Supported(arithmetic.divide, "as div"),
    "true_divide": Supported(arithmetic.divide, "as div"),
    "truediv": Supported(arithmetic.divide, "as div"),
    "neg": Supported(arithmetic.negate, "as the product with -1"),
    "negative": Supported(arithmetic.negate, "as the product with -1"),
    "relu": Supported(arithmetic.relu, _CLAMP),
    "relu6": Supported(arithmetic.relu6, _CLAMP),
    "hardtanh": Supported(arithmetic.hard_tanh, _CLAMP),
    "clamp": Supported(arithmetic.clamp, _CLAMP),
    "clip": Supported(arithmetic.clamp, _CLAMP),
    "clamp_min": Supported(arithmetic.clamp, _CLAMP),
    "clamp_max": Supported(arithmetic.clamp, _CLAMP),
    "max_pool1d": _MAXIMUM,
    "max_pool2d": _MAXIMUM,
    "avg_pool1d": _AVERAGE,
    "avg_pool2d": _AVERAGE,
    "adaptive_avg_pool1d": _ADAPTIVE,
    "adaptive_avg_pool2d": _ADAPTIVE,
    "adaptive_max_pool1d": _ADAPTIVE,
    "adaptive_max_pool2d": _ADAPTIVE,
    "mean": Supported(pools.mean, "over height, width or both: an average pool"),
    "flatten": _VIEW,
    "unflatten": _VIEW,
    "reshape": _VIEW,
    "reshape_as": _VIEW,
    "view": _VIEW,
    "view_as": _VIEW,
    "squeeze": _VIEW,
    "unsqueeze": _VIEW,
    "getitem": _VIEW,
    "select": _VIEW,
    "permute": _VIEW,
    "transpose": _VIEW,
    "swapaxes": _VIEW,
    "movedim": _VIEW,
    "moveaxis": _VIEW,
    "t": _VIEW,
    "pad": Supported(
        views.pad, "with zeros: part of the convolution behind it; of channels: a convolution of one pixel"
    ),
    "softmax": Supported(views.softmax, "at the end, over (N, C): a softmax on the host"),
    "clone": _SAME,
    "contiguous": _SAME,
    "positive": _SAME,
    "dropout": Supported(views.dropout, "nothing, with training=False; else it is refused"),
    "dropout1d": Supported(views.dropout, "as dropout"),
    "dropout2d": Supported(views.dropout, "as dropout"),
    "copy": Supported(views.copy, "nothing: later readers see what is copied"),
    "to": _CAST,
    "type": _CAST,
    "type_as": _CAST,
    "float": _CAST,
    "double": _CAST,
    "half": _CAST,
    "bfloat16": _CAST,
}
"""By the name of a function or method, without the underscores around it."""
