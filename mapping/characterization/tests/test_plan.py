# SPDX-License-Identifier: Apache-2.0
"""Which columns and which windows are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gates.blocks import blocks_of, by_module
from hw.system import NPU8
from mapping.characterization import plan
from mapping.characterization.energy import EVERY, ValidationWindow
from mapping.characterization.engines import ENGINES, engine_events, engine_parameters
from mapping.characterization.plan import (
    FIT_CYCLES,
    SHORT,
    VALIDATION_CYCLES,
    fit_windows,
    plan_of,
    pruned_windows,
    validation_windows,
    zero_share,
)
from mapping.characterization.recording import NetworkStreams, Stream
from mapping.characterization.testing import Signals, packed
from mapping.characterization.windows import Window

LOWBIT = EVERY.core("npu_lb")


@pytest.mark.parametrize("unit", ["npu8", "npu_lb"])
@pytest.mark.gates
def test_the_plans_columns_are_of_one_variant_and_validation_has_its_own(unit: str) -> None:
    core = EVERY.core(unit)
    chosen = plan_of(core)
    assert chosen.fit
    assert chosen.validation
    assert not set(chosen.fit) & set(chosen.validation)
    paths = {
        f"i_compute.i_array.gen_structural.i_form.gen_column[{k}].i_column"
        for k in (*chosen.fit, *chosen.validation)
    }
    blocks = blocks_of(core)
    most = by_module(blocks, "npu_column")[0]
    assert paths <= set(most.paths)
    places = {path: block.module for block in blocks for path in block.paths}
    assert {path: places[path] for path in ENGINES} == dict(ENGINES)
    assert set(engine_parameters(core)) == set(ENGINES.values())


def column_stream(length: int, **changed: Sequence[int]) -> Stream:
    signals: Signals = {
        "mac_i": (1, [1] * length), "depthwise_i": (1, [0] * length), "weight_q": (4, [1] * length),
    }  # fmt: skip
    return Stream("npu_column", 20, signals | {name: (1, list(values)) for name, values in changed.items()})


def streams_with(stream: Stream, layers: Sequence[tuple[str, int, int]]) -> NetworkStreams:
    return NetworkStreams("net", 0, LOWBIT, tuple(layers), {}, (stream,), (stream,), (stream,))


def test_the_fits_windows_are_whole_short_layers_and_parts_of_long_ones() -> None:
    layers = [("short", 10, 10 + SHORT - 1), ("long", 1000, 3000), ("idle", 3000, 4000)]
    mac = [1] * 3000 + [0] * 1000
    windows = fit_windows(streams_with(column_stream(4000, mac_i=mac), layers))
    assert {number for number, _ in windows} == {0}
    spans = {(w.layer, w.begin, w.end) for _, w in windows}
    assert ("net/short", 10, 10 + SHORT - 1) in spans
    parts = [(begin, end) for layer, begin, end in spans if layer == "net/long"]
    assert len(parts) == len(plan.FIT_PLACES)
    assert all(begin >= 1000 and end == begin + FIT_CYCLES <= 3000 for begin, end in parts)
    assert not any(layer == "net/idle" for layer, *_ in spans)


def test_validation_windows_are_in_long_convolutions_that_use_the_column() -> None:
    ends = ((k * 1000, (k + 1) * 1000) for k in range(4))
    layers = [(name, *end) for name, end in zip(("conv", "depthwise", "unused", "idle"), ends, strict=True)]
    stream = column_stream(
        4000 + VALIDATION_CYCLES,
        depthwise_i=[0] * 1000 + [1] * 1000 + [0] * 2300,
        weight_q=[1] * 2000 + [0] * 1000 + [1] * 1300,
        mac_i=[1] * 3000 + [0] * 1300,
    )
    layers.append(("short", 100, 100 + VALIDATION_CYCLES - 1))
    ((number, window),) = validation_windows(streams_with(stream, layers))
    assert (number, window.layer, window.end - window.begin) == (0, "net/conv", VALIDATION_CYCLES)
    assert 0 <= window.begin < window.end <= 1000


def test_some_dense_windows_are_pruned_where_weights_are_wide() -> None:
    length = 1 + 10 * FIT_CYCLES
    stream = column_stream(length, depthwise_i=[1] * (1 + FIT_CYCLES) + [0] * 9 * FIT_CYCLES)
    more = {
        "weight_q": (8, [127] * length), "tile_i": (8, [127] * length), "operand": (8, [1] * length),
        "sum_o": (20, [0] * length),
    }  # fmt: skip
    stream = replace(stream, signals={**stream.signals, **more})
    windows = [Window("a", stream, 1 + k * FIT_CYCLES, 1 + (k + 1) * FIT_CYCLES) for k in range(10)]
    windows.append(Window("long", stream, 100, length))
    thinned = pruned_windows(windows, NPU8)
    assert 0 < len(thinned) < len(windows)
    whole = {
        (window.begin, window.end) for window in windows[2:10]
    }  # the first are depthwise, or begin after it
    assert {(window.begin, window.end) for window in thinned} <= whole
    assert {window.pruned for window in thinned} == set(plan.PRUNED)
    assert pruned_windows(windows, LOWBIT) == []


def test_the_share_of_zeros_is_of_the_weights_held_in_the_windows() -> None:
    held = [packed([1, 1], 2), packed([0, 1], 2), packed([0, 0], 2), packed([1, 1], 2)]
    stream = Stream("npu_column", 0, {"weight_q": (4, held)})
    assert zero_share([Window("a", stream, 1, 3)], 2) == 0.75
    assert zero_share([Window("a", stream, 1, 3), Window("a", stream, 0, 2)], 2) == 0.5


def test_engines_are_counted_by_their_handshakes() -> None:
    def stream(**signals: Sequence[int]) -> Stream:
        return Stream("engine", 0, {name: (1, list(values)) for name, values in signals.items()})

    streams = {
        "npu_load": stream(r_go=[1, 0, 0, 1]),
        "npu_store": stream(w_go=[0, 0, 1, 1]),
        "npu_agu": stream(valid_o=[1, 1, 1, 1], ready_i=[1, 1, 1, 1]),
        "npu_operands": stream(shift_i=[0, 1, 0, 1]),
        "npu_tile_word": stream(write_i=[0, 0, 0, 1]),
    }
    assert engine_events(streams, 3) == {
        "npu_load": 1, "npu_store": 1, "npu_agu": 3, "npu_operands": 1, "npu_tile_word": 0, "npu_tap_sum": 1,
    }  # fmt: skip


def test_a_validation_windows_error_is_the_models_above_the_gates() -> None:
    window = ValidationWindow("net", "layer", 3, 100, 0.5, (1.0, 2.0, 4.0), (1.0, 2.5, 3.0))
    assert window.error == 0.25
