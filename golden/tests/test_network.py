# SPDX-License-Identifier: Apache-2.0
"""The quantised network: its checks, its file, its executor; damaged and hostile files."""

import json
import resource
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.array_files import read_npz, write_npz
from common.errors import NetworkError, NpuloopError, ShapeError
from golden.importers.models import load_model
from golden.network import Network, run_network
from golden.network_file import load_network, save_network
from golden.zoo.digits import load_digits_network, network_file, quantize_image

SEED = 11


@pytest.fixture
def network() -> Network:
    return load_digits_network("int8").network


def test_a_saved_network_is_the_same(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    save_network(network, path)
    again = load_network(path)
    assert (again.name, again.input_name, again.input) == (network.name, network.input_name, network.input)
    for first, second in zip(network.nodes, again.nodes, strict=True):
        assert (first.name, first.op, first.inputs, first.output) == (
            second.name, second.op, second.inputs, second.output,
        )  # fmt: skip
    images = quantize_image(load_digits_network("int8").test_set()[0][:5])
    there, here = run_network(network, images), run_network(again, images)
    for name in there:
        np.testing.assert_array_equal(there[name], here[name])
    assert load_model(path).macs == network.macs


def test_rounding_once_survives_the_file(network: Network, tmp_path: Path) -> None:
    node = network.node("logits")
    assert node.layer is not None
    changed = replace(node, layer=replace(node.layer, single_rounding=True))
    path = tmp_path / "net.npz"
    save_network(replace(network, nodes=(*network.nodes[:-1], changed)), path)
    layer = load_network(path).node("logits").layer
    assert layer is not None
    assert layer.single_rounding


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_may_use_all_of_twos_complement(bits: int, network: Network, tmp_path: Path) -> None:
    node, path, half = network.node("logits"), tmp_path / "net.npz", 2 ** (bits - 1)
    assert node.layer is not None
    weights = node.layer.weights.clip(-half, half - 1)
    weights.flat[:2] = -half, half - 1
    widths = np.full(len(weights), bits, np.int8)
    changed = replace(node, layer=replace(node.layer, weights=weights), weight_bits=widths)
    save_network(replace(network, nodes=(*network.nodes[:-1], changed)), path)
    layer = load_network(path).node("logits").layer
    assert layer is not None
    np.testing.assert_array_equal(layer.weights, weights)
    if bits < 8:
        weights.flat[0] = -half - 1
        with pytest.raises(NetworkError, match=f"beyond {bits} bits"):
            replace(network, nodes=(*network.nodes[:-1], replace(
                changed, layer=replace(node.layer, weights=weights)
            )))  # fmt: skip


def test_one_input_is_a_batch_of_one(network: Network) -> None:
    images = quantize_image(load_digits_network("int8").test_set()[0][:2])
    one, batch = run_network(network, images[0]), run_network(network, images)
    np.testing.assert_array_equal(one[network.output_name][0], batch[network.output_name][0])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((8, 8, 1), np.float32), "reads int8, the input is float32"),
        (np.zeros((7, 8, 1), np.int8), r"reads \(8, 8, 1\) or a batch .* the input is \(7, 8, 1\)"),
        (np.zeros((0, 8, 8, 1), np.int8), "the input is"),
    ],
)
def test_another_input_is_refused(inputs: Any, message: str, network: Network) -> None:
    with pytest.raises(ShapeError, match=message):
        run_network(network, inputs)


def test_contradictions_are_refused(network: Network) -> None:
    first, second = network.nodes[:2]
    assert second.layer is not None
    cases: dict[str, Any] = {
        "its name is already taken": (first, replace(second, name=first.name)),
        "neither the network's input nor an earlier node": (first, replace(second, inputs=("nobody",))),
        "reads 1 tensors, not 2": (first, replace(second, inputs=(first.name, first.name))),
        "not supported": (first, replace(second, op="lstm")),
        "needs its layer": (first, replace(second, layer=None)),
        "makes": (first, replace(second, output=replace(second.output, shape=(3, 3, 3)))),
        "zero points": (first, replace(second, output=replace(second.output, zero_point=-77))),
        "weight_scales needs one value": (first, replace(second, weight_scales=np.ones(3))),
        "must be finite and positive": (first, replace(second, weight_scales=-np.ones(16))),
        "beyond 2 bits": (first, replace(second, weight_bits=np.full(16, 2, np.int8))),
        "has no operators": (),
    }
    for message, nodes in cases.items():
        with pytest.raises(NetworkError, match=message):
            replace(network, nodes=nodes)


# ---------------------------------------------------------------------------------------------- hostile files
def is_refused(path: Path) -> bool:
    """Whether a file is refused, with its name in the message; other exceptions pass."""
    try:
        load_network(path)
    except NpuloopError as error:
        return str(path) in str(error)
    return False


def test_a_thousand_damaged_files_give_a_clear_error_or_a_network(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    save_network(network, path)
    content, rng = path.read_bytes(), np.random.default_rng(SEED)
    refused = 0
    for _ in range(1000):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        path.write_bytes(bytes(data[: int(rng.integers(len(data)))] if rng.random() < 0.2 else data))
        refused += is_refused(path)
    assert refused > 800


def test_every_kind_of_damage_to_the_description_is_one_error(network: Network, tmp_path: Path) -> None:
    """Values of the JSON text are replaced, one at a time, by all kinds of others."""
    path = tmp_path / "net.npz"
    save_network(network, path)
    arrays = read_npz(path)
    document = json.loads(str(arrays["network"]))
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            if isinstance(item, (dict, list)):
                collect(item)

    collect(document)
    rng = np.random.default_rng(SEED)
    hostile: list[Any] = [None, -1, 0, 1 << 40, 1e300, "x", [], {}, [1 << 20] * 4, [[1]], True, "nan", -129]
    refused = 0
    for container, key in places:
        before = container[key]
        container[key] = hostile[int(rng.integers(len(hostile)))]
        write_npz(arrays | {"network": np.array(json.dumps(document))}, path)
        container[key] = before
        refused += is_refused(path)
    assert refused > 0.7 * len(places)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8 << 20, "KiB: too much memory"


def test_a_file_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(65):
            archive.writestr(f"{i}.npy", bytes(1 << 24))
    assert path.stat().st_size < 1 << 22
    with pytest.raises(NpuloopError, match=r"bomb.npz: unpacks to \d+ bytes"):
        load_network(path)


def test_another_version_says_which_one_is_read(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    save_network(network, path)
    arrays = read_npz(path)
    document = json.loads(str(arrays["network"])) | {"version": 9}
    write_npz(arrays | {"network": np.array(json.dumps(document))}, path)
    with pytest.raises(NetworkError, match="format version 9; this npuloop reads version 1"):
        load_network(path)
    with pytest.raises(NpuloopError, match=r"a model is an int8 \.tflite file"):
        load_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["", "\x1b[2J", "a\nb", "\udcff", "x" * 501, 3, None])
def test_names_that_cannot_be_shown_are_refused(name: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    arrays = read_npz(network_file("int8"))
    document = json.loads(str(arrays["network"]))
    for place in (document, document["nodes"][0]):
        before, place["name"] = place["name"], name
        write_npz(arrays | {"network": np.array(json.dumps(document))}, path)
        with pytest.raises(NetworkError, match=r"the name .*: write 1 to 500 printable characters") as caught:
            load_network(path)
        assert str(caught.value).isprintable()
        place["name"] = before
