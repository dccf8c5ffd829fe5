# SPDX-License-Identifier: Apache-2.0
"""Differentiable costs: the staircase exactly, and as gradient its average slope over blocks of columns."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UnsupportedError
from hw.core import CoreConfig
from hw.system import NPU8, System
from mapping.cost.differentiable import LayerCosts
from mapping.cost.model import CostModel
from mapping.cost.shapes import Shape
from mapping.cost.tables import TableError, table_path

UNITS = ("npu8", "npu_lb")
CONV = Shape("conv", "conv2d", 16, 128, 6, 6, (3, 3), (1, 1), "same")
SHAPES = [
    CONV,
    Shape("depthwise", "depthwise_conv2d", 64, 64, 6, 6, (3, 3), (1, 1), "same"),
    Shape("sum", "add", 64, 64, 5, 5),
    Shape("dense", "fully_connected", 64, 128, 1, 1),
]
STEPS = {"conv": (16, 32), "depthwise": (16, 32), "sum": (16, 16), "dense": (16, 32)}
"""Channels of a block of each layer on each unit: the columns of the array, its rows in depthwise layers, or
16 where neither counts."""
MODEL = CostModel(System())
COSTS = LayerCosts(MODEL, SHAPES, UNITS)


def value(shape: Shape, channels: Sequence[int]) -> float:
    """The cycles of a layer with so many channels on each unit, from the model."""
    parts = {unit: count for unit, count in zip(UNITS, channels, strict=True) if count}
    if not parts:
        return 0.0
    sizes: dict[str, Any] = {"out_channels": sum(parts.values()), "split": parts if len(parts) > 1 else None}
    if shape.op in ("depthwise_conv2d", "add"):
        sizes["in_channels"] = sizes["out_channels"]
    return MODEL.layer(replace(shape, **sizes), next(iter(parts))).cycles


def tensor(*rows: Sequence[float]) -> torch.Tensor:
    return torch.tensor([list(row) for row in rows], dtype=torch.float64)


def slope(layer: int, channels: Sequence[float], unit: int) -> float:
    """What autograd says of one layer's channels on one unit."""
    given = tensor(*([tuple(channels)] * len(SHAPES))).requires_grad_()
    COSTS(given)[layer].backward()  # type: ignore[no-untyped-call]
    assert given.grad is not None
    others = [row for row in range(len(SHAPES)) if row != layer]
    assert (given.grad[others] == 0).all()
    return float(given.grad[layer, unit])


# ----------------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize("channels", [(16, 0), (0, 16), (64, 0), (0, 64), (16, 48), (32, 32), (48, 16)])
def test_values_at_whole_blocks_are_those_of_the_model(channels: tuple[int, int]) -> None:
    costs = COSTS(tensor(*([channels] * len(SHAPES)))).tolist()
    assert costs == [value(shape, channels) for shape in SHAPES]


def test_channels_within_a_block_cost_what_the_block_costs() -> None:
    for channels in ((1, 0), (0, 33), (17, 5)):
        whole = tuple(-(-count // 16) * 16 for count in channels)
        assert COSTS.at(tensor(*([channels] * 4))).tolist() == COSTS.at(tensor(*([whole] * 4))).tolist()
    # of a convolution that is the model's own view: 16 channels are stored and made together
    for channels in ((9, 0), (0, 24), (17, 40)):
        costs = float(COSTS.at(tensor(*([channels] * 4)))[0])
        assert costs == pytest.approx(value(CONV, channels), rel=0.01)


def test_no_channels_cost_nothing() -> None:
    assert COSTS(tensor(*([(0, 0)] * 4))).tolist() == [0.0] * 4


def test_a_layer_on_one_unit_runs_there_alone() -> None:
    """Not as a split with nothing: the other unit is not even started."""
    alone = LayerCosts(MODEL, SHAPES, ("npu_lb",))
    channels = tensor(*([(48,)] * 4))
    assert alone(channels).tolist() == COSTS(tensor(*([(0, 48)] * 4))).tolist()


def test_a_batch_gives_what_its_parts_give() -> None:
    torch.manual_seed(0)
    channels = torch.randint(0, 4, (5, 3, 4, 2)).double() * 16
    channels.requires_grad_()
    costs = COSTS(channels)
    assert costs.shape == (5, 3, 4)
    assert costs.dtype == torch.float64
    costs.sum().backward()  # type: ignore[no-untyped-call]
    assert channels.grad is not None
    for place in ((0, 0), (4, 2), (2, 1)):
        part = channels[place].detach().clone().requires_grad_()
        one = COSTS(part)
        assert one.tolist() == costs[place].tolist()
        one.sum().backward()  # type: ignore[no-untyped-call]
        assert part.grad is not None
        torch.testing.assert_close(part.grad, channels.grad[place], rtol=0, atol=0)


def test_single_precision_and_integers_are_taken() -> None:
    channels = tensor(*([(16, 32)] * 4))
    assert COSTS(channels.float()).tolist() == COSTS(channels.long()).tolist() == COSTS(channels).tolist()


def test_the_layers_own_channels_do_not_matter() -> None:
    others = [replace(CONV, out_channels=count) for count in (16, 128)]
    costs = LayerCosts(MODEL, others, UNITS)(tensor((16, 16), (16, 16)))
    assert costs[0] == costs[1]


# -------------------------------------------------------------------------------------------------- gradients
@pytest.mark.parametrize("layer", range(len(SHAPES)), ids=[shape.op for shape in SHAPES])
@pytest.mark.parametrize("unit", [0, 1], ids=UNITS)
@pytest.mark.parametrize("other", [0, 16])
def test_the_gradient_is_the_finite_difference_over_a_block_of_columns(
    layer: int, unit: int, other: int
) -> None:
    shape, step = SHAPES[layer], STEPS[SHAPES[layer].name][unit]

    def cost(channels: int) -> float:
        return value(shape, (channels, other) if unit == 0 else (other, channels))

    def gradient(channels: float) -> float:
        return slope(layer, (channels, other) if unit == 0 else (other, channels), unit)

    first = (cost(step) - cost(0)) / step
    second = (cost(2 * step) - cost(step)) / step
    assert first > 0
    # inside a block, near its begin and its end, on an edge of 16 that is none of the columns
    for channels in (0.25, step / 2, step - 0.01, step // 2):
        assert gradient(channels) == pytest.approx(first), channels
    for channels in (step + 0.01, 1.5 * step, 2 * step - 1):
        assert gradient(channels) == pytest.approx(second), channels
    assert gradient(step) == pytest.approx((first + second) / 2)  # on the edge: of both sides
    assert gradient(0) == pytest.approx(first)  # there is one side only


def test_the_gradient_is_chained_with_what_comes_after() -> None:
    channels = tensor(*([(20, 20)] * 4)).requires_grad_()
    weights = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    (COSTS(channels) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert channels.grad is not None
    torch.testing.assert_close(channels.grad, COSTS.slopes(channels.detach()) * weights[:, None])


def test_a_small_optimisation_finds_the_faster_unit() -> None:
    """Soft channels of a convolution go where they cost less; the gradient alone moves them."""
    costs = LayerCosts(MODEL, [replace(CONV, in_channels=64, out_channels=128)], UNITS)
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logit], lr=0.2)

    def cycles() -> torch.Tensor:
        share = torch.sigmoid(logit)
        return costs(torch.stack([128 * share, 128 * (1 - share)], dim=-1)).sum()

    before = float(cycles().detach())
    for _ in range(60):
        optimiser.zero_grad()
        cycles().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    share = float(torch.sigmoid(logit.detach()))
    assert share < 0.4  # the low-bit unit has twice the rows and twice the columns
    assert float(cycles().detach()) < 0.8 * before


def test_corners_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = LayerCosts(MODEL, [CONV], UNITS)
    seen: list[tuple[int, ...]] = []
    corner = LayerCosts._corner

    def counted(self: LayerCosts, shape: Shape, blocks: Sequence[int]) -> float:
        seen.append(tuple(blocks))
        return corner(self, shape, blocks)

    monkeypatch.setattr(LayerCosts, "_corner", counted)
    channels = torch.full((1000, 1, 2), 16.0)
    for _ in range(2):
        costs(channels)
        assert seen == [(1, 1)]


# ----------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("shape", [(4,), (2,), (3, 2), (4, 1), (4, 3), (2, 4, 4)], ids=str)
def test_channels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"channels have shape .*, not \(\.\.\., 4, 2\)"):
        COSTS(torch.zeros(shape))


@pytest.mark.parametrize("count", [-1.0, -16.0, -0.5, 1e4, float("nan"), float("inf")])
def test_channels_out_of_range_are_refused(count: float) -> None:
    channels = tensor(*([(16, 16)] * 4))
    channels[2, 1] = count
    with pytest.raises(ValueError, match="channels must be 0 to "):
        COSTS(channels)


def test_every_channel_up_to_the_layers_most_is_taken_with_its_gradient() -> None:
    for channels in ((128, 0), (0, 128)):
        for layer in (0, 3):
            assert slope(layer, channels, channels.index(128)) > 0


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    system = System((NPU8, CoreConfig("npu_lb", w_bits=3)))
    shutil.copy(table_path([NPU8], system), tmp_path)
    costs = LayerCosts(CostModel(system, tmp_path), [CONV], UNITS)
    assert costs(tensor((16, 0))).tolist() == [value(CONV, (16, 0))]
    with pytest.raises(TableError, match="w3a8_16x32"):
        costs(tensor((0, 16)))


def test_a_depthwise_layer_with_a_multiplier_is_refused() -> None:
    shape = Shape("twice", "depthwise_conv2d", 16, 32, 8, 8, (3, 3), (1, 1), "same")
    with pytest.raises(UnsupportedError, match="layer 'twice': a depthwise layer with a multiplier"):
        LayerCosts(CostModel(System()), [shape], ["npu8"])


def test_gradients_reach_up_to_the_most_channels() -> None:
    shape = Shape("conv", "conv2d", 16, 64, 4, 4, (1, 1), (1, 1), "same")
    costs = LayerCosts(CostModel(System()), [shape], ["npu_lb"])
    channels = torch.tensor([[96.0]], dtype=torch.float64, requires_grad=True)  # 64, and a block of 32 more
    costs(channels).sum().backward()  # type: ignore[no-untyped-call]
    assert channels.grad is not None
    assert float(channels.grad) > 0
    with pytest.raises(ValueError, match="channels must be 0 to 96"):
        costs(torch.tensor([[97.0]]))
