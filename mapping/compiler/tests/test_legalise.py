"""From networks to what the units run: what the host does at the edges, views, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.errors import UnsupportedError
from golden.layer import Layer, output_shape
from golden.network import Network, Node, Tensor, placeholder, run_network
from hw.core import CoreConfig
from hw.system import NPU8, System
from mapping.compiler.assignment import Assignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.graph import Graph
from mapping.compiler.legalise import legalise_network
from mapping.run.networks import compile_network, run_inputs
from tb.session import Session

IMAGE = Tensor(shape=(6, 6, 3), dtype="float32")
QUANTISED = Tensor(shape=(6, 6, 3), scale=0.05, zero_point=3)


def conv(name: str, source: str, tensor: Tensor, outputs: int = 4) -> Node:
    rng = np.random.default_rng(len(name))
    layer = Layer(
        name=name, op="conv2d", input=placeholder(tensor.shape), input_zero_point=tensor.zero_point,
        weights=rng.integers(-9, 9, (outputs, 3, 3, tensor.shape[2])).astype(np.int8),
        bias=np.zeros(outputs, np.int32), multiplier=np.full(outputs, 1 << 30, np.int32),
        shift=np.full(outputs, -4, np.int32), padding=(1, 1, 1, 1),
    )  # fmt: skip
    output = Tensor(shape=output_shape(layer), scale=0.1)
    return Node(
        name=name, op="conv2d", inputs=(source,), layer=layer, output=output,
        weight_scales=np.ones(outputs), weight_bits=np.full(outputs, 8, np.int8),
    )  # fmt: skip


def network(*nodes: Node, source: Tensor = IMAGE) -> Network:
    return Network(name="net", input_name="image", input=source, nodes=nodes)


def quantize(name: str, **changes: Any) -> Node:
    return Node(name=name, op="quantize", inputs=("image",), output=QUANTISED, **changes)


def test_the_host_quantises_before_and_dequantises_after(pair: Session) -> None:
    first = conv("conv", "q", QUANTISED)
    real = Tensor(shape=(6, 6, 4), dtype="float32")
    last = Node(name="real", op="dequantize", inputs=("conv",), output=real)
    net = network(quantize("q"), first, last)
    program = compile_network(net, pair.config, Assignment("npu8"), observe=True)
    x = np.random.default_rng(1).normal(0, 3, (2, 6, 6, 3)).astype(np.float32)
    for i, run in enumerate(run_inputs(pair, program, x, "layers")):
        assert run.exact
        assert run.output.dtype == np.float32
        np.testing.assert_array_equal(run.output, run_network(net, x)["real"][i])


def test_a_second_operator_of_the_host_at_the_input_is_not_mixed_up(pair: Session) -> None:
    """Two quantise the image; the units read the second one."""
    coarse = Tensor(shape=(6, 6, 3), scale=0.5, zero_point=-7)
    other = Node(name="coarse", op="quantize", inputs=("image",), output=coarse)
    net = network(other, quantize("q"), conv("conv", "q", QUANTISED))
    program = compile_network(net, pair.config, Assignment("npu8"), observe=True)
    x = np.random.default_rng(1).normal(0, 3, (6, 6, 3)).astype(np.float32)
    (run,) = run_inputs(pair, program, x, "layers")
    assert run.exact


REFUSED = {
    "layer 'b' reads 'q', which only the host sees": (
        quantize("q"), quantize("r"), conv("a", "r", QUANTISED), conv("b", "q", QUANTISED),
    ),
    "quantize runs on the host, and only at a network's edges": (
        quantize("q"), conv("a", "q", QUANTISED),
        Node(name="r", op="quantize", inputs=("a",), output=Tensor(shape=(6, 6, 4))),
        conv("b", "r", Tensor(shape=(6, 6, 4))),
    ),
    "has no operator that runs on a unit": (quantize("q"),),
    "moves values between channels": (
        quantize("q"), conv("a", "q", QUANTISED),
        Node(name="r", op="reshape", inputs=("a",), output=Tensor(shape=(6, 3, 8), scale=0.1)),
        conv("b", "r", Tensor(shape=(6, 3, 8), scale=0.1)),
    ),
    "only the last layer on a unit, 'b', can be followed": (
        quantize("q"), conv("a", "q", QUANTISED), conv("b", "a", Tensor(shape=(6, 6, 4), scale=0.1)),
        Node(name="r", op="reshape", inputs=("a",), output=Tensor(shape=(144,), scale=0.1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_the_units_cannot_run_is_refused_by_name(message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        legalise_network(network(*REFUSED[message]))


def test_unflattening_to_the_same_shape_is_a_view(pair: Session) -> None:
    first = conv("a", "image", Tensor(shape=(6, 6, 3)))
    flat = Node(name="flat", op="reshape", inputs=("a",), output=Tensor(shape=(144,), scale=0.1))
    back = Node(name="back", op="reshape", inputs=("flat",), output=Tensor(shape=(6, 6, 4), scale=0.1))
    last = conv("b", "back", back.output)
    net = network(first, flat, back, last, source=Tensor(shape=(6, 6, 3)))
    program = compile_network(net, pair.config, Assignment("npu8"), observe=True)
    x = np.random.default_rng(1).integers(-128, 128, (6, 6, 3)).astype(np.int8)
    (run,) = run_inputs(pair, program, x, "layers")
    assert run.exact


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({}, "give the index of a unit for each of its 4 channels"),
        ({"a": np.zeros(3, int)}, "each of its 4 channels"),
        ({"a": np.zeros(4)}, "each of its 4 channels"),
        ({"a": np.full(4, 2)}, "unit 2 of 2"),
    ],
)
def test_units_that_do_not_fit_are_refused(units: Any, message: str) -> None:
    net = network(conv("a", "image", Tensor(shape=(6, 6, 3))), source=Tensor(shape=(6, 6, 3)))
    with pytest.raises(Exception, match=message) as caught:
        compile_network(net, System(), units)
    assert type(caught.value).__name__ == "MappingError"


def test_a_scratchpad_beyond_a_commands_reach_is_used_as_far_as_it_goes() -> None:
    large = CoreConfig("npu8", act_kib=2048)
    shape = (200, 200, 16)
    nodes = (conv("a", "image", Tensor(shape=shape), 16), conv("b", "a", Tensor(shape=shape, scale=0.1), 16))
    graph: Graph = legalise_network(network(*nodes, source=Tensor(shape=shape)))
    units = {op.name: np.zeros(16, np.int64) for op in graph.ops}
    assert compile_graph(graph, (large,), units).estimate > compile_graph(graph, (NPU8,), units).estimate // 2
