# SPDX-License-Identifier: Apache-2.0
"""Weight quantisation after training: optimal scales, consistent constants, honest errors."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from common.arrays import Floats
from common.errors import ArithmeticRangeError, NetworkError, ShapeError, UnsupportedError
from golden.arithmetic import quantize_multiplier, weight_range
from golden.layer import WEIGHTED_OPS
from golden.network import Network, Node, channel_weights, replace_nodes, run_network
from golden.network_file import load_network, save_network
from golden.quantize.export import export
from golden.quantize.testing import images_for, model_for
from golden.quantize.weights import (
    best_scales,
    from_channels,
    layer_widths,
    nearest_weights,
    quantize_weights,
)

SEED = 20240715


@cache
def network(name: str = "flattened") -> Network:
    return export(model_for(name), images_for(name, 32), name=name)


def layer_of(node: Node) -> Any:
    assert node.layer is not None
    return node.layer


def real_weights(node: Node) -> Floats:
    assert node.weight_scales is not None
    return channel_weights(layer_of(node)) * node.weight_scales[:, None]


def squared_errors(rows: Floats, scales: Floats, bits: int) -> Floats:
    high = weight_range(bits)[1]
    q = np.round(rows / scales[:, None]).clip(-high, high)
    errors: Floats = ((rows - q * scales[:, None]) ** 2).sum(axis=1)
    return errors


def constants_equal(a: Node, b: Node, channels: Any = slice(None)) -> bool:
    def constants(node: Node) -> list[Any]:
        layer = layer_of(node)
        kept = [layer.bias, layer.multiplier, layer.shift, node.weight_scales, node.weight_bits]
        return [channel_weights(layer), *kept]

    pairs = zip(constants(a), constants(b), strict=True)
    return all(np.array_equal(x[channels], y[channels]) for x, y in pairs)


# -------------------------------------------------------------------------------------------------- scales
@pytest.mark.parametrize("bits", range(2, 9))
def test_no_scale_has_a_smaller_error_than_the_best(bits: int) -> None:
    rng = np.random.default_rng((SEED, bits))
    rows = np.concatenate([rng.normal(size=(6, 20)), rng.standard_t(2, size=(6, 20)), rng.random((2, 20))])
    best = squared_errors(rows, best_scales(rows, np.full(14, bits)), bits)
    largest = np.abs(rows).max(axis=1)
    for share in np.geomspace(0.02, 3, 4000):
        tried = squared_errors(rows, share * largest / weight_range(bits)[1], bits)
        assert (best <= tried * (1 + 1e-12)).all(), f"seed ({SEED}, {bits}), share {share}"


def test_ternary_scale_is_the_best_of_all_ways_to_choose_the_nonzero_weights() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(20):
        row = rng.normal(size=8)
        kept = [np.array([i >> j & 1 for j in range(8)], bool) for i in range(1, 256)]
        errors = [((np.abs(row) - k * np.abs(row)[k].mean()) ** 2).sum() for k in kept]
        best = squared_errors(row[None], best_scales(row[None], np.array([2])), 2)[0]
        assert best == pytest.approx(min(errors), rel=1e-12)


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_that_lie_on_a_grid_are_kept_exactly(bits: int) -> None:
    rng = np.random.default_rng((SEED, bits))
    high = weight_range(bits)[1]
    q = rng.integers(-high, high + 1, (5, 30))
    q[:, :2] = high, 1
    scale = 2.0 ** rng.integers(-9, 3, 5)
    scales = best_scales(q * scale[:, None], np.full(5, bits))
    np.testing.assert_allclose(scales, scale, rtol=1e-12)
    np.testing.assert_array_equal(nearest_weights(q * scale[:, None], scales, np.full(5, bits)), q)


def test_channels_of_zeros_get_a_positive_scale() -> None:
    rows = np.array([[0.0, 0.0], [0.5, -0.5], [0.25, 0.0]])
    np.testing.assert_array_equal(best_scales(rows, np.array([2, 2, 2])), [0.5, 0.5, 0.25])
    np.testing.assert_array_equal(best_scales(np.zeros((2, 3)), np.array([8, 2])), [1, 1])


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ArithmeticRangeError, match="finite"):
        best_scales(np.array([[1.0, np.nan]]), np.array([2]))


# ------------------------------------------------------------------------------------------------- networks
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "flattened"])
def test_eight_bits_leave_an_eight_bit_network_as_it_is(name: str) -> None:
    quantized, errors = quantize_weights(network(name), 8)
    assert len(errors) == sum(node.op in WEIGHTED_OPS for node in quantized.nodes)
    assert all(constants_equal(network(name).node(e.node), quantized.node(e.node)) for e in errors)
    assert all(error.relative_rms == 0 == error.largest and error.sqnr_db == math.inf for error in errors)


@pytest.mark.parametrize("bits", range(2, 8))
@pytest.mark.parametrize("name", ["mobilenet", "flattened"])
def test_constants_of_every_layer_follow_from_its_new_scales(name: str, bits: int) -> None:
    before = network(name)
    after, _ = quantize_weights(before, bits)
    assert [node.output for node in after.nodes] == [node.output for node in before.nodes]
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old.op not in WEIGHTED_OPS:
            assert old is new
            continue
        assert old.weight_scales is not None
        assert new.weight_scales is not None
        assert new.weight_bits is not None
        assert (new.weight_bits == bits).all()
        input_scale = before.tensors[old.inputs[0]].scale
        weights = channel_weights(layer_of(new))
        assert np.abs(weights).max() <= weight_range(bits)[1]
        for k in range(old.channels):
            scale = float(new.weight_scales[k])
            error = np.abs(weights[k] * scale - real_weights(old)[k])
            inside = np.abs(weights[k]) < weight_range(bits)[1]
            assert (error[inside] <= scale * 0.5000001).all()
            expected = quantize_multiplier(input_scale * scale / old.output.scale)
            assert (layer_of(new).multiplier[k], layer_of(new).shift[k]) == expected
            drift = layer_of(new).bias[k] * scale - layer_of(old).bias[k] * float(old.weight_scales[k])
            assert abs(drift) <= scale * 0.5000001


def test_a_network_whose_weights_fit_keeps_its_outputs_to_one_step() -> None:
    before, changes = network("resnet"), {}
    for node in before.nodes:
        if node.op in WEIGHTED_OPS:
            weights = np.sign(layer_of(node).weights) * np.int8(37)
            changes[node.name] = replace(node, layer=replace(layer_of(node), weights=weights))
    wide = replace_nodes(before, changes)
    narrow, errors = quantize_weights(wide, 2)
    assert max(error.relative_rms for error in errors) < 1e-12
    x = np.random.default_rng(SEED).integers(-128, 128, (4, *before.input.shape)).astype(np.int8)
    # one layer at a time, as a difference of one step would grow from layer to layer
    values = run_network(wide, x)
    for node in wide.nodes:
        alone = run_network(replace_nodes(wide, {node.name: narrow.node(node.name)}), x)[node.name]
        assert np.abs(alone.astype(int) - values[node.name]).max() <= 1, node.name
        assert len(np.unique(alone)) > 4 or node.op not in WEIGHTED_OPS, node.name


@pytest.mark.parametrize("name", ["mobilenet", "flattened"])
def test_channels_that_stay_wide_stay_bit_identical_in_a_split_layer(name: str) -> None:
    before = network(name)
    rng = np.random.default_rng(SEED)
    widths: dict[str, Any] = {
        node.name: rng.choice([2, 4, 8], node.channels) for node in before.nodes if node.op in WEIGHTED_OPS
    }
    after, errors = quantize_weights(before, widths)
    uniform = {width: quantize_weights(before, width)[0] for width in (2, 4, 8)}
    for error in errors:
        node = after.node(error.node)
        for width in (2, 4, 8):
            channels = widths[node.name] == width
            assert constants_equal(node, uniform[width].node(node.name), channels), (node.name, width)
            assert error.channels.get(width, 0) == channels.sum()
    again, nothing = quantize_weights(after, widths)
    assert all(constants_equal(after.node(e.node), again.node(e.node)) for e in nothing)


def test_a_wider_width_than_the_present_one_changes_nothing() -> None:
    narrow, _ = quantize_weights(network(), 2)
    wide, errors = quantize_weights(narrow, 4)
    assert all(constants_equal(narrow.node(e.node), wide.node(e.node)) for e in errors)
    assert all(e.channels == {2: wide.node(e.node).channels} for e in errors)


def test_layers_that_are_not_named_stay_and_errors_name_the_others_in_order() -> None:
    quantized, errors = quantize_weights(network(), {"out": 3, "conv": np.int64(2)})
    assert [error.node for error in errors] == ["conv", "out"]
    for node in quantized.nodes:
        if node.name not in ("conv", "out"):
            assert node is network().node(node.name)


@pytest.mark.parametrize("bits", [2, 3, 5])
def test_the_reported_error_is_that_of_the_real_weights(bits: int) -> None:
    quantized, errors = quantize_weights(network(), bits)
    for error in errors:
        old, new = real_weights(network().node(error.node)), real_weights(quantized.node(error.node))
        assert error.relative_rms == pytest.approx(np.sqrt(((new - old) ** 2).sum() / (old**2).sum()))
        assert error.largest == np.abs(new - old).max()
        assert error.sqnr_db == pytest.approx(10 * np.log10((old**2).sum() / ((new - old) ** 2).sum()))
    assert errors[0].relative_rms > 0


def test_a_channel_of_zeros_stays_zero_with_its_scale_and_bias() -> None:
    node = network().node("conv")
    weights = layer_of(node).weights.copy()
    weights[1] = 0
    node = replace(node, layer=replace(layer_of(node), weights=weights))
    changed = replace_nodes(network(), {"conv": node})
    after = quantize_weights(changed, 2)[0].node("conv")
    assert constants_equal(replace(after, weight_bits=node.weight_bits), changed.node("conv"), 1)


def test_how_a_layer_rounds_does_not_change() -> None:
    node = network().node("out")
    rounding = replace(layer_of(node), single_rounding=True)
    once = replace_nodes(network(), {"out": replace(node, layer=rounding)})
    assert layer_of(quantize_weights(once, 2)[0].node("out")).single_rounding
    assert not layer_of(quantize_weights(network(), 2)[0].node("out")).single_rounding


def test_a_quantised_network_survives_its_file(tmp_path: Any) -> None:
    quantized, _ = quantize_weights(network("mobilenet"), {"7": 3, "20": 2})
    save_network(quantized, tmp_path / "net.npz")
    loaded = load_network(tmp_path / "net.npz")
    x = np.random.default_rng(SEED).integers(-128, 128, (2, *loaded.input.shape)).astype(np.int8)
    a, b = run_network(quantized, x), run_network(loaded, x)
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("op", WEIGHTED_OPS)
def test_channel_rows_return_to_the_layers_shape(op: str) -> None:
    layer = next(layer_of(node) for node in network().nodes if node.op == op)
    np.testing.assert_array_equal(from_channels(channel_weights(layer), layer), layer.weights)


@pytest.mark.parametrize(
    ("bits", "error", "message"),
    [
        ({"nowhere": 2}, NetworkError, "'flattened'.*'nowhere'.*conv, depthwise"),
        ({"pool": 2}, UnsupportedError, "'pool' has no weights"),
        ({"conv": 1}, UnsupportedError, "'conv'.*= 1 .*2 to 8"),
        ({"conv": [2, 2, 2, 2, 2, 9]}, UnsupportedError, "'conv'.*= 9 "),
        ({"conv": [2, 8]}, ShapeError, r"'conv'.*\(2,\).*6 output channels"),
        ({"conv": 2.5}, ShapeError, "'conv'.*float64"),
        (9, UnsupportedError, "'conv'.*= 9 "),
    ],
)
def test_widths_that_do_not_fit_are_refused_by_name(bits: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quantize_weights(network(), bits)


def test_one_width_means_all_weighted_layers() -> None:
    widths = layer_widths(3, {"a": 2, "b": 1}, ["c"])
    assert {name: value.tolist() for name, value in widths.items()} == {"a": [3, 3], "b": [3]}
