# SPDX-License-Identifier: Apache-2.0
"""A queue for each unit: requests start when they may, end alone when they fail, and find their own data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.arrays import Bytes
from hw.commands import command_list, encode
from hw.interface import TRANSFER_WORD_BYTES
from hw.memory import ErrorRange, MemoryModel
from tb.job import Job, JobError
from tb.queues import CYCLES, MAX_REQUESTS, AnsweredRequest, QueuedRequest
from tb.session import Session
from tb.testing import LIST, SOURCE, TARGET, UNITS, copy_commands, copy_job, random_bytes

pytestmark = pytest.mark.rtl

BIG, LITTLE = UNITS
STEP = 0x8000
"""Bytes between what belongs to two units."""
COUNT = 64
"""Words that a request copies; a unit takes some 300 cycles for it."""
SIZE = COUNT * TRANSFER_WORD_BYTES
TURN = 30
"""Cycles that the host takes at most from an interrupt to the start of what waits."""
IMAGE = [
    (LIST + STEP * i, command_list(copy_commands(COUNT, SOURCE + STEP * i, TARGET + STEP * i)))
    for i in range(2)
]


def copies(number: int, unit: str, **fields: Any) -> QueuedRequest:
    """A request that copies its own bytes; all of a unit share list, source and target."""
    place = STEP * UNITS.index(unit)
    data = (SOURCE + place, random_bytes(number, SIZE))
    return QueuedRequest(
        number, {unit: (LIST + place, 2)}, segments=[data], reads=[(TARGET + place, SIZE)], **fields
    )


def served(
    session: Session, requests: list[QueuedRequest], job: Job | None = None
) -> dict[int, AnsweredRequest]:
    """Run requests; every one that has not failed has copied its bytes."""
    done = {item.number: item for item in session.serve(requests, job or Job(segments=IMAGE))}
    assert sorted(done) == sorted(request.number for request in requests)
    for request in requests:
        if not done[request.number].failure:
            for data, (_, expected) in zip(done[request.number].reads, request.segments, strict=True):
                np.testing.assert_array_equal(data, expected)
    return done


def works(session: Session) -> None:
    """A plain job runs on both units."""
    for unit in UNITS:
        job, data = copy_job(words=50, units=[unit])
        result = session.run(job)
        assert result.ok, result.diagnosis
        np.testing.assert_array_equal(result.reads[0], data)


def test_requests_start_when_they_arrive_and_in_their_order(pair: Session) -> None:
    arrivals = [50, 100, 2000, 2001, 5000]
    requests = [copies(i, unit, arrival=t) for t in arrivals for i, unit in enumerate(UNITS)]
    requests = [copies(number, *item.starts, arrival=item.arrival) for number, item in enumerate(requests)]
    done = served(pair, requests)
    for i, unit in enumerate(UNITS):
        mine = [done[number] for number in range(i, len(requests), 2)]
        free = 0
        for item, arrival in zip(mine, arrivals, strict=True):
            assert max(free, arrival) < item.start <= max(free, arrival) + TURN
            answer = item.answers[unit]
            assert abs(item.end - item.start - answer.cycles) <= 2
            free = item.end
        assert mine[1].start > arrivals[1] + 100  # the unit was busy
        assert mine[3].start > mine[2].end
    works(pair)


def test_a_request_alone_takes_the_cycles_of_a_job(pair: Session) -> None:
    pair.reset()
    job = Job(segments=[*IMAGE, (SOURCE, random_bytes(0, SIZE))], starts={BIG: (LIST, 2)})
    alone = pair.run(job).units[BIG].cycles
    done = served(pair, [copies(number, BIG, arrival=2000 * number) for number in range(4)])
    assert {item.answers[BIG].cycles for item in done.values()} == {alone}


def test_a_request_comes_after_others_of_any_unit(pair: Session) -> None:
    requests = [
        copies(7, BIG, arrival=900),
        copies(3, LITTLE),
        copies(5, LITTLE, after=(7, 3)),
        copies(1, BIG, after=(5,), arrival=100),
        copies(2, BIG, after=(5,), arrival=4000),
    ]
    done = served(pair, requests)
    assert done[7].end < done[5].start <= done[7].end + TURN
    assert done[5].end < done[1].start <= done[5].end + TURN
    assert 4000 <= done[2].start <= 4000 + TURN


def test_units_that_are_joined_start_together(pair: Session) -> None:
    """A split request: the little unit is held until the big one has ended what it does."""
    together = {unit: (LIST + STEP * i, 2) for i, unit in enumerate(UNITS)}
    data = [(SOURCE + STEP * i, random_bytes(90 + i, SIZE)) for i in range(2)]
    reads = [(TARGET + STEP * i, SIZE) for i in range(2)]
    requests = [copies(0, BIG, arrival=50)]
    requests += [QueuedRequest(1 + i, together, segments=data, reads=reads) for i in range(3)]
    requests += [copies(4, LITTLE)]
    done = served(pair, requests)
    for i in range(1, 4):
        starts = [answer.start for answer in done[i].answers.values()]
        assert abs(starts[0] - starts[1]) <= 8
        assert min(starts) > done[i - 1].end
    assert done[4].start > done[3].answers[LITTLE].end


def bad_list() -> tuple[int, Bytes]:
    return LIST + 0x4000, command_list(
        [encode("signal", engine="load", event_id=1), encode("load", target=3)]
    )


def test_an_error_ends_its_request_alone(pair: Session) -> None:
    """The other unit goes on as if nothing had been; the one with the error takes the next request."""
    good = [copies(2 * i, LITTLE) for i in range(8)]
    bad = QueuedRequest(3, {BIG: (bad_list()[0], 2)})
    mine = [copies(1, BIG), bad, copies(5, BIG)]
    job = Job(segments=[*IMAGE, bad_list()])
    done = served(pair, [*good, *mine], job)
    assert {number for number, item in done.items() if item.failure} == {3}
    assert done[3].failure == f"{BIG}: illegal_command in load, command 1"
    assert done[5].start > done[3].end
    turns = [done[2 * i + 2].start - done[2 * i].end for i in range(7)]
    assert max(turns) <= 2 * TURN  # both ask at the same time
    works(pair)


def test_a_bus_error_in_one_unit_fails_its_requests_alone(pair: Session) -> None:
    memory = MemoryModel(
        backpressure_percent=30, backpressure_seed=5, errors=(ErrorRange(SOURCE + STEP, SIZE, writes=False),)
    )
    requests = [copies(number, UNITS[number % 2]) for number in range(20)]
    done = served(pair, requests, Job(segments=IMAGE, memory=memory))
    assert {number for number, item in done.items() if item.failure} == set(range(1, 20, 2))
    assert {item.failure for item in done.values()} == {"", f"{LITTLE}: load_slverr in load, command 0"}
    works(pair)


def test_a_request_that_never_ends_is_given_up(pair: Session) -> None:
    forever = (LIST + 0x4000, command_list([encode("wait", engine="load", event_id=5, amount=1)]))
    requests = [
        QueuedRequest(0, {BIG: (forever[0], 1)}, limit=3000),
        copies(1, BIG),
        *(copies(number, LITTLE) for number in range(2, 8)),
    ]
    done = served(pair, requests, Job(segments=[*IMAGE, forever]))
    assert done[0].failure == f"{BIG}: has not ended after 3000 cycles"
    assert not any(item.failure for number, item in done.items() if number)
    assert done[1].start > done[0].end
    works(pair)


def test_a_failure_ends_all_units_that_were_joined(pair: Session) -> None:
    """The little unit waits for an event that the big one never gives: it is reset with it."""
    forever = (LIST + 0x5000, command_list([encode("wait", engine="load", event_id=5, amount=1)]))
    split = QueuedRequest(0, {BIG: (bad_list()[0], 2), LITTLE: (forever[0], 1)})
    requests = [split, copies(1, BIG), copies(2, LITTLE)]
    done = served(pair, requests, Job(segments=[*IMAGE, bad_list(), forever]))
    assert done[0].answers[BIG].failure == "illegal_command in load, command 1"
    assert done[0].answers[LITTLE].failure == "another unit of the request has failed"
    assert done[0].end < 1000
    assert not done[1].failure + done[2].failure
    works(pair)


def test_thousands_of_requests_go_through_the_rings(pair: Session) -> None:
    """Lists without commands, which end at once; the requests are made while others run."""
    count, made = 8 * MAX_REQUESTS, []

    def requests() -> Iterator[QueuedRequest]:
        for number in range(count):
            made.append(number)
            yield QueuedRequest(number, {UNITS[number % 3 // 2]: (LIST, 0)})

    done: list[int] = []
    for item in pair.serve(requests(), Job(segments=IMAGE)):
        assert not item.failure
        assert len(made) - len(done) <= 2 * MAX_REQUESTS + 1
        done.append(item.number)
    assert sorted(done) == list(range(count))
    for unit in range(2):
        order = [number for number in done if number % 3 // 2 == unit]
        assert order == sorted(order)


def test_a_stream_that_is_broken_off_leaves_a_session_that_works(pair: Session) -> None:
    stream = pair.serve((copies(number, BIG) for number in range(1000)), Job(segments=IMAGE))
    assert next(iter(stream)).number == 0
    stream.close()  # a generator
    works(pair)
    served(pair, [copies(number, UNITS[number % 2]) for number in range(4)])


def test_queues_stand_still_at_a_cycle_and_take_requests_there(pair: Session) -> None:
    with pair.queues(Job(segments=IMAGE)) as queues:
        assert queues.run(until=40) == []  # nothing runs: time does not go on
        assert queues.now == 0
        assert queues.add(copies(0, BIG))
        for until in (100, 150, 151):
            assert queues.run(until) == []
            assert queues.now == until
        assert queues.add(copies(1, LITTLE))
        first, second = (queues.run()[0] for _ in range(2))
        assert (first.number, first.unit, second.number, second.unit) == (0, BIG, 1, LITTLE)
        assert 151 < second.answer.start < 151 + TURN
        assert first.answer.end < queues.now
        assert first.request is not None
        assert queues.run() == []
    works(pair)


def test_the_units_of_a_split_are_answered_one_by_one(pair: Session) -> None:
    """The big one's list is empty: it is free long before the little one."""
    split = QueuedRequest(0, {BIG: (LIST, 0), LITTLE: (LIST + STEP, 2)})
    with pair.queues(Job(segments=IMAGE)) as queues:
        assert queues.add(split)
        (first,), (second,) = queues.run(), queues.run()
    assert (first.unit, first.request) == (BIG, None)
    assert second.request is not None
    assert set(second.request.answers) == {BIG, LITTLE}
    assert second.answer.end > first.answer.end + 100


def test_no_requests_are_no_work(pair: Session) -> None:
    assert list(pair.serve([], Job())) == []
    works(pair)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (QueuedRequest(0, {BIG: (LIST, 1)}), "request 0 is queued twice"),
        (QueuedRequest(1, {}), "request 1 starts no unit"),
        (QueuedRequest(1, {BIG: (LIST, 1)}, after=(2,)), "request 1 comes after 2, which is not before it"),
        (QueuedRequest(1, {BIG: (LIST, 1)}, arrival=CYCLES), "must fit 32 bits"),
        (QueuedRequest(1, {BIG: (LIST, 1)}, limit=0), "must fit 32 bits"),
        (QueuedRequest(1, {BIG: (LIST, 1)}, reads=[(-1, 4)]), "read of 4 bytes"),
    ],
)
def test_a_request_that_cannot_be_is_one_clear_error(
    pair: Session, request_: QueuedRequest, says: str
) -> None:
    with pytest.raises(JobError, match=says):
        list(pair.serve([copies(0, BIG), request_], Job(segments=IMAGE)))
    works(pair)


def test_a_stream_is_not_traced(pair: Session, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is not traced"):
        list(pair.serve([copies(0, BIG)], Job(segments=IMAGE, waves=tmp_path / "w.vcd")))
