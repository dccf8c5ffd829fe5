# SPDX-License-Identifier: Apache-2.0
"""Schedules that the host's queues start in RTL: every output compared, responses beside the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from common.errors import UnsupportedError
from golden.importers.models import load_model
from hw.core import CoreConfig
from hw.memory import ErrorRange, MemoryModel
from hw.system import System
from mapping.compiler.assignment import assignment_text
from mapping.compiler.legalise import legalise_network
from mapping.scheduling import images
from mapping.scheduling.arrivals import Cascade, Loop, Poisson
from mapping.scheduling.clocks import EXACT
from mapping.scheduling.deployment import Deployment, deploy
from mapping.scheduling.images import Images
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.policy import Start, UnitState, Waiting
from mapping.scheduling.rtl_replay import replay
from mapping.scheduling.simulate import simulate
from mapping.scheduling.testing import digits, workload
from mapping.scheduling.versions import Version
from mapping.scheduling.workload import Stream, arrivals_of
from tb.session import Session

COUNT = 100


@pytest.mark.rtl
@pytest.mark.parametrize("policy", ["greedy", "edf"])
def test_a_schedule_is_replayed_bit_for_bit_and_as_predicted(policy: str, pair: Session) -> None:
    load = workload(Stream("digits", "digits", Poisson(2000.0), deadline=6000.0, requests=COUNT))
    predicted = simulate(digits(), load, arrivals_of(load, 5), SHIPPED[policy], EXACT)
    done = replay(predicted, pair)
    assert done.exact == dict.fromkeys(range(COUNT), True)
    assert not done.failed
    for request, real in zip(predicted.requests, done.run.requests, strict=True):
        assert real.option is request.option
        assert real.start is not None
        assert real.arrived is not None
        assert real.start >= real.arrived
    figures = metrics(done.run).total
    assert metrics(predicted).total.mean == pytest.approx(figures.mean, rel=0.03)


@pytest.mark.rtl
def test_loops_and_cascades_follow_the_hardware(pair: Session) -> None:
    """What comes after others arrives when these have ended in RTL, whatever was predicted."""
    load = workload(
        Stream("loop", "digits", Loop(3), requests=30), Stream("follows", "digits", Cascade("loop", 0.5))
    )
    arrivals = arrivals_of(load)
    predicted = simulate(digits(), load, arrivals, SHIPPED["fifo"], EXACT)
    done = replay(predicted, pair, MemoryModel(backpressure_percent=40, backpressure_seed=7))
    assert set(done.exact.values()) == {True}
    assert len(done.exact) == len(arrivals) > 40
    for number, real in enumerate(done.run.requests):
        assert real.start is not None
        assert real.arrived is not None
        assert real.start > real.arrived
        for other in arrivals[number].after:
            assert real.arrived >= (done.run.requests[other].end or 0.0)
    assert done.run.makespan > 1.1 * predicted.makespan


@pytest.mark.rtl
def test_an_error_of_one_unit_leaves_the_others_exact(pair: Session) -> None:
    """The little unit's version lies where the memory answers with errors."""
    deployment = digits()
    made = Images(deployment)
    big, little = deployment.options["digits"][0], deployment.options["digits"][2]
    made.place(big)
    place = made.place(little).program
    first = min(address for address, _ in place.segments)
    memory = MemoryModel(errors=(ErrorRange(first, place.end - first),))

    def both(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        del now, units
        return [Start(request.number, (big, little)[request.number % 2]) for request in waiting]

    load = workload(Stream("digits", "digits", Poisson(1500.0), requests=30))
    predicted = simulate(deployment, load, arrivals_of(load, 4), both, EXACT)
    done = replay(predicted, pair, memory, images=made)
    assert done.exact == {number: number % 2 == 0 for number in range(30)}
    assert set(done.failed) == set(range(1, 30, 2))
    assert set(done.failed.values()) == {"npu_lb: fetch_slverr in fetch, command 0"}
    assert all(replay(predicted, pair, images=made).exact.values())


def two_splits(folder: Path) -> Deployment:
    """The digits on four equal units, split over the first two of them or the last two."""
    system = System(tuple(CoreConfig(f"u{i}") for i in range(4)))
    graph = legalise_network(load_model("digits_int8"))
    versions = []
    for pair in (0, 1):
        owners = {op.name: 2 * pair + np.arange(op.shape[2]) % 2 for op in graph.ops}
        mapping = folder / f"{pair}.yaml"
        mapping.write_text(assignment_text(owners, system.cores))
        versions.append(Version(f"split{pair}", "digits", "digits_int8", mapping=mapping))
    deployment = deploy(system, versions)
    assert [option.units for option in deployment.options["digits"]] == [("u0", "u1"), ("u2", "u3")]
    return deployment


def test_splits_that_may_run_at_once_have_event_counters_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = two_splits(tmp_path)
    options = deployment.options["digits"]
    made = Images(deployment)
    first, second = (made.place(option) for option in options)
    assert min(first.events) == 0
    assert min(second.events) == len(first.events) == len(second.events)
    assert first.program.end <= min(address for address, _ in second.program.segments)
    monkeypatch.setattr(images, "EVENTS", 2 * len(first.events) - 1)
    crowded = Images(deployment)
    crowded.place(options[0])
    with pytest.raises(UnsupportedError, match=r"split1 on u2\+u3: needs . event counters in a row"):
        crowded.place(options[1])


@pytest.mark.slow
@pytest.mark.rtl
def test_two_splits_run_at_the_same_time_on_four_units(tmp_path: Path) -> None:
    deployment = two_splits(tmp_path)
    options = deployment.options["digits"]

    def in_turn(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        del now, units
        return [Start(request.number, options[request.number % 2]) for request in waiting]

    load = workload(Stream("digits", "digits", Poisson(1000.0), requests=24))
    predicted = simulate(deployment, load, arrivals_of(load, 2), in_turn, EXACT)
    with Session(deployment.system) as session:
        done = replay(predicted, session)
    assert done.exact == dict.fromkeys(range(24), True)
    at_once = [
        (one.number, other.number)
        for one in done.run.requests[0::2]
        for other in done.run.requests[1::2]
        if (one.start or 0) < (other.end or 0) and (other.start or 0) < (one.end or 0)
    ]
    assert len(at_once) > 10
