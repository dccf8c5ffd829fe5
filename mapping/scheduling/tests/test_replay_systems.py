# SPDX-License-Identifier: Apache-2.0
"""Five systems of one to four units serve public networks in RTL: every output exact, as the clock predicts.

Each serves twice: with the usual memory, where cycles are compared, and under back-pressure with a unit
whose memory answers with errors, where only that unit's requests fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from common.testing import data_dir, require
from golden.importers.models import load_model
from golden.network_file import save_network
from golden.quantize.weights import quantize_weights
from hw.core import CoreConfig
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.widths import weight_widths
from mapping.cost.requests import Request, time_requests
from mapping.scheduling.arrivals import Poisson
from mapping.scheduling.clocks import EXACT
from mapping.scheduling.deployment import Deployment, deploy
from mapping.scheduling.images import Images
from mapping.scheduling.measured import Measured
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.rtl_clock import RtlClock
from mapping.scheduling.rtl_replay import replay
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.testing import turns, workload
from mapping.scheduling.versions import Version
from mapping.scheduling.workload import Stream, Workload, arrivals_of
from tb.session import Session

NETWORKS = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8")
LITTLE4 = CoreConfig("npu_w4", w_bits=4, stripe_depth=16, weight_kib=16)
SYSTEMS = {
    "one": System((NPU8,)),
    "two": System((NPU8, NPU_LB)),
    "three": System((NPU8, NPU_LB, LITTLE4)),
    "four, three kinds": System((*(CoreConfig(f"big{i}") for i in range(2)), NPU_LB, LITTLE4)),
    "four, one kind": System(tuple(CoreConfig(f"big{i}") for i in range(4))),
}
REQUESTS, DISTURBED, LIVE = 50, 20, 60
"""Of each network on each system."""
SERVICE_LIMITS = (0.5, 4.0)
"""Percent by which the clock's services may be off, mean and largest: waits for banks are means."""
LOAD = 0.6
BACKPRESSURE = 30
EIGHT_BITS = 8


def versions(folder: Path, system: System) -> list[Version]:
    """Each network with weights of each width that the system has, on the units of that width."""
    made = []
    for name in NETWORKS:
        path = require(data_dir() / "models" / f"{name}.tflite")
        network = load_model(path)
        for core in {core.w_bits: core for core in system.cores}.values():
            file = path
            if core.w_bits < EIGHT_BITS:
                file = folder / f"{name}_w{core.w_bits}.npz"
                save_network(quantize_weights(network, weight_widths(network, system, core.w_bits))[0], file)
            made.append(Version(f"{name}_w{core.w_bits}", name, str(file), core.key))
    return made


def poisson(deployment: Deployment, requests: int) -> Workload:
    """All networks in equal numbers, at a share of what the units can do."""
    capacity = 0.0
    for unit in deployment.system.units:
        options = [o for made in deployment.options.values() for o in made if o.units == (unit,)]
        capacity += 1.0 / float(np.mean([option.cycles for option in options]))
    gap = len(NETWORKS) / (LOAD * capacity)
    return workload(*(Stream(name, name, Poisson(gap), requests=requests) for name in NETWORKS))


@dataclass(frozen=True)
class Errors:
    """How far predictions are off, percent.

    Services are compared where both begin at the same cycles: they say what the clock makes of contention,
    and not whom a request meets.
    """

    service_mean: float
    service_max: float
    response_mean: float
    response_p95: float


def errors(predicted: Run, real: Run) -> Errors:
    deployment = real.deployment
    order = sorted((r for r in real.requests if r.start is not None), key=lambda r: (r.start, r.number))
    options = [request.option for request in order if request.option]
    timings = time_requests(
        [Request(o.program.lists, r.start or 0.0) for r, o in zip(order, options, strict=True)],
        deployment.system.cores, deployment.coefficients, deployment.port_bytes,
        recording=False, works=deployment.works,
    )  # fmt: skip
    services = [request.service or 0.0 for request in order]
    off = [abs(timing.service / service - 1) for timing, service in zip(timings, services, strict=True)]
    expected, measured = metrics(predicted).total, metrics(real).total
    return Errors(
        100 * float(np.mean(off)),
        100 * max(off),
        100 * (expected.mean / measured.mean - 1),
        100 * (expected.p95 / measured.p95 - 1),
    )


def disturbed(deployment: Deployment, session: Session) -> tuple[Run, Measured]:
    """Serve under back-pressure, with the versions of the last unit where the memory answers with errors."""
    last = deployment.system.units[-1]
    images = Images(deployment)
    options = [option for made in deployment.options.values() for option in made]
    options.sort(key=lambda option: option.units == (last,))
    places = [images.place(option).program for option in options]
    first = next(place for option, place in zip(options, places, strict=True) if option.units == (last,))
    begin = min(address for address, _ in first.segments)
    memory = MemoryModel(
        backpressure_percent=BACKPRESSURE,
        backpressure_seed=3,
        errors=(ErrorRange(begin, places[-1].end - begin),),
    )
    load = poisson(deployment, DISTURBED)
    predicted = simulate(deployment, load, arrivals_of(load, 2), SHIPPED["fifo"], EXACT)
    return predicted, replay(predicted, session, memory, images=images)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.rtl
def test_the_live_hardware_serves_public_networks_exactly_and_as_predicted(tmp_path: Path) -> None:
    system = SYSTEMS["two"]
    deployment = deploy(system, versions(tmp_path, system))
    load = poisson(deployment, LIVE)
    predicted = simulate(deployment, load, arrivals_of(load), SHIPPED["fifo"], EXACT)
    with Session(system) as session, RtlClock(deployment, session) as clock:
        run = simulate(deployment, load, arrivals_of(load), SHIPPED["fifo"], clock)
    assert clock.exact == dict.fromkeys(range(len(NETWORKS) * LIVE), True)
    off, taken = errors(predicted, run), turns(run)
    print(f"live: {off}, interrupt to start {np.mean(taken):.1f} cycles, at most {max(taken):.0f}")
    assert off.service_mean < SERVICE_LIMITS[0]
    assert off.service_max < SERVICE_LIMITS[1]
    assert abs(off.response_mean) < 1.0
    assert abs(off.response_p95) < 2.0
    assert max(taken) < 60


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.rtl
@pytest.mark.parametrize("name", SYSTEMS)
def test_public_networks_are_served_exactly_and_as_predicted(name: str, tmp_path: Path) -> None:
    system = SYSTEMS[name]
    deployment = deploy(system, versions(tmp_path, system))
    load = poisson(deployment, REQUESTS)
    predicted = simulate(deployment, load, arrivals_of(load), SHIPPED["fifo"], EXACT)
    with Session(system) as session:
        done = replay(predicted, session)
        disturbed_run, other = disturbed(deployment, session)
    assert done.exact == dict.fromkeys(range(len(NETWORKS) * REQUESTS), True)
    broken = {
        request.number
        for request in disturbed_run.requests
        if request.option and request.option.units == (system.units[-1],)
    }
    assert broken
    assert set(other.failed) == broken
    assert other.exact == {number: number not in broken for number in range(len(NETWORKS) * DISTURBED)}

    off = errors(predicted, done.run)
    print(f"{name}: {off}")
    most_mean, most = SERVICE_LIMITS
    assert off.service_mean < most_mean
    assert off.service_max < most
    assert abs(off.response_mean) < 1.0
    assert abs(off.response_p95) < 2.0
