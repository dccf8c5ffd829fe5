# SPDX-License-Identifier: Apache-2.0
"""Areas of open macros: the published ones, the line between them, and a core's memories of them."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import GatesError
from gates.memories import compositions
from gates.open_macros import PUBLISHED, STANDARD_CELLS, Macro, core_open_areas, fitted_line, open_area
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB

LARGEST_ERROR = {"1r1w": 0.04, "1rw": 0.16}


@pytest.mark.parametrize("macro", PUBLISHED, ids=lambda macro: macro.name)
def test_a_published_size_is_what_is_published_and_near_the_line(macro: Macro) -> None:
    area = open_area(macro.words, macro.width_bits, macro.ports)
    assert area.label.startswith("published (")
    if area.label == f"published ({macro.name})":
        assert area.area_um2 == macro.width_um * macro.height_um
    else:  # the other generator has the same size, and is smaller
        assert area.area_um2 < macro.area_um2
    overhead, per_bit = fitted_line(macro.ports)
    assert overhead + per_bit * macro.bits == pytest.approx(macro.area_um2, rel=LARGEST_ERROR[macro.ports])


def test_a_bit_of_one_port_is_smaller_and_no_bit_smaller_than_its_cell() -> None:
    """The cells of sky130 have 1.9 and 3.7 µm² or so; a line below them would be no memory."""
    (two_overhead, two), (one_overhead, one) = fitted_line("1r1w"), fitted_line("1rw")
    assert 3.7 < one < two < 12
    assert 0 < one_overhead < two_overhead


def test_sizes_between_published_ones_are_interpolated_and_others_named() -> None:
    low, between, high = (open_area(words, 32, "1r1w").area_um2 for words in (512, 700, 1024))
    assert low < between < high
    assert open_area(700, 32, "1r1w").label == "interpolated"
    assert open_area(64, 64, "1r1w").label == "extrapolated"


def test_large_memories_are_composed_of_macros_that_exist() -> None:
    """A limit of 8 KiB: four times the bits in four macros, with four times the overhead."""
    one, four = open_area(512, 127, "1rw"), open_area(2048, 127, "1rw")
    assert four.area_um2 == pytest.approx(4 * one.area_um2)
    assert four.label == "interpolated, 4 macros"


def test_small_single_port_memories_are_of_standard_cells() -> None:
    area = open_area(32, 32, "1rw")
    assert area.label == "standard cells, at DFFRAM's density"
    densest, sparsest = (pick(macro.area_um2 / macro.bits for macro in STANDARD_CELLS) for pick in (min, max))
    assert sparsest < 1.02 * densest
    assert 1024 * densest <= area.area_um2 <= 1024 * sparsest
    assert area.area_um2 < fitted_line("1rw")[0] + 1024 * fitted_line("1rw")[1]


@pytest.mark.parametrize("core", [NPU8, NPU_LB, CoreConfig("wide", rows=32, cols=64, act_kib=48)], ids=str)
def test_a_cores_memories_are_the_sum_of_their_macros(core: CoreConfig) -> None:
    areas = core_open_areas(core)
    assert list(areas) == list(compositions(core))
    for name, item in compositions(core).items():
        one = open_area(item.words, item.width_bits, item.ports)
        assert areas[name].area_um2 == pytest.approx(item.count * item.macros * one.area_um2)
    bits = sum(
        item.count * item.macros * item.words * item.width_bits for item in compositions(core).values()
    )
    assert 3 * bits < sum(area.area_um2 for area in areas.values()) < 60 * bits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 32, "1rw"), "memory of 0 x 32 bits"),
        ((32, 0, "1rw"), "memory of 32 x 0 bits"),
        ((32, 32, "2rw"), "no open macro has ports '2rw'; there are 1r1w, 1rw"),
    ],
)
def test_memories_that_cannot_be_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(GatesError, match=message):
        open_area(*arguments)
