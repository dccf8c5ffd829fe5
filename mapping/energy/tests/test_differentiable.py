# SPDX-License-Identifier: Apache-2.0
"""Differentiable energies: the model's values, mean slopes over blocks, exact slopes in zero weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from hw.system import System
from mapping.cost.model import shape_program
from mapping.cost.shapes import Shape
from mapping.energy.differentiable import LayerEnergies
from mapping.energy.events import events
from mapping.energy.model import EnergyModel
from mapping.energy.testing import STATISTICS, synthetic, write_tables

CONFIG = System()
UNITS = ("npu8", "npu_lb")
SHAPES = [
    Shape("conv", "conv2d", 16, 128, 6, 6, (3, 3), (1, 1), "same"),
    Shape("depthwise", "depthwise_conv2d", 64, 64, 6, 6, (3, 3), (1, 1), "same"),
    Shape("sum", "add", 64, 64, 5, 5),
]
STEPS = {"conv": (16, 32), "depthwise": (16, 32), "sum": (16, 16)}
VALUES = {
    "column_beat": 1.0, "mac.one": 0.5, "mac.toggles": 0.125, "operand_word": 3.0, "weight_word": 5.0,
    "accumulator_read": 7.0, "accumulate": 9.0, "requantise": 2.0, "activation_read": 4.0,
    "external_byte": 0.5, "leakage": 0.25, "control_idle": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EnergyModel:
    assert synthetic(CONFIG.cores[0], VALUES).statistics == STATISTICS
    return EnergyModel(CONFIG, write_tables(tmp_path_factory.mktemp("tables"), VALUES))


@pytest.fixture(scope="module")
def energies(model: EnergyModel) -> LayerEnergies:
    return LayerEnergies(model, SHAPES, UNITS)


def tensor(*rows: Sequence[float]) -> torch.Tensor:
    return torch.tensor([list(row) for row in rows], dtype=torch.float64)


def value(
    model: EnergyModel, shape: Shape, channels: Sequence[int], shares: Sequence[float] | None = None
) -> float:
    """A layer's energy from the model, with statistics for each unit."""
    parts = {unit: count for unit, count in zip(UNITS, channels, strict=True) if count}
    if not parts:
        return 0.0
    sizes: dict[str, Any] = {"out_channels": sum(parts.values()), "split": parts if len(parts) > 1 else None}
    if shape.op != "conv2d":
        sizes["in_channels"] = sizes["out_channels"]
    shape = replace(shape, **sizes)
    unit = next(iter(parts))
    given = None
    if shares is not None:
        by_unit = dict(zip(UNITS, shares, strict=True))
        keys = events(shape_program(shape, unit, CONFIG), CONFIG)
        given = {key: STATISTICS.at(by_unit[key[1]]) for key in keys}
    return model.layer(shape, unit, given).value_pj


def three(row: Sequence[float]) -> torch.Tensor:
    return tensor(*([row] * len(SHAPES)))


@pytest.mark.parametrize("channels", [(16, 0), (0, 64), (16, 48), (48, 16), (0, 0)])
def test_values_at_whole_blocks_are_those_of_the_model(
    model: EnergyModel, energies: LayerEnergies, channels: tuple[int, int]
) -> None:
    values = energies(three(channels)).tolist()
    assert values == pytest.approx([value(model, shape, channels) for shape in SHAPES])
    shares = (0.1, 0.7)
    values = energies(three(channels), three(shares)).tolist()
    assert values == pytest.approx([value(model, shape, channels, shares) for shape in SHAPES])


@pytest.mark.parametrize("layer", range(len(SHAPES)), ids=[shape.op for shape in SHAPES])
@pytest.mark.parametrize("unit", [0, 1], ids=UNITS)
@pytest.mark.parametrize("shares", [None, (0.0, 0.9)], ids=["usual", "given"])
def test_the_gradient_in_channels_is_the_finite_difference_over_a_block_of_columns(
    model: EnergyModel, energies: LayerEnergies, layer: int, unit: int, shares: tuple[float, float] | None
) -> None:
    shape, step = SHAPES[layer], STEPS[SHAPES[layer].name][unit]

    def energy(count: int) -> float:
        return value(model, shape, (count, 16) if unit == 0 else (16, count), shares)

    first, second = ((energy(k * step) - energy((k - 1) * step)) / step for k in (1, 2))
    assert first > 0
    inside = [(place, first) for place in (0.25, step / 2, step - 0.01)]
    beyond = [(place, second) for place in (step + 0.01, 1.5 * step)]
    for count, slope_expected in [*inside, *beyond, (float(step), (first + second) / 2)]:
        channels = three((count, 16) if unit == 0 else (16, count)).requires_grad_()
        energies(channels, None if shares is None else three(shares))[layer].backward()  # type: ignore[no-untyped-call]
        assert channels.grad is not None
        assert float(channels.grad[layer, unit]) == pytest.approx(slope_expected), count


def test_the_gradient_in_zero_weights_is_exact_at_any_distance(
    model: EnergyModel, energies: LayerEnergies
) -> None:
    channels = three((16, 48))
    shares = three((0.3, 0.6)).requires_grad_()
    energies(channels, shares).sum().backward()  # type: ignore[no-untyped-call]
    assert shares.grad is not None
    for layer, shape in enumerate(SHAPES):
        for unit in (0, 1):
            ends = [[0.3, 0.6], [0.3, 0.6]]
            ends[0][unit], ends[1][unit] = 0.0, 1.0
            low, high = (value(model, shape, (16, 48), end) for end in ends)
            assert float(shares.grad[layer, unit]) == pytest.approx(high - low, abs=1e-6)
            assert (high < low) == (shape.op != "add")


def test_without_zero_shares_the_tables_are_taken(energies: LayerEnergies) -> None:
    channels = three((32, 32))
    share = STATISTICS.zero_share
    assert energies(channels).tolist() == pytest.approx(energies(channels, three((share, share))).tolist())
    assert (energies(channels, torch.tensor(0.9)) <= energies(channels)).all()


def test_a_batch_gives_what_its_parts_give(energies: LayerEnergies) -> None:
    torch.manual_seed(0)
    channels = torch.randint(0, 3, (4, 2, 3, 2)).double() * 16
    shares = torch.rand(4, 2, 3, 2)
    values = energies(channels, shares)
    assert values.shape == (4, 2, 3)
    assert values.dtype == torch.float64
    for place in ((0, 0), (3, 1)):
        assert energies(channels[place], shares[place]).tolist() == pytest.approx(values[place].tolist())


def test_a_corner_is_worked_out_once_for_all_its_numbers(
    model: EnergyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    predicted = EnergyModel.predicted

    def counted(self: EnergyModel, *arguments: Any) -> Any:
        seen.append(arguments)
        return predicted(self, *arguments)

    monkeypatch.setattr(EnergyModel, "predicted", counted)
    energies = LayerEnergies(model, SHAPES[:1], UNITS)
    for _ in range(2):
        energies(tensor((16, 16)))
        assert len(seen) == 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_out_of_range_are_refused(energies: LayerEnergies, share: float) -> None:
    with pytest.raises(ValueError, match="zero_share must be 0 to 1"):
        energies(three((16, 16)), torch.tensor(share))
