# SPDX-License-Identifier: Apache-2.0
"""Operands, results and transfers that meet in a bank of the scratchpad, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB, System
from mapping.cost.banks import NO_BANK, Losses, behind_share, operand_waits, transfer_losses, waits_of
from mapping.cost.coefficients import named
from mapping.cost.list_run import Array
from mapping.cost.model import CostModel
from mapping.cost.work import stripes

BANKS = NPU_LB.act_banks
POOL = {
    "in_base": 0, "in_plane": 256, "in_height": 16, "in_width": 16, "in_row": 0, "in_column": 0,
    "in_row_step": 32, "tap_row_step": 16, "in_channels": 16, "kernel_h": 2, "kernel_w": 2, "stride_h": 2,
    "stride_w": 2, "dilation_h": 1, "dilation_w": 1, "out_width": 8, "out_base": 512, "out_plane": 64,
    "out_pixels": 32, "stripe_pixels": 16, "out_channels": 16,
}  # fmt: skip
"""A pool of 2 x 2 windows, 16 x 16 pixels to 8 x 8: the upper half of its outputs."""


def streams(step: int, first: int, cycles: int) -> list[int]:
    return [(first + step * i) % BANKS for i in range(cycles)]


def test_streams_in_order_meet_once_and_cost_nothing() -> None:
    for first in range(BANKS):
        assert waits_of(streams(1, 0, 100), [*streams(1, first, 32), NO_BANK]) == 0


@pytest.mark.parametrize("first", range(BANKS))
def test_operands_of_a_stride_of_two_work_in_every_second_cycle_once_results_are_late(first: int) -> None:
    """They gain a bank in each cycle: `first` cycles to the first meeting, 7 to the next, then 2."""
    results = [*streams(1, first, 32), NO_BANK]  # the last one is written in cycle 32
    assert waits_of(streams(2, 0, 100), results) == len(range(first + 7, 33, 2))


def test_nothing_waits_where_nothing_is_read_or_nothing_is_late() -> None:
    assert waits_of([NO_BANK] * 20, streams(1, 0, 10)) == 0
    assert waits_of([0] * 20, [NO_BANK] * 20) == 0
    assert waits_of([3] * 20, [3, NO_BANK, 3, 3, 3, NO_BANK]) == 4  # all but the first two


def test_waits_of_a_pool_are_those_drawn_by_hand() -> None:
    """Results from cycle 9 on, in banks 0, 1, ...: one is late in cycle 15, operands wait in 21, 23, 25."""
    upper = [(0, 16), (16, 16)]
    assert operand_waits("max_pool", POOL, NPU_LB, upper) == [0, 3]
    # the second block's operands and results are the other half of the same words
    assert operand_waits("max_pool", POOL | {"out_channels": 32}, NPU_LB, upper) == [0, 3, 3, 3]
    # results a bank further meet the operands a cycle later
    assert operand_waits("max_pool", POOL | {"out_base": 513}, NPU_LB, upper) != [0, 3]
    # nothing is read beyond the input's last row
    assert operand_waits("max_pool", POOL | {"in_height": 0}, NPU_LB, upper) == [0, 0]


def test_sums_that_stay_write_nothing() -> None:
    fields = POOL | {"in_channels": 32, "out_channels": 64, "stripe_pixels": 8}
    lengths = [(first, 8) for first in range(0, 32, 8)]
    assert sum(operand_waits("conv", fields, NPU_LB, lengths)) > 0
    assert operand_waits("conv", fields | {"keep": 1}, NPU_LB, lengths) == [0] * 8


@pytest.mark.parametrize("name", ["max_pool", "conv", "depthwise", "add"])
def test_many_stripes_taken_together_wait_as_often(name: str) -> None:
    fields = POOL | {"out_pixels": 1600, "in_height": 400, "out_channels": 64, "in2_base": 4, "keep": 0}
    _, pieces = stripes(name, fields, NPU_LB)
    lengths = [(first, 16) for first in range(0, 1600, 16)]
    every = operand_waits(name, fields, NPU_LB, lengths)
    assert len(pieces) < len(every)
    assert sum(piece.times * piece.waits for piece in pieces) == pytest.approx(sum(every))


def test_late_results_of_a_single_pass_outlast_the_next_stripe() -> None:
    """As in RTL, in a 1 x 1 convolution of ResNet8 on `npu8`: every other stripe waits."""
    fields = {
        "in_base": 0, "in_plane": 1024, "in_height": 32, "in_width": 32, "in_row_step": 64,
        "tap_row_step": 32, "in_channels": 16, "kernel_h": 1, "kernel_w": 1, "stride_h": 2, "stride_w": 2,
        "out_width": 16, "out_base": 1024, "out_plane": 256, "out_pixels": 256, "stripe_pixels": 32,
        "out_channels": 32,
    }  # fmt: skip
    lengths = [(first, 32) for first in range(0, 256, 32)]
    assert operand_waits("conv", fields, NPU8, lengths) == [0, 0] + [15, 0] * 7
    apart = fields | {"stride_w": 1, "out_width": 32, "in_row_step": 32}
    assert operand_waits("conv", apart, NPU8, lengths) == [0] * 16


def test_an_addition_whose_operands_follow_in_order_never_waits_twice_a_stripe() -> None:
    lengths = [(first, 16) for first in range(0, 64, 16)]
    fields = POOL | {"out_pixels": 64, "in2_base": 300}
    assert max(operand_waits("add", fields, NPU_LB, lengths)) <= 1


def test_sliding_words_are_read_in_order_whatever_the_stride() -> None:
    """So they meet results once; where they do not slide, a stride of 2 meets them again and again."""
    fields = POOL | {"kernel_h": 3, "kernel_w": 3, "row_advance": 16 - 7 * 2, "out_channels": 32}
    lengths = [(0, 16), (16, 16)]
    slid = operand_waits("depthwise", fields | {"slide": 1}, NPU_LB, lengths)
    assert sum(slid) < sum(operand_waits("depthwise", fields, NPU_LB, lengths))


def test_what_a_transfer_loses_is_the_mean_over_the_bank_it_begins_in() -> None:
    """In 16 beats of a stride of 2 it meets an operand in cycle `a`, and 7 and 14 later, from bank `a` on."""
    single = POOL | {"kernel_h": 1, "kernel_w": 1}
    met = sum(len(range(first, 16, 7)) for first in range(BANKS)) / BANKS
    assert transfer_losses("max_pool", single, NPU_LB, 0, 16, 16) == pytest.approx((met + 1 / BANKS, 0))
    straight = single | {"stride_w": 1, "out_width": 32}  # one of 8 banks meets it once
    assert transfer_losses("max_pool", straight, NPU_LB, 0, 16, 16) == pytest.approx((2 / BANKS, 0))
    assert transfer_losses("conv", straight | {"keep": 1}, NPU_LB, 0, 16, 16) == pytest.approx((1 / BANKS, 0))


def test_more_banks_are_met_less_often() -> None:
    fields = POOL | {"out_width": 32, "in_width": 64, "in_row_step": 128}
    wide = CoreConfig("wide", rows=64, cols=64, w_bits=2)
    losses = [transfer_losses("max_pool", fields, core, 0, 32, 128).met for core in (NPU8, NPU_LB, wide)]
    assert [core.act_banks for core in (NPU8, NPU_LB, wide)] == [16, 8, 4]
    assert losses == sorted(losses)


def test_a_transfer_stays_behind_results_that_are_half_as_fast_and_waits_for_each() -> None:
    """Sixteen results of a stripe take 32 cycles, of which the operands work in 16."""
    straight = POOL | {"kernel_h": 1, "kernel_w": 1, "stride_w": 1, "out_width": 32}
    lost = {
        lanes: transfer_losses("max_pool", straight, replace(NPU_LB, lanes=lanes), 0, 16, 16)
        for lanes in (4, 8, 16)
    }
    assert lost[8].met + lost[8].behind == pytest.approx(16, abs=2)
    assert lost[8].behind > lost[8].met
    assert lost[4].behind == lost[16].behind == 0
    assert lost[4].met < 64 / 3  # in 64 cycles: it overtakes results that are slower
    slow = transfer_losses("max_pool", straight, replace(NPU_LB, lanes=8), 0, 16, 16, pace=2)
    assert slow.behind == 0
    assert slow.met < lost[8].met + lost[8].behind


def test_words_are_behind_results_after_twice_as_many_as_there_are_banks_between() -> None:
    assert behind_share(8, 8) == pytest.approx(1 / 4)  # word k is behind with probability k / 16
    assert behind_share(16, 8) == pytest.approx(1 / 2)
    assert behind_share(64, 8) == pytest.approx(56 / 64)


def test_a_transfer_that_loses_cycles_takes_longer_and_loses_more() -> None:
    array = Array()
    array.work(10.0, 110.0, Losses(50.0, 25.0))
    assert array.waits(20.0, 20.0, 0.0) == pytest.approx(20)  # half of the 40 cycles
    assert array.waits(20.0, 20.0, 1.0) == pytest.approx(60)
    assert array.waits(110.0, 20.0, 1.0) == array.waits(0.0, 10.0, 1.0) == 0
    array.work(100.0, 120.0, Losses(0.0, 0.0))  # begins where the one before ends
    assert array.waits(111.0, 5.0, 1.0) == 0


@pytest.mark.parametrize("core", [NPU8, NPU_LB], ids=lambda core: core.name)
def test_cycles_counted_here_are_cycles_of_the_hardware(core: CoreConfig) -> None:
    """The fit would have found any other factor: what is counted is what happens."""
    values = named(CostModel(System((core,))).table(core.name).coefficients)
    for name in ("array_bank_cycles", "load_bank_cycles", "store_bank_cycles"):
        assert values[name] == pytest.approx(1, abs=0.3), name
