# SPDX-License-Identifier: Apache-2.0
"""A replay that was killed goes on, and its rows are those of one that was not, in RTL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mapping.scheduling.arrivals import Cascade, Loop, Poisson
from mapping.scheduling.clocks import EXACT, FAST
from mapping.scheduling.journal import Journal, Row
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.rtl_replay import going_on, is_complete, measured, replay
from mapping.scheduling.simulate import Run, Served, Span, simulate
from mapping.scheduling.testing import digits, made_up, option, trace, workload
from mapping.scheduling.workload import Stream, Workload, WorkloadError, arrivals_of
from tb.session import Session

ROW = Row(3, (Span(10.0, {"a": 20.0, "b": 22.0}), Span(30.0, {"a": 31.0})), exact=True)


# ---------------------------------------------------------------------------------------------------- journal
def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    journal = Journal(path)
    assert journal.rows == {}
    failed = Row(4, (Span(1.0, {"a": 2.0}),), exact=False, failure="a: has not ended")
    for row in (ROW, failed):
        journal.add(row)
    assert Journal(path).rows == journal.rows == {3: ROW, 4: failed}
    again = Row(3, (Span(11.0, {"a": 21.0}),), exact=True)
    journal.add(again)
    assert Journal(path).rows[3] == again


def test_a_last_line_that_a_kill_has_cut_is_dropped_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path)
    journal.add(ROW)
    whole = path.read_bytes()
    for left in (1, len(whole) // 2, len(whole) - 1):
        for end in (b"", b"\n"):
            path.write_bytes(whole + whole[:left] + end)
            cut = Journal(path)
            assert cut.rows == {3: ROW}
            cut.add(Row(5, (Span(0.0, {"a": 1.0}),), exact=True))
            assert sorted(Journal(path).rows) == [3, 5]
    path.write_bytes(whole[:7])
    assert Journal(path).rows == {}
    assert path.read_bytes() == b""


def test_a_damaged_line_before_the_last_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.add(Row(number, (Span(0.0, {"a": 1.0}),), exact=True))
    path.write_text(path.read_text().replace('"number": 1', '"number": 7'))
    with pytest.raises(WorkloadError, match=r"rows\.jsonl, line 2: damaged; remove the folder, or choose"):
        Journal(path)


# ------------------------------------------------------------------------------------------- where it goes on
def predicted(load: Workload) -> Run:
    units = made_up("a b", option("x", "a", 100.0), option("y", "b", 100.0))
    return simulate(units, load, arrivals_of(load), SHIPPED["fifo"], FAST)


def rows_of(run: Run, count: int | None = None) -> dict[int, Row]:
    """What a measurement that is as predicted has, of the first requests in the order of their starts."""
    return {r.number: Row(r.number, r.spans, exact=True) for r in ordered(run)[:count]}


def ordered(run: Run) -> list[Served]:
    return sorted((r for r in run.requests if r.start is not None), key=lambda r: (r.start, r.number))


def test_a_replay_goes_on_where_everything_before_had_ended() -> None:
    times = [10_000 * (number // 2) + 50 * (number % 2) for number in range(40)]
    run = predicted(workload(trace("x", *times[0::2]), trace("y", *times[1::2])))
    order = ordered(run)
    assert going_on(run, order, {}) == (0, 0)
    assert going_on(run, order, rows_of(run, 2)) == (0, 2)
    assert going_on(run, order, rows_of(run, 3)) == (0, 2)  # the fourth starts before the third has ended
    assert going_on(run, order, rows_of(run, 21)) == (12, 20)
    holed = rows_of(run, 30)
    del holed[order[25].number]
    assert going_on(run, order, holed) == (16, 24)
    assert going_on(run, order, rows_of(run)) == (32, 40)


def test_measured_ends_decide_not_predicted_ones() -> None:
    run = predicted(workload(trace("x", *[10_000 * number for number in range(20)])))
    rows = rows_of(run, 12)
    assert going_on(run, ordered(run), rows) == (4, 12)
    last = ordered(run)[11]
    rows[last.number] = Row(
        last.number, (Span(last.start or 0.0, {"a": (last.start or 0.0) + 9_900}),), exact=True
    )
    assert going_on(run, ordered(run), rows) == (3, 11)


def test_what_comes_after_others_is_not_cut_from_them() -> None:
    leaders = trace("x", *[10_000 * number for number in range(10)])
    run = predicted(workload(leaders, Stream("y", "y", Cascade("x", 1.0))))
    order = ordered(run)
    assert [request.arrival.stream.name for request in order[:4]] == ["x", "y", "x", "y"]
    assert going_on(run, order, rows_of(run, 10)) == (2, 10)
    assert going_on(run, order, rows_of(run, 11)) == (2, 10)  # its follower arrives with its end
    loop = predicted(workload(Stream("x", "x", Loop(1), requests=10)))
    assert going_on(loop, ordered(loop), rows_of(loop, 9)) == (0, 0)


# -------------------------------------------------------------------------------------------------------- RTL
LOADS = {
    "poisson": workload(
        Stream("one", "digits", Poisson(6000.0), requests=40),
        Stream("two", "digits", Poisson(9000.0), requests=24),
    ),
    "cascade": workload(
        Stream("one", "digits", Poisson(12000.0), requests=40),
        Stream("then", "digits", Cascade("one", 0.6)),
    ),
}  # fmt: skip


def table(done: Mapping[int, Row]) -> list[Row]:
    return [done[number] for number in sorted(done)]


@pytest.mark.rtl
@pytest.mark.parametrize("name", list(LOADS))
def test_a_replay_that_goes_on_has_the_rows_of_an_unbroken_one(
    name: str, tmp_path: Path, pair: Session
) -> None:
    load = LOADS[name]
    run = simulate(digits(), load, arrivals_of(load, 3), SHIPPED["fifo"], EXACT)
    whole = Journal(tmp_path / "whole.jsonl")
    unbroken = replay(run, pair, journal=whole)
    assert is_complete(run, whole)
    assert set(unbroken.exact.values()) == {True}
    lines = whole.path.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(whole.rows) > 50
    gone_on = []
    for killed in (5, 23, 38, len(lines) - 2):
        path = tmp_path / f"{killed}.jsonl"
        path.write_bytes(b"".join(lines[:killed]) + lines[killed][:40])
        journal = Journal(path)
        first, known = going_on(run, ordered(run), journal.rows)
        gone_on.append(first)
        seen: list[int] = []
        done = replay(run, pair, journal=journal, progress=lambda done, _all, seen=seen: seen.append(done))  # type: ignore[misc]
        assert min(seen) >= known  # what was kept is confirmed, not measured anew
        assert table(journal.rows) == table(Journal(path).rows) == table(whole.rows)
        assert [r.spans for r in done.run.requests] == [r.spans for r in unbroken.run.requests]
        assert [r.arrived for r in done.run.requests] == [r.arrived for r in unbroken.run.requests]
    assert gone_on[0] == 0 < gone_on[1] < gone_on[2] < gone_on[3]
    again = measured(run, Journal(path).rows)
    assert again.exact == unbroken.exact


@pytest.mark.rtl
def test_rows_that_the_rtl_does_not_confirm_are_measured_again(tmp_path: Path, pair: Session) -> None:
    load = LOADS["poisson"]
    run = simulate(digits(), load, arrivals_of(load, 3), SHIPPED["fifo"], EXACT)
    unbroken = replay(run, pair)
    rows = {r.number: Row(r.number, r.spans, exact=True) for r in unbroken.run.requests}
    order = ordered(run)
    first, known = going_on(run, order, {r.number: rows[r.number] for r in order[:40]})
    assert 0 < first < known
    journal = Journal(tmp_path / "rows.jsonl")
    for request in order[:known]:
        row = rows[request.number]
        late = 1.0 if request is order[0] or request is order[first] else 0.0
        spans = [Span(s.start + late, {unit: end + late for unit, end in s.ends.items()}) for s in row.spans]
        journal.add(Row(row.number, tuple(spans), exact=True))
    assert journal.rows[order[0].number] != rows[order[0].number]
    done = replay(run, pair, journal=journal)
    assert table(journal.rows) == table(Journal(journal.path).rows) == table(rows)
    assert [r.spans for r in done.run.requests] == [r.spans for r in unbroken.run.requests]
