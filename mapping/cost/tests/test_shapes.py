# SPDX-License-Identifier: Apache-2.0
"""Shapes, their file, and the layers made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from golden.arithmetic import check_accumulator
from golden.layer import macs, output_shape, run_layer
from golden.network_file import load_network
from golden.zoo.digits import network_file
from mapping.cost.shapes import Shape, ShapeError, layer_of, load_shapes, shapes_of_network, shapes_text

CONV = {
    "name": "conv", "op": "conv2d", "in_channels": 8, "out_channels": 24, "in_height": 9, "in_width": 10,
    "kernel": [3, 3], "stride": [2, 1], "padding": "same",
}  # fmt: skip
SHAPES = [
    Shape("conv", "conv2d", 8, 24, 9, 10, (3, 3), (2, 1), "same"),
    Shape("valid", "conv2d", 3, 5, 7, 9, (3, 2), (2, 3), "valid"),
    Shape("shared", "conv2d", 8, 24, 4, 4, split={"npu8": 8, "npu_lb": 16}),
    Shape("depthwise", "depthwise_conv2d", 8, 8, 9, 9, (3, 3), (2, 2), "same"),
    Shape("multiplied", "depthwise_conv2d", 4, 12, 6, 6, (3, 3), (1, 1), "valid"),
    Shape("dense", "fully_connected", 100, 40, 1, 1),
    Shape("sum", "add", 16, 16, 5, 6),
    Shape("largest", "max_pool", 16, 16, 7, 7, (3, 3), (2, 2), "same"),
    Shape("mean", "average_pool", 16, 16, 7, 5, (7, 5), (1, 1), "valid"),
]


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_a_file_written_and_read_gives_equal_shapes(tmp_path: Path) -> None:
    assert load_shapes(write(tmp_path / "s.yaml", shapes_text(SHAPES))) == SHAPES


def test_kernel_stride_and_padding_may_be_left_out_where_there_are_none(tmp_path: Path) -> None:
    entry = {key: CONV[key] for key in ("name", "in_channels", "in_height", "in_width")}
    path = write(tmp_path / "s.yaml", [entry | {"op": "add", "out_channels": 8}])
    assert load_shapes(path) == [Shape("conv", "add", 8, 8, 9, 10, (1, 1), (1, 1), "valid")]


def test_the_key_holds_everything_but_the_name_and_no_order() -> None:
    shape = SHAPES[2]
    assert shape.key == replace(shape, name="other").key
    assert shape.key == replace(shape, split={"npu_lb": 16, "npu8": 8}).key
    assert hash(shape) == hash(replace(shape))
    assert len({item.key for item in (*SHAPES, replace(shape, split=None), replace(shape, in_width=5))}) == 11
    assert replace(SHAPES[6], padding="same") == SHAPES[6]  # padding means nothing there


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("w_bits", [8, 2])
def test_a_layer_of_a_shape_has_its_sizes_and_spreads_its_outputs(shape: Shape, w_bits: int) -> None:
    layer = layer_of(shape, w_bits)
    size = (shape.out_height, shape.out_width, shape.out_channels)
    assert output_shape(layer) == (size[2:] if shape.op == "fully_connected" else size)
    assert macs(layer) == shape.macs
    if layer.weights.size:
        assert abs(layer.weights).max() <= (1 if w_bits == 2 else 127)
    values = len(np.unique(run_layer(layer)))
    assert values >= 8
    assert (layer_of(replace(shape, name="other"), w_bits).input == layer.input).all()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "outputs"),
    [
        (8, 3, 1, (1, 1), 8),
        (8, 3, 2, (0, 1), 4),
        (9, 3, 2, (1, 1), 5),
        (5, 2, 1, (0, 1), 5),
        (6, 1, 4, (0, 0), 2),
    ],
)
def test_same_padding_is_tensorflows(
    size: int, kernel: int, stride: int, pads: tuple[int, int], outputs: int
) -> None:
    shape = Shape("s", "conv2d", 1, 1, size, size, (kernel, kernel), (stride, stride), "same")
    assert shape.pads == (*pads, *pads)
    assert (shape.out_height, shape.out_width) == (outputs, outputs)


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"op": "conv3d"}, "unknown operator 'conv3d'; there are conv2d, "),
    ({"op": ["conv2d"]}, "unknown operator ['conv2d']"),
    ({"in_channels": 0}, "in_channels is 0; write an integer from 1 to 65536"),
    ({"in_channels": -8}, "in_channels is -8"),
    ({"in_channels": 8.0}, "in_channels is 8.0"),
    ({"in_channels": "8"}, "in_channels is '8'"),
    ({"in_channels": True}, "in_channels is True"),
    ({"in_height": None}, "in_height is None"),
    ({"out_channels": 1 << 40}, "out_channels is 1099511627776"),
    ({"kernel": 3}, "kernel is 3; write [vertical, horizontal], as in [3, 3]"),
    ({"kernel": [3, 3, 3]}, "kernel is [3, 3, 3]"),
    ({"kernel": [3, 0]}, "kernel is 0"),
    ({"stride": [1, True]}, "stride is True"),
    ({"stride": [1, 256]}, "stride is 256; write an integer from 1 to 255"),
    ({"padding": "full"}, "padding is 'full'; write same or valid"),
    ({"padding": 1}, "padding is 1"),
    ({"kernel": [10, 3], "padding": "valid"}, "kernel [10, 3] is larger than the input of 9x10"),
    ({"op": "depthwise_conv2d"}, ""),
    ({"op": "depthwise_conv2d", "out_channels": 12}, "write a multiple of in_channels"),
    ({"op": "max_pool"}, "out_channels is 24, of max_pool on 8 in_channels; write as many"),
    ({"op": "add"}, "add has no kernel and no stride; leave them out"),
    ({"op": "average_pool"}, "out_channels is 24, of average_pool"),
    ({"op": "fully_connected", "kernel": [1, 1], "stride": [1, 1]}, "reads 9x10 pixels; write in_height: 1"),
    ({"in_width": 60000, "in_height": 60000}, "input has 28800000000 values"),
    ({"in_channels": 60000, "out_channels": 60000, "in_height": 1, "in_width": 1}, "weights has 32400000000"),
    ({"split": {"npu8": 8, "npu_lb": 8}}, "split gives 16 channels; they must add up to out_channels: 24"),
    (
        {"split": {"npu8": 8, "8 bits": 16}},
        "split names unit '8 bits'; write the name of a unit of the system",
    ),
    ({"split": {"npu8": 24}}, "write the channels of every unit"),
    ({"split": {"npu8": 24, "npu_lb": 0}}, "split, npu_lb, is 0"),
    ({"split": 12}, "split is 12"),
    ({"dilation": [1, 1]}, "unknown key 'dilation'; there are name, op, in_channels"),
    ({"name": 7}, "name is 7; write a name, in quotes if it looks like a number"),
    ({"name": ""}, "name is ''"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_wrong_entry_is_one_message_with_file_entry_and_remedy(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "s.yaml", [CONV | {"name": "first"}, CONV | change])
    if not message:  # no fault: a depthwise multiplier
        assert load_shapes(path)[1].macs == 5 * 10 * 9 * 24
        return
    with pytest.raises(ShapeError) as caught:
        load_shapes(path)
    text = str(caught.value)
    assert text.startswith(f"{path}, entry 2 ({change.get('name', 'conv')!r}): ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize("key", CONV)
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    entry = {name: value for name, value in CONV.items() if name != key}
    with pytest.raises(ShapeError, match=rf"s.yaml, entry 1.*: key '{key}' is missing; .* needs it"):
        load_shapes(write(tmp_path / "s.yaml", [entry]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; write a list of shapes"),
        ("[]", "is empty"),
        ("name: conv", "is a dict; write a list"),
        ("- [", "no valid YAML"),
        ("- {name: a, name: b}", "key 'name' stands twice"),
        ("- conv", "entry 1: is 'conv'; write {name: ..."),
        ("- null", "entry 1: is None"),
        ("[" * 5000, "no valid YAML"),
        ("\x00", "no valid YAML"),
        ("!!python/object/apply:os.getpid []", "no valid YAML"),
    ],
)
def test_a_file_that_is_no_list_of_shapes_is_one_message(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError) as caught:
        load_shapes(write(tmp_path / "s.yaml", text))
    assert str(caught.value).startswith(str(tmp_path / "s.yaml"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_bytes_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x80")
    problems = {"none.yaml": "no such file", ".": "cannot be read", "bytes.yaml": "no text in UTF-8"}
    for name, message in problems.items():
        with pytest.raises(ShapeError, match=message):
            load_shapes(tmp_path / name)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"entry 3 \('b'\): the name stands in entry 2 too; rename one"):
        load_shapes(write(tmp_path / "s.yaml", [CONV | {"name": name} for name in "abb"]))


def test_the_shapes_of_a_network_are_its_layers() -> None:
    network = load_network(network_file("int8"))
    layers = {node.name: node.layer for node in network.nodes if node.layer is not None}
    shapes = shapes_of_network(network)
    assert [shape.name for shape in shapes] == list(layers)
    for shape in shapes:
        assert shape.macs == macs(layers[shape.name])
        assert shape.op == layers[shape.name].op


def test_a_layer_that_no_shape_describes_is_named() -> None:
    network = load_network(network_file("int8"))
    index, node = next((i, n) for i, n in enumerate(network.nodes) if n.op == "conv2d")
    assert node.layer is not None
    for change, message in (
        ({"padding": (0, 3, 1, 0)}, "padding .* is neither same nor valid"),
        ({"dilation": (2, 2), "padding": (9, 9, 9, 9)}, "dilation"),
    ):
        nodes = list(network.nodes)
        nodes[index] = replace(node, layer=replace(node.layer, **change))
        changed = replace(network)
        object.__setattr__(changed, "nodes", tuple(nodes))
        with pytest.raises(ShapeError, match=rf"layer '{node.name}': {message}"):
            shapes_of_network(changed)


def test_weights_of_a_long_kernel_keep_sums_in_the_accumulators() -> None:
    shape = Shape("long", "conv2d", 511, 16, 4, 4, (3, 3), (1, 1), "same")
    assert np.abs(layer_of(shape, 5).weights).max() == 15
    narrow = np.abs(layer_of(shape, 5, acc_bits=24).weights)
    assert 1 <= narrow.max() < 15
    check_accumulator(narrow.reshape(16, -1).sum(axis=1), 8, 24)
