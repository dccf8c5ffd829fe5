# SPDX-License-Identifier: Apache-2.0
"""Replays of real streams on gates, and fits of their energies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.arrays import Floats
from common.errors import GatesError
from common.testing import data_dir, require
from gates.blocks import blocks_of, by_module
from gates.netlist import Netlist, read_netlist
from gates.replay import Delays, Stimulus
from gates.testing import library
from golden.layer import WEIGHTED_OPS
from mapping.characterization import replays
from mapping.characterization.energy import EVERY
from mapping.characterization.plan import zero_share
from mapping.characterization.recording import (
    ACC_COLUMNS,
    MODELS,
    NetworkStreams,
    RecordingError,
    Stream,
    accumulator_path,
    real_input,
    real_network,
    record,
)
from mapping.characterization.replays import BOUNDS, FREE, Gates, Observed, fit, modelled, observe
from mapping.characterization.testing import ports
from mapping.characterization.windows import Window, pruned, segments
from mapping.energy.features import Totals, accumulator_totals, unpack

LOWBIT = EVERY.core("npu_lb")
NETWORK, COLUMN, CYCLES = "ds_cnn", 16, 40


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
    energies = fit(observed, IDLE, NAMES)
    assert list(energies) == list(NAMES)
    for name, values in true.items():
        assert energies[name] == pytest.approx(values, rel=1e-6), name
    np.testing.assert_allclose(modelled(observed, IDLE, energies), observed.energy_pj, rtol=1e-9)


def test_nothing_takes_less_than_nothing_but_features_that_may_and_what_never_happens_takes_nothing() -> None:
    true = {
        "column_beat": (-0.5, 2.0, -1.0), "tile_swap": (10.0, -20.0, 10.0), "mac.a": (0.05, 0.05, -0.05),
        FREE[-1]: (-0.01, -0.01, -0.01),
    }  # fmt: skip
    totals = [item | {"mac.c": 0.0} for item in random_totals(40)]
    energies = fit(observed_of(totals, true, cycles=500), IDLE, (*NAMES, "mac.c"))
    for name in ("column_beat", "tile_swap", "mac.a"):
        assert energies[name].min() == 0, name
        assert all(energies[name][k] == 0 for k, value in enumerate(true[name]) if value < 0), name
    assert energies[FREE[-1]].max() < 0
    assert energies["mac.c"].tolist() == [0, 0, 0]


def test_energy_before_a_window_is_not_the_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inputs = {"clk_i": 1, "swap_i": 1, "tile_i": 4, "mac_i": 1, "depthwise_i": 1, "operand_i": 4}
    netlist = ports(tmp_path / "n.json", inputs, {"sum_o": 6})
    names = (*inputs, "weight_q", "sum_o")
    stream = Stream("npu_column", 0, {name: (8, [0] * 9) for name in names})

    def energies(_: Gates, stimulus: Stimulus, delays: Delays) -> Floats:
        return 10.0 ** [*BOUNDS].index(delays) * np.arange(stimulus.cycles, dtype=np.float64)

    monkeypatch.setattr(Gates, "energies", energies)
    windows = [Window("a", stream, 2, 5), Window("b", stream, 6, 8)]
    with ThreadPoolExecutor(2) as pool:
        gates = Gates(netlist, library(), tmp_path)
        observation = observe(gates, windows, lambda w: {"x": float(w.begin)}, pool)
    assert observation.energy_pj.tolist() == [[9, 15], [90, 150], [900, 1500]]  # cycles 2 to 4, and 7 to 8
    assert observation.column("x").tolist() == [2, 6]
    assert observation.cycles.tolist() == [3, 2]


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
    paths = {"npu_acc_columns": f"i_compute.{accumulator_path(COLUMN)}"}
    for stream in (column, accumulator, lane):
        variants = by_module(blocks, stream.block)
        path = paths.get(stream.block, variants[0].paths[0])
        netlist = next(block for block in variants if path in block.paths).netlist(library())
        parts[stream.block] = (Window(layer, stream, begin, begin + CYCLES), netlist)
    return Recorded(streams, parts)


PARTS = ("npu_column", "npu_acc_columns", "npu_requant_lane")


@pytest.mark.data
@pytest.mark.gates
@pytest.mark.rtl
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


@pytest.mark.data
@pytest.mark.gates
@pytest.mark.rtl
def test_a_recorded_columns_sums_are_the_products_of_what_it_was_given(recorded: Recorded) -> None:
    signals = recorded.streams.columns[0].signals
    operands = unpack(signals["operand_i"][1], signals["operand_i"][0], LOWBIT.a_bits)
    weights = unpack(signals["weight_q"][1], signals["weight_q"][0], LOWBIT.w_bits)
    width, sums = signals["sum_o"]
    kept = [t for t, mac in enumerate(signals["mac_i"][1][:-1]) if mac and not signals["depthwise_i"][1][t]]
    recorded_sums = unpack([sums[t + 1] for t in kept], width, width)[:, 0]
    assert len(kept) > 1000
    np.testing.assert_array_equal(recorded_sums, (operands[kept] * weights[kept]).sum(axis=1))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.data
@pytest.mark.gates
@pytest.mark.rtl
def test_a_real_window_replayed_on_gates_does_what_the_rtl_does(
    part: str, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, netlist = recorded.parts[part]
    folder = tmp_path / "kept"
    gates = Gates(netlist, library(), folder)
    joined = segments([window], netlist)
    compared = sum(value is not None for values in joined.stimulus.expected.values() for value in values)
    assert compared > CYCLES // 3  # a lane drains a stripe of 16 pixels, at least
    energy = gates.energies(joined.stimulus, "cells")
    assert energy.shape == (joined.stimulus.cycles,)
    ((begin, end),) = joined.spans
    clock = gates.clock_pj()
    assert energy.min() >= clock * (1 - 1e-6) > 0
    # accumulators are mostly registers, whose clocks this library does not gate
    assert energy[begin:end].sum() > (1.05 if part == "npu_acc_columns" else 1.2) * clock * CYCLES

    def refuse(*_: object) -> None:
        raise AssertionError("a simulation was run")

    monkeypatch.setattr(replays, "replay", refuse)
    np.testing.assert_array_equal(gates.energies(joined.stimulus, "cells"), energy)
    with pytest.raises(AssertionError, match="a simulation was run"):
        gates.energies(joined.stimulus, "wires")
    name, (width, values) = next(iter(joined.stimulus.inputs.items()))
    changed = {**joined.stimulus.inputs, name: (width, [int(values[0]) ^ 1, *values[1:]])}
    with pytest.raises(AssertionError, match="a simulation was run"):
        gates.energies(replace(joined.stimulus, inputs=changed), "cells")
    other = tmp_path / "netlist.json"
    other.write_text(netlist.path.read_text() + "\n")
    with pytest.raises(AssertionError, match="a simulation was run"):
        Gates(replace(netlist, path=other), library(), folder).energies(joined.stimulus, "cells")
    assert [file.suffix for file in folder.iterdir()] == [".npy"]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.gates
@pytest.mark.rtl
def test_glitches_and_wires_add_to_the_energy_of_a_real_window(recorded: Recorded, tmp_path: Path) -> None:
    window, netlist = recorded.parts["npu_acc_columns"]
    gates = Gates(netlist, library(), tmp_path)
    with ThreadPoolExecutor(1) as pool:
        observation = observe(
            gates, [window], lambda w: accumulator_totals(w.stream.signals, w.begin, w.end, ACC_COLUMNS), pool
        )
    (lower,), (value,), (upper,) = observation.energy_pj
    assert lower < value < upper
    assert gates.clock_pj() < gates.clock_pj(wires=True)
    assert observation.column("accumulate")[0] > 0


@pytest.mark.data
@pytest.mark.gates
@pytest.mark.rtl
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
        pytest.param("npu_acc_columns", "drain_o", crossed, marks=pytest.mark.slow),
        ("npu_requant_lane", "data_o", other_gate),
    ],
)
@pytest.mark.data
@pytest.mark.gates
@pytest.mark.rtl
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


@pytest.mark.data
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
