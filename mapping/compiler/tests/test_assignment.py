# SPDX-License-Identifier: Apache-2.0
"""MAP.yaml and the order of channels that follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from golden.network import Network
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB
from mapping.compiler.assignment import Assignment, MappingError, assignment_text, load_assignment
from mapping.compiler.channels import order_channels, ranges_of
from mapping.compiler.graph import Graph
from mapping.compiler.legalise import legalise_network
from mapping.run.random_networks import random_network

CORES = (NPU8, NPU_LB)


@pytest.fixture
def network() -> Network:
    networks = (random_network(seed, CORES)[0] for seed in range(99))
    return next(network for network in networks if network.nodes[0].channels >= 8)


def first_layer(network: Network) -> tuple[Graph, str, int]:
    graph = legalise_network(network)
    return graph, graph.ops[0].name, graph.ops[0].shape[2]


def test_a_mapping_file_says_units_counts_or_channels(network: Network, tmp_path: Path) -> None:
    graph, name, channels = first_layer(network)
    path = tmp_path / "map.yaml"
    cases = {
        "npu_lb": np.ones(channels, int),
        f"{{npu8: 1, npu_lb: {channels - 1}}}": np.arange(channels) >= 1,
        f"{{npu_lb: [0, 2-{channels - 1}], npu8: [1]}}": np.arange(channels) != 1,
    }
    for text, expected in cases.items():
        path.write_text(f"npuloop_mapping: 1\nnetwork: {network.name}\nlayers:\n  {name}: {text}\n")
        units = load_assignment(path).units(network, graph, CORES)
        np.testing.assert_array_equal(units[name], expected, err_msg=text)
        others = [units[op.name] for op in graph.ops if op.name != name]
        assert not np.concatenate(others).any(), "what is not listed runs on the default unit, npu8"


def test_an_assignment_survives_its_file(tmp_path: Path) -> None:
    for seed in range(30):
        network, units, _ = random_network(seed, CORES)
        path = tmp_path / f"{seed}.yaml"
        path.write_text(assignment_text(units, CORES, network.name))
        again = load_assignment(path).units(network, legalise_network(network), CORES)
        assert units.keys() == again.keys()
        for name in units:
            np.testing.assert_array_equal(units[name], again[name], err_msg=f"seed {seed}, {name}")


BAD = {
    "layers: {conv9: npu8}": "no layer 'conv9'; it has",
    "layers: {LAYER: npu9}": "'LAYER': no unit 'npu9' in this system; it has npu8, npu_lb",
    "layers: {LAYER: {npu8: 1}}": "'LAYER': .* channels are not mapped, the first is 1; .* must add up",
    "layers: {LAYER: {npu8: 1000}}": "'LAYER': channel .* of npu8 does not exist",
    "layers: {LAYER: {npu8: [0, 1, 1]}}": "channel 1 is mapped twice",
    "layers: {LAYER: {npu8: [0], npu_lb: 3}}": "numbers of channels for all units, or lists for all",
    "layers: {LAYER: {npu8: -1}}": "npu8 has -1",
    "layers: {LAYER: {npu8: [7-3]}}": "'7-3' is no channel",
    "layers: {LAYER: {npu8: [0-99999999999]}}": "is no channel",
    "layers: {LAYER: 3}": "give a unit, or channels for each unit",
    "layers: [1]": "layers must map",
    "default: [1]": "default must be a name",
    "default: npu7": "no unit 'npu7'",
    "network: other": "made for network 'other'",
    "units: 3": "unknown key 'units'",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_mapping_file_is_one_clear_error(text: str, network: Network, tmp_path: Path) -> None:
    graph, name, _ = first_layer(network)
    path = tmp_path / "map.yaml"
    path.write_text("npuloop_mapping: 1\n" + text.replace("LAYER", name) + "\n")
    with pytest.raises(MappingError, match=BAD[text].replace("LAYER", name)) as caught:
        load_assignment(path).units(network, graph, CORES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"npuloop_mapping: 1\nlayers: {a: [", "no valid YAML"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"npuloop_mapping: 2\n", "npuloop_mapping: 1"),
        (b"- 1\n", "no mapping file"),
        (b"", "no mapping file"),
        (b"npuloop_mapping: 1\nlayers: !!python/object/apply:os.getcwd []\n", "no valid YAML"),
        (b"[" * 5000, "no valid YAML"),
    ],
)
def test_what_is_no_mapping_file_is_refused(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_bytes(content)
    with pytest.raises(MappingError, match=what):
        load_assignment(path)
    with pytest.raises(MappingError, match="no such file"):
        load_assignment(tmp_path / "none.yaml")


def test_random_text_never_ends_in_a_traceback(network: Network, tmp_path: Path) -> None:
    graph, name, _ = first_layer(network)
    base = f"npuloop_mapping: 1\ndefault: npu8\nlayers:\n  {name}: {{npu8: [0, 1-2], npu_lb: [3]}}\n"
    path = tmp_path / "map.yaml"
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(2000):
        text = bytearray(base.encode())
        for _ in range(int(rng.integers(1, 6))):
            text[int(rng.integers(len(text)))] = int(rng.choice(list(b"{}[]:-0129 \n#&*!|a~'\"%")))
        path.write_bytes(bytes(text))
        try:
            load_assignment(path).units(network, graph, CORES)
        except MappingError:
            refused += 1
    assert 500 < refused <= 2000


def test_a_layer_of_the_host_cannot_be_mapped() -> None:
    network = next(n for n in (random_network(i, CORES)[0] for i in range(9)) if n.nodes[-2].op == "reshape")
    graph = legalise_network(network)
    reshape = next(node for node in network.nodes if node.op == "reshape")
    with pytest.raises(MappingError, match=rf"{reshape.name}.*cannot be mapped"):
        Assignment("npu8", {reshape.name: "npu8"}).units(network, graph, CORES)


# -------------------------------------------------------------------------------------- order of channels
def test_each_units_part_of_every_layer_is_whole_segments() -> None:
    cores = (NPU8, CoreConfig("npu_lb", w_bits=2, rows=32, cols=32))
    for seed in range(60):
        network, units, _ = random_network(seed, cores)
        graph = legalise_network(network)
        orders = order_channels(graph, units, cores)
        for name, value in graph.values.items():
            order = orders[name]
            real = order.channels[order.channels >= 0]
            assert sorted(real.tolist()) == list(range(value.shape[2])), f"seed {seed}, {name}"
        for op in graph.ops:
            covered: list[int] = []
            for unit, core in enumerate(cores):
                for item in ranges_of(units[op.name], orders[op.name], unit):
                    assert item.first % core.rows == 0, f"seed {seed}, {op.name}"
                    channels = orders[op.name].channels[item.first : item.end]
                    assert (units[op.name][channels[channels >= 0]] == unit).all()
                    covered += range(item.first, item.end)
            assert sorted(covered) == np.flatnonzero(orders[op.name].made).tolist()
            if op.channelwise:
                for source in op.sources:
                    assert orders[source] is orders[op.name], "channels correspond one to one"


def test_one_unit_keeps_the_natural_order() -> None:
    network, units, _ = random_network(4, (NPU8,))
    graph = legalise_network(network)
    for name, order in order_channels(graph, units, (NPU8,)).items():
        np.testing.assert_array_equal(order.channels, np.arange(graph.values[name].shape[2]))


def test_the_file_is_plain_yaml(network: Network) -> None:
    _, units, _ = random_network(1, CORES)
    document = yaml.safe_load(assignment_text(units, CORES, "net"))
    assert document["npuloop_mapping"] == 1
    assert document["network"] == "net"
    assert set(document["layers"]) == set(units)
