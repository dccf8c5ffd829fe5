# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from common.testing import data_dir, require
from golden.importers.models import load_model
from golden.layer import WEIGHTED_OPS, kernel_size
from golden.network import Network, run_network
from golden.quantize.export import export
from golden.quantize.qat import quantize_input
from golden.quantize.testing import smooth_images
from golden.quantize.trace import trace
from golden.zoo.float_networks import DsCnn, MobileNetV1, fit_batch_norms, same_pad
from golden.zoo.train_digits import DigitsNet
from mapping.cost.shapes import shapes_of_network
from mapping.search.data import DataSet
from mapping.search.models import MODELS, ModelError, build_model, check_model


def data_set(shape: tuple[int, ...] = (3, 32, 32), classes: int = 10) -> DataSet:
    images = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(6) % classes
    return DataSet("random", images, labels, images, labels, classes, 1 / 255, -128)


# ---------------------------------------------------------------------------------- networks of MLPerf Tiny
TINY: dict[str, tuple[type[nn.Module], tuple[int, int, int]]] = {
    "kws_ref_model.tflite": (DsCnn, (1, 49, 10)),
    "vww_96_int8.tflite": (MobileNetV1, (3, 96, 96)),
}


def exported(model: nn.Module, shape: tuple[int, int, int]) -> Network:
    images = smooth_images(shape, 2)
    return export(fit_batch_norms(model, images), images)


def structure(network: Network) -> list[tuple[Any, ...]]:
    """Operator, output, kernel, stride, padding and clamp of every weighted layer."""
    nodes = [node for node in network.nodes if node.op in WEIGHTED_OPS]
    layers = [node.layer for node in nodes if node.layer is not None]
    assert len(layers) == len(nodes) > 9
    return [
        (node.op, node.output.shape, kernel_size(layer), layer.stride, layer.padding, layer.weights.shape)
        for node, layer in zip(nodes, layers, strict=True)
    ]


@pytest.mark.parametrize("file", TINY)
@pytest.mark.data
def test_the_network_has_the_structure_of_mlperf_tinys_file(file: str) -> None:
    reference = load_model(require(data_dir() / "models" / file))
    make, shape = TINY[file]
    torch.manual_seed(0)
    network = exported(make(), shape)
    assert network.input.shape == reference.input.shape
    assert structure(network) == structure(reference)
    ours, theirs = shapes_of_network(network), shapes_of_network(reference)
    assert [layer.key for layer in ours] == [layer.key for layer in theirs]  # the pool too
    ends_in_softmax = reference.nodes[-1].op == "softmax"
    assert [node.op for node in network.nodes] == [
        node.op for node in reference.nodes[: -1 if ends_in_softmax else None]
    ]


@pytest.mark.parametrize("file", TINY)
def test_every_layer_but_the_last_has_batch_normalisation_and_relu(file: str) -> None:
    make, shape = TINY[file]
    model = make()
    graph = trace(model, torch.zeros(1, *shape))
    layers = [node for node in graph.nodes if node.weight is not None]
    assert [node.low for node in layers] == [0.0] * (len(layers) - 1) + [-float("inf")]
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert norms == len(layers) - 1


def test_the_integer_network_computes_what_the_float_network_computes() -> None:
    torch.manual_seed(3)
    model, images = DsCnn(), smooth_images((1, 49, 10), 16)
    network = export(fit_batch_norms(model, images), images)
    q = run_network(network, quantize_input(network, images))[network.output_name].astype(np.float64)
    with torch.no_grad():
        real = model(images).numpy()
    error = (q - network.output.zero_point) * network.output.scale - real
    assert np.square(error).mean() < 0.06 * np.square(real - real.mean(axis=0)).mean()


@pytest.mark.parametrize("shape", [(1, 49, 10), (3, 32, 32), (2, 25, 13), (1, 8, 8)])
@pytest.mark.parametrize("make", [DsCnn, MobileNetV1])
def test_other_sizes_are_padded_as_tensorflow_does(make: Any, shape: tuple[int, int, int]) -> None:
    graph = trace(make(classes=7, input_shape=shape), torch.zeros(1, *shape))
    assert graph.nodes[-1].shape == (7,)
    size: tuple[int, ...] = shape[1:]
    for node in graph.nodes:
        if node.weight is None or node.op == "fully_connected":
            continue
        # TensorFlow's rule, written for one axis after the other
        for i, (pixels, taps, stride) in enumerate(
            zip(size, node.weight.shape[2:], node.stride, strict=True)
        ):
            last = taps - (stride if pixels % stride == 0 else pixels % stride)
            before, after = node.padding[2 * i : 2 * i + 2]
            assert before + after == max(last, 0), node.name
            assert after - before in (0, 1), node.name
            assert node.shape[i] == math.ceil(pixels / stride), node.name
        size = node.shape[:2]


def test_a_network_made_for_one_size_reads_others_too() -> None:
    with torch.no_grad():
        assert DsCnn().eval()(torch.zeros(2, 1, 61, 13)).shape == (2, 12)
        assert MobileNetV1().eval()(torch.zeros(2, 3, 64, 96)).shape == (2, 2)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "sides"),
    [
        ((49, 10), (10, 4), (2, 2), (1, 1, 4, 5)),  # left, right, top, bottom
        ((96, 96), (3, 3), (2, 2), (0, 1, 0, 1)),
        ((95, 96), (3, 3), (2, 2), (0, 1, 1, 1)),
        ((5, 5), (3, 3), (1, 1), (1, 1, 1, 1)),
        ((4, 4), (1, 1), (2, 2), (0, 0, 0, 0)),
    ],
)
def test_same_padding(size: Any, kernel: Any, stride: Any, sides: tuple[int, ...]) -> None:
    assert same_pad(size, kernel, stride).padding == sides


def test_width_channels_and_blocks_are_those_asked_for() -> None:
    model = DsCnn(classes=5, channels=12, blocks=2)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [12] * 5
    wide = MobileNetV1(width=0.5)
    assert [m.out_channels for m in wide.modules() if isinstance(m, nn.Conv2d)][-1] == 512


# ------------------------------------------------------------------------------------------------ build_model
@pytest.mark.parametrize("spec", MODELS)
def test_every_named_model_fits_its_data(spec: str) -> None:
    data = data_set((1, 8, 8)) if spec == "digits" else data_set((3, 32, 32), 7)
    model = build_model(spec, data, seed=1)
    assert model.training
    with torch.no_grad():
        assert model(data.train_images).shape == (6, data.classes)


def test_the_named_models_are_those_of_golden() -> None:
    assert isinstance(build_model("digits", data_set((1, 8, 8)), 0), DigitsNet)
    assert isinstance(build_model("ds_cnn", data_set((1, 49, 10), 12), 0), DsCnn)
    mobilenet = build_model("mobilenet_v1_025", data_set((3, 32, 32), 2), 0)
    assert sum(p.numel() for p in mobilenet.parameters() if p.ndim > 1) == 208_112  # weights: npuloop show
    for spec, layers in (("resnet8", 7), ("resnet20", 19)):
        weighted = trace(build_model(spec, data_set(), 0), torch.zeros(1, 3, 32, 32)).nodes
        three = [node for node in weighted if node.weight is not None and node.weight.shape[2:] == (3, 3)]
        assert len(three) == layers


def test_a_resnet_reads_as_many_channels_as_the_data_has() -> None:
    model = build_model("resnet8", data_set((1, 8, 8), 3), 0)
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("spec", ["resnet8", "user_model:draws"])
def test_the_weights_depend_on_the_seed_only(spec: str, user_code: None) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = weights(build_model(spec, data_set(), 3))
    torch.rand(3)
    state = torch.random.get_rng_state()
    again, other = (weights(build_model(spec, data_set(), seed)) for seed in (3, 4))
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_generator_of_the_caller_stays_where_it_was(user_code: None) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    build_model("user_model:draws", data_set(), 3)
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(ModelError):
        build_model("user_model:breaks", data_set(), 3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_check_leaves_the_model_as_it_is() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 32), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_model("mine", model, data_set())
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


USER_CODE = """
import torch
from torch import nn

torch.rand(7)

class Draws(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(torch.Size(shape).numel(), classes)

    def forward(self, x):
        torch.rand(1)
        return self.linear(self.flatten(x))

draws = Draws

def breaks(shape, classes):
    torch.rand(1)
    raise RuntimeError("no such size\\nmore")

def nothing(shape, classes):
    return None

def no_arguments():
    return Draws((3, 32, 32), 10)

def grouped(shape, classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, classes),
    )

class DataDependent(Draws):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)

class Functional(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(classes, 3072))

    def forward(self, x):
        return nn.functional.linear(x.flatten(1), self.matrix)

class Twice(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 3, 1), nn.Linear(3072, classes)

    def forward(self, x):
        return self.out(self.conv(self.conv(x)).flatten(1))

def normalised(shape, classes):
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3072, classes))

class Sigmoid(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3072, classes), nn.Sigmoid())

    def forward(self, x):
        return self.body(x)

def double(shape, classes):
    return Draws(shape, classes).double()

def fewer(shape, classes):
    return Draws(shape, classes - 1)

def image(shape, classes):
    return nn.Conv2d(3, classes, 32)
"""


@pytest.fixture
def user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module user_model in the current directory, which is not on the path."""
    (tmp_path / "user_model.py").write_text(USER_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "user_model", raising=False)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("breaks", "user_model:breaks fails: no such size; correct the function"),
        ("nothing", "user_model:nothing gives a NoneType; return a torch.nn.Module"),
        ("no_arguments", "user_model:no_arguments fails: .*takes 0 positional arguments but 2 were given"),
        ("missing", "no attribute 'missing'; give package.module:function"),
        ("grouped", "'user_model:grouped' cannot become .* module '1': groups=2 .* change that part"),
        ("Sigmoid", r"module 'body\.2': Sigmoid is not supported; supported are Conv2d"),
        ("Functional", "layer 'linear' has weights that are shared or are not a module's own"),
        ("Twice", "layer 'conv_1' has weights that are shared or are not a module's own"),
        ("normalised", "layer '0' has weights that are shared or are not a module's own"),
        ("DataDependent", "makes a Python value of the data.*user_model.py, line"),
        ("double", "'user_model:double' does not fit data set 'random'"),
        ("fewer", r"makes \(4, 9\) of 4 images, not \(4, 10\); give one of digits, resnet8"),
        ("image", r"makes \(4, 10, 1, 1\) of 4 images"),
    ],
)
def test_a_model_of_the_user_that_does_not_do_is_named(spec: str, message: str, user_code: None) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(f"user_model:{spec}", data_set(), 0)


@pytest.mark.parametrize(
    ("spec", "shape", "classes", "message"),
    [
        ("resnet9", (3, 32, 32), 10, "there is no model 'resnet9'; give one of digits, resnet8, resnet20"),
        (
            "digits",
            (3, 32, 32),
            10,
            "model 'digits' does not fit data set 'random', 3 x 32 x 32 to 10 classes",
        ),
        ("digits", (1, 8, 8), 7, r"makes \(4, 10\) of 4 images, not \(4, 7\)"),
        ("resnet8", (3, 30, 30), 10, "model 'resnet8' does not fit"),
        ("ds_cnn", (12,), 10, "model 'ds_cnn' does not fit data set 'random', 12 to 10"),
        ("resnet20", (12,), 10, "model 'resnet20' does not fit"),
    ],
)
def test_a_named_model_that_does_not_fit_the_data_is_refused(
    spec: str, shape: tuple[int, ...], classes: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(spec, data_set(shape, classes), 0)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ModelError, match=f"seed {seed}; give 0 to {2**63 - 1}"):
        build_model("resnet8", data_set(), seed)
