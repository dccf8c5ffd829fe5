# SPDX-License-Identifier: Apache-2.0
"""Networks that are cut: others run between their sections, by hand, on the clocks and in RTL."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.importers.models import load_model
from hw.memory import ErrorRange, MemoryModel
from hw.system import System
from mapping.compiler.assignment import assignment_text
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Section
from mapping.scheduling.arrivals import Cascade, Poisson, Trace
from mapping.scheduling.bounds import Optimum, optimum
from mapping.scheduling.clocks import EXACT, FAST
from mapping.scheduling.deployment import Deployment, deploy
from mapping.scheduling.images import Images
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import load_policy
from mapping.scheduling.policy import Policy, PolicyError, Start, UnitState, Waiting
from mapping.scheduling.results import requests_csv, trace_json
from mapping.scheduling.rtl_clock import RtlClock
from mapping.scheduling.rtl_replay import replay
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.testing import made_up, option, trace, workload, write
from mapping.scheduling.versions import Version, load_versions
from mapping.scheduling.workload import Stream, Workload, WorkloadError, arrivals_of
from mapping.scheduling.workload_file import load_with_versions
from tb.session import Session

BOTH = made_up(
    "u",
    option("large", "u", 100, name="whole"),
    option("large", "u", (40, 30, 40), name="cut"),
    option("small", "u", 10),
)
"""One unit, a large network whole or in three sections at a price of 10, a small one."""


def spans(run: Run) -> list[tuple[str, list[tuple[float, float]]]]:
    """Version and sections of each request."""
    return [
        (r.option.version.name if r.option else "", [(span.start, span.end) for span in r.spans])
        for r in run.requests
    ]


def served(load: Workload, policy: str | Policy = "preempt", deployment: Deployment = BOTH) -> Run:
    decide = load_policy(policy) if isinstance(policy, str) else policy
    return simulate(deployment, load, arrivals_of(load), decide, FAST)


# -------------------------------------------------------------------------------------------- by hand
def test_where_nothing_urgent_comes_the_whole_network_is_taken() -> None:
    alone = workload(trace("large", 0.0, 50.0, 300.0))
    assert spans(served(alone)) == [
        ("whole", [(0.0, 100.0)]),
        ("whole", [(100.0, 200.0)]),
        ("whole", [(300.0, 400.0)]),
    ]
    # a small one without a deadline behind one with: never more urgent
    less = workload(trace("small", 5.0, 120.0), trace("large", 10.0, 110.0, 210.0, deadline=500.0))
    assert {version for version, _ in spans(served(less))} == {"whole", "small"}
    # and one that is more urgent, but comes too rarely to wait more than the cuts cost
    rare = workload(
        trace("small", 1.0, 19000.0, deadline=50.0), trace("large", 10000.0, 19900.0, deadline=1000.0)
    )
    assert [version for version, _ in spans(served(rare))] == ["small", "whole", "small", "whole"]


def test_a_network_is_cut_where_more_urgent_ones_keep_coming() -> None:
    """At cycle 40 two small ones have come: 2 / 40 in a cycle, 5 of the whole's 100 cycles, 5.5 of the cut's.

    The whole costs 100 + 5 x 50 = 350, the cut one 110 + 5.5 x (4100 / 220 + 70 / 110 x 10) = 247.5.
    """
    load = workload(
        trace("small", 0.0, 20.0, 55.0, 95.0, deadline=30.0), trace("large", 40.0, deadline=400.0)
    )
    run = served(load)
    assert spans(run) == [
        ("small", [(0.0, 10.0)]),
        ("small", [(20.0, 30.0)]),
        ("cut", [(40.0, 80.0), (90.0, 120.0), (130.0, 170.0)]),
        ("small", [(80.0, 90.0)]),
        ("small", [(120.0, 130.0)]),
    ]
    large = run.requests[2]
    assert (large.start, large.end, large.response, large.service) == (40.0, 170.0, 130.0, 110.0)
    assert metrics(run).utilisation["u"] == pytest.approx(150 / 170)
    assert metrics(run).contention_percent == 0.0
    bars = [e for e in json.loads(trace_json(run))["traceEvents"] if e["ph"] == "X"]
    assert [(e["ts"], e["dur"]) for e in bars if e["name"] == "large 2"] == [(40, 40), (90, 30), (130, 40)]
    row = list(csv.DictReader(io.StringIO(requests_csv(run))))[2]
    assert (row["start_cycle"], row["end_cycle"]) == ("40.0", "170.0")
    assert row["predicted_service_cycles"] == "110.0"


def test_the_rule_counts_who_waits_behind_and_who_can_go_elsewhere() -> None:
    """As above, but others pay for the cuts too, or the small ones have another unit, or are long."""
    small = trace("small", 0.0, 20.0, deadline=30.0)
    many = workload(small, trace("large", *([40.0] * 30), deadline=40000.0))
    # 29 behind: the whole costs 30 x 100 + 250 = 3,250, the cut one 30 x 110 + 137.5 = 3,437.5
    assert spans(served(many))[2][0] == "whole"
    few = workload(small, trace("large", *([40.0] * 10), deadline=40000.0))
    # 9 behind: 10 x 100 + 250 = 1,250 against 10 x 110 + 137.5 = 1,237.5
    assert spans(served(few))[2][0] == "cut"
    tight = workload(small, trace("large", 40.0, deadline=105.0))
    # the cut one would miss the deadline
    assert spans(served(tight))[2][0] == "whole"
    long = made_up("u", *BOTH.options["large"], option("small", "u", 40))
    load = workload(trace("small", 0.0, 20.0, deadline=80.0), trace("large", 80.0, deadline=400.0))
    # at cycle 80: 100 + 2.5 x 50 = 225 against 110 + 2.75 x (4100 / 220 + 70 / 110 x 40) = 231.3
    assert spans(served(load, deployment=long))[2][0] == "whole"
    assert spans(served(load))[2][0] == "cut"
    # of 16 units a sixteenth of the small ones comes here: 100 + 15.6 against 110 + 8.6; of four a quarter
    for count, version in ((16, "whole"), (4, "cut")):
        names = ["u", *(f"v{i}" for i in range(1, count))]
        others = [option("small", unit, 10) for unit in names]
        elsewhere = made_up(" ".join(names), *BOTH.options["large"], *others)
        load = workload(small, trace("large", 40.0, deadline=400.0))
        assert spans(served(load, deployment=elsewhere))[2][0] == version


def test_priorities_interrupt_and_what_is_shorter_where_nobody_has_a_deadline() -> None:
    load = workload(trace("small", 0.0, 20.0, 55.0, priority=1), trace("large", 40.0))
    assert spans(served(load))[2] == ("cut", [(40.0, 80.0), (90.0, 120.0), (120.0, 160.0)])
    # without priorities or deadlines the small ones are shorter, until less is left of the large one
    load = workload(trace("small", 0.0, 20.0, 55.0, 125.0), trace("large", 40.0))
    assert spans(served(load))[2] == ("cut", [(40.0, 80.0), (90.0, 120.0), (120.0, 160.0)])


def test_other_policies_run_a_network_that_is_only_there_in_sections() -> None:
    """They decide at every cut anew; what has been given to a unit before waits until the rest is through."""
    deployment = made_up("u", option("large", "u", (40, 30, 40), name="cut"), option("small", "u", 10))
    load = workload(trace("large", 0.0, 5.0), trace("small", 1.0, deadline=60.0))
    assert spans(served(load, "fifo", deployment)) == [
        ("cut", [(0.0, 40.0), (40.0, 70.0), (70.0, 110.0)]),
        ("small", [(110.0, 120.0)]),
        ("cut", [(120.0, 160.0), (160.0, 190.0), (190.0, 230.0)]),
    ]
    assert spans(served(load, "edf", deployment)) == [
        ("cut", [(0.0, 40.0), (50.0, 80.0), (80.0, 120.0)]),
        ("small", [(40.0, 50.0)]),
        ("cut", [(120.0, 160.0), (160.0, 190.0), (190.0, 230.0)]),
    ]
    for policy in ("greedy", "sjf", "split", "preempt"):
        run = served(load, policy, deployment)
        assert all(request.end is not None for request in run.requests)
        first, second = (request for request in run.requests if len(request.spans) == 3)
        assert second.spans[0].start >= first.spans[-1].end  # they share a place in memory
        assert run.makespan == 230.0
    same = workload(trace("large", 0.0, name="low"), trace("large", 5.0, name="high", priority=1))
    for policy in ("edf", "preempt"):  # the more urgent one needs the place of the one that has begun
        assert [sections[0] for _, sections in spans(served(same, policy, deployment))] == [
            (0.0, 40.0),
            (110.0, 150.0),
        ]


def test_a_policy_that_gives_one_place_in_memory_twice_waits_for_it() -> None:
    deployment = made_up("u", option("large", "u", (40, 60), name="cut"))

    def at_once(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        del now, units
        return [Start(request.number, request.options[0]) for request in waiting]

    run = served(workload(trace("large", 0.0, 0.0, 0.0)), at_once, deployment)
    assert [request.spans[0].start for request in run.requests] == [0.0, 100.0, 200.0]

    def never_again(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        return [start for start in at_once(now, waiting, units) if not start.option.begun]

    with pytest.raises(PolicyError, match="leaves 1 requests waiting for ever, the first is number 0"):
        served(workload(trace("large", 0.0)), never_again, deployment)


def test_what_has_begun_is_not_dropped() -> None:
    load = workload(
        trace("small", 0.0, 20.0, 55.0, 70.0, 100.0, deadline=29.0, priority=1),
        trace("large", 40.0, deadline=115.0, drop_late=True),
    )
    run = served(load)
    large = run.requests[2]
    assert large.option is not None
    assert large.option.version.name == "cut"
    assert large.in_time is False
    assert large.end is not None
    assert len(large.spans) == 3


def test_sections_may_have_other_units() -> None:
    """The first section needs one unit, the second another, which serves others meanwhile."""
    chain = made_up("a b", option("x", "a+b", (10, 10), name="cut"), option("y", "b", 4))
    program: Any = chain.options["x"][0].program
    program.sections = (Section({"a": ()}, {}, 0), Section({"b": ()}, {}, 0))
    load = workload(trace("x", 0.0, 1.0), trace("y", 0.0, 5.0, 8.0))
    for policy in ("fifo", "greedy"):
        run = served(load, policy, chain)
        assert spans(run)[0] == ("cut", [(0.0, 10.0), (13.0, 23.0)])
        assert [span for version, (span, *_) in spans(run) if version == "y"] == [
            (0.0, 4.0),
            (5.0, 9.0),
            (9.0, 13.0),
        ]


def test_an_optimum_without_preemption_is_none_of_networks_that_are_cut() -> None:
    late = workload(trace("large", 0.0), trace("small", 5.0))
    assert optimum(BOTH, late, arrivals_of(late)) == Optimum(None, None)
    together = workload(trace("large", 0.0), trace("small", 0.0))
    assert optimum(BOTH, together, arrivals_of(together)) == Optimum((10.0 + 110.0) / 2, None)


def test_a_kept_schedule_runs_sections_without_a_break(tmp_path: Path) -> None:
    load = workload(trace("small", 0.0, 20.0, 55.0, deadline=30.0), trace("large", 40.0, deadline=400.0))
    file = write(tmp_path / "requests.csv", requests_csv(served(load)))
    run = served(load, f"fixed:{file}")
    assert spans(run)[2] == ("cut", [(40.0, 80.0), (80.0, 110.0), (110.0, 150.0)])


# ----------------------------------------------------------------------------------------------- versions
def test_a_version_says_how_long_its_sections_may_be(tmp_path: Path) -> None:
    text = "npuloop_versions: 1\nversions: [{{name: v, network: digits, file: digits_int8, {}}}]\n"
    file = write(tmp_path / "versions.yaml", text.format("unit: npu8, longest_section: 20 us"))
    (version,) = load_versions(file, 100.0)
    assert version.longest_section == 2000.0
    with pytest.raises(WorkloadError, match="there is no clock; give clock_mhz"):
        load_versions(file)
    for value in ("0", "-5", "soon", "[1]", "true"):
        bad = write(tmp_path / "bad.yaml", text.format(f"longest_section: {value}"))
        with pytest.raises(WorkloadError, match=r"version 1 \('v'\): longest_section is"):
            load_versions(bad, 100.0)
    load = write(
        tmp_path / "workload.yaml",
        "npuloop_workload: 1\nclock_mhz: 100\nversions: versions.yaml\n"
        "streams: [{network: digits, arrivals: {kind: trace, times: [0]}}]\n",
    )
    _, (version,), _ = load_with_versions(load, None)
    assert version.longest_section == 2000.0


# ------------------------------------------------------------------------------------------------- in RTL
@functools.cache
def digits_in_sections() -> Deployment:
    """The digits networks on the pair, both whole and cut, int8 on the big unit."""
    return deploy(
        System(),
        (
            Version("whole", "large", "digits_int8", "npu8"),
            Version("cut", "large", "digits_int8", "npu8", longest_section=1200.0),
            Version("small", "small", "digits_ternary", "npu8"),
            Version("little", "other", "digits_ternary", "npu_lb", longest_section=700.0),
        ),
    )


def test_sections_are_short_enough_and_as_predicted_alone() -> None:
    deployment = digits_in_sections()
    whole, cut = deployment.options["large"]
    assert whole.then is None
    assert len(cut.sections) > 2
    for item, layers in zip(cut.sections, cut.program.cuts, strict=False):
        assert item.next_cycles <= 1200.0, layers
    assert whole.cycles < cut.cycles < 1.5 * whole.cycles
    assert sum(item.next_cycles for item in cut.sections) == pytest.approx(cut.cycles)
    assert whole.energy_pj is not None
    assert cut.energy_pj is not None
    assert whole.energy_pj < cut.energy_pj
    load = workload(trace("large", 0.0))
    for clock in (EXACT, FAST):
        run = simulate(deployment, load, arrivals_of(load), only("cut"), clock)
        assert run.makespan == pytest.approx(cut.cycles, rel=0.01)


def only(*versions: str) -> Policy:
    """First come, first served, but at every cut whoever has not begun goes first."""

    def policy(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        del now
        idle = {name for name, unit in units.items() if unit.idle}
        starts = []
        for request in sorted(waiting, key=lambda item: item.begun):
            for item in request.options:
                known = item.version.name in versions or request.stream != "large"
                if known and idle.issuperset(item.next_units):
                    starts.append(Start(request.number, item))
                    idle -= set(item.next_units)
                    break
        return starts

    return policy


MIXED = workload(
    Stream("large", "large", Poisson(6000.0), requests=12),
    Stream("small", "small", Poisson(3000.0), deadline=5000.0, requests=24),
    Stream("other", "other", Poisson(4000.0), requests=12),
    Stream("follows", "small", Cascade("large", 0.5)),
)


@pytest.mark.rtl
def test_a_schedule_with_interruptions_is_replayed_bit_for_bit(pair: Session) -> None:
    deployment, arrivals = digits_in_sections(), arrivals_of(MIXED, 3)
    predicted = simulate(deployment, MIXED, arrivals, only("cut"), EXACT)
    assert interrupted(predicted) >= 5
    done = replay(predicted, pair)
    assert done.exact == dict.fromkeys(range(len(arrivals)), True)
    assert interrupted(done.run) >= 5
    for request, real in zip(predicted.requests, done.run.requests, strict=True):
        assert len(real.spans) == len(request.spans)
    services = [sum(request.service or 0.0 for request in run.requests) for run in (predicted, done.run)]
    assert services[0] == pytest.approx(services[1], rel=0.03)
    assert metrics(predicted).total.mean == pytest.approx(metrics(done.run).total.mean, rel=0.05)


def interrupted(run: Run) -> int:
    """How many requests had another one on a unit of theirs between two of their sections."""
    found = 0
    for request in run.requests:
        others = [span for other in run.requests if other is not request for span in other.spans]
        gaps = [(set(a.ends), a.end, b.start) for a, b in zip(request.spans, request.spans[1:], strict=False)]
        found += any(
            units & set(span.ends) and begin <= span.start and span.end <= end
            for units, begin, end in gaps
            for span in others
        )
    return found


@pytest.mark.rtl
def test_the_policy_interrupts_in_the_live_hardware(pair: Session) -> None:
    deployment, arrivals = digits_in_sections(), arrivals_of(MIXED, 3)
    with RtlClock(deployment, pair) as clock:
        run = simulate(deployment, MIXED, arrivals, only("cut"), clock)
    assert clock.exact == dict.fromkeys(range(len(arrivals)), True)
    assert interrupted(run) >= 5


@pytest.mark.rtl
def test_a_request_that_fails_in_a_section_is_given_up(pair: Session) -> None:
    """The memory errs where the little unit's network lies: all others are exact."""
    deployment = digits_in_sections()
    made = Images(deployment)
    place = made.place(deployment.options["other"][0]).program
    first = min(address for address, _ in place.segments)
    memory = MemoryModel(errors=(ErrorRange(first, place.end - first),))
    arrivals = arrivals_of(MIXED, 3)
    expected = {n: item.stream.name != "other" for n, item in enumerate(arrivals)}
    predicted = simulate(deployment, MIXED, arrivals, only("cut"), EXACT)
    done = replay(predicted, pair, memory, images=made)
    assert done.exact == expected
    assert set(done.failed) == {n for n, exact in expected.items() if not exact}
    with RtlClock(deployment, pair, memory) as clock:  # the network that starts first lies in the same place
        run = simulate(deployment, MIXED, arrivals, only("cut"), clock)
    assert clock.exact == expected
    assert set(clock.failed) == set(done.failed)
    for number in clock.failed:
        assert all(span.end == span.start for span in run.requests[number].spans[1:])


@pytest.mark.rtl
def test_a_split_is_cut_too(tmp_path: Path, pair: Session) -> None:
    """A network on both units, cut, with others on either unit between its sections."""
    network = load_model("digits_ternary")
    ops = legalise_network(network).ops
    owners = {op.name: (2 * np.arange(op.shape[2]) >= op.shape[2]).astype(np.int64) for op in ops}
    path = write(tmp_path / "MAP.yaml", assignment_text(owners, System().cores, network.name))
    deployment = deploy(
        System(),
        (
            Version("cut", "large", "digits_ternary", mapping=path, longest_section=700.0),
            Version("small", "small", "digits_int8", "npu8"),
            Version("little", "other", "digits_ternary", "npu_lb"),
        ),
    )
    (cut,) = deployment.options["large"]
    assert len(cut.sections) > 2
    load = workload(
        Stream("large", "large", Poisson(5000.0), requests=10),
        Stream("small", "small", Trace(tuple(4000.0 * i for i in range(20)))),
        Stream("other", "other", Trace(tuple(5000.0 * i for i in range(15)))),
    )
    predicted = simulate(deployment, load, arrivals_of(load, 1), only("cut"), EXACT)
    assert interrupted(predicted) >= 5
    done = replay(predicted, pair, MemoryModel(backpressure_percent=20, backpressure_seed=3))
    assert set(done.exact.values()) == {True}
    assert len(done.exact) == 45
