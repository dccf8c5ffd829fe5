# SPDX-License-Identifier: Apache-2.0
"""The memory's port: addresses in turn, data in their order, words to store that wait beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from common.arrays import Floats
from hw.core import CoreConfig
from mapping.compiler.emit import LOAD, STORE
from mapping.compiler.schedule import Entry
from mapping.cost.banks import Losses
from mapping.cost.coefficients import TERM, starting_point
from mapping.cost.execution import COMMAND, FETCH, LATENCY, WORD, Execution, Works
from mapping.cost.list_run import Events, ListRun
from mapping.cost.timeline import Point, Term, Timeline

COMMAND_BEATS = 4
BURST = 16


def entry(name: str, words: int, *, target: int = 1, address: int = 0) -> Entry:
    fields = {"mem_address": address, "lines": 1, "planes": 1, "line_words": words, "target": target}
    return Entry(name, LOAD if name == "load" else STORE, fields, 0)


@dataclass(frozen=True)
class Burst:
    """A burst: of which unit, of which engine or a command, when its address was taken, and its last word."""

    unit: str
    number: int
    taken: float
    end: float

    @property
    def channel(self) -> int:
        return LOAD if self.number == COMMAND else self.number


class Recorded(Timeline):
    """Keeps the bursts, in the order in which their addresses were taken.

    A burst's points are made in a row: the next address, its first word, its last one, and that again where
    it waits for its bank.
    """

    def __init__(self, coefficients: Mapping[str, Floats]) -> None:
        super().__init__(coefficients)
        self.bursts: list[Burst] = []
        self.open = False

    def point(self, time: float, unit: str, before: float, terms: tuple[Term, ...]) -> Point:
        term, numbers = terms[0][0], {FETCH: COMMAND, LATENCY[LOAD]: LOAD, LATENCY[STORE]: STORE}
        if term in numbers:
            self.bursts.append(Burst(unit, numbers[term], float(before), math.inf))
            self.open = True
        elif (self.open or len(terms) == 2) and term == WORD[self.bursts[-1].channel]:
            self.bursts[-1] = replace(self.bursts[-1], end=float(time))
            self.open = False
        return super().point(time, unit, before, terms)


def served(*lists: Sequence[Entry], share: float = 0.0) -> list[Burst]:
    """Run lists on a unit each, which start together; `share` of all cycles their banks are busy."""
    cores = tuple(CoreConfig(f"u{i}") for i in range(len(lists)))
    values = starting_point()
    for name in ("fetch_cycles", "queue_cycles"):  # commands are there at once
        values[TERM[name]] = 0
    timeline, events = Recorded({core.name: values for core in cores}), Events()
    made = Execution(cores, timeline, Works(16))
    for core, entries in zip(cores, lists, strict=True):
        run = ListRun(core, entries, 0.0, events)
        run.array.work(0.0, 1e6, Losses(share * 1e6, 0.0))
        made.start(run)
    made.settle()
    while ask := made.next_ask():
        if made.serve(ask):
            made.settle()
    return timeline.bursts


def test_units_that_ask_at_once_are_served_in_turn() -> None:
    """From when the last one's first command has come until the first one has its eight bursts in flight."""
    bursts = served(*[[entry("load", 60 * BURST)]] * 3)
    units = [burst.unit for burst in bursts if 12 <= burst.taken < 20]
    assert units == ["u1", "u2", "u0", "u1", "u2", "u0", "u1", "u2"]


def test_one_address_is_taken_in_a_cycle_and_its_data_come_in_the_same_order() -> None:
    bursts = served(*[[entry("load", 4 * BURST), entry("store", 4 * BURST)]] * 4)
    for channel in (LOAD, STORE):
        own = [burst for burst in bursts if burst.channel == channel]
        assert len(own) == 4 * (4 + 2 * (channel == LOAD))
        assert all(after.taken >= before.taken + 1 for before, after in pairwise(own))
        assert all(after.end >= before.end + COMMAND_BEATS for before, after in pairwise(own))


def test_a_command_goes_before_the_loads_of_its_unit_that_wait() -> None:
    """With each command that comes the next is asked for, and the load's bursts; all share the addresses."""
    lists = [[entry("load", 8 * BURST)] * 6, [entry("load", 8 * BURST)]]
    own = [burst.number for burst in served(*lists) if burst.unit == "u0"]
    assert own[:9] == [COMMAND] * 3 + [LOAD, COMMAND] * 3
    assert own[9:15] == [LOAD] * 6


def test_commands_are_asked_for_in_every_other_cycle() -> None:
    bursts = served([entry("load", BURST)] * 4)
    assert [burst.taken for burst in bursts if burst.number == COMMAND] == [0, 2, 4, 6]


def test_words_to_store_wait_for_their_bank_beside_the_port_while_another_unit_has_it() -> None:
    """Alone, what the words wait makes the store so much longer; of two that alternate most does not show."""
    words = 8 * BURST

    def longer(count: int) -> float:
        lists = [[entry("store", words, target=0)]] * count
        return served(*lists, share=0.5)[-1].end - served(*lists)[-1].end

    assert longer(1) == pytest.approx(words)  # half of all cycles are lost
    assert longer(2) < words  # one unit's command comes first: its first bursts are in a row


def test_words_that_wait_for_their_bank_when_loaded_hold_the_port_for_all() -> None:
    lists = [[entry("load", 8 * BURST, target=0)]] * 2
    longer = served(*lists, share=0.5)[-1].end - served(*lists)[-1].end
    assert longer == pytest.approx(16 * BURST)  # half of all cycles are lost


def test_no_more_than_sixteen_writes_of_all_units_wait_for_their_data() -> None:
    stores = [burst for burst in served(*[[entry("store", 8 * BURST)]] * 4) if burst.number == STORE]
    assert len(stores) == 4 * 8
    assert all(late.taken >= early.end for early, late in zip(stores, stores[16:], strict=False))
    assert stores[15].taken < stores[0].end
