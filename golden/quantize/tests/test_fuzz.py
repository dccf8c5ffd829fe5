# SPDX-License-Identifier: Apache-2.0
"""Random modules of what comes in: integers against the float module, and against fake quantisation.

A random module is a list of steps that change a tensor or write into it, keep aliases and copies of it, and
read those later. What the steps compute is PyTorch's business; the network must compute the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.network import run_network
from golden.quantize.export import export_with_losses
from golden.quantize.float_graph import run_float
from golden.quantize.qat import convert, prepare_qat, quantize_input
from golden.quantize.testing import network_outputs, signal_to_noise, smooth_images
from golden.quantize.trace import trace

SEED = 20261201
ENOUGH_DB = 14

Step = Callable[["Steps", Tensor], Tensor]


class Steps(nn.Module):
    """A module that takes its steps one after the other.

    Attributes:
        layers: of the steps that have one, by the step's number.
        constants: of the steps that have one, by the step's number.
        kept: aliases and copies of earlier tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.constants = nn.ModuleDict(), nn.ParameterDict()
        self.steps: list[Step] = []
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.kept = []
        for step in self.steps:
            x = step(self, x)
        return x

    def __deepcopy__(self, memo: Any) -> "Steps":
        copy = Steps()
        copy.layers.update(dict(self.layers.items()))
        copy.constants.update(dict(self.constants.items()))
        copy.steps = self.steps
        return copy.train(self.training)


def _layer(net: Steps, layer: nn.Module) -> str:
    key = f"layer{len(net.layers)}"
    net.layers[key] = layer
    return key


def _constant(net: Steps, value: Tensor) -> str:
    key = f"constant{len(net.constants)}"
    net.constants[key] = nn.Parameter(value, requires_grad=False)
    return key


def convolution(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    channels = shape[1]
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    depthwise = bool(rng.integers(3) == 0)
    outputs = channels * int(rng.integers(1, 3)) if depthwise and channels < 10 else int(rng.integers(4, 10))
    groups = channels if depthwise and outputs % channels == 0 else 1
    layer = nn.Conv2d(
        channels,
        outputs,
        kernel,
        padding=(kernel[0] // 2, kernel[1] // 2),
        groups=groups,
        bias=bool(rng.integers(2)),
    )
    nn.init.kaiming_normal_(layer.weight)
    key = _layer(net, layer)
    if rng.integers(4) == 0:
        return lambda s, x: s.layers[key](functional.pad(x, (1, 0, 0, 1)))
    return lambda s, x: s.layers[key](x)


def norm(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    layer = nn.BatchNorm2d(shape[1]) if len(shape) == 4 else nn.BatchNorm1d(shape[1])
    with torch.no_grad():
        layer.weight.copy_(
            torch.from_numpy(rng.uniform(0.5, 1.5, shape[1]) * rng.choice([1, 1, 1, -1], shape[1]))
        )
        layer.bias.copy_(torch.from_numpy(rng.normal(0, 0.3, shape[1])))
        layer.running_var.fill_(float(rng.uniform(0.5, 2)))  # type: ignore[union-attr]
    key = _layer(net, layer)
    return lambda s, x: s.layers[key](x)


def clamp(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    key = _layer(net, nn.ReLU(inplace=bool(rng.integers(2))))
    ways: list[Step] = [
        lambda s, x: s.layers[key](x),
        lambda _, x: (functional.relu(x, inplace=True), x)[1],
        lambda _, x: (x.relu_(), x)[1],
        lambda _, x: x.clamp(-1.5, 2),
        lambda _, x: (torch.clamp_(x, min=-0.5), x)[1],
        lambda _, x: functional.hardtanh(x, -2, 1.5),
        lambda _, x: functional.relu6(x),
        lambda _, x: x.clip(max=1.5),
    ]
    return ways[int(rng.integers(len(ways)))]


def with_kept(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    ways: list[Callable[[Tensor, Tensor], Any]] = [
        lambda x, y: x + y,
        lambda x, y: (x.add_(y), x)[1],
        lambda x, y: torch.add(x, y, alpha=0.5),
        lambda x, y: torch.add(x, y, out=torch.empty(0)),
        lambda x, y: torch.add(x, y, out=x),
        lambda x, y: y.add_(x),
        lambda x, y: sum([x, y]),
        lambda x, y: x - 0.5 * y,
    ]
    way, place = ways[int(rng.integers(len(ways)))], int(rng.integers(10))

    def step(net: Steps, x: Tensor) -> Tensor:
        fitting = [kept for kept in net.kept if kept.shape == x.shape]
        return way(x, fitting[place % len(fitting)]) if fitting else x

    return step


def constants(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    values = torch.from_numpy(rng.uniform(0.5, 1.5, shape[1])).float().reshape(-1, *[1] * (len(shape) - 2))
    key = _constant(net, values)
    number = float(rng.uniform(0.3, 2))
    ways: list[Step] = [
        lambda s, x: x * s.constants[key],
        lambda s, x: (x.mul_(s.constants[key]), x)[1],
        lambda s, x: x + s.constants[key] - 1,
        lambda _, x: number - x,
        lambda _, x: -x / number,
        lambda _, x: (x.sub_(number), x.mul_(0.7), x)[2],
    ]
    return ways[int(rng.integers(len(ways)))]


def nothing(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    ways: list[Step] = [
        lambda _, x: x.clone(),
        lambda _, x: x.contiguous().float(),
        lambda _, x: functional.dropout(x, 0.3, training=False),
        lambda _, x: x.unsqueeze(1).squeeze(1),
        lambda _, x: x.movedim(1, -1).relu().movedim(-1, 1),
        lambda _, x: x.transpose(1, -1).transpose(-1, 1),
        lambda _, x: x.flatten(1).view(x.shape),
        lambda _, x: x.detach(),
    ]
    return ways[int(rng.integers(len(ways)))]


def keep(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    copies = bool(rng.integers(2))

    def step(net: Steps, x: Tensor) -> Tensor:
        net.kept.append(x.clone() if copies else x)
        return x

    return step


def pool(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    ways: list[Step] = [
        lambda _, x: functional.max_pool2d(x, 2, 1, 1),
        lambda _, x: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        lambda _, x: functional.max_pool2d(x, (1, 2), 1),
    ]
    return ways[int(rng.integers(len(ways)))]


def to_vector(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    ways: list[Step] = [
        lambda _, x: x.mean((2, 3)),
        lambda _, x: x.mean(3).mean(2),
        lambda _, x: functional.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
        lambda _, x: functional.adaptive_max_pool2d(x, 1).squeeze(3).squeeze(2),
        lambda _, x: functional.avg_pool2d(x, x.shape[2:]).flatten(1),
        lambda _, x: x.permute(0, 2, 3, 1).flatten(1),
        lambda _, x: x.reshape(x.size(0), -1),
    ]
    return ways[int(rng.integers(len(ways)))]


def linear(rng: np.random.Generator, net: Steps, shape: tuple[int, ...]) -> Step:
    layer = nn.Linear(shape[1], int(rng.integers(3, 12)), bias=bool(rng.integers(2)))
    key = _layer(net, layer)
    if rng.integers(3) == 0:
        return lambda s, x: x @ s.get_parameter(f"layers.{key}.weight").t() + 0.1
    return lambda s, x: s.layers[key](x)


IMAGE_STEPS = (
    convolution, convolution, convolution, norm, clamp, clamp, with_kept, with_kept, constants, nothing, keep,
    keep, pool,
)  # fmt: skip
VECTOR_STEPS = (linear, linear, norm, clamp, with_kept, constants, nothing, keep)


def random_steps(rng: np.random.Generator, x: Tensor) -> Steps:
    """Return a random module for images like x: convolutions and more, mostly with a vector at the end."""
    torch.manual_seed(int(rng.integers(2**31)))
    net = Steps()

    def append(make: Callable[[np.random.Generator, Steps, tuple[int, ...]], Step]) -> None:
        with torch.no_grad():
            shape = tuple(net.eval()(x.clone()).shape)
        net.steps.append(make(rng, net, shape))

    append(convolution)
    for _ in range(int(rng.integers(3, 9))):
        append(IMAGE_STEPS[int(rng.integers(len(IMAGE_STEPS)))])
    if rng.integers(4):
        append(to_vector)
        append(linear)
        for _ in range(int(rng.integers(4))):
            append(VECTOR_STEPS[int(rng.integers(len(VECTOR_STEPS)))])
    return net.eval()


def spread_steps(rng: np.random.Generator, x: Tensor) -> Steps:
    """Return the first random module whose outputs differ from input to input; others test nothing."""
    while True:
        model = random_steps(rng, x)
        with torch.no_grad():
            real = model(x.clone())
        if float((real - real.mean(0)).square().mean()) > 0.003 * float(real.square().mean()) > 0:
            return model


@pytest.mark.filterwarnings("ignore::golden.quantize.fidelity.FidelityWarning")
@pytest.mark.parametrize("index", range(80))
def test_a_random_module_is_the_same_in_floats_close_in_integers_and_exact_in_training(index: int) -> None:
    rng = np.random.default_rng((SEED, index))
    x = smooth_images((3, 9, 8), 16, index) - 0.5
    model = spread_steps(rng, x)
    seed = f"seed ({SEED}, {index})"

    with torch.no_grad():
        real = model(x.clone())
    graph = trace(model, x)
    floats = list(run_float(graph, x).values())[-1].reshape(real.shape)
    torch.testing.assert_close(floats, real, rtol=1e-3, atol=1e-4, msg=lambda text: f"{seed}: {text}")

    result = export_with_losses(model, x)
    network = result.network
    assert min(item.own_db for item in result.fidelity) > ENOUGH_DB, seed
    assert signal_to_noise(network, model, x) > ENOUGH_DB, seed
    assert len(np.unique(network_outputs(network, x).numpy())) > 8, f"{seed}: the outputs say nothing"

    bits = int(rng.integers(2, 9))
    training = prepare_qat(model, x, weight_bits=bits).eval()
    activations = training.integers(x)
    expected = run_network(convert(training), quantize_input(network, x))
    for name, value in activations.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=f"{seed} {name}")
