# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from common.testing import data_dir, require
from golden.importers.models import load_model
from golden.network import Network, run_network
from golden.quantize.qat import quantize_input
from golden.quantize.testing import smooth_images
from golden.zoo.float_networks import resnet20_network
from mapping.cost.real_networks import NETWORKS, real_networks
from mapping.cost.shapes import Shape, shapes_of_network

FILES = {
    "resnet8": "pretrainedResnet_quant.tflite",
    "ds_cnn": "kws_ref_model.tflite",
    "mobilenet_v1": "vww_96_int8.tflite",
    "autoencoder": "ad01_int8.tflite",
}


@pytest.fixture(scope="module")
def lists() -> dict[str, tuple[Shape, ...]]:
    return real_networks()


@pytest.fixture(scope="module", params=[8, 2])
def resnet20(request: pytest.FixtureRequest) -> Network:
    return resnet20_network(seed=1, w_bits=request.param)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.data
def test_the_list_holds_every_layer_of_the_model(name: str, lists: dict[str, tuple[Shape, ...]]) -> None:
    model = load_model(require(data_dir() / "models" / FILES[name]))
    assert list(lists[name]) == shapes_of_network(model)


@pytest.mark.data
def test_the_lists_have_the_macs_of_the_networks(lists: dict[str, tuple[Shape, ...]]) -> None:
    assert tuple(lists) == NETWORKS
    macs = {name: sum(shape.macs for shape in shapes) for name, shapes in lists.items()}
    assert macs == {
        "resnet8": 12_501_632,  # these four: the README's
        "ds_cnn": 2_656_768,
        "mobilenet_v1": 7_489_664,
        "autoencoder": 264_192,
        # in units of 1,024: the first layer, 3x3 of stride 1, 3x3 of stride 2, shortcuts; and the last layer
        "resnet20": 1_024 * (432 + 16 * 2_304 + 2 * 1_152 + 2 * 128) + 640,
        "resnet18": 1_814_073_344,  # torchvision's: "1.81 GFLOPS"
    }


@pytest.mark.data
def test_resnet18_has_its_published_parameters_and_its_layers_fit_together(
    lists: dict[str, tuple[Shape, ...]],
) -> None:
    shapes = {shape.name: shape for shape in lists["resnet18"]}
    # 11,689,512 parameters, less 2 * 4,800 of batch normalisation and 1,000 biases
    assert sum(shape.weights for shape in shapes.values()) == 11_689_512 - 9_600 - 1_000
    assert sum(shape.op == "conv2d" for shape in shapes.values()) == 20
    assert sum(shape.op == "add" for shape in shapes.values()) == 8
    main = [shape for name, shape in shapes.items() if "downsample" not in name]
    for before, after in itertools.pairwise(main[:-1]):
        outputs = (before.out_channels, before.out_height, before.out_width)
        assert outputs == (after.in_channels, after.in_height, after.in_width), after.name
    for stage, size in ((2, 28), (3, 14), (4, 7)):
        shortcut = shapes[f"layer{stage}.0.downsample.0"]
        assert (shortcut.out_height, shortcut.stride, shortcut.in_channels) == (
            size,
            (2, 2),
            32 * 2 ** (stage - 1),
        )


@pytest.mark.data
def test_the_resnet20_that_runs_has_the_layers_of_the_list(
    resnet20: Network, lists: dict[str, tuple[Shape, ...]]
) -> None:
    assert shapes_of_network(resnet20) == list(lists["resnet20"])


def test_values_of_the_random_resnet20_spread_in_every_layer(resnet20: Network) -> None:
    values = run_network(resnet20, quantize_input(resnet20, smooth_images((3, 32, 32), 8, seed=9)))
    for node in resnet20.nodes:
        if node.op == "reshape":
            continue
        outputs = values[node.name].astype(np.int64)
        # a mean has its input's scale, but less spread
        assert outputs.std() > (3 if node.op == "average_pool" else 10), node.name
        assert len(np.unique(outputs)) > 20, node.name
        assert (outputs == 127).mean() < 0.05, node.name
        assert (outputs[0] != outputs[1]).any(), node.name
        channels = outputs.reshape(-1, outputs.shape[-1])
        assert (channels.min(axis=0) < channels.max(axis=0)).all(), f"{node.name}: a channel is constant"


def test_the_random_resnet20_has_the_width_that_was_asked_for() -> None:
    network = resnet20_network(w_bits=4)
    for node in network.nodes:
        if node.weight_bits is not None:
            assert set(node.weight_bits.tolist()) == {4}


def test_the_random_resnet20_depends_on_its_seed_only() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (resnet20_network(seed, w_bits=2) for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    for node in first.nodes:
        if node.layer is not None and node.weight_bits is not None:
            layer, same, different = node.layer, again.node(node.name).layer, other.node(node.name).layer
            assert same is not None
            assert different is not None
            assert (layer.weights == same.weights).all()
            assert (layer.multiplier == same.multiplier).all()
            assert (layer.weights != different.weights).any()
