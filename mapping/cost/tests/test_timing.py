# SPDX-License-Identifier: Apache-2.0
"""What command lists take: sums of phases, in the order of the engines, slower where a phase is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from common.arrays import Floats
from hw.system import System
from mapping.calibration.design import random_shapes
from mapping.calibration.measurement import compile_shape
from mapping.compiler.compile import compile_graph
from mapping.compiler.emit import COMPUTE
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Program
from mapping.compiler.schedule import Entry
from mapping.cost import work
from mapping.cost.coefficients import NAMES, PHASES, TERM, named, starting_point
from mapping.cost.execution import Execution, Works
from mapping.cost.list_run import QUEUE, Events, ListRun
from mapping.cost.model import CostModel, shape_program
from mapping.cost.shapes import Shape
from mapping.cost.timeline import Timeline
from mapping.cost.timing import Timing, time_lists
from mapping.run.random_networks import random_network

CONFIG = System()
SHARED = "+".join(CONFIG.units)
PLACES = (*CONFIG.units, SHARED)
"""Each unit alone, and all together."""
QUICK = 15_000
"""Cycles of the longest list here."""
VALUES = ("pad_value", "out_zero_point", "shift1", "shift2", "multiplier1", "multiplier2", "zero_point1")
"""Fields that hold values of a layer, which the shape does not know."""


@functools.cache
def programs(place: str, count: int = 30, seed: int = 21) -> list[tuple[Shape, Program]]:
    """Random shapes that are quick to time."""
    units = place.split("+")
    shapes = random_shapes(CONFIG, units, count, seed, set(), f"{place}_{seed}")
    compiled = [(shape, shape_program(shape, units[0], CONFIG)) for shape in shapes]
    return [item for item in compiled if item[1].estimate < QUICK]


START = starting_point()


def same(values: Floats) -> dict[str, Floats]:
    return {core.name: values for core in CONFIG.cores}


def timed(lists: Mapping[str, Sequence[Entry]], values: Floats) -> Timing:
    return time_lists(lists, CONFIG.cores, same(values))


@functools.cache
def start_cycles(unit: str) -> tuple[float, ...]:
    """The cycles of all programs with the coefficients before calibration."""
    return tuple(timed(program.lists, START).cycles for _, program in programs(unit))


def changed(**values: float) -> Floats:
    coefficients = starting_point()
    for name, value in values.items():
        coefficients[TERM[name]] = value
    return coefficients


def test_every_phase_has_a_name_of_cycles_a_counter_and_a_place() -> None:
    assert len(set(NAMES)) == len(PHASES)
    assert all(name.endswith("_cycles") for name in NAMES)
    assert all(phase.start > 0 and phase.meaning for phase in PHASES)
    assert [TERM[name] for name in NAMES] == list(range(len(NAMES)))
    assert named(START) == {phase.name: phase.start for phase in PHASES}


@pytest.mark.parametrize("unit", PLACES)
def test_the_phases_of_the_chain_sum_to_the_cycles(unit: str) -> None:
    rng = np.random.default_rng(5)
    for shape, program in programs(unit):
        values = {core.name: starting_point() * rng.uniform(0, 2, len(NAMES)) for core in CONFIG.cores}
        timing = time_lists(program.lists, CONFIG.cores, values)
        total = sum(float(counts @ values[name]) for name, counts in timing.counts.items())
        assert total == pytest.approx(timing.cycles, rel=1e-9), shape
        assert all((counts >= 0).all() for counts in timing.counts.values()), shape
        assert set(timing.counts) >= set(program.lists)
        assert sum(counts[TERM["launch_cycles"]] for counts in timing.counts.values()) == 1


@pytest.mark.parametrize("unit", PLACES)
def test_engines_complete_their_commands_in_order_and_the_last_ends_all(unit: str) -> None:
    for shape, program in programs(unit):
        timing = timed(program.lists, START)
        assert timing.cycles == max(end for ends in timing.ends.values() for end in ends)
        for name, entries in program.lists.items():
            assert len(timing.ends[name]) == len(entries)
            for engine in range(3):
                pairs = zip(entries, timing.ends[name], strict=True)
                ends = [end for entry, end in pairs if entry.engine == engine]
                assert ends == sorted(ends), shape
                assert min(ends, default=1.0) > 0


@pytest.mark.parametrize("unit", PLACES)
def test_time_is_measured_in_its_coefficients(unit: str) -> None:
    """Were every phase three times as long, all would be: but for waits for banks, a share of an interval."""
    calm = changed(load_bank_cycles=0, store_bank_cycles=0)
    for shape, program in programs(unit):
        once, thrice = timed(program.lists, calm), timed(program.lists, 3 * calm)
        assert thrice.cycles == pytest.approx(3 * once.cycles, rel=1e-9), shape
        assert (timed(program.lists, np.zeros(len(NAMES)))).cycles == 0


@pytest.mark.parametrize("name", NAMES)
def test_no_longer_phase_makes_a_unit_faster(name: str) -> None:
    """Not so where it changes who asks the port first: units together, or a command asked for later."""
    slack = 1 if name == "queue_cycles" else 0
    slower = 0
    for unit in PLACES[:2]:
        for (shape, program), before in zip(programs(unit), start_cycles(unit), strict=True):
            after = timed(program.lists, changed(**{name: 3 * START[TERM[name]] + 1})).cycles
            assert after >= before * (1 - 1e-4) - slack, shape
            slower += after > before
    shared = ("stagger_cycles", "event_cycles")
    assert slower == 0 if name in shared else slower > 0


@pytest.mark.parametrize("unit", PLACES)
def test_a_slower_memory_takes_longer_everywhere(unit: str) -> None:
    slow = changed(load_latency_cycles=100, store_latency_cycles=100, fetch_cycles=100)
    half = changed(load_word_cycles=2, store_word_cycles=2)
    for shape, program in programs(unit):
        before = timed(program.lists, START).cycles
        assert timed(program.lists, slow).cycles > before + 150, shape  # a fetch, a load and a store at least
        assert timed(program.lists, half).cycles > before, shape


def test_two_units_that_share_a_layer_are_not_faster_than_either_alone_with_its_list() -> None:
    """Neither gives the other anything: they share the port, and the second starts later."""
    for shape, program in programs(SHARED):
        assert not any(e.name in ("wait", "signal") for entries in program.lists.values() for e in entries)
        both = timed(program.lists, START)
        for name, entries in program.lists.items():
            alone = timed({name: entries}, START)
            assert both.cycles >= alone.cycles, shape
            assert both.ends[name][-1] >= alone.ends[name][-1], shape


def test_the_second_unit_starts_the_stagger_later() -> None:
    (_, program), *_ = programs(SHARED)
    second = CONFIG.cores[1].name
    early, late = (timed(program.lists, changed(stagger_cycles=value)) for value in (0, 1e6))
    alone = timed({second: program.lists[second]}, START)
    assert late.ends[second][-1] == pytest.approx(1e6 + alone.ends[second][-1])
    assert early.cycles < late.cycles


@pytest.mark.parametrize("unit", PLACES)
def test_a_shapes_lists_are_those_of_its_measurement_but_for_values(unit: str) -> None:
    for shape, program in programs(unit):
        compiled = compile_shape(shape, unit, CONFIG)
        assert list(program.lists) == list(compiled.lists)
        for name, entries in program.lists.items():
            for entry, other in zip(entries, compiled.lists[name], strict=True):
                assert (entry.name, entry.engine, entry.layer) == (other.name, other.engine, other.layer)
                assert entry.fields.keys() == other.fields.keys()
                differ = {key for key, value in entry.fields.items() if other.fields[key] != value}
                assert differ <= set(VALUES), shape
        values = starting_point()
        assert timed(program.lists, values).cycles == timed(compiled.lists, values).cycles


def test_stripes_taken_together_take_what_single_ones_take(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [
        Shape("pixels", "conv2d", 16, 16, 80, 80, (3, 3), (1, 1), "same"),
        Shape("narrow", "conv2d", 16, 40, 60, 60, (1, 1), (1, 1), "same"),
        Shape("outputs", "fully_connected", 32, 4096, 1, 1),
        Shape("planes", "depthwise_conv2d", 1024, 1024, 2, 2, (3, 3), (2, 2), "same"),
        Shape("sums", "add", 1024, 1024, 2, 2),
    ]
    # large scratchpads and short stripes: commands with many equal stripes
    large = System(
        tuple(
            replace(core, act_kib=256, weight_kib=256, param_kib=64, stripe_depth=8) for core in CONFIG.cores
        )
    )
    lists = [shape_program(shape, unit, large).lists for shape in shapes for unit in large.units]
    together = [time_lists(item, large.cores, same(START)).cycles for item in lists]
    monkeypatch.setattr(work, "LONG", 1 << 30)
    single = [time_lists(item, large.cores, same(START)).cycles for item in lists]
    error = np.abs(np.array(together) / np.array(single) - 1)
    assert 0 < error.max() < 0.01


def test_phases_of_commands_in_a_row_are_those_counted_by_hand() -> None:
    """A load, an operator and a store that wait for each other, with commands that are there at once."""
    window = {"stripe_pixels": 4, "out_pixels": 4, "out_channels": 16, "kernel_h": 1, "kernel_w": 1}
    move = {"mem_address": 0, "lines": 1, "planes": 1, "line_words": 20}
    entries = [
        Entry("load", 0, {**move, "target": 0, "post_compute": 1}, 0),
        Entry("max_pool", 1, {**window, "param_base": 0, "wait_load": 1, "post_store": 1}, 0),
        Entry("store", 2, {**move, "wait_compute": 1}, 0),
    ]
    values = changed(fetch_cycles=0, queue_cycles=0, load_bank_cycles=0, store_bank_cycles=0)
    timing = timed({"npu8": entries}, values)
    counts = {name: count for name, count in named(timing.counts["npu8"]).items() if count}
    # the first command is there after its 4 words, when the third one's address is taken, 2 cycles after the
    # second's: the load's is a cycle later, and its last word is there a cycle after it was on the port;
    # parameters are read longer than the array works: 9 words and a cycle more
    assert counts == {
        "launch_cycles": 1, "load_latency_cycles": 1, "load_word_cycles": 2 + 2 + 1 + 20 + 1,
        "token_cycles": 2, "operator_cycles": 1, "drain_cycles": 10 + 4, "requant_cycles": 1,
        "store_start_cycles": 1, "store_word_cycles": 20, "store_latency_cycles": 1,
    }  # fmt: skip
    assert timing.ends["npu8"][2] == timing.cycles


def test_a_place_in_a_queue_is_free_in_the_cycle_after_a_start() -> None:
    window = {"stripe_pixels": 16, "out_pixels": 512, "out_channels": 16, "kernel_h": 1, "kernel_w": 1}
    entries = [Entry("max_pool", 1, {**window, "param_base": 0}, 0)] * (QUEUE + 2)
    execution = Execution(CONFIG.cores[:1], Timeline(same(START), recording=False), Works(16))
    run = ListRun(CONFIG.cores[0], entries, 0.0, Events())
    execution.start(run)
    execution.settle()
    while ask := execution.next_ask():
        execution.serve(ask)
        execution.settle()
    started, dispatched = run.engines[1].started, run.engines[1].dispatched
    assert dispatched[QUEUE + 1] == started[1] + 2 > dispatched[QUEUE] + 100


def test_a_list_that_waits_for_what_never_comes_is_an_error() -> None:
    entries = [Entry("wait", 1, {"event_id": 3}, 0)]
    with pytest.raises(AssertionError, match="wait for each other"):
        timed({"npu8": entries}, START)


@pytest.mark.parametrize("order", [1, -1])
def test_a_wait_ends_after_the_other_units_signal(order: int) -> None:
    first, second = [core.name for core in CONFIG.cores][::order]
    move = {"lines": 1, "planes": 1, "line_words": 900, "target": 1}
    lists = {
        first: [Entry("load", 0, {"mem_address": 0, **move}, 0), Entry("signal", 0, {"event_id": 3}, 0)],
        second: [Entry("wait", 2, {"event_id": 3}, 0), Entry("mark", 2, {"mem_address": 0}, 0)],
    }
    timing = timed(lists, START)
    event = START[TERM["event_cycles"]]
    assert timing.ends[first][1] >= timing.ends[first][0] + event > 900
    assert timing.ends[second][0] == timing.ends[first][1] + event
    assert timing.counts[first][TERM["load_word_cycles"]] >= 900  # the other unit waits: the chain is here


def test_a_list_may_end_in_any_command() -> None:
    entries = [
        Entry("load", 0, {"mem_address": 0, "lines": 1, "planes": 1, "line_words": 9, "target": 1}, 0),
        Entry("signal", 0, {"event_id": 3}, 0),
    ]
    timing = timed({"npu8": entries}, START)
    assert timing.cycles == timing.ends["npu8"][1] == timing.ends["npu8"][0] + 2


def test_cycles_alone_are_those_with_their_path_and_what_is_kept_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last digit: points without a path, and operators whose work was known before."""
    model = CostModel(CONFIG)
    for seed in range(6):
        network, units, _ = random_network(seed, CONFIG.cores)
        program = compile_graph(legalise_network(network), CONFIG.cores, units, image_wanted=False)
        known = model.cycles(program)
        assert known == model.program(program).cycles
        with monkeypatch.context() as patch:
            patch.setattr(work, "_stripes", work._stripes.__wrapped__)
            patch.setattr(work, "_bursts_of", work._bursts_of.__wrapped__)
            assert model.cycles(program) == known


def test_fields_beside_the_work_change_nothing() -> None:
    network, units, _ = random_network(4, CONFIG.cores)
    program = compile_graph(legalise_network(network), CONFIG.cores, units, image_wanted=False)
    for unit, entries in program.lists.items():
        for entry in entries:
            if entry.engine == COMPUTE and entry.name not in ("wait", "signal"):
                core = CONFIG.core(unit)
                beside = entry.fields | {name: 1 + entry.fields.get(name, 0) for name in work.BESIDE}
                alone = {name: value for name, value in entry.fields.items() if name not in work.BESIDE}
                found = [
                    work._stripes.__wrapped__(entry.name, frozenset(fields.items()), core, work.LONG, 1)
                    for fields in (beside, alone)
                ]
                assert found[0] == found[1] == work.stripes(entry.name, entry.fields, core)
