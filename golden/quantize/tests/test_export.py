# SPDX-License-Identifier: Apache-2.0
"""The exporter: usual float networks become integer networks that compute the same, others are refused."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import ArithmeticRangeError, NetworkError, ShapeError, UnsupportedError
from golden.layer import WEIGHTED_OPS
from golden.network import Network, run_network
from golden.network_file import load_network, save_network
from golden.quantize.export import export
from golden.quantize.qat import quantize_input
from golden.quantize.ranges import METHODS, measure, scale_and_zero_point
from golden.quantize.testing import (
    NAMES,
    DsCnn,
    ResNet,
    conv_bn,
    images_for,
    mobilenet,
    model_for,
    random_model,
    settle,
    smooth_images,
)
from golden.quantize.trace import trace

SEED = 20240716


def outputs(network: Network, x: Tensor) -> Tensor:
    """The network's real outputs in PyTorch's order of axes."""
    q = run_network(network, quantize_input(network, x))[network.output_name].astype(np.float64)
    return torch.from_numpy((q - network.output.zero_point) * network.output.scale).movedim(-1, 1)


def steps(network: Network, model: nn.Module, x: Tensor) -> float:
    """The largest difference to the float model, in steps of the output."""
    with torch.no_grad():
        return float((outputs(network, x) - model(x)).abs().max()) / network.output.scale


def exported(*modules: nn.Module, shape: tuple[int, int, int] = (4, 6, 6), **options: Any) -> Network:
    return export(nn.Sequential(*modules).eval(), smooth_images(shape, 8), **options)


# ------------------------------------------------------------------------------------------------- accuracy
@pytest.mark.parametrize("name", NAMES)
def test_an_eight_bit_network_computes_what_the_float_model_computes(name: str) -> None:
    model, x = model_for(name), images_for(name, 48, 5)
    network = export(model, x, name=name)
    assert steps(network, model, x) < 4
    with torch.no_grad():
        assert float((outputs(network, x).argmax(1) == model(x).argmax(1)).float().mean()) > 0.9


@pytest.mark.parametrize("index", range(30))
def test_random_models_compute_what_the_float_model_computes(index: int) -> None:
    rng = np.random.default_rng((SEED, index))
    channels = int(rng.integers(1, 6))
    x = smooth_images((channels, 12, 12), 32, index)
    model = settle(random_model(rng, channels), x, index)
    network = export(model, x)
    spread = len(np.unique(run_network(network, quantize_input(network, x))[network.output_name]))
    assert spread > 20, f"seed ({SEED}, {index}): the outputs say nothing"
    with torch.no_grad():
        real = model(x)
    noise = (outputs(network, x) - real).square().mean() / (real - real.mean(0)).square().mean()
    assert noise < 0.06, f"seed ({SEED}, {index})"  # wrong would be 1 and more


@pytest.mark.parametrize(
    ("maker", "shape", "macs"),
    [
        (lambda: ResNet(blocks=1), (3, 32, 32), 12_501_632),
        (lambda: ResNet(blocks=3), (3, 32, 32), 40_813_184),
        (lambda: DsCnn(width=64), (1, 49, 10), None),
        (lambda: mobilenet(width=16), (3, 32, 32), None),
    ],
)
def test_structures_of_the_field_export_at_full_size(
    maker: Callable[[], nn.Module], shape: tuple[int, int, int], macs: int | None
) -> None:
    torch.manual_seed(0)
    x = smooth_images(shape, 4)
    model = settle(maker(), x)
    network = export(model, x)
    assert steps(network, model, x) < 8
    assert macs is None or network.macs == macs


def test_the_exported_network_survives_its_file(tmp_path: Any) -> None:
    network = export(model_for("resnet"), images_for("resnet", 8), weight_bits=4)
    save_network(network, tmp_path / "net.npz")
    x = quantize_input(network, images_for("resnet", 3, 9))
    before, after = run_network(network, x), run_network(load_network(tmp_path / "net.npz"), x)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_float_model_stays_as_it_is() -> None:
    model = model_for("mobilenet").train()
    state = copy.deepcopy(model.state_dict())
    export(model, images_for("mobilenet", 4))
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


# ------------------------------------------------------------------------------------------------ structure
def test_nodes_have_the_modules_paths_and_fused_operators_disappear() -> None:
    network = export(model_for("resnet"), images_for("resnet", 4))
    names = [node.name for node in network.nodes]
    assert names[:4] == ["conv1", "stages.0.conv1", "stages.0.conv2", "add"]
    assert names[-3:] == ["avg_pool2d", "view", "linear"]
    assert network.input.shape == (16, 16, 3)
    ops = {node.op for node in network.nodes}
    assert ops == {"conv2d", "add", "average_pool", "reshape", "fully_connected"}


def test_pools_and_reshapes_keep_their_inputs_scale_and_zero_point() -> None:
    network = export(model_for("flattened"), images_for("flattened", 8))
    tensors = network.tensors
    kept = [node for node in network.nodes if node.op in ("max_pool", "average_pool", "reshape")]
    assert len(kept) == 3
    for node in kept:
        source = tensors[node.inputs[0]]
        assert (node.output.scale, node.output.zero_point) == (source.scale, source.zero_point)


def test_rectifiers_are_the_clamp_of_the_operator_before_them() -> None:
    conv = nn.Conv2d(4, 4, 1)
    with torch.no_grad():
        conv.weight.mul_(40)
    for module, high in ((nn.ReLU(), math.inf), (nn.ReLU6(), 6.0)):
        network = exported(conv, module)
        (node,) = network.nodes
        assert node.layer is not None
        assert node.layer.act_min == node.output.zero_point == -128
        assert node.layer.act_max == 127
        assert (node.output.scale == pytest.approx(6 / 255)) == (high == 6)
    network = exported(conv, nn.MaxPool2d(2), nn.ReLU6())
    pool = network.node("1")
    assert pool.layer is not None
    assert pool.layer.act_min == pool.output.zero_point > -128
    assert pool.layer.act_max == pool.output.zero_point + round(6 / pool.output.scale) < 127


def test_real_zero_is_exact_in_every_tensor_and_ranges_cover_the_data() -> None:
    model, x = model_for("flattened"), images_for("flattened", 16)
    network = export(model, x)
    for tensor in network.tensors.values():
        low, high = ((q - tensor.zero_point) * tensor.scale for q in (-128, 127))
        assert low <= 0 <= high
    assert network.input.scale == pytest.approx(float(x.max()) / 255)
    assert network.input.zero_point == -128


def test_the_input_takes_a_given_scale_and_zero_point() -> None:
    network = exported(nn.Conv2d(4, 2, 1), input_scale=1 / 128, input_zero_point=-3)
    assert (network.input.scale, network.input.zero_point) == (1 / 128, -3)
    x = torch.tensor([0.0, 1.5 / 128, -1.5 / 128, 9.0]).reshape(1, 4, 1, 1).expand(1, 4, 6, 6)
    got = quantize_input(network, x)
    assert got[0, 0, 0].tolist() == [-3, -1, -5, 127]


def test_weight_widths_are_those_asked_for_by_layer_and_by_channel() -> None:
    widths = [2, 8, 2, 4, 8, 2]
    network = export(
        model_for("flattened"), images_for("flattened", 8), weight_bits={"conv": widths, "hidden": 3}
    )
    for node in network.nodes:
        if node.op in WEIGHTED_OPS:
            assert node.weight_bits is not None
            expected: Any = {"conv": widths, "hidden": [3] * 16}.get(node.name, [8] * node.channels)
            assert node.weight_bits.tolist() == expected


def test_calibration_takes_tensors_batches_and_pairs_with_labels() -> None:
    x = smooth_images((4, 6, 6), 8)
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU())
    whole = export(model, x)
    batches = export(model, [x[:3], x[3:]])
    pairs = export(model, ((part, torch.zeros(len(part))) for part in (x[:3], x[3:])))
    assert whole.tensors == batches.tensors == pairs.tensors


@pytest.mark.parametrize("method", METHODS)
def test_every_way_to_choose_ranges_gives_a_working_network(method: Any) -> None:
    model, x = model_for("mobilenet"), images_for("mobilenet", 32, 5)
    network = export(model, x, ranges=method)
    with torch.no_grad():
        error = (outputs(network, x) - model(x)).square().mean() / model(x).var()
    assert error < 1e-3


def test_range_methods_cut_outliers() -> None:
    values = torch.cat([torch.linspace(-1, 2, 20_000), torch.tensor([20.0])])
    assert measure(values, "minmax") == (-1, 20)
    assert measure(values, "percentile") == pytest.approx((-1, 2), abs=0.01)
    low, high = measure(torch.cat([torch.linspace(0, 2, 200_000), torch.tensor([20.0])]), "mse")
    assert low == 0
    assert 2 < high < 19
    assert measure(torch.tensor([3.0, 4.0]), "minmax") == (0, 4)


def test_an_empty_range_has_a_scale_and_an_infinite_one_is_refused() -> None:
    assert scale_and_zero_point(0, 0) == (1.0, -128)
    scale, zero_point = scale_and_zero_point(-2.55, 0)
    assert scale == pytest.approx(0.01)
    assert zero_point == 127
    assert scale_and_zero_point(1.0, 2.55) == scale_and_zero_point(0.0, 2.55)
    assert scale_and_zero_point(-2.55, -1.0) == (scale, zero_point)
    with pytest.raises(ArithmeticRangeError, match="finite"):
        scale_and_zero_point(0, math.inf)
    with pytest.raises(ArithmeticRangeError, match="finite"):
        scale_and_zero_point(math.nan, math.nan)
    with pytest.raises(UnsupportedError, match="minmax, percentile, mse"):
        exported(nn.Conv2d(4, 2, 1), ranges="median")


def test_a_layer_that_makes_only_zeros_exports() -> None:
    conv = nn.Conv2d(4, 3, 1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.copy_(torch.tensor([0.0, -1.0, -2.0]))  # type: ignore[union-attr]
    network = exported(conv, nn.ReLU(), nn.Conv2d(3, 2, 1), weight_bits=2)
    assert (run_network(network, np.zeros((6, 6, 4), np.int8))["0"] == -128).all()


def test_a_large_bias_beside_small_weights_is_kept() -> None:
    conv = nn.Conv2d(4, 2, 1)
    with torch.no_grad():
        conv.weight.mul_(1e-12)
        conv.bias.copy_(torch.tensor([100.0, -50.0]))  # type: ignore[union-attr]
    model = nn.Sequential(conv)
    x = smooth_images((4, 6, 6), 4)
    assert steps(export(model, x), model, x) <= 0.501


# ---------------------------------------------------------------------------------------------------- trace
def test_normalisation_is_folded_into_the_layer_before_it() -> None:
    for module, x in (
        (nn.Conv2d(4, 6, 3, bias=False), smooth_images((4, 6, 6), 8)),
        (nn.Conv2d(4, 8, 3, groups=4), smooth_images((4, 6, 6), 8)),
        (nn.Linear(5, 6), torch.randn(9, 5)),
    ):
        image = x.ndim == 4
        channels = module.weight.shape[0]
        norm: nn.Module = nn.BatchNorm2d(channels) if image else nn.BatchNorm1d(channels)
        model = settle(nn.Sequential(module, norm), x)
        (node,) = trace(model, x).nodes
        assert node.weight is not None
        with torch.no_grad():
            groups = 4 if node.op == "depthwise_conv2d" else 1
            got = (
                functional.conv2d(x, node.weight, node.bias, groups=groups)
                if image
                else functional.linear(x, node.weight, node.bias)
            )
            torch.testing.assert_close(got, model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # says that torch copies the image
def test_padding_before_a_convolution_and_same_padding_add_up() -> None:
    x = smooth_images((4, 7, 7), 2)
    conv = nn.Conv2d(4, 2, (3, 2), padding="same", dilation=(1, 3))
    padded = nn.Sequential(nn.ZeroPad2d((1, 2, 3, 0)), nn.Identity(), conv)
    (node,) = trace(padded, x).nodes
    assert node.padding == (3 + 1, 0 + 1, 1 + 1, 2 + 2)
    assert steps(export(padded, x), padded, x) < 2

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 2, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(functional.pad(x, (0, 1, 0, 1)))  # type: ignore[no-any-return]

    model = Functional()
    assert steps(export(model, x), model, x) < 2


class Call(nn.Module):
    """A convolution, then some function of its output and of the input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.conv(x), x)


@pytest.mark.parametrize(
    "function",
    [
        lambda y, x: y + x,
        lambda y, x: torch.add(x, other=y),
        lambda y, x: y.add_(x),
        lambda y, x: functional.relu6(y, inplace=True) + x,
        lambda y, x: y.relu() + x,
        lambda y, _: y.mean(dim=(2, 3)),
        lambda y, _: torch.mean(y, [-1, -2], keepdim=True),
        lambda y, _: functional.max_pool2d(y, 3, stride=2, padding=1),
        lambda y, _: functional.max_pool2d(y, kernel_size=y.size(2)).squeeze(),
        lambda y, _: functional.avg_pool2d(y, (3, 2)),
        lambda y, _: functional.avg_pool2d(y, 3, 1, 1, False, False),
        lambda y, _: functional.avg_pool2d(y, 3, ceil_mode=True),
        lambda y, _: functional.adaptive_avg_pool2d(y, (None, 2)),
        lambda y, _: functional.dropout(y, training=False).contiguous(),
        lambda y, _: functional.adaptive_avg_pool2d(y, 1).reshape(y.shape[0], -1),
        lambda y, _: functional.adaptive_avg_pool2d(y, 1).flatten(1).view(-1, 4),
    ],
)
def test_functions_compute_what_torch_computes(function: Callable[[Tensor, Tensor], Any]) -> None:
    torch.manual_seed(SEED)
    model, x = Call(function).eval(), smooth_images((4, 6, 6), 8) - 0.5
    assert steps(export(model, x), model, x) < 3


def test_a_vector_network_of_linear_layers_exports() -> None:
    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(50, 6)
    network = export(model, x)
    assert network.input.shape == (6,)
    assert steps(network, model, x) < 3


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


CONV = nn.Conv2d(4, 4, 3, padding=1)
REFUSED: list[tuple[str, nn.Module, type[Exception], str]] = [
    ("groups", nn.Conv2d(4, 8, 1, groups=2), UnsupportedError, "module '0': groups=2 with 4 channels"),
    ("padding", nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"), UnsupportedError, "'0'.*'reflect'"),
    ("module", nn.Sequential(CONV, nn.Sigmoid()), UnsupportedError, r"'0\.1': Sigmoid is not.*Conv2d"),
    (
        "statistics",
        nn.Sequential(CONV, nn.BatchNorm2d(4, track_running_stats=False)),
        UnsupportedError,
        "no running statistics",
    ),
    ("inputs", TwoInputs(), NetworkError, "cannot run.*'y'"),
    ("broadcast", Call(lambda y, x: y + x.mean((2, 3), keepdim=True)), UnsupportedError, "one shape"),
    (
        "product",
        Call(lambda y, x: y * x),
        UnsupportedError,
        "function 'mul': mul of two computed tensors is not",
    ),
    (
        "dependent",
        DataDependent(),
        UnsupportedError,
        r"Python value of the data.*test_export\.py, line \d+: return",
    ),
    ("count", nn.AvgPool2d(3, 1, 1), UnsupportedError, "count_include_pad=False"),
    ("divisor", nn.AvgPool2d(2, divisor_override=3), UnsupportedError, "divisor_override"),
    ("ceil", nn.MaxPool2d(4, 4, ceil_mode=True), UnsupportedError, "ceil_mode"),
    ("dilation", nn.MaxPool2d(2, dilation=2), UnsupportedError, "dilation"),
    ("divides", nn.AdaptiveAvgPool2d(4), UnsupportedError, r"\(6, 6\) to \(4, 4\)"),
    ("mean", Call(lambda y, _: y.mean(1)), UnsupportedError, r"a mean over 1"),
    (
        "reshape",
        Call(lambda y, _: y.reshape(-1, 8, 6, 3)),
        UnsupportedError,
        r"another order: \(8, 6, 3\) of \(6, 6, 4\)",
    ),
    ("batch", Call(lambda y, _: y.reshape(1, -1)), UnsupportedError, "flattening"),
    ("output", nn.Sequential(CONV, nn.Flatten()), UnsupportedError, "flattened image"),
    ("tuple", Call(lambda y, x: (y, x)), UnsupportedError, "something else than one tensor"),
    ("pool pad", nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), UnsupportedError, "zeros before a pool"),
    ("pad end", nn.Sequential(CONV, nn.ZeroPad2d(1)), UnsupportedError, "reads padded data"),
    ("pad relu", nn.Sequential(CONV, nn.ZeroPad2d(1), nn.ReLU()), UnsupportedError, "reads padded data"),
    ("crop", nn.Sequential(nn.ZeroPad2d(-1), CONV), UnsupportedError, "negative"),
    ("constant", Call(lambda y, _: functional.pad(y, (1, 1, 1, 1), value=2.0)), UnsupportedError, "zeros"),
    ("dropout", Call(lambda y, _: functional.dropout(y)), UnsupportedError, "training=self.training"),
    ("axes", nn.Sequential(CONV, nn.Linear(6, 6)), UnsupportedError, "flatten the image"),
    ("nothing", nn.Identity(), NetworkError, "no operators"),
    ("shape", nn.Conv2d(3, 4, 1), NetworkError, "cannot run"),
    ("unused", Call(lambda _, x: x), NetworkError, "no operators"),
]


@pytest.mark.parametrize(("name", "model", "error", "message"), REFUSED, ids=[item[0] for item in REFUSED])
def test_what_is_not_supported_is_refused_by_name(
    name: str, model: nn.Module, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        exported(model, name=name)


def test_refusals_of_calibration_data() -> None:
    with pytest.raises(NetworkError, match=r"'net'.*no calibration data"):
        export(CONV, [], name="net")
    with pytest.raises(ShapeError, match="ndarray"):
        export(CONV, [np.zeros((1, 4, 6, 6), np.float32)])
    with pytest.raises(ShapeError, match=r"\(4, 6, 6\) and \(4, 5, 5\)"):
        export(CONV, [torch.zeros(1, 4, 6, 6), torch.zeros(1, 4, 5, 5)])
    with pytest.raises(UnsupportedError, match=r"\(1, 4, 6, 6, 6\)"):
        export(CONV, torch.zeros(1, 4, 6, 6, 6))
    with pytest.raises(UnsupportedError, match="uint8"):
        export(CONV, torch.zeros(1, 4, 6, 6, dtype=torch.uint8))
    with pytest.raises(NetworkError, match=r"'net'.*'nowhere'"):
        exported(nn.Sequential(CONV), weight_bits={"nowhere": 2}, name="net")
    with pytest.raises(UnsupportedError, match=r"'net'.*'0\.0'.*= 1 "):
        exported(nn.Sequential(CONV), weight_bits={"0.0": 1}, name="net")


def test_the_input_of_a_network_must_have_its_shape() -> None:
    network = exported(*conv_bn(4, 4))
    with pytest.raises(ShapeError, match=r"\(4, 6, 6\)"):
        quantize_input(network, torch.zeros(1, 4, 6, 5))
    with pytest.raises(ShapeError, match="floating-point"):
        quantize_input(network, torch.zeros(1, 4, 6, 6, dtype=torch.int32))
