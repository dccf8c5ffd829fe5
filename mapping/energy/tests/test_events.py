# SPDX-License-Identifier: Apache-2.0
"""Events from the command lists are what the RTL does: its counters, and its enables cycle by cycle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

from common.arrays import Int64
from common.testing import data_dir, require
from golden.importers.models import load_model
from golden.layer import WEIGHTED_OPS
from golden.network import Network
from golden.quantize.weights import quantize_weights
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_layer
from mapping.compiler.program import Program
from mapping.energy import events as module
from mapping.energy.events import Events, command_events, events
from mapping.run.layers import job_of
from mapping.run.networks import compile_network, run_inputs
from mapping.run.random_layers import OPERATORS, random_layer
from mapping.search.costs import NetworkCosts
from tb.session import Session
from tb.vcd import read_trace

CONFIG = System()


def total(program: Program, unit: str) -> Events:
    return sum((item for key, item in events(program, CONFIG).items() if key[1] == unit), Events())


# --------------------------------------------------------------------------------- the RTL's enables, counted
@dataclass(frozen=True)
class Scopes:
    """Paths of the modules of a unit whose enables are counted."""

    counters: str
    array: str
    scratchpad: str
    requantiser: str
    weights: str
    parameters: str
    slices: Sequence[str]

    @classmethod
    def of(cls, core: CoreConfig) -> Scopes:
        unit = f"tb_top.u_soc.gen_core[{CONFIG.index(core.name)}].i_core"
        slices = [f"{unit}.i_compute.gen_acc[{s}].i_acc" for s in range(core.columns // 16)]
        return cls(
            f"{unit}.i_counters", f"{unit}.i_compute.i_array", f"{unit}.i_act_spm",
            f"{unit}.i_compute.i_requant", f"{unit}.i_weight_spm", f"{unit}.i_param_spm", slices,
        )  # fmt: skip

    @property
    def all(self) -> list[str]:
        memories = [self.scratchpad, self.weights, self.parameters]
        return [self.counters, self.array, self.requantiser, *memories, *self.slices]


def counted(path: Path, core: CoreConfig) -> dict[str, int]:
    """Return the events of a unit in a trace of the whole system."""
    scopes = Scopes.of(core)
    array, spm = scopes.array, scopes.scratchpad
    trace = read_trace(path, scopes.all)

    def total_of(scope: str, name: str) -> int:
        return int(now(scope, name).sum())

    def now(scope: str, name: str) -> Int64:
        return np.array(trace.scope(scope)[name][1], np.int64)

    def many(scope: str, name: str) -> Int64:
        return np.array([value.bit_count() for value in trace.scope(scope)[name][1]], np.int64)

    def go(scope: str, valid: str, ready: str) -> int:
        return int((now(scope, valid) & now(scope, ready)).sum())

    def written(scope: str) -> int:
        taken = now(scope, "write_valid_i") & now(scope, "write_ready_o")
        return int((taken * many(scope, "we_i")).sum())

    # columns that see a word; it is there in the cycle behind the shift
    columns = np.where(now(array, "depthwise_i"), many(array, "tap_mask_i"), 16 * many(array, "slice_i"))
    return {
        "array_beats": total_of(array, "mac_i"),
        "column_beats": int((now(array, "mac_i") * columns).sum()),
        "operand_words": total_of(array, "shift_i"),
        "seen_words": int((now(array, "shift_i")[:-1] * columns[1:]).sum()),
        "column_swaps": 16 * int(many(array, "swap_i").sum()),
        "weight_words": total_of(scopes.weights, "re_i"),
        "shadow_words": total_of(array, "word_valid_i"),
        "operand_reads": go(spm, "op_valid_i", "op_ready_o"),
        "accumulations": 16 * sum(total_of(item, "add_i") for item in scopes.slices),
        "accumulator_reads": 16
        * sum(int((now(item, "read_i") & ~now(item, "first_i")).sum()) for item in scopes.slices),
        "drain_reads": 16 * sum(total_of(item, "drain_i") for item in scopes.slices),
        "requantised": core.lanes * total_of(scopes.requantiser, "valid_i"),
        "result_words": total_of(spm, "res_we_i"),
        "parameter_reads": total_of(scopes.parameters, "re_i"),
        "activation_loads": go(spm, "load_valid_i", "load_ready_o"),
        "weight_loads": written(scopes.weights),
        "parameter_loads": written(scopes.parameters),
        "stores": go(spm, "store_valid_i", "store_ready_o"),
        "reads": total_of(scopes.counters, "read_beat_i"),
        "writes": total_of(scopes.counters, "write_beat_i"),
    }


@pytest.fixture(scope="module")
def recording() -> Iterator[Session]:
    with Session(CONFIG, "record") as session:
        yield session


@pytest.mark.parametrize("core", [NPU8, NPU_LB], ids=lambda core: core.name)
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.rtl
def test_every_event_is_an_enable_of_the_rtl(
    op: str, core: CoreConfig, recording: Session, tmp_path: Path
) -> None:
    for seed in (1, 2, 3, 4):
        program = compile_layer(random_layer(seed, core, op), core)
        waves = tmp_path / f"{seed}.vcd"
        job = replace(job_of(program), waves=waves, wave_scopes=Scopes.of(core).all)
        result = recording.run(job)
        assert result.ok
        measured = counted(waves, core)
        waves.unlink()
        expected = total(program.program, core.name)
        assert measured.pop("shadow_words") == expected.weight_words
        assert (
            measured.pop("reads") == expected.bus_words - expected.stores - expected.marks + expected.fetches
        )
        assert measured.pop("writes") == expected.stores + expected.marks
        seen = core.rows * measured.pop("seen_words")
        assert expected.macs_useful + expected.macs_padding + expected.macs_between == seen
        assert expected.macs_between == 0 or op == "depthwise_conv2d"
        assert measured == {name: getattr(expected, name) for name in measured}, (op, core.name, seed)
        assert set(measured) == {item.name for item in fields(Events)} - {
            "macs_useful", "macs_padding", "macs_between", "vector_words", "marks", "fetches", "commands"
        }  # fmt: skip
        if expected.array_beats:
            assert expected.macs_useful == result.units[core.name].counters["macs_useful"]
        assert expected.commands == len(program.program.lists[core.name])


# --------------------------------------------------------------------------------------- counters of networks
def split(network: Network) -> Mapping[str, ChannelAssignment]:
    """About half of each layer's channels on each unit."""
    costs = NetworkCosts(network, CONFIG, lambda _: 0.0)
    return costs.mapping(tuple((total - total // 2, total // 2) for total in costs.totals))


@pytest.fixture(scope="module")
def network() -> Network:
    """A network whose channels fit the units of `split`."""
    original = load_model(require(data_dir() / "models" / "pretrainedResnet_quant.tflite"))
    bits = np.array([core.w_bits for core in CONFIG.cores])
    weighted = [node.name for node in original.nodes if node.op in WEIGHTED_OPS]
    units = split(original)
    return quantize_weights(original, {name: bits[units[name]] for name in weighted})[0]


@pytest.mark.parametrize("observe", [False, True], ids=["plain", "all stored"])
@pytest.mark.data
def test_a_networks_events_are_those_of_the_hardwares_counters(
    pair: Session, network: Network, observe: bool
) -> None:
    program = compile_network(network, CONFIG, split(network), observe=observe)
    (run,) = run_inputs(pair, program, np.zeros((1, *network.input.shape), np.int8), "output")
    counted = events(program.program, CONFIG)
    assert {unit for _, unit in counted} == {"npu8", "npu_lb"}
    for unit, counters in run.counters.items():
        on_unit = total(program.program, unit)
        assert on_unit.macs_useful == counters["macs_useful"]
        assert on_unit.stores + on_unit.marks == counters["write_beats"]
        assert on_unit.bus_words - on_unit.stores - on_unit.marks + on_unit.fetches == counters["read_beats"]
        # busy cycles of the engine: its beats, and a few in which commands are finished
        beats = on_unit.operand_words + on_unit.vector_words
        assert beats <= counters["compute_run"] <= beats + 4 * on_unit.commands
    assert sum(item.macs_useful for item in counted.values()) == network.macs
    beats = sum(each["read_beats"] + each["write_beats"] for each in run.counters.values())
    assert sum(item.external_bytes for item in counted.values()) == 16 * beats


@pytest.mark.data
@pytest.mark.rtl
def test_the_parts_of_the_compilers_report_agree(network: Network) -> None:
    program = compile_network(network, CONFIG, split(network)).program
    counted = events(program, CONFIG)
    assert set(counted) == {(part.layer, part.unit) for part in program.parts}
    for part in program.parts:
        of_part = counted[part.layer, part.unit]
        assert of_part.macs_useful == part.macs
        assert (
            16 * (of_part.activation_loads + of_part.weight_loads + of_part.parameter_loads)
            == part.load_bytes
        )
        assert 16 * of_part.stores == part.store_bytes
        control = [
            entry
            for entry in program.lists[part.unit]
            if entry.name in ("signal", "wait") and program.graph.ops[entry.layer].name == part.layer
        ]
        assert of_part.commands == part.commands + len(control)
        assert of_part.marks == 1


# ---------------------------------------------------------------------------------------------------- by hand
def fields_of(**changed: int) -> dict[str, int]:
    return {
        "in_height": 4, "in_width": 4, "in_channels": 16, "kernel_h": 1, "kernel_w": 1, "stride_h": 1,
        "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "in_row": 0, "in_column": 0, "out_width": 4,
        "out_pixels": 16, "stripe_pixels": 16, "out_channels": 16,
    } | changed  # fmt: skip


def picked(counts: Events, *names: str) -> list[int]:
    return [getattr(counts, name) for name in names]


BEATS = ("array_beats", "operand_words", "operand_reads", "column_swaps", "weight_words")
SUMS = ("accumulator_reads", "accumulations", "drain_reads", "requantised", "result_words")
MACS = ("macs_useful", "macs_padding", "macs_between")


def test_a_convolution_counted_by_hand() -> None:
    """3 x 3 with padding 1 on 4 x 4, 20 channels in and 40 out, stripes of 10 pixels."""
    given = fields_of(
        kernel_h=3, kernel_w=3, in_row=-1, in_column=-1, in_channels=20, out_channels=40, stripe_pixels=10
    )
    one = command_events("conv", given, NPU8)  # 3 blocks of columns, 2 planes, 9 taps: 54 passes, 2 stripes
    assert picked(one, *BEATS) == [54 * 16, 54 * 16, 6 * 100, 108 * 16, 108 * 8]
    assert picked(one, *SUMS) == [51 * 16 * 16, 54 * 16 * 16, 48 * 16, 48 * 16, 48]
    assert one.macs_useful == 16 * 9 * 20 * 40
    assert one.macs_useful + one.macs_padding == 54 * 16 * 256
    assert one.parameter_reads == 3 * 9  # the second stripe of a block takes those that are there
    # a block of 2 slices of columns and one of 1, a plane of 32 rows: 9 passes of each block, 2 stripes
    low = command_events("conv", given, NPU_LB)
    assert picked(low, *BEATS) == [18 * 16, 18 * 16, 2 * 100, 9 * 2 * 48, 36 * 8]
    assert low.column_beats == 9 * 16 * 48
    assert picked(low, *SUMS) == [8 * 16 * 48, 9 * 16 * 48, 16 * 48, 16 * 48, 48]
    assert picked(low, *MACS) == [16 * 9 * 20 * 40, 9 * 16 * 48 * 32 - 16 * 9 * 20 * 40, 0]
    assert low.parameter_reads == (2 * 2 + 1) * 9  # of two groups they are read for each stripe


def test_columns_without_channels_rest() -> None:
    """1 x 1 over 16 pixels: as many channels as are in a slice of 16 take as much on one slice as on four."""
    wide = CoreConfig("wide", w_bits=2, rows=16, cols=64)
    for channels, slices in ((16, 1), (17, 2), (48, 3), (64, 4), (80, 5)):
        one = command_events("conv", fields_of(out_channels=channels), wide)
        names = ("column_beats", "column_swaps", "accumulations", "drain_reads")
        assert picked(one, *names) == [256 * slices, 16 * slices, 256 * slices, 256 * slices]


def test_sums_that_stay_are_not_drained_and_those_that_go_on_are_read() -> None:
    kept = command_events("conv", fields_of(keep=1), NPU8)
    assert picked(kept, *SUMS) == [0, 16 * 16, 0, 0, 0]
    assert kept.parameter_reads == 0
    added = command_events("conv", fields_of(accumulate=1), NPU8)
    assert picked(added, *SUMS) == [256, 256, 256, 256, 16]


def test_a_depthwise_layer_counted_by_hand() -> None:
    """3 x 3 over 4 x 4 with padding: sliding, 17 words for each kernel row, those outside are not read."""
    given = fields_of(
        kernel_h=3, kernel_w=3, in_row=-1, in_column=-1, slide=1, row_advance=1, out_channels=20
    )
    one = command_events("depthwise", given, NPU8)
    # the row above: 4 words of padding, then 13; the middle: 16, and one of the row below the last; below: 12
    assert picked(one, *BEATS) == [2 * 3 * 16, 2 * 3 * 17, 2 * (13 + 16 + 12), 6 * 16, 2 * 3 * 2]
    assert one.column_beats == 2 * 9 * 16
    # three columns see each word; the 17th is between beats, and 12 of the 32 rows have no channel
    assert picked(one, *MACS) == [9 * 16 * 20, 9 * 17 * 12, 9 * 20]
    apart = command_events("depthwise", given | {"slide": 0}, NPU8)
    assert picked(apart, *BEATS) == [2 * 9 * 16, 2 * 9 * 16, 2 * 100, 18 * 16, 18]
    assert picked(apart, *SUMS) == [2 * 8 * 16 * 16, 2 * 9 * 16 * 16, 2 * 16 * 16, 2 * 16 * 16, 2 * 16]
    assert picked(apart, *MACS) == [9 * 16 * 20, 9 * 16 * 12, 0]
    low = command_events("depthwise", given, NPU_LB)  # a block of 32 rows, of which two slices have channels
    assert picked(low, *BEATS) == [3 * 16, 3 * 17, 13 + 16 + 12, 3 * 16, 3]
    assert picked(low, *SUMS) == [2 * 16 * 32, 3 * 16 * 32, 2 * 16 * 16, 2 * 16 * 16, 2 * 16]


def test_vector_operators_counted_by_hand() -> None:
    pool = command_events("max_pool", fields_of(kernel_h=2, kernel_w=2, in_row=-1, out_channels=32), NPU8)
    assert picked(pool, "array_beats", "vector_words", "macs_useful", "weight_words") == [0, 128, 0, 0]
    assert pool.operand_reads == 2 * (3 + 4) * (4 + 3)  # a row above is padding, a column at the right is
    assert picked(pool, *SUMS) == [96 * 16, 128 * 16, 32 * 16, 512, 32]
    added = command_events("add", {"out_pixels": 9, "stripe_pixels": 5, "out_channels": 20}, NPU8)
    assert picked(added, "vector_words", "operand_reads", "parameter_reads") == [36, 36, 18]
    assert picked(added, *SUMS) == [18 * 16, 36 * 16, 18 * 16, 18 * 16, 18]


def test_transfers_and_control_counted_by_hand() -> None:
    load = {"line_words": 3, "lines": 4, "planes": 2, "mem_address": 160}
    for target, name in enumerate(("activation_loads", "weight_loads", "parameter_loads")):
        counted = command_events("load", load | {"target": target}, NPU8)
        assert counted == replace(Events(fetches=4, commands=1), **{name: 24})
        assert (counted.bus_words, counted.external_bytes) == (24, 448)
    assert command_events("store", load, NPU8) == Events(stores=24, fetches=4, commands=1)
    assert command_events("mark", {"mem_address": 0}, NPU8) == Events(marks=1, fetches=4, commands=1)
    for name in ("signal", "wait"):
        assert command_events(name, {"event_id": 3}, NPU8) == Events(fetches=4, commands=1)


def test_taps_inside_the_input_are_counted_like_one_by_one() -> None:
    rng = np.random.default_rng(7)

    def draw(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    for _ in range(300):
        given = fields_of(
            in_height=draw(1, 7), in_width=draw(1, 7), kernel_h=draw(1, 5), kernel_w=draw(1, 5),
            stride_h=draw(1, 4), stride_w=draw(1, 4), dilation_h=draw(1, 3), dilation_w=draw(1, 3),
            in_row=draw(-3, 3), in_column=draw(-3, 3), out_width=draw(1, 6), out_pixels=draw(1, 30),
        )  # fmt: skip
        taps: Sequence[tuple[int, int]] = [
            (
                given["in_row"] + p // given["out_width"] * given["stride_h"] + y * given["dilation_h"],
                given["in_column"] + p % given["out_width"] * given["stride_w"] + x * given["dilation_w"],
            )
            for p in range(given["out_pixels"])
            for y in range(given["kernel_h"])
            for x in range(given["kernel_w"])
        ]
        expected = sum(0 <= y < given["in_height"] and 0 <= x < given["in_width"] for y, x in taps)
        assert module._inside(given) == expected, given


def test_events_add_up() -> None:
    one = Events(*range(1, 24))
    assert astuple(one + one) == tuple(range(2, 48, 2))
    assert one + Events() == one
