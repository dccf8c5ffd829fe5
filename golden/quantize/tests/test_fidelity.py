# SPDX-License-Identifier: Apache-2.0
"""Every exported network is compared with its module: low ratios are warned of, broken tensors refused."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.errors import NetworkError
from golden.network import run_network
from golden.quantize import ranges
from golden.quantize.export import export, export_with_losses
from golden.quantize.fidelity import (
    CHECKED_IMAGES,
    CHECKED_MACS,
    WARN_TOTAL_DB,
    FidelityWarning,
    TensorFidelity,
    compare,
    images_to_compare,
    judge,
    ratio_db,
)
from golden.quantize.qat import quantize_input
from golden.quantize.testing import NAMES, images_for, model_for, signal_to_noise, smooth_images


@pytest.mark.parametrize("name", NAMES)
def test_eight_bits_say_nothing_and_two_are_warned_of_with_the_layer(name: str) -> None:
    model, x = model_for(name), images_for(name, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide = export_with_losses(model, x, name=name)
    assert wide.fidelity[-1].total_db == pytest.approx(
        signal_to_noise(wide.network, model, x[:CHECKED_IMAGES]), abs=0.01
    )
    assert min(item.own_db for item in wide.fidelity) > 30
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        narrow = export_with_losses(model, x, name=name, weight_bits=2)
    low = [item.name for item in narrow.fidelity if item.total_db < WARN_TOTAL_DB]
    assert bool(caught) == (narrow.fidelity[-1].total_db < WARN_TOTAL_DB)
    for warning in caught:
        assert warning.category is FidelityWarning
        assert f"network {name!r}" in str(warning.message)
        assert f"falls below 10 dB at {low[0]!r}, whose narrowest weights have 2 bits" in str(warning.message)
        assert warning.filename == __file__


def test_a_deep_network_of_two_bits_is_warned_of_and_not_refused() -> None:
    with pytest.warns(FidelityWarning, match=r"'resnet'.* at 'conv1', whose narrowest weights have 2 bits"):
        export(model_for("resnet"), images_for("resnet", 16), name="resnet", weight_bits=2)


def test_an_input_scale_that_does_not_fit_is_refused_at_the_input() -> None:
    x = smooth_images((3, 16, 16), 8) * 255  # pixels, where 0 to 1 was calibrated
    with pytest.raises(
        NetworkError, match=r"network 'net', tensor 'input': .*on exact inputs; its scale does not"
    ):
        export(model_for("mobilenet"), x, name="net", input_scale=1 / 255, input_zero_point=-128)


def test_the_layer_whose_range_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = model_for("resnet"), images_for("resnet", 8)
    calibrate, seen = ranges.RangeObserver.calibrate, list[Any]()

    def smaller(self: ranges.RangeObserver, values: Tensor) -> None:
        seen.append(values)
        calibrate(self, values * (0.1 if len(seen) == 3 else 1))

    monkeypatch.setattr(ranges.RangeObserver, "calibrate", smaller)
    with pytest.raises(NetworkError, match=r"tensor 'stages\.0\.conv1': its signal to quantisation noise is"):
        export(model, x)


def test_a_wrong_operator_is_refused_at_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from golden import operators

    right = operators.add
    monkeypatch.setattr(operators, "add", lambda **values: right(**values | {"input2": values["input"]}))
    with pytest.raises(NetworkError, match="tensor 'add'"):
        export(model_for("resnet"), images_for("resnet", 8))


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + torch.rand(4, 1, 1)  # type: ignore[no-any-return]


class Alternating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        size = 3.0 if len(x) == 2 else -1.0  # decides by what a network does not know
        return self.conv(x) * size  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", [Random(), Alternating()])
def test_a_module_that_computes_something_else_the_next_time_is_refused(model: nn.Module) -> None:
    with pytest.raises(
        NetworkError, match="'odd': the module computes something else than when it was recorded"
    ):
        export(model, smooth_images((3, 8, 8), 4), name="odd")


def test_losses_are_those_against_the_float_module() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    x = smooth_images((3, 8, 8), 8)
    for bits in (8, 3):
        result = export_with_losses(model, x, weight_bits=bits)
        conv, linear = result.weights
        node = result.network.node("0")
        assert node.layer is not None
        assert node.weight_scales is not None
        real = model[0].weight.detach().permute(0, 2, 3, 1).double().numpy()  # type: ignore[operator]
        difference = node.layer.weights * node.weight_scales[:, None, None, None] - real
        assert conv.relative_rms == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(real))
        assert conv.largest == pytest.approx(np.abs(difference).max())
        assert conv.channels == {bits: 4}
        assert 0 < linear.relative_rms < 0.02 * 2 ** (8 - bits)


def test_importers_compare_with_what_their_source_computed() -> None:
    model, x = model_for("ds_cnn"), images_for("ds_cnn", 4)
    network = export(model, x)
    values = {
        name: torch.from_numpy(
            (q.astype(float) - network.tensors[name].zero_point) * network.tensors[name].scale
        )
        for name, q in run_network(network, quantize_input(network, x)).items()
    }
    exact = compare(values, values)
    assert [item.name for item in exact] == list(network.tensors)
    assert all(item.total_db == math.inf for item in exact)
    judge("net", exact)
    broken = dict(values) | {network.output_name: values[network.output_name] * 0.2}
    with pytest.warns(FidelityWarning, match=f"at {network.output_name!r}: 1.9 dB"):
        judge("net", compare(broken, {name: values[name] for name in list(values)[2:]}))


def test_ratios() -> None:
    assert ratio_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) == pytest.approx(20)
    assert ratio_db(torch.zeros(2), torch.zeros(2)) == math.inf
    assert ratio_db(torch.zeros(2), torch.ones(2)) == -math.inf
    assert ratio_db(torch.ones(2), torch.tensor([1.0, math.nan])) == -math.inf


def test_a_tensor_smaller_than_its_rounding_is_warned_of_and_not_refused() -> None:
    tiny = TensorFidelity(name="tiny", total_db=40, own_db=3, steps=0.4)
    with pytest.warns(FidelityWarning, match="at 'tiny': 3.0 dB"):
        judge("net", [tiny, TensorFidelity(name="out", total_db=40, own_db=40, steps=0.3)])


def test_large_networks_are_compared_on_fewer_inputs() -> None:
    x = torch.zeros(20, 3)
    assert len(images_to_compare(x, 1)) == CHECKED_IMAGES
    assert len(images_to_compare(x, int(CHECKED_MACS / 3))) == 3
    assert len(images_to_compare(x, int(CHECKED_MACS * 3))) == 1
