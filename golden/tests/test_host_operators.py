# SPDX-License-Identifier: Apache-2.0
"""The table of the host's operators: what each takes, makes and refuses; several inputs and outputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.array_files import read_npz, write_npz
from common.errors import ArithmeticRangeError, NetworkError, ShapeError, UnsupportedError
from golden import host, host_float
from golden.host_operators import HOST_OPERATORS, run_host_node
from golden.network import HOST_OPS, Network, Node, Tensor, check_inputs, run_network
from golden.network_file import load_network, save_network

SOURCE = Tensor(shape=(4, 6), scale=0.1, zero_point=3)
PROBABILITY = replace(SOURCE, scale=1 / 256, zero_point=-128)


def network(op: str, output: Tensor, source: Tensor = SOURCE, **more: Any) -> Network:
    node = Node(name="y", op=op, inputs=("x",), output=output, **more)
    return Network(name="net", input_name="x", input=source, nodes=(node,))


GOOD: dict[str, dict[str, Any]] = {
    "reshape": {"output": replace(SOURCE, shape=(3, 8))},
    "transpose": {"output": replace(SOURCE, shape=(6, 4)), "permutation": (1, 0)},
    "quantize": {"output": Tensor(shape=(4, 6), dtype="uint8", scale=0.2, zero_point=200)},
    "dequantize": {"output": Tensor(shape=(4, 6), dtype="float32")},
    "softmax": {"output": PROBABILITY, "axis": 0, "beta": 0.5},
    "log_softmax": {"output": replace(SOURCE, scale=1 / 16, zero_point=127), "axis": -2},
    "logistic": {"output": PROBABILITY},
    "arg_max": {"output": Tensor(shape=(6,), dtype="int64"), "axis": 0},
}


def test_every_operator_of_the_table_runs_and_survives_its_file(tmp_path: Path) -> None:
    assert set(GOOD) == set(HOST_OPERATORS)
    assert set(HOST_OPS) == set(HOST_OPERATORS) - {"reshape"}
    x = np.random.default_rng(1).integers(-128, 128, (5, 4, 6)).astype(np.int8)
    for op, arguments in GOOD.items():
        net = network(op, **arguments)
        save_network(net, tmp_path / "net.npz")
        again = load_network(tmp_path / "net.npz")
        (node,), (other,) = net.nodes, again.nodes
        assert (node.output, node.axis, node.beta, node.permutation) == (
            other.output, other.axis, other.beta, other.permutation,
        )  # fmt: skip
        values = run_network(net, x)["y"]
        assert values.dtype == node.output.dtype
        np.testing.assert_array_equal(values, run_network(again, x)["y"])


def test_an_axis_is_that_of_the_transposed_tensor() -> None:
    x = np.random.default_rng(2).integers(-128, 128, (5, 4, 6)).astype(np.int8)
    turned = np.ascontiguousarray(x.transpose(0, 2, 1))
    for op, last in (("softmax", {"beta": 0.5}), ("log_softmax", {})):
        output: Tensor = GOOD[op]["output"]
        along_last = network(op, replace(output, shape=(6, 4)), replace(SOURCE, shape=(6, 4)), **last)
        expected = run_network(along_last, turned)["y"].transpose(0, 2, 1)
        np.testing.assert_array_equal(run_network(network(op, **GOOD[op]), x)["y"], expected)
    np.testing.assert_array_equal(run_network(network("arg_max", **GOOD["arg_max"]), x)["y"], x.argmax(1))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a logistic of uint8": (
        "logistic", {"output": PROBABILITY, "source": replace(SOURCE, dtype="uint8")},
        "logistic turns int8 to int8, float32 to float32, not uint8 to int8",
    ),
    "another scale of a logistic": (
        "logistic", {"output": SOURCE}, "an int8 logistic has the output scale 1/256 and zero point -128",
    ),
    "another scale of log_softmax": (
        "log_softmax", {"output": PROBABILITY}, "an int8 log_softmax has the output scale 1/16 and",
    ),
    "a softmax of another shape": (
        "softmax", {"output": replace(PROBABILITY, shape=(24,))}, "softmax keeps the shape",
    ),
    "an axis that is not there": ("softmax", {"output": PROBABILITY, "axis": 2}, "axis 2 of a tensor"),
    "a beta of zero": ("softmax", {"output": PROBABILITY, "beta": 0.0}, "beta = 0.0 must be finite"),
    "a transpose without permutation": ("transpose", {"output": SOURCE}, "permutation .* of a tensor"),
    "a transpose to another shape": (
        "transpose", {"output": SOURCE, "permutation": (1, 0)}, r"makes \(6, 4\), not \(4, 6\)",
    ),
    "a transpose that rescales": (
        "transpose", {"output": replace(SOURCE, shape=(6, 4), scale=1.0), "permutation": (1, 0)},
        "keeps its tensor's type, scale and zero point",
    ),
    "an arg_max of another shape": (
        "arg_max", {"output": Tensor(shape=(4,), dtype="int32"), "axis": 0}, r"makes \(6,\), not \(4,\)",
    ),
    "an arg_max as int8": ("arg_max", {"output": SOURCE}, "arg_max turns int8 to int32, .*not int8 to int8"),
    "a quantize to float": (
        "quantize", {"output": Tensor(shape=(4, 6), dtype="float32")}, "turns .*, not int8 to float32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_host_cannot_do_is_refused_by_name(name: str) -> None:
    op, arguments, message = REFUSED[name]
    with pytest.raises(NetworkError, match=f"node 'y': .*{message}"):
        network(op, **arguments)


@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", -1), ("uint8", 256), ("int8", 128)])
def test_a_zero_point_lies_in_its_type(dtype: str, zero_point: int) -> None:
    with pytest.raises(ArithmeticRangeError, match=f"zero_point = {zero_point} is no {dtype} value"):
        Tensor(shape=(1,), dtype=dtype, zero_point=zero_point)
    with pytest.raises(UnsupportedError, match="element type 'int16'"):
        Tensor(shape=(1,), dtype="int16")


def test_arg_max_of_numbers_that_are_none() -> None:
    source = Tensor(shape=(4,), dtype="float32")
    node = Node(name="y", op="arg_max", inputs=("x",), output=Tensor(shape=(1,), dtype="int32"))
    x = np.array([[1, np.nan, 5, 5], [np.nan, 2, 3, 4], [-np.inf] * 4], np.float32)
    assert run_host_node(node, source, x).tolist() == [[2], [0], [0]]


def test_wide_sums_of_log_softmax_are_refused() -> None:
    assert host.log_softmax(np.zeros((1, 4095), np.int8), 0.1).shape == (1, 4095)
    with pytest.raises(ArithmeticRangeError, match="add up to 4096 or more"):
        host.log_softmax(np.zeros((1, 4097), np.int8), 0.1)


@pytest.mark.parametrize(
    "function", [host_float.logistic, host_float.log_softmax, lambda x: host_float.softmax(x, 1.0)]
)
def test_float_operators_refuse_other_types(function: Any) -> None:
    with pytest.raises(ShapeError, match="of float32 takes an array"):
        function(np.zeros(3))


def test_float_logistic_saturates_without_a_warning() -> None:
    with np.errstate(all="raise"):
        values = host_float.logistic(np.array([-200, -9.5, 0, 17, 200], np.float32))
    assert values.tolist()[0] == 0.0
    assert values.tolist()[2:] == [0.5, 1.0, 1.0]


def several() -> Network:
    other = Tensor(shape=(2,), dtype="uint8", scale=0.5, zero_point=9)
    nodes = (
        Node(name="p", op="logistic", inputs=("x",), output=PROBABILITY),
        Node(name="q", op="dequantize", inputs=("z",), output=Tensor(shape=(2,), dtype="float32")),
    )
    return Network(
        name="net", input_name="x", input=SOURCE, more_inputs={"z": other}, nodes=nodes, outputs=("q", "p")
    )


def test_several_inputs_and_outputs_have_names() -> None:
    net = several()
    assert list(net.inputs) == ["x", "z"]
    assert net.output_names == ("q", "p")
    assert (net.output_name, net.output.dtype) == ("q", "float32")
    values = run_network(net, {"x": np.zeros((4, 6), np.int8), "z": np.zeros((1, 2), np.uint8)})
    assert values["q"].tolist() == [[-4.5, -4.5]]
    with pytest.raises(ShapeError, match="reads x, z, not x"):
        check_inputs(net, {"x": np.zeros((4, 6), np.int8)})
    with pytest.raises(ShapeError, match="network 'net' reads 'z', uint8, the input is int8"):
        check_inputs(net, {"x": np.zeros((4, 6), np.int8), "z": np.zeros(2, np.int8)})
    with pytest.raises(NetworkError, match="has no tensor 'r', which is to be an output"):
        replace(net, outputs=("r",))
    with pytest.raises(NetworkError, match="has two inputs 'x'"):
        replace(net, more_inputs={"x": SOURCE})


def test_a_file_whose_ends_are_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    save_network(several(), path)
    arrays = read_npz(path)
    document = json.loads(str(arrays["network"]))
    changes: tuple[dict[str, Any], ...] = (
        {"outputs": ["nobody"]}, {"outputs": 3}, {"more_inputs": []}, {"more_inputs": {"z": {"shape": [0]}}},
        {"more_inputs": {"x": document["input"]}},
    )  # fmt: skip
    for change in changes:
        write_npz(arrays | {"network": np.array(json.dumps(document | change))}, path)
        with pytest.raises(NetworkError, match=r"net\.npz"):
            load_network(path)
