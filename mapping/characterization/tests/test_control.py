# SPDX-License-Identifier: Apache-2.0
"""Gated clocks of a recorded run: as many pulses as there are events; what they take, explained by events."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from common.arrays import Int64
from common.errors import GatesError
from gates.blocks import Block, Pin, blocks_of
from gates.liberty import Library
from hw.system import System
from mapping.characterization.area import group_of, library_named
from mapping.characterization.control import (
    ACCUMULATION,
    BEAT,
    BUSY,
    COMMAND,
    RESET_CYCLES,
    RESULT,
    SIGNAL_PATHS,
    WORD,
    Control,
    GatedClock,
    UnseenError,
    all_gated_clocks,
    control_of,
    energy_of,
    events_of,
    explained,
    gated_clocks,
    module_paths,
    stimulus_of,
)
from mapping.characterization.energy import EVERY, REPLAYED
from mapping.characterization.recording import CORE, Signals, accumulator_path, column_path
from mapping.characterization.testing import ports
from mapping.compiler.compile import compile_layer
from mapping.energy.events import Events, events
from mapping.run.layers import job_of
from mapping.run.random_layers import random_layer
from tb.session import Session
from tb.vcd import read_trace

UNIT = EVERY.core("npu_lb")
LIBRARY = "sky130"
COLUMNS = tuple(range(8, UNIT.columns, 16))
"""A column of each slice of 16."""
OPERANDS, WORD_0 = (
    f"i_compute.i_array.gen_structural.i_form.{name}" for name in ("i_operands", "gen_word[0].i_word")
)
ARRAY_COLUMNS, ACCUMULATORS = (
    tuple(f"i_compute.{path(column)}" for column in COLUMNS) for path in (column_path, accumulator_path)
)
SEED = 31
"""Of a convolution of 48 channels: a block of both slices of columns, and one in which the second rests."""

LEAVES = {
    **dict.fromkeys(ARRAY_COLUMNS, ("mac_i", "swap_i")),
    OPERANDS: ("shift_i", "shift_i and slide_i"),
    WORD_0: ("write_i",),
}
"""Instances of blocks whose registers have an enable at a port, or two of them."""


@dataclass(frozen=True)
class Run:
    """A layer that ran on the unit from reset on: its events, and the signals of modules by their paths."""

    counts: Events
    modules: Mapping[str, Signals]
    cycles: int


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return blocks_of(UNIT)


def ran(paths: list[str]) -> Run:
    """Run a convolution with the signals of modules recorded."""
    config = System((UNIT,))
    program = compile_layer(random_layer(SEED, UNIT, "conv2d"), UNIT)
    scopes = {path: f"{CORE}.{path}".rstrip(".") for path in paths}
    with tempfile.TemporaryDirectory() as folder, Session(config, "record", structural=True) as session:
        waves = Path(folder) / "run.vcd"
        result = session.run(replace(job_of(program), waves=waves, wave_scopes=list(scopes.values())))
        assert result.ok
        trace = read_trace(waves, list(scopes.values()))
    counts = sum((item for item in events(program.program, config).values()), Events())
    return Run(counts, {path: trace.scope(scope) for path, scope in scopes.items()}, trace.cycles)


@pytest.fixture(scope="module")
def leaves(blocks: list[Block]) -> Run:
    fifo = "i_fetch.i_ahead"
    words = [path for block in blocks if block.module == "npu_tile_word" for path in block.paths]
    return ran(list(dict.fromkeys([*LEAVES, *ACCUMULATORS, *words, fifo])))


def of_path(blocks: list[Block], path: str) -> Block:
    (block,) = (block for block in blocks if path in block.paths)
    return block


def clocks_of(blocks: list[Block], path: str, run: Run, folder: Path) -> list[GatedClock]:
    return gated_clocks(of_path(blocks, path), path, library_named(LIBRARY), run.modules, run.cycles, folder)


def enabled(run: Run, path: str, name: str) -> Int64:
    """Return in which cycles a port, or each of two, is up; the register opens at its end."""
    ports = [np.array(run.modules[path][port][1], np.int64) for port in name.split(" and ")]
    both: Int64 = np.bitwise_and.reduce(ports)
    return both


@pytest.mark.parametrize("path", LEAVES)
@pytest.mark.gates
@pytest.mark.rtl
def test_every_gated_clock_has_as_many_pulses_as_its_enable(
    path: str, blocks: list[Block], leaves: Run, tmp_path: Path
) -> None:
    clocks = clocks_of(blocks, path, leaves, tmp_path)
    block = of_path(blocks, path)
    assert sum(len(clock.flops) for clock in clocks) == block.synthesize(library_named(LIBRARY)).flops
    ports = {name: enabled(leaves, path, name).tolist() for name in LEAVES[path]}
    seen = set()
    for clock in clocks:
        # a register takes over in a cycle's edge what stood before it: the pulse comes one cycle later
        (port,) = (name for name, values in ports.items() if clock.pulses[1:].tolist() == values[:-1])
        seen.add(port)
    assert seen == set(ports)


@pytest.mark.gates
@pytest.mark.rtl
@pytest.mark.slow
def test_the_words_of_accumulators_open_one_by_one_and_what_is_read_bank_by_bank(
    blocks: list[Block], leaves: Run, tmp_path: Path
) -> None:
    library = library_named(LIBRARY)
    for path in ACCUMULATORS:
        clocks = clocks_of(blocks, path, leaves, tmp_path)
        assert sum(len(clock.flops) for clock in clocks) == of_path(blocks, path).synthesize(library).flops
        read, add = (np.array(leaves.modules[path][name][1], np.int64) for name in ("read_i", "add_i"))
        banks = [(read >> bank & 1)[:-1].tolist() for bank in (0, 1)]
        of_bank = {bank: [c for c in clocks if c.pulses[1:].tolist() == banks[bank]] for bank in (0, 1)}
        words = [c for c in clocks if all(c not in found for found in of_bank.values())]
        width = leaves.modules[path]["value_i"][0]  # of a word; large groups of registers have several gates
        for found in of_bank.values():
            assert sum(len(clock.flops) for clock in found) == width
        assert sum(len(clock.flops) for clock in words) == 2 * UNIT.stripe_depth * width
        # of all words one opens in each cycle behind an addition
        opened = sum((len(clock.flops) * clock.pulses for clock in words), np.zeros(leaves.cycles, np.int64))
        assert (opened[1:] == width * add[:-1]).all()
        assert add.any()
        assert all(any(values) for values in banks)


@pytest.mark.gates
@pytest.mark.rtl
def test_the_enables_of_all_slices_are_the_events(leaves: Run) -> None:
    def times(paths: tuple[str, ...], name: str) -> int:
        return 16 * sum(int(np.bitwise_count(enabled(leaves, path, name)).sum()) for path in paths)

    counts = leaves.counts
    assert times(ARRAY_COLUMNS, "mac_i") == counts.column_beats > 0
    assert times(ARRAY_COLUMNS, "swap_i") == counts.column_swaps > 0
    assert times(ACCUMULATORS, "add_i") == counts.accumulations > 0
    assert times(ACCUMULATORS, "read_i") == counts.accumulator_reads + counts.drain_reads > 0
    assert int(enabled(leaves, OPERANDS, "shift_i").sum()) == counts.operand_words > 0


@pytest.mark.gates
@pytest.mark.rtl
def test_words_of_the_tile_and_entries_of_a_queue_open_as_often_as_the_events_say(
    blocks: list[Block], leaves: Run, tmp_path: Path
) -> None:
    words = [path for path in leaves.modules if path.endswith(".i_word")]
    first = [clocks_of(blocks, path, leaves, tmp_path)[0] for path in words]
    assert len(words) == UNIT.rows * UNIT.columns * UNIT.w_bits // 256
    assert sum(int(clock.pulses.sum()) for clock in first) == leaves.counts.weight_words > 0
    queue = clocks_of(blocks, "i_fetch.i_ahead", leaves, tmp_path)
    flops = sum(len(clock.flops) * int(clock.pulses.sum()) for clock in queue if len(clock.flops) > 8)
    assert flops == 512 * leaves.counts.commands > 0


@pytest.mark.slow
@pytest.mark.gates
@pytest.mark.rtl
def test_all_gated_clocks_of_a_unit_are_right_in_a_whole_run(blocks: list[Block], tmp_path: Path) -> None:
    library = library_named(LIBRARY)
    others = [block for block in blocks if block.module not in REPLAYED]
    paths = list(dict.fromkeys([*module_paths(others, library), *LEAVES, *SIGNAL_PATHS]))
    run = ran(paths)
    with ThreadPoolExecutor(2) as pool:
        clocks = all_gated_clocks(others, library, run.modules, run.cycles, pool, tmp_path)
    assert len(clocks) > 100
    happened = events_of(run.modules, run.cycles)
    counts = run.counts
    assert happened[COMMAND].sum() == counts.commands
    assert happened[WORD].sum() == counts.operand_words
    assert happened[RESULT].sum() == counts.result_words
    assert happened[ACCUMULATION].sum() == counts.accumulations
    assert happened[BEAT].sum() == counts.bus_words
    groups = {(block.name, path): group_of(path) for block in others for path in block.paths}
    result = control_of(clocks, groups, happened)
    assert result.error < 0.5
    assert 0 < result.share < 0.2


# -------------------------------------------------------------------------------------------------- by hand
CYCLES = 1000


def clock(energy: float, pulses: Int64, flops: int = 8, path: str = "i_fetch") -> GatedClock:
    return GatedClock("b.0", path, "g", ("f",) * flops, np.array([1.0, 1.0, 2.0]) * energy, pulses)


@pytest.fixture
def happened() -> dict[str, Int64]:
    rng = np.random.default_rng(1)
    names = (COMMAND, WORD, RESULT, BEAT)
    return {
        BUSY: np.ones(CYCLES, np.int64),
        **{name: (rng.random(CYCLES) < rng.random(CYCLES)).astype(np.int64) for name in names},
        ACCUMULATION: 16 * (rng.random(CYCLES) < 0.5).astype(np.int64),
    }


def test_energies_of_gated_clocks_are_found_by_the_events_that_open_them(happened: dict[str, Int64]) -> None:
    clocks = [
        clock(0.5, happened[BUSY]), clock(3.0, happened[COMMAND]), clock(2.0, happened[WORD]),
        clock(1.0, happened[WORD]), clock(4.0, happened[RESULT]),
        clock(8.0, happened[ACCUMULATION] // 16, path="i_acc"),
    ]  # fmt: skip
    groups = {("b.0", "i_fetch"): "command queues", ("b.0", "i_acc"): "accumulators"}
    found: Control = control_of(clocks, groups, happened)
    expected = {BUSY: 0.5, COMMAND: 3.0, WORD: 3.0, RESULT: 4.0, BEAT: 0.0, ACCUMULATION: 0.5}
    assert set(found.energies) == set(expected)
    for name, pj in expected.items():
        assert found.energies[name] == pytest.approx([pj, pj, 2 * pj], abs=1e-9), name
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.clocks == 6
    shares = [float(item.pulses.mean()) for item in clocks]
    assert found.share == pytest.approx(np.mean(shares))


def test_energy_that_no_event_explains_shows_in_the_error(happened: dict[str, Int64]) -> None:
    odd = (np.arange(CYCLES) // 100 % 2).astype(np.int64)
    energy = energy_of([clock(1.0, odd)], CYCLES)
    assert energy[1].sum() == odd.sum()
    _, error = explained(energy, {COMMAND: happened[COMMAND]})
    assert error > 0.3


def test_a_port_that_was_not_recorded_is_named() -> None:
    modules: dict[str, Signals] = {"i_fetch": {"cmd_valid_o": (3, [0] * 4)}}
    with pytest.raises(GatesError, match=r"i_fetch\.cmd_ready_i was not recorded"):
        events_of(modules, 4)


class Glue(Block):
    """A block whose ports are two of its own and some bits of a module below it."""

    def pins(self, library: Library) -> dict[str, Pin]:
        del library
        return {
            "a_i": Pin("", "a_i", (0, 1, 2, 3)), "below.q_o.input": Pin("i_below", "q_o", (3, 0)),
            "y_o": Pin("", "y_o", (0, 1)),
        }  # fmt: skip


def test_ports_are_those_of_the_block_and_bits_of_modules_below_it(tmp_path: Path) -> None:
    block = Glue("glue.0", "glue", tmp_path, (), ("i_glue",))
    netlist = ports(tmp_path / "n.json", {"a_i": 4, "below.q_o.input": 2, "clk_i": 1}, {"y_o": 2})
    modules: dict[str, Signals] = {
        # an unpacked array: its first element is in the highest bits
        "i_glue": {"a_i[0]": (2, [1, 2, 3]), "a_i[1]": (2, [3, 0, 1]), "y_o": (2, [0, 1, 2])},
        "i_glue.i_below": {"q_o": (4, [0b1000, 0b0001, 0b0110])},
    }
    library = library_named("osu018")
    made = stimulus_of(block, "i_glue", netlist, library, modules, 3)
    lead = [None] * RESET_CYCLES
    assert made.inputs["a_i"] == (4, [7] * RESET_CYCLES + [7, 8, 13])
    assert made.inputs["below.q_o.input"] == (2, [1] * RESET_CYCLES + [0b01, 0b10, 0b00])
    assert (made.expected, made.clock) == ({"y_o": [*lead, 0, 1, 2]}, "clk_i")
    short = {**modules, "i_glue.i_below": {"q_o": (3, [0, 0, 0])}}
    with pytest.raises(GatesError, match=r"i_glue\.i_below\.q_o has 3 bits in the recording"):
        stimulus_of(block, "i_glue", netlist, library, short, 3)
    with pytest.raises(UnseenError, match=r"i_glue\.y_o was not recorded"):
        stimulus_of(block, "i_glue", netlist, library, {**modules, "i_glue": {"a_i": (4, [1, 2, 3])}}, 3)
    assert module_paths([block], library) == ["i_glue", "i_glue.i_below"]
