# SPDX-License-Identifier: Apache-2.0
"""Quantisation-aware training: the forward pass is the integer network, exactly, and it trains."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.arrays import Array
from common.errors import ArithmeticRangeError, NetworkError, ShapeError, UnsupportedError
from golden.layer import WEIGHTED_OPS
from golden.network import Network, run_network
from golden.network_file import load_network, save_network
from golden.quantize.fake_quantize import with_gradient
from golden.quantize.qat import QatNetwork, convert, prepare_qat, quantize_input
from golden.quantize.testing import NAMES, conv_bn, images_for, model_for, random_model, settle, smooth_images
from golden.zoo.digits import digits_images

SEED = 20240717
WIDTHS: tuple[int | str, ...] = (2, 3, 4, 8, "mixed")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prepared(name: str, width: int | str, **options: Any) -> QatNetwork:
    """A network in training; "mixed" splits the channels of every layer among 2, 3, 4 and 8 bits."""
    model, x = model_for(name), images_for(name, 16)
    if isinstance(width, int):
        return prepare_qat(model, x, weight_bits=width, name=name, **options)
    rng = np.random.default_rng(SEED)
    wide = convert(prepare_qat(model, x))
    widths = {
        node.name: rng.choice([2, 3, 4, 8], node.channels) for node in wide.nodes if node.op in WEIGHTED_OPS
    }
    return prepare_qat(model, x, weight_bits=widths, name=name, **options)


def train_steps(network: QatNetwork, x: Tensor, steps: int = 3, lr: float = 1e-2) -> None:
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        out = network(x)
        functional.cross_entropy(out, torch.randint(out.shape[1], (len(x),), generator=generator)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def assert_exact(network: QatNetwork, x: Tensor, message: str = "", a_bits: Any = None) -> Network:
    """Every tensor of a forward pass is the converted network's, in integers and in real values."""
    activations = network.activations(x)
    converted = convert(network)
    expected = run_network(converted, quantize_input(converted, x), a_bits)
    assert list(activations) == list(expected)
    for name, activation in activations.items():
        tensor = converted.tensors[name]
        assert activation.tensor == tensor, f"{message} {name}"
        np.testing.assert_array_equal(activation.q, expected[name], err_msg=f"{message} {name}")
        real = ((expected[name].astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32)
        got = activation.real.detach().movedim(1, -1).numpy()
        np.testing.assert_array_equal(got, real, err_msg=f"{message} {name}")
    return converted


# ------------------------------------------------------------------------------------------------ exactness
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_forward_equals_the_converted_network_before_and_after_training(name: str, width: int | str) -> None:
    network, x = prepared(name, width), images_for(name, 6, 3)
    for mode in (False, True):
        assert_exact(network.train(mode), x, f"before, train({mode})")
    before = convert(network)
    train_steps(network, x)
    for mode in (True, False):
        after = assert_exact(network.train(mode), x, f"after, train({mode})")
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old.op in WEIGHTED_OPS:
            keys = ("weights", "bias", "shift")
            moved = [(getattr(old.layer, key) != getattr(new.layer, key)).any() for key in keys]
            assert any(moved), f"training moved nothing in {old.name}"
    output = run_network(after, quantize_input(after, x))[after.output_name]
    assert len(np.unique(output)) > 4, "a constant output would prove nothing"


@pytest.mark.parametrize("index", range(20))
def test_forward_of_random_models_equals_the_converted_network(index: int) -> None:
    rng = np.random.default_rng((SEED, index))
    channels = int(rng.integers(1, 6))
    x = smooth_images((channels, 12, 12), 8, index)
    network = prepare_qat(
        settle(random_model(rng, channels), x, index),
        x,
        weight_bits=int(rng.integers(2, 9)),
        ranges=rng.choice(["minmax", "percentile", "mse"]),
        input_scale=float(rng.uniform(0.002, 0.01)),
        input_zero_point=int(rng.integers(-128, 128)),
    )
    assert_exact(network, x, f"seed ({SEED}, {index})")
    train_steps(network, x, 2)
    assert_exact(network, x, f"seed ({SEED}, {index})")


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_forward_with_reduced_activations_equals_the_network_with_the_same_widths(name: str) -> None:
    network, x = prepared(name, "mixed"), images_for(name, 6, 3)
    rng = np.random.default_rng(SEED)
    plain = convert(network)
    full = network.eval().integers(x)
    widths: dict[str, Array | int] = {}
    for node in plain.nodes:
        if node.op in WEIGHTED_OPS:
            widths[node.name] = rng.integers(4, 9, node.channels)
            network.weighted(node.name).set_a_bits(widths[node.name])
    for mode in (False, True):
        assert_exact(network.train(mode), x, f"train({mode})", widths)
    train_steps(network, x)
    assert_exact(network, x, "after", widths)
    assert any((full[key] != value).any() for key, value in network.integers(x).items())


@pytest.mark.parametrize("width", WIDTHS)
def test_constants_are_the_integers_closest_to_the_parameters(width: int | str) -> None:
    network = prepared("mobilenet", width)
    converted = convert(network)
    for node in converted.nodes:
        if node.op not in WEIGHTED_OPS:
            continue
        layer, source = network.weighted(node.name), converted.tensors[node.inputs[0]]
        assert node.layer is not None
        assert node.weight_scales is not None
        assert node.weight_bits is not None
        scales, high = node.weight_scales, 2.0 ** (node.weight_bits.astype(np.float64) - 1) - 1
        real = layer.weight.detach().flatten(start_dim=1).double().numpy() / scales[:, None]
        order = {"conv2d": (0, 3, 1, 2), "depthwise_conv2d": (3, 0, 1, 2), "fully_connected": (0, 1)}[node.op]
        integers = node.layer.weights.transpose(order).reshape(real.shape)
        nearest = np.clip(real, -high[:, None], high[:, None])
        assert np.abs(integers - nearest).max() <= 0.5 + 1e-9
        bias = layer.bias.detach().double().numpy() / (source.scale * scales)
        assert np.abs(node.layer.bias - bias).max() <= 0.5 + 1e-9


def test_changing_widths_in_training_keeps_the_forward_pass_exact() -> None:
    network, x = prepared("mobilenet", 8), images_for("mobilenet", 6, 3)
    layer = network.weighted("7")
    layer.set_weight_bits([2, 8] * 8)
    train_steps(network, x)
    converted = assert_exact(network, x)
    assert converted.node("7").weight_bits is not None
    assert converted.node("7").weight_bits.tolist() == [2, 8] * 8  # type: ignore[union-attr]
    layer.set_weight_bits(3)
    assert (layer.log_scale == 0).all()
    assert_exact(network, x)


def test_a_reloaded_state_computes_the_same() -> None:
    network, x = prepared("flattened", "mixed"), images_for("flattened", 6, 3)
    train_steps(network, x)
    other = prepared("flattened", 8)
    other.load_state_dict(network.state_dict())
    a, b = network.eval().integers(x), other.eval().integers(x)
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert torch.equal(copy.deepcopy(network)(x), network(x))


def test_the_converted_network_survives_its_file(tmp_path: Any) -> None:
    network, x = prepared("resnet", "mixed"), images_for("resnet", 4, 3)
    train_steps(network, x)
    save_network(convert(network), tmp_path / "net.npz")
    loaded = load_network(tmp_path / "net.npz")
    expected, got = network.eval().integers(x), run_network(loaded, quantize_input(loaded, x))
    assert all(np.array_equal(expected[name], got[name]) for name in expected)


# ------------------------------------------------------------------------------------------------ gradients
def test_the_straight_through_value_is_exact_and_the_gradient_the_surrogates() -> None:
    surrogate = torch.tensor([0.1, 1e8, -3.0], requires_grad=True)
    value = torch.tensor([1 / 3, 1e-30, 7.0])
    result = with_gradient(value, surrogate * 2)
    assert torch.equal(result.detach(), value)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert surrogate.grad is not None
    assert surrogate.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize("width", WIDTHS)
def test_gradients_reach_every_parameter(width: int | str) -> None:
    network = prepared("resnet", width)
    network(images_for("resnet", 8, 3)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_gradients_of_a_wide_network_are_close_to_the_float_models() -> None:
    torch.manual_seed(SEED)
    x = smooth_images((4, 6, 6), 16)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3)).eval()
    network = prepare_qat(model, x).eval()
    target = torch.randn(16, 2, 2, 2)
    for module in (model, network):
        (module(x) * target).sum().backward()
    for index in (0, 2):
        layer = network.weighted(str(index))
        for key in ("weight", "bias"):
            reference, got = getattr(model[index], key).grad, getattr(layer, key).grad
            similarity = functional.cosine_similarity(reference.flatten(), got.flatten(), dim=0)
            assert similarity > 0.99, (index, key)
            assert got.norm() == pytest.approx(float(reference.norm()), rel=0.1)


def test_weights_beyond_their_range_pass_their_gradient_to_the_scale_alone() -> None:
    network = prepare_qat(nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 1.0], [-1.0, 0.5]]), weight_bits=2)
    layer = network.weighted("0")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.25]]))
        layer.initial_scale.fill_(1.0)
    integers, scales = layer.quantized_weight()
    assert integers.tolist() == [[1, 0]]
    (integers * scales[:, None] * torch.tensor([[1.0, 10.0]])).sum().backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[0, 10]]
    assert layer.log_scale.grad is not None
    # Esser et al., equation 3: the limit for the first, the rounding error for the second; over sqrt(2 * 1)
    assert layer.log_scale.grad.tolist() == pytest.approx([(1 - 10 * 0.25) / math.sqrt(2)])


def test_gradients_stop_where_the_output_is_clamped() -> None:
    model = nn.Sequential(nn.Linear(1, 3))
    with torch.no_grad():
        model[0].weight.fill_(1.0)  # type: ignore[operator]
        model[0].bias.copy_(torch.tensor([0.0, 5.0, -5.0]))  # type: ignore[operator]
    network = prepare_qat(model, torch.tensor([[-1.0], [1.0]])).eval()
    layer = network.weighted("0")
    with torch.no_grad():
        layer.range.low.fill_(-2.0)
        layer.range.high.fill_(2.0)
    network(torch.tensor([[0.5]])).sum().backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [1, 0, 0]


# --------------------------------------------------------------------------------------------------- ranges
def test_ranges_follow_the_batches_in_training_until_they_are_frozen() -> None:
    network, x = prepared("mobilenet", 2), images_for("mobilenet", 6, 3)

    def outputs() -> list[Any]:
        return [node.output for node in convert(network).nodes]

    start = outputs()
    network.eval()(3 * x)
    assert outputs() == start
    network.train()(3 * x)
    moved = outputs()
    assert all(a.scale != b.scale for a, b in zip(start, moved, strict=True))
    network.freeze_ranges()
    network(5 * x)
    assert outputs() == moved
    network.freeze_ranges(False)
    network(5 * x)
    assert outputs() != moved


def test_a_range_moves_by_the_momentum() -> None:
    network = prepare_qat(nn.Sequential(*conv_bn(2, 3)).eval(), smooth_images((2, 5, 5), 8))
    layer, x = network.weighted("0"), smooth_images((2, 5, 5), 3, 9)
    before = float(layer.range.high)
    values = layer.surrogate([network.activations(x)["input"].real], network.input).detach()
    assert float(layer.range.high) == pytest.approx(before + 0.05 * (float(values.max()) - before))


# --------------------------------------------------------------------------------------------------- errors
def test_what_a_network_in_training_refuses() -> None:
    network = prepared("flattened", 8)
    with pytest.raises(ShapeError, match=r"\(2, 9, 8\)"):
        network(torch.zeros(1, 2, 8, 9))
    with pytest.raises(NetworkError, match="no layer 'nowhere'; it has conv"):
        network.operator("nowhere")
    with pytest.raises(NetworkError, match="'pool' is max_pool, which has no weights"):
        network.weighted("pool")
    with pytest.raises(UnsupportedError, match="= 9 "):
        network.weighted("conv").set_weight_bits(9)
    with pytest.raises(ShapeError, match="6 output channels"):
        network.weighted("conv").set_a_bits([8, 4])


@pytest.mark.parametrize("key", ["weight", "bias", "log_scale"])
def test_training_that_diverged_is_one_clear_error(key: str) -> None:
    network = prepared("flattened", 8).eval()
    with torch.no_grad():
        getattr(network.weighted("hidden"), key)[0] = math.nan
    for call in (lambda: network(images_for("flattened", 2)), lambda: convert(network)):
        with pytest.raises(ArithmeticRangeError, match=r"'hidden'.*no longer finite"):
            call()


# -------------------------------------------------------------------------------------------------- digits
class TinyDigits(nn.Module):
    """A small network with a depthwise layer and a shortcut, without batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.second = nn.Conv2d(12, 16, 3, 2, padding=1)
        self.third = nn.Conv2d(16, 16, 3, padding=1)
        self.out = nn.Linear(16 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.depthwise(functional.relu(self.first(x))))
        x = functional.relu(self.second(x))
        x = functional.relu(x + self.third(x))
        return self.out(functional.max_pool2d(x, 2).flatten(1))  # type: ignore[no-any-return]


def fit(model: nn.Module, x: Tensor, y: Tensor, epochs: int, lr: float) -> None:
    order = np.random.default_rng(SEED)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for chosen in np.array_split(order.permutation(len(x)), len(x) // 64):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()


def test_a_trained_ternary_digits_network_beats_a_quantised_one_and_is_as_right_as_its_integers() -> None:
    torch.manual_seed(SEED)
    images, digits = digits_images()
    x, y = torch.from_numpy(images / 16.0).float()[:, None], torch.from_numpy(digits)
    order = torch.randperm(len(x))
    train, test = order[:1397], order[1397:]
    model = TinyDigits()
    fit(model, x[train], y[train], 12, 5e-3)
    network = prepare_qat(model.eval(), x[train], weight_bits=2, name="digits")

    def correct() -> int:
        network.eval()
        integer = convert(network)
        logits = run_network(integer, quantize_input(integer, x[test]))[integer.output_name]
        right = int((torch.from_numpy(logits).argmax(1) == y[test]).sum())
        with torch.no_grad():
            assert right == int((network(x[test]).argmax(1) == y[test]).sum())
        return right

    with torch.no_grad():
        real = int((model(x[test]).argmax(1) == y[test]).sum())
    before = correct()
    fit(network, x[train], y[train], 10, 5e-3)
    after = correct()
    print(f"of {len(y[test])} digits: float {real}, ternary {before}, trained {after}")
    assert before < real - 60
    assert after > real - 20
    assert_exact(network, x[test][:50])
