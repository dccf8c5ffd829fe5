# SPDX-License-Identifier: Apache-2.0
"""From networks to what the units run: what the host does at the edges, views, refusals."""

from __future__ import annotations

from dataclasses import replace
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
from mapping.compiler.plan import CapacityError
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
    "quantize runs on the host, and only at a network's ends": (
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


def test_all_reasons_are_given_at_once() -> None:
    tensor = Tensor(shape=(6, 6, 4), scale=0.1)
    odd = Tensor(shape=(6, 3, 8), scale=0.1)
    nodes = (
        conv("a", "image", QUANTISED), Node(name="r", op="reshape", inputs=("a",), output=odd),
        conv("b", "r", odd),
        Node(name="s", op="transpose", inputs=("a",), output=tensor, permutation=(1, 0, 2)),
        conv("c", "s", tensor),
    )  # fmt: skip
    net = Network(name="net", input_name="image", input=QUANTISED, nodes=nodes, outputs=("b", "c"))
    with pytest.raises(UnsupportedError, match="network 'net': 2 reasons") as caught:
        legalise_network(net)
    assert "layer 's': transpose runs on the host" in str(caught.value)
    assert "layer 'r': a reshape from (6, 6, 4) to (6, 3, 8) moves values" in str(caught.value)


def test_a_reshape_of_the_input_that_is_no_view_is_the_hosts() -> None:
    flat, image = Tensor(shape=(108,), scale=0.05, zero_point=3), QUANTISED
    unflatten = Node(name="r", op="reshape", inputs=("image",), output=image)
    graph = legalise_network(network(unflatten, conv("a", "r", image), source=flat))
    assert [node.name for node in graph.host_before] == ["r"]
    assert [value.name for value in graph.inputs] == ["r"]
    rows = Tensor(shape=(2, 18, 3), scale=0.05, zero_point=3)
    other_rows = Node(name="r", op="reshape", inputs=("image",), output=rows)
    graph = legalise_network(network(other_rows, conv("a", "r", rows), source=image))
    assert not graph.host_before
    assert [(value.name, value.shape) for value in graph.inputs] == [("image", (6, 6, 3))]


def two_ends() -> Network:
    """Two inputs, three outputs: one on a unit, one of the host behind it, one of the host alone."""
    tensor, pixels = Tensor(shape=(6, 6, 4), scale=0.1), replace(QUANTISED, dtype="uint8", zero_point=131)
    planes = Tensor(shape=(3, 6, 6), scale=0.05, zero_point=3)
    nodes = (
        Node(name="hwc", op="transpose", inputs=("planes",), output=QUANTISED, permutation=(1, 2, 0)),
        Node(name="q", op="quantize", inputs=("pixels",), output=QUANTISED),
        conv("a", "hwc", QUANTISED), conv("b", "q", QUANTISED), conv("c", "a", tensor),
        Node(name="chw", op="transpose", inputs=("b",), output=replace(tensor, shape=(4, 6, 6)),
             permutation=(2, 0, 1)),
        Node(name="real", op="dequantize", inputs=("q",),
             output=Tensor(shape=QUANTISED.shape, dtype="float32")),
    )  # fmt: skip
    return Network(
        name="net", input_name="planes", input=planes, more_inputs={"pixels": pixels}, nodes=nodes,
        outputs=("c", "chw", "real"),
    )  # fmt: skip


@pytest.mark.rtl
def test_several_inputs_and_outputs_run(pair: Session) -> None:
    net = two_ends()
    graph = legalise_network(net)
    assert [value.name for value in graph.inputs] == ["hwc", "q"]
    assert graph.outputs == ("b", "c")
    program = compile_network(net, pair.config, Assignment("npu8"))
    rng = np.random.default_rng(3)
    inputs = {
        "planes": rng.integers(-128, 128, (2, 3, 6, 6)).astype(np.int8),
        "pixels": rng.integers(0, 256, (2, 6, 6, 3)).astype(np.uint8),
    }
    golden = run_network(net, inputs)
    for i, run in enumerate(run_inputs(pair, program, inputs, "output")):
        assert run.exact
        for name in net.outputs:
            np.testing.assert_array_equal(run.outputs[name], golden[name][i])


def test_all_layers_that_fit_no_unit_or_no_memory_are_named_at_once() -> None:
    tensor = Tensor(shape=(6, 6, 4), scale=0.1)
    net = network(conv("a", "image", QUANTISED), conv("b", "a", tensor), source=QUANTISED)
    with pytest.raises(UnsupportedError, match="network 'net': 2 reasons") as caught:
        compile_network(net, System((CoreConfig("low", w_bits=2),)), Assignment("low"))
    assert all(f"layer '{name}': weights from -9 to 8 do not fit low" in str(caught.value) for name in "ab")
    tiny = System((CoreConfig("tiny", act_kib=1, weight_kib=1, param_kib=1),))
    wide = Tensor(shape=(6, 6, 80), scale=0.1)
    net = network(
        conv("a", "image", replace(QUANTISED, shape=(6, 6, 80)), 80), conv("b", "a", wide, 80),
        source=replace(QUANTISED, shape=(6, 6, 80)),
    )  # fmt: skip
    with pytest.raises(CapacityError, match="network 'net': 2 reasons") as refused:
        compile_network(net, tiny, Assignment("tiny"))
    assert str(refused.value).count("; set tiny.WEIGHT_KIB=3") == 2
