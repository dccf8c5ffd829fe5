# SPDX-License-Identifier: Apache-2.0
"""The layer compiler, without RTL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.errors import UnsupportedError
from golden.arithmetic import requantize
from golden.layer import Layer
from golden.operators import average_pool
from hw.commands import decode
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB
from mapping.compiler.compile import compile_layer
from mapping.compiler.cycle_law import slides
from mapping.compiler.legalise import legalise
from mapping.compiler.plan import CapacityError
from mapping.compiler.pools import MAX_POOL_COUNT, ROUNDED_TWICE, reciprocal, spans
from mapping.run.random_layers import OPERATORS, random_layer


def commands_of(layer: Layer, unit: CoreConfig = NPU8, **options: Any) -> list[dict[str, int | str]]:
    program = compile_layer(layer, unit, **options)
    address, count = program.commands
    data = next(data for start, data in program.segments if start == address)
    return [decode(data[64 * i : 64 * (i + 1)]) for i in range(count)]


def conv(h: int = 8, w: int = 8, c: int = 16, k: int = 16, kernel: int = 3, **changes: Any) -> Layer:
    values: dict[str, Any] = {
        "name": "conv",
        "op": "conv2d",
        "input": np.ones((h, w, c), np.int8),
        "weights": np.ones((k, kernel, kernel, c), np.int8),
        "bias": np.zeros(k, np.int32),
        "multiplier": np.full(k, 1 << 30, np.int32),
        "shift": np.zeros(k, np.int32),
        "padding": (kernel // 2,) * 4,
    }
    return Layer(**(values | changes))


@pytest.mark.parametrize("first", range(1, ROUNDED_TWICE + 1, 64))
def test_reciprocal_divides_every_sum_of_every_count_exactly(first: int) -> None:
    for count in range(first, first + 64):
        left_shift, multiplier, shift = reciprocal(count)
        sums = np.arange(-128 * count, 127 * count + 1, dtype=np.int64)
        got = requantize(sums << left_shift, 0, multiplier, shift, 0, -128, 127).numpy()
        expected = np.sign(sums) * ((2 * np.abs(sums) + count) // (2 * count))
        np.testing.assert_array_equal(got, expected, err_msg=f"count {count}")
        assert abs(128 * count << left_shift) <= 1 << 30, f"count {count} may leave 32 bits"


@pytest.mark.parametrize(
    "count", [1025, 2047, 2048, 2049, 3136, 12321, 50176, 65025, MAX_POOL_COUNT - 1, MAX_POOL_COUNT]
)
def test_reciprocal_of_a_large_count_is_exact_around_every_tie(count: int) -> None:
    left_shift, multiplier, shift = reciprocal(count)
    assert left_shift == 0
    ties = (np.arange(-256, 256, dtype=np.int64) * count) // 2
    sums = (ties[:, None] + np.arange(-2, 3)).reshape(-1).clip(-128 * count, 127 * count)
    got = requantize(sums, 0, multiplier, shift, 0, -128, 127, single_rounding=True).numpy()
    np.testing.assert_array_equal(got, np.sign(sums) * ((2 * np.abs(sums) + count) // (2 * count)))


def test_reciprocal_agrees_with_the_golden_average_on_ties() -> None:
    window = np.array([[[-3], [0]], [[1], [0]]], np.int8)  # -2 / 4 = -0.5
    golden = average_pool(window, (2, 2), (1, 1), (0, 0, 0, 0), -128, 127)
    left_shift, multiplier, shift = reciprocal(4)
    assert (
        int(requantize(-2 << left_shift, 0, multiplier, shift, 0, -128, 127)) == int(golden.reshape(())) == -1
    )


@pytest.mark.parametrize("count", [0, MAX_POOL_COUNT + 1])
def test_average_over_too_many_values_is_refused(count: int) -> None:
    with pytest.raises(UnsupportedError, match=f"an average over .* 1 to {MAX_POOL_COUNT} are supported"):
        reciprocal(count)


def test_weights_beyond_the_unit_are_refused_with_the_remedy() -> None:
    layer = conv(weights=np.full((16, 3, 3, 16), 2, np.int8))
    with pytest.raises(UnsupportedError, match=r"'conv'.*do not fit npu_lb.*--clip-weights"):
        compile_layer(layer, NPU_LB)
    assert compile_layer(layer, NPU8).commands[1] > 0


TINY = CoreConfig("tiny", act_kib=1, weight_kib=1, param_kib=1)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (
            Layer(name="conv", op="max_pool", input=np.zeros((32, 32, 16), np.int8), kernel=(30, 30)),
            r"max_pool of 32 x 32 x 16, kernel 30 x 30.* one output reads .* 1 KiB .*; set tiny.ACT_KIB=15",
        ),
        (
            conv(c=16, k=16, kernel=5),
            r"conv2d of .*weights of one kernel row .* a third of the 1 KiB .*; set tiny.WEIGHT_KIB=4",
        ),
        (
            Layer(
                name="conv", op="average_pool", input=np.zeros((8, 8, 16), np.int8), kernel=(5, 5),
                padding=(2, 2, 2, 2),
            ),
            r"average_pool of .* parameters of 16 channels .* half of the 1 KiB .*set tiny.PARAM_KIB=2",
        ),
    ],
)  # fmt: skip
def test_a_layer_of_which_no_tile_fits_is_refused_naming_what_and_the_remedy(layer: Layer, what: str) -> None:
    with pytest.raises(CapacityError, match=rf"layer 'conv' .*{what}"):
        compile_layer(layer, TINY)


def depthwise(kernel: tuple[int, int], channels: int = 16) -> Layer:
    rng = np.random.default_rng(7)
    return Layer(
        name="conv", op="depthwise_conv2d", input=np.zeros((*kernel, channels), np.int8),
        weights=rng.integers(-9, 9, (1, *kernel, channels)).astype(np.int8),
        bias=np.zeros(channels, np.int32), multiplier=np.full(channels, 1 << 30, np.int32),
        shift=np.full(channels, -6, np.int32),
    )  # fmt: skip


def pool(op: str, height: int, width: int) -> Layer:
    return Layer(name="conv", op=op, input=np.zeros((height, width, 16), np.int8), kernel=(height, width))


@pytest.mark.parametrize(
    ("layer", "memory"),
    [
        (depthwise((9, 9)), "WEIGHT_KIB"), (depthwise((42, 42)), "WEIGHT_KIB"),
        (conv(c=40, k=16, kernel=9), "WEIGHT_KIB"),
        (pool("max_pool", 70, 61), "ACT_KIB"), (pool("average_pool", 70, 61), "ACT_KIB"),
        (
            Layer(name="conv", op="average_pool", input=np.zeros((9, 9, 16), np.int8), kernel=(5, 5),
                  padding=(2, 2, 2, 2)),
            "PARAM_KIB",
        ),
    ],
)  # fmt: skip
def test_the_setting_that_a_message_names_is_the_smallest_that_does(layer: Layer, memory: str) -> None:
    settings = {"act_kib": 1024, "weight_kib": 1024, "param_kib": 64} | {memory.lower(): 1}
    with pytest.raises(CapacityError, match=rf"set tiny\.{memory}=\d+$") as caught:
        compile_layer(layer, CoreConfig("tiny", **settings))
    enough = int(str(caught.value).rpartition("=")[2])
    compile_layer(layer, CoreConfig("tiny", **(settings | {memory.lower(): enough})))
    with pytest.raises(CapacityError, match=memory):
        compile_layer(layer, CoreConfig("tiny", **(settings | {memory.lower(): enough - 1})))


def test_a_window_beyond_the_command_fields_is_refused() -> None:
    layer = conv(h=1, w=300, c=1, k=1, weights=np.ones((1, 1, 256, 1), np.int8), padding=(0, 0, 0, 0))
    with pytest.raises(UnsupportedError, match="kernel"):
        compile_layer(layer, NPU8)


@pytest.mark.parametrize("op", OPERATORS)
def test_every_wait_comes_after_its_post_so_the_list_cannot_dead_lock(op: str) -> None:
    for seed in range(20):
        tokens: dict[tuple[str, str], int] = {}
        for command in commands_of(random_layer(seed, NPU_LB, op), NPU_LB):
            engine = str(command["engine"])
            for other in ("load", "compute", "store"):
                if command.get(f"wait_{other}"):
                    tokens[other, engine] = tokens.get((other, engine), 0) - 1
                    assert tokens[other, engine] >= 0, f"seed {seed}: {command}"
                if command.get(f"post_{other}"):
                    tokens[engine, other] = tokens.get((engine, other), 0) + 1
        assert not any(tokens.values()), f"seed {seed}: tokens are left over"


def test_equal_padding_slides_and_dilation_does_not() -> None:
    layer = random_layer(3, NPU8, "depthwise_conv2d")
    base = replace(
        layer,
        input=np.zeros((8, 8, 16), np.int8),
        weights=np.zeros((1, 3, 3, 16), np.int8),
        bias=np.zeros(16, np.int32),
        multiplier=np.full(16, 1 << 30, np.int32),
        shift=np.zeros(16, np.int32),
        stride=(1, 1),
        dilation=(1, 1),
        padding=(1, 1, 1, 1),
    )
    (op,) = legalise(base).ops
    assert slides(op, NPU8)
    (dilated,) = legalise(replace(base, dilation=(1, 2), padding=(1, 1, 2, 2))).ops
    assert not slides(dilated, NPU8)


def test_spans_cover_the_outputs_and_count_valid_inputs() -> None:
    runs = spans(size=7, kernel=3, stride=2, before=1, out_size=4)
    assert runs == [(0, 1, 2), (1, 2, 3), (3, 1, 2)]


def test_compiling_is_deterministic() -> None:
    layer = random_layer(11, NPU8)
    first, second = compile_layer(layer, NPU8), compile_layer(layer, NPU8)
    assert [a for a, _ in first.segments] == [a for a, _ in second.segments]
    for (_, a), (_, b) in zip(first.segments, second.segments, strict=True):
        np.testing.assert_array_equal(a, b)
