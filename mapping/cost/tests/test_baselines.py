# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from common.errors import UnsupportedError
from hw.core import CoreConfig
from hw.system import NPU8
from mapping.cost import baselines
from mapping.cost.baselines import (
    ideal_cycles,
    read_bytes,
    roofline_cycles,
    written_bytes,
    zigzag_accelerator,
    zigzag_cycles,
    zigzag_layer,
    zigzag_mapping,
    zigzag_version,
)
from mapping.cost.shapes import Shape

LARGE = {"stripe_depth": 64, "act_kib": 128, "weight_kib": 64, "param_kib": 16}
LARGE8 = CoreConfig("npu8", **LARGE)
NPU_LB = CoreConfig("npu_lb", w_bits=2, rows=16, cols=64, **LARGE)
"""Cores with memories twice as large as the default ones, on which the cycles below were measured."""

CONV16 = Shape("conv", "conv2d", 64, 64, 16, 16, (3, 3), (1, 1), "same")
CONV32 = Shape("conv", "conv2d", 64, 64, 32, 32, (3, 3), (1, 1), "same")
DEPTHWISE = Shape("depthwise", "depthwise_conv2d", 64, 64, 16, 16, (3, 3), (1, 1), "same")
POINTWISE = Shape("pointwise", "conv2d", 64, 64, 32, 32, (1, 1), (1, 1), "valid")
DENSE = Shape("dense", "fully_connected", 256, 256, 1, 1)
ADD = Shape("add", "add", 64, 64, 16, 16)
POOL = Shape("pool", "max_pool", 16, 16, 8, 8, (2, 2), (2, 2), "valid")
SPLIT = Shape("wide", "conv2d", 64, 80, 16, 16, (3, 3), (1, 1), "same", {"npu8": 16, "npu_lb": 64})

MEASURED = [
    (LARGE8, CONV16, 38_792),
    (LARGE8, CONV32, 149_514),
    (LARGE8, DEPTHWISE, 4_444),
    (LARGE8, POINTWISE, 17_784),
    (LARGE8, DENSE, 4_648),
    (NPU_LB, CONV16, 11_318),
    (NPU_LB, CONV32, 39_108),
    (NPU_LB, DEPTHWISE, 4_435),
    (NPU_LB, POINTWISE, 5_885),
    (NPU_LB, DENSE, 1_521),
]
"""Start to interrupt, as measured once."""


def test_ideal_cycles_are_the_macs_over_rows_times_columns() -> None:
    # 16 * 16 pixels * 9 taps * 64 * 64
    assert CONV16.macs == 9_437_184
    assert ideal_cycles(CONV16, NPU8) == 36_864
    assert ideal_cycles(CONV16, NPU_LB) == 9_216
    assert ideal_cycles(CONV16, CoreConfig("npu_lb", w_bits=4)) == 18_432
    assert ideal_cycles(DEPTHWISE, NPU8) == 576  # 16 * 16 * 9 * 64 / 256
    assert ideal_cycles(DENSE, NPU8) == 256


def test_ideal_cycles_without_macs_are_the_element_operations_over_16() -> None:
    assert ideal_cycles(ADD, NPU8) == ideal_cycles(ADD, NPU_LB) == 1_024  # 16 * 16 * 64 / 16
    assert ideal_cycles(POOL, NPU8) == 64  # 4 * 4 pixels * 16 channels * 4 values / 16


def test_bytes_are_input_packed_weights_parameters_and_output_without_padding() -> None:
    assert read_bytes(CONV16, NPU8) == 16_384 + 36_864 + 9 * 64
    assert read_bytes(CONV16, NPU_LB) == 16_384 + 9_216 + 9 * 64
    assert read_bytes(DEPTHWISE, NPU8) == 16_384 + 576 + 9 * 64
    assert read_bytes(ADD, NPU8) == 2 * 16_384
    skipping = Shape("skip", "conv2d", 16, 16, 32, 32, (1, 1), (2, 2), "same")
    assert read_bytes(skipping, NPU8) == 16 * 16 * 16 + 16 * 16 + 9 * 16  # every other row and column
    assert read_bytes(POOL, NPU8) == 1_024
    assert written_bytes(CONV16) == 16_384
    assert written_bytes(POOL) == 256
    small = Shape("small", "fully_connected", 3, 3, 1, 1)
    assert read_bytes(small, CoreConfig("npu_lb", w_bits=3)) == 3 + 4 + 27  # 27 bits of weights: 4 bytes


def test_the_roofline_is_the_largest_of_compute_reading_and_writing() -> None:
    assert roofline_cycles(CONV16, NPU8) == 36_864
    assert roofline_cycles(DENSE, NPU8) == (256 + 65_536 + 2_304) / 16 == 4_256
    assert roofline_cycles(ADD, NPU8) == 2_048
    wide = Shape("expand", "conv2d", 1, 64, 16, 16, (1, 1), (1, 1), "valid")
    assert roofline_cycles(wide, NPU8) == 16_384 / 16  # writing: compute 64, reading 56
    assert roofline_cycles(DENSE, NPU8, port_bytes=8) == 8_512


@pytest.mark.parametrize(("core", "shape", "cycles"), MEASURED)
def test_no_measured_layer_is_faster_than_its_roofline(core: CoreConfig, shape: Shape, cycles: int) -> None:
    assert ideal_cycles(shape, core) <= roofline_cycles(shape, core) < cycles


def test_the_slower_part_of_a_split_layer_counts() -> None:
    # npu8: 256 pixels * 576 * 16 / 256; npu_lb: 256 * 576 * 64 / 1024
    assert ideal_cycles(SPLIT, NPU8, NPU_LB) == 9_216
    uneven = Shape("uneven", "conv2d", 64, 80, 16, 16, (3, 3), (1, 1), "same", {"npu8": 32, "npu_lb": 48})
    assert ideal_cycles(uneven, NPU_LB, NPU8) == 18_432


def test_both_parts_of_a_split_layer_share_the_port_and_read_the_whole_input() -> None:
    total = 2 * 16_384 + 16 * 576 + 64 * 576 // 4 + 9 * 80
    assert roofline_cycles(SPLIT, NPU8, NPU_LB, port_bytes=1) == total
    assert roofline_cycles(SPLIT, NPU8, NPU_LB) == 9_216 < 11_302  # measured


def test_a_split_layer_of_independent_channels_reads_each_channel_once() -> None:
    split = Shape("add", "add", 64, 64, 16, 16, split={"npu8": 16, "npu_lb": 48})
    assert roofline_cycles(split, NPU8, NPU_LB) == roofline_cycles(ADD, NPU8) == 2_048
    assert ideal_cycles(split, NPU8, NPU_LB) == 768  # 16 * 16 * 48 / 16


def test_units_that_do_not_fit_the_split_are_named() -> None:
    with pytest.raises(UnsupportedError, match=r"'conv': 2 units but no split"):
        ideal_cycles(CONV16, NPU8, NPU_LB)
    with pytest.raises(UnsupportedError, match=r"'wide': its split names unit 'npu_lb'; it was given npu8"):
        roofline_cycles(SPLIT, NPU8)


# -------------------------------------------------------------------------------------------------- ZigZag
def test_zigzag_is_told_the_sizes_and_port_widths_of_the_hardware_page() -> None:
    memories = zigzag_accelerator(NPU8)["memories"]
    assert {name: memory["size"] for name, memory in memories.items()} == {
        "weight_registers": 2 * 8,
        "accumulators": 2 * 32 * 32,
        "activations": 64 * 1024 * 8,
        "weights": 32 * 1024 * 8,
        "memory": 2**40,
    }
    assert list(memories) == ["weight_registers", "accumulators", "activations", "weights", "memory"]
    widths = {name: [port["bandwidth_max"] for port in memory["ports"]] for name, memory in memories.items()}
    assert widths["activations"] == [128, 128, 128, 128]
    assert widths["weights"] == [256, 128]
    assert widths["memory"] == [128, 128]


def test_zigzag_is_told_that_depthwise_layers_sum_along_the_columns() -> None:
    plain, depthwise = zigzag_accelerator(NPU8), zigzag_accelerator(NPU8, depthwise=True)
    assert plain["memories"]["accumulators"]["served_dimensions"] == ["D1"]
    assert depthwise["memories"]["accumulators"]["served_dimensions"] == ["D2"]
    assert depthwise["memories"]["activations"]["ports"][0]["bandwidth_max"] == 5 * 128
    assert zigzag_mapping(CONV16, NPU_LB) == {"D1": ["C, 16"], "D2": ["K, 64"]}
    assert zigzag_mapping(DEPTHWISE, NPU8) == {"D1": ["G, 16"], "D2": ["FX, 3"]}


def test_zigzag_is_told_the_loops_and_the_padding_of_a_layer() -> None:
    stem = Shape("stem", "conv2d", 3, 8, 96, 64, (3, 5), (2, 1), "same")
    layer = zigzag_layer(stem, NPU_LB)
    sizes = dict(zip(layer["loop_dims"], layer["loop_sizes"], strict=True))
    assert sizes == {"B": 1, "K": 8, "G": 1, "OX": 64, "OY": 48, "C": 3, "FX": 5, "FY": 3}
    assert layer["dimension_relations"] == ["ix=1*ox+1*fx", "iy=2*oy+1*fy"]
    assert layer["padding"] == [[2, 2], [0, 1]]
    assert layer["operand_precision"] == {"W": 2, "I": 8, "O": 32, "O_final": 8}
    multiplied = Shape("multiplied", "depthwise_conv2d", 4, 8, 9, 9, (3, 3), (1, 1), "valid")
    layer = zigzag_layer(multiplied, NPU8)
    sizes = dict(zip(layer["loop_dims"], layer["loop_sizes"], strict=True))
    assert (sizes["G"], sizes["K"], sizes["C"]) == (4, 2, 1)


def test_without_zigzag_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert zigzag_version() is None
    with pytest.raises(UnsupportedError, match=r"pip install 'npuloop\[compare\]'"):
        zigzag_cycles([CONV16], NPU8)


@pytest.fixture
def _zigzag() -> None:
    if zigzag_version() != "3.9.1":
        pytest.skip("these numbers are of ZigZag 3.9.1: pip install '.[compare]'")


@pytest.mark.usefixtures("_zigzag")
def test_zigzag_predicts_these_cycles() -> None:
    # 36,864 of the array, 1,024 to load the input, 17 to store the last results
    assert zigzag_cycles([CONV16, DEPTHWISE, DENSE], LARGE8) == [37_905, 4_164, 4_109]
    assert zigzag_cycles([CONV16], NPU_LB) == [10_305]


@pytest.mark.usefixtures("_zigzag")
def test_zigzag_has_no_estimate_for_operators_without_weights_and_split_layers() -> None:
    assert zigzag_cycles([ADD, POOL, SPLIT], NPU8) == [None, None, None]


@pytest.mark.usefixtures("_zigzag")
def test_zigzag_estimates_equal_geometry_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def latency(shape: Shape, _: CoreConfig) -> float:
        calls.append(shape.name)
        return 5.0

    monkeypatch.setattr(baselines, "_zigzag_latency", latency)
    same = Shape("again", "fully_connected", 256, 256, 1, 1)
    assert zigzag_cycles([DENSE, same, CONV16], NPU8) == [5.0, 5.0, 5.0]
    assert calls == ["dense", "conv"]
