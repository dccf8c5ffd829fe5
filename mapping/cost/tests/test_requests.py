# SPDX-License-Identifier: Apache-2.0
"""Requests: alone and side by side they take what whole networks do; queues, releases and contention."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from common.errors import NpuloopError
from golden.importers.models import load_model
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.assignment import Assignment
from mapping.compiler.program import Program
from mapping.compiler.schedule import Entry
from mapping.cost.coefficients import NAMES, TERM, starting_point
from mapping.cost.model import CostModel
from mapping.cost.requests import Request, RequestClock, RequestTiming, time_requests
from mapping.cost.tables import TableError, table_path
from mapping.cost.tests.test_timing import PLACES, START, changed, programs, same
from mapping.cost.timing import time_lists
from mapping.run.networks import compile_network

PAIR = System()
BIG, LITTLE = PAIR.units
STAGGER = float(START[TERM["stagger_cycles"]])


@functools.cache
def digits(model: str, unit: str) -> Program:
    return compile_network(load_model(model), PAIR, Assignment(unit)).program


@functools.cache
def measured() -> Mapping[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return CostModel(PAIR).coefficients(PAIR.units)


def lists_of(unit: str) -> Mapping[str, Sequence[Entry]]:
    return digits("digits_int8" if unit == BIG else "digits_ternary", unit).lists


def serve(*requests: Request, recording: bool = True) -> tuple[RequestTiming, ...]:
    return time_requests(requests, PAIR.cores, measured(), recording=recording)


# ------------------------------------------------------------------------------------------ equal to today's
@pytest.mark.parametrize("place", PLACES)
def test_one_request_alone_takes_what_its_lists_take_to_the_last_bit(place: str) -> None:
    for shape, program in programs(place):
        before = time_lists(program.lists, PAIR.cores, same(START))
        (timing,) = time_requests([Request(program.lists)], PAIR.cores, same(START))
        assert (timing.start, timing.end) == (0.0, before.cycles), shape
        assert timing.path == before.path
        assert timing.ends == {unit: ends[-1] for unit, ends in before.ends.items()}


@pytest.mark.parametrize("unit", PAIR.units)
def test_a_network_alone_takes_what_the_cost_model_predicts(unit: str) -> None:
    coefficients = CostModel(PAIR).coefficients((unit,))
    program = digits("digits_int8" if unit == BIG else "digits_ternary", unit)
    (timing,) = time_requests([Request(program.lists)], PAIR.cores, coefficients)
    assert timing.end == CostModel(PAIR).program(program).cycles


def test_two_networks_on_two_units_take_what_their_lists_take_together() -> None:
    together = time_lists({**lists_of(BIG), **lists_of(LITTLE)}, PAIR.cores, measured())
    first, second = serve(Request(lists_of(BIG)), Request(lists_of(LITTLE)))
    assert (first.start, second.start) == (0.0, measured()[LITTLE][TERM["stagger_cycles"]])
    assert first.end == together.ends[BIG][-1]
    assert second.end == together.ends[LITTLE][-1]
    alone = time_lists(lists_of(BIG), PAIR.cores, measured()).cycles
    assert first.end > alone  # they meet on the port


def test_units_that_start_together_are_as_many_staggers_apart() -> None:
    cores = tuple(CoreConfig(f"unit_{i}") for i in range(5))
    coefficients = {core.name: starting_point() * 1.1 for core in cores}
    lists = digits("digits_int8", BIG).lists[BIG]
    together = time_lists({core.name: lists for core in cores}, cores, coefficients)
    timings = time_requests([Request({core.name: lists}) for core in cores], cores, coefficients)
    assert [timing.end for timing in timings] == [together.ends[core.name][-1] for core in cores]


def test_a_request_is_the_same_at_any_time() -> None:
    early, late = serve(Request(lists_of(BIG)), Request(lists_of(BIG), arrival=123_456.0))
    assert late.start == late.released == 123_456.0
    assert late.service == pytest.approx(early.service, rel=1e-12)
    assert late.path[0].begin == 123_456.0
    assert len(late.path) == len(early.path)


# --------------------------------------------------------------------------------------- queues and releases
def test_a_unit_serves_its_requests_one_after_the_other() -> None:
    timings = serve(*(Request(lists_of(BIG)) for _ in range(4)))
    for before, timing in pairwise(timings):
        assert timing.start == before.end
        assert timing.service == pytest.approx(timings[0].service, rel=1e-9)
    assert timings[0].released == timings[3].released == 0.0
    assert timings[3].path[0].begin == 0.0  # nobody rested since the first arrival
    assert len(timings[3].path) == 4 * len(timings[0].path)


def test_the_path_of_a_request_begins_at_the_last_arrival_that_held_it_up() -> None:
    long = serve(Request(lists_of(BIG)))[0].end
    timings = serve(*(Request(lists_of(BIG), arrival=at) for at in (0.0, 2 * long, 2.5 * long)))
    assert [timing.path[0].begin for timing in timings] == [0.0, 2 * long, 2 * long]
    for timing in timings:
        spent = sum(float(counts @ measured()[unit]) for unit, counts in timing.counts().items())
        assert timing.end == pytest.approx(timing.path[0].begin + spent, rel=1e-9)
        ends = [segment.begin for segment in timing.path[1:]]
        assert ends == pytest.approx([segment.end for segment in timing.path[:-1]], rel=1e-9)


def test_a_request_waits_for_those_that_it_comes_after() -> None:
    first, second = serve(Request(lists_of(BIG)), Request(lists_of(LITTLE), after=(0,)))
    assert second.released == second.start == first.end
    third = serve(Request(lists_of(BIG)), Request(lists_of(LITTLE), arrival=1e6, after=(0,)))[1]
    assert third.start == 1e6


def test_the_order_given_is_the_order_of_a_unit_whatever_the_arrivals() -> None:
    first, second = serve(Request(lists_of(BIG), arrival=5000.0), Request(lists_of(BIG)))
    assert first.start == 5000.0
    assert second.start == first.end


def test_a_request_on_several_units_waits_for_all_of_them() -> None:
    first_layer = digits("digits_ternary", BIG).graph.ops[0]
    half = first_layer.shape[2] // 2
    split = Assignment(BIG, layers={first_layer.name: {BIG: half, LITTLE: first_layer.shape[2] - half}})
    program = compile_network(load_model("digits_ternary"), PAIR, split).program
    assert set(program.lists) == set(PAIR.units)
    first, both, last = serve(Request(lists_of(LITTLE)), Request(program.lists), Request(lists_of(BIG)))
    assert both.start == first.end
    assert last.start == both.ends[BIG]
    assert both.end == max(both.ends.values())


def test_requests_that_wait_for_each_other_are_an_error() -> None:
    with pytest.raises(NpuloopError, match=r"requests \[0\] wait for each other"):
        serve(Request(lists_of(BIG), after=(1,)), Request(lists_of(BIG)))
    entries = [Entry("wait", 1, {"event_id": 3}, 0)]
    with pytest.raises(NpuloopError, match="npu8: the command lists wait for each other"):
        serve(Request({BIG: entries}))


def test_events_of_one_request_are_not_those_of_another() -> None:
    """The second request waits for its own signal, although the first has left one of the same event."""
    move = {"mem_address": 0, "lines": 1, "planes": 1, "line_words": 300, "target": 1}
    lists = {
        BIG: [Entry("load", 0, move, 0), *[Entry("signal", 0, {"event_id": 3}, 0)] * 2],
        LITTLE: [Entry("wait", 2, {"event_id": 3}, 0), Entry("mark", 2, {"mem_address": 0}, 0)],
    }
    first, second = serve(Request(lists), Request(lists))
    assert second.service == pytest.approx(first.service, rel=0.1)
    assert second.ends[LITTLE] > second.start + 300 > first.ends[BIG]


# ------------------------------------------------------------------------------------------------ contention
def test_requests_slow_each_other_down_only_while_they_overlap() -> None:
    alone = serve(Request(lists_of(LITTLE)))[0].service
    both = serve(Request(lists_of(BIG)), Request(lists_of(LITTLE)))[1].service
    apart = serve(Request(lists_of(BIG)), Request(lists_of(LITTLE), arrival=1e5))[1].service
    assert apart == pytest.approx(alone, rel=1e-9)
    assert both > alone


def test_without_paths_the_times_are_the_same() -> None:
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.exponential(1500, 30))
    units = rng.choice(PAIR.units, 30)
    requests = [Request(lists_of(unit), at) for unit, at in zip(units.tolist(), arrivals, strict=True)]
    recorded, plain = serve(*requests), serve(*requests, recording=False)
    assert [timing.end for timing in plain] == [timing.end for timing in recorded]
    assert {timing.path for timing in plain} == {()}
    for timing, arrival in zip(recorded, arrivals, strict=True):
        assert timing.start >= timing.released == arrival
        assert all(count.min() >= 0 for count in timing.counts().values())


# -------------------------------------------------------------------------------------------------- the clock
def test_time_does_not_go_on_beyond_what_is_asked_for() -> None:
    clock = RequestClock(PAIR.cores, measured())
    clock.start(0, lists_of(BIG), 0.0)
    assert clock.next_completion(100.0) is None
    clock.start(1, lists_of(LITTLE), 100.0)
    ends = [clock.next_completion(), clock.next_completion(), clock.next_completion(1e9)]
    assert ends[2] is None
    got = {item.request: (item.unit, item.end) for item in ends if item}
    first, second = time_requests(
        [Request(lists_of(BIG)), Request(lists_of(LITTLE), arrival=100.0)], PAIR.cores, measured()
    )
    assert got == {0: (BIG, first.end), 1: (LITTLE, second.end)}
    assert first.end > serve(Request(lists_of(BIG)))[0].end + 50  # the second request was in its way


def test_a_busy_unit_cannot_be_started() -> None:
    clock = RequestClock(PAIR.cores, measured())
    clock.start(0, lists_of(BIG), 0.0)
    with pytest.raises(AssertionError, match="npu8 is busy"):
        clock.start(1, lists_of(BIG), 1.0)


def test_banks_are_waited_for_when_the_array_works_beside_others() -> None:
    """Alone and where another unit delays its array: banks are busy when that works, whenever that is."""
    waits = changed(load_bank_cycles=100)
    lists = next(
        program.lists
        for _, program in programs(LITTLE)
        if time_lists(program.lists, PAIR.cores, same(waits)).counts[LITTLE][TERM["load_bank_cycles"]] > 10
    )
    move = {"mem_address": 0, "lines": 1, "planes": 1, "line_words": 4000, "target": 1}
    beside = Request({BIG: [Entry("load", 0, move, 0)]})

    def longer(*others: Request) -> float:
        requests = [*others, Request(lists)]
        return (
            time_requests(requests, PAIR.cores, same(waits))[-1].end
            - time_requests(requests, PAIR.cores, same(changed(load_bank_cycles=0)))[-1].end
        )

    assert longer() > 1000
    assert longer(beside) > 500


def test_systems_without_a_table_of_all_units_take_what_is_the_ports_from_others() -> None:
    twins = System((NPU8, CoreConfig("twin"), replace(NPU_LB, name="third", w_bits=4, rows=0, cols=None)))
    values = CostModel(twins).coefficients(twins.units)
    alone = CostModel(twins).table("npu8").coefficients
    differs = {name for name in NAMES if values["twin"][TERM[name]] != alone[TERM[name]]}
    assert differs <= {"stagger_cycles", "event_cycles"}
    assert (values["npu8"] == values["twin"]).all()
    for unit, coefficients in CostModel(PAIR).coefficients(PAIR.units).items():
        assert (coefficients == measured()[unit]).all()  # the pair has a table of its own


def test_a_port_without_tables_of_several_units_is_an_error(tmp_path: Path) -> None:
    for core in PAIR.cores:
        shutil.copy(table_path([core], PAIR), tmp_path)
    with pytest.raises(
        TableError, match=r"no cost table of these units together.*calibrate --unit npu8 --unit npu_lb"
    ):
        CostModel(PAIR, tmp_path).coefficients(PAIR.units)


def test_names_of_units_decide_nothing() -> None:
    cores = (CoreConfig("a"), replace(NPU_LB, name="b"))
    assert [core.key for core in cores] == [NPU8.key, NPU_LB.key]
    coefficients = {"a": measured()[BIG], "b": measured()[LITTLE]}
    requests = [Request({"a": lists_of(BIG)[BIG]}), Request({"b": lists_of(LITTLE)[LITTLE]})]
    renamed = time_requests(requests, cores, coefficients)
    kept = serve(Request(lists_of(BIG)), Request(lists_of(LITTLE)))
    assert [item.end for item in renamed] == [item.end for item in kept]
    assert len(NAMES) == len(coefficients["a"])
