# SPDX-License-Identifier: Apache-2.0
"""The fast search of weight scales, judged by the exact one: same error, a small part of the work."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from common.arrays import Floats
from golden.arithmetic import weight_range
from golden.quantize import scale_search
from golden.quantize.scale_search import break_points, exact_scales, scale_range, search_scales
from golden.quantize.weights import best_scales
from golden.zoo.image_networks import mobilenet_v2, resnet18

SEED = 20261130

Rng = np.random.Generator
DISTRIBUTIONS: dict[str, Callable[[Rng, int, int], Floats]] = {
    "normal": lambda rng, k, n: rng.normal(size=(k, n)),
    "uniform": lambda rng, k, n: rng.uniform(-1, 1, (k, n)),
    "laplace": lambda rng, k, n: rng.laplace(size=(k, n)),
    "heavy tails": lambda rng, k, n: rng.standard_t(2, size=(k, n)),
    "one outlier": lambda rng, k, n: np.hstack([rng.normal(size=(k, n - 1)), rng.uniform(3, 60, (k, 1))]),
    "sparse": lambda rng, k, n: rng.normal(size=(k, n)) * (rng.random((k, n)) < 0.05) + 1e-9,
    "two values": lambda rng, k, n: rng.choice([-1, 1], (k, n)) + 0.02 * rng.normal(size=(k, n)),
    "log-normal": lambda rng, k, n: rng.lognormal(0, 1.5, (k, n)),
    "multiples": lambda rng, k, n: rng.integers(-70, 71, (k, n)) * np.float64(0.013),
    "few multiples": lambda rng, k, n: rng.integers(-7, 8, (k, n)) * np.float64(0.3),
}


def squared_errors(magnitudes: Floats, scales: Floats, high: int) -> Floats:
    q = np.minimum(np.rint(magnitudes / scales[:, None]), high)
    errors: Floats = ((magnitudes - q * scales[:, None]) ** 2).sum(axis=1)
    return errors


def excess(magnitudes: Floats, high: int) -> float:
    """By how much the worst channel's error is above the exact optimum, as a share of it."""
    magnitudes = magnitudes[magnitudes.any(axis=1)]
    fast, exact = (
        squared_errors(magnitudes, search(magnitudes, high), high) for search in (search_scales, exact_scales)
    )
    rounding = 1e-12 * (magnitudes**2).sum(axis=1)  # an optimum of 0 is one within float64
    return float(((fast + rounding) / (exact + rounding)).max()) - 1


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_error_is_within_one_percent_of_the_exact_optimum(name: str, bits: int) -> None:
    rng = np.random.default_rng((SEED, bits))
    high = weight_range(bits)[1]
    for weights in (3, 9, 63, 64, 100, 200, 300, 700):
        rows = DISTRIBUTIONS[name](rng, max(3, 3000 // weights), weights)
        assert excess(np.abs(rows), high) < 0.01, f"seed ({SEED}, {bits}), {weights} weights"


@pytest.mark.parametrize("bits", [4, 8])
def test_short_channels_get_the_exact_optimum(bits: int) -> None:
    rng = np.random.default_rng((SEED, bits))
    for weights in (1, 2, 9, 25, scale_search.MIN_CHANNEL - 1):
        for draw in DISTRIBUTIONS.values():
            assert excess(np.abs(draw(rng, 20, weights)), weight_range(bits)[1]) < 1e-9


def test_narrow_weights_get_the_exact_optimum_whatever_the_channel() -> None:
    rng = np.random.default_rng(SEED)
    for bits in (2, 3, 4):
        for draw in DISTRIBUTIONS.values():
            assert excess(np.abs(draw(rng, 3, 1000)), weight_range(bits)[1]) < 1e-9


@pytest.mark.parametrize(("bits", "most"), [(8, 0.5), (6, 0.5), (4, 3.0), (2, 1.0)])
def test_a_long_channel_costs_few_break_points_for_each_weight(bits: int, most: float) -> None:
    rng = np.random.default_rng((SEED, bits))
    high, magnitudes = weight_range(bits)[1], np.abs(rng.normal(size=(4, 4608)))
    passed = break_points(magnitudes, high, *scale_range(magnitudes, high)).sum()
    assert passed < most * magnitudes.size
    everything = break_points(magnitudes, high, np.full(4, 1e-9), np.full(4, 1e9)).sum()
    assert everything == high * magnitudes.size


def test_the_exact_search_is_an_option_and_the_same_input_gives_the_same_scales() -> None:
    rng = np.random.default_rng(SEED)
    rows, bits = rng.normal(size=(40, 300)), np.full(40, 8)
    exact = exact_scales(np.abs(rows), 127)
    np.testing.assert_array_equal(best_scales(rows, bits, exact=True), exact)
    fast = best_scales(rows, bits)
    np.testing.assert_array_equal(best_scales(rows, bits), fast)
    np.testing.assert_array_equal(best_scales(rows[7:8], bits[:1]), fast[7:8])  # whatever its neighbours
    errors = [squared_errors(np.abs(rows), scales, 127) for scales in (fast, exact)]
    assert (errors[0] <= errors[1] * 1.01).all()


@pytest.mark.parametrize(
    ("make", "weights", "most"), [(resnet18, 11_678_912, 0.5), (mobilenet_v2, 3_469_760, 5)]
)
def test_networks_of_full_size_cost_few_break_points(
    make: Callable[[], nn.Module], weights: int, most: float
) -> None:
    """The work of the search, which is what takes time: break points for each of the weights of 8 bits."""
    torch.manual_seed(SEED)
    layers = [m for m in make().modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert sum(layer.weight.numel() for layer in layers) == weights
    passed = seen = 0
    for layer in layers:  # four channels stand for all
        magnitudes = layer.weight.detach().flatten(start_dim=1)[:4].double().abs().numpy()
        channel = break_points(magnitudes, 127, *scale_range(magnitudes, 127)).sum() / len(magnitudes)
        passed += channel * len(layer.weight)
        seen += layer.weight.numel()
    assert passed < most * seen
