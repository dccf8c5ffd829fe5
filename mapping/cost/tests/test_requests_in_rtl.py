# SPDX-License-Identifier: Apache-2.0
"""Requests in RTL: two networks that start at different times on one port, one unit that goes on and on.

The host of the test bench does what it can today: it starts a unit after a delay, or after an interrupt.
Cycles are those of each unit's own counter; outputs are compared bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from common.arrays import Int8
from common.testing import data_dir, require
from golden.importers.inputs import random_input
from golden.importers.models import load_model
from golden.network import Network, run_network
from golden.quantize.weights import quantize_weights
from hw.interface import REGISTERS
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Program
from mapping.compiler.widths import weight_widths
from mapping.cost.model import CostModel
from mapping.cost.requests import Request, RequestTiming, time_requests
from tb.host import DELAY, WAIT, OpList, Results, pack
from tb.job import Job
from tb.session import Session

PAIR = System()
BIG, LITTLE = PAIR.units
BOTH = pack("irq_status", done=1, error=1)
LIMIT = 2_000_000
"""Cycles in which every request must be complete."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A network, compiled for a unit at a place in memory, with an input and what must come out."""

    unit: str
    program: Program
    inputs: dict[str, Int8]
    outputs: dict[str, Int8]


def placed(network: Network, unit: str, base: int = 0) -> Placed:
    graph = legalise_network(network)
    owners = Assignment(unit).units(network, graph, PAIR.cores)
    program = compile_graph(graph, PAIR.cores, owners, base=base, mem_bytes=PAIR.mem_bytes)
    batch = random_input(network, seed=base + 3)
    golden = run_network(network, batch)
    inputs = {value.name: golden[value.name][0] for value in program.graph.inputs}
    return Placed(unit, program, inputs, {name: golden[name][0] for name in program.graph.outputs})


@functools.cache
def networks(kind: str) -> tuple[Placed, Placed]:
    """A network on each unit, the little one's with weights of 2 bits."""
    if kind == "digits":
        models = [load_model("digits_int8"), load_model("digits_ternary")]
    else:
        files = [require(data_dir() / "models" / f"{name}.tflite") for name in kind.split("+")]
        big, little = (load_model(path) for path in files)
        models = [big, quantize_weights(little, weight_widths(little, PAIR, 2))[0]]
    first = placed(models[0], BIG)
    return first, placed(models[1], LITTLE, base=(first.program.end + 0xFFF) & ~0xFFF)


def set_up(ops: OpList, item: Placed) -> None:
    unit = PAIR.index(item.unit)
    address, count = item.program.starts[item.unit]
    ops.write(unit, "irq_status", BOTH)
    ops.write(unit, "irq_enable", BOTH)
    ops.write(unit, "cmd_address", address)
    ops.write(unit, "cmd_count", count)


def start(ops: OpList, item: Placed) -> int:
    return ops.write(PAIR.index(item.unit), "ctrl", pack("ctrl", start=1))


def wait(ops: OpList, *items: Placed) -> int:
    mask = sum(1 << PAIR.index(item.unit) for item in items)
    return ops.add(WAIT, mask, REGISTERS["irq_status"][0], pack("irq_status", error=1), LIMIT)


def read_cycles(ops: OpList, item: Placed) -> int:
    return ops.read(PAIR.index(item.unit), "cycles")


def run(session: Session, ops: OpList, items: Sequence[Placed]) -> Results:
    """Run a list of operations on the networks' memory and compare every output."""
    session.reset()
    segments = [
        s for item in items for s in (*item.program.segments, *item.program.input_segments(item.inputs))
    ]
    reads = [item.program.read_of(name) for item in items for name in item.outputs]
    results, raw = session.run_ops(ops, Job(segments=segments, reads=reads))
    wanted = [(item, name) for item in items for name in item.outputs]
    for (item, name), data in zip(wanted, raw, strict=True):
        value = item.program.decode(name, data)
        assert (value == item.outputs[name].reshape(value.shape)).all(), name
    return results


def predicted(requests: Sequence[Request]) -> tuple[RequestTiming, ...]:
    return time_requests(requests, PAIR.cores, CostModel(PAIR).coefficients(PAIR.units), recording=False)


def services_of(kind: str, session: Session, offsets: Sequence[float]) -> list[tuple[float, float, float]]:
    """Measured and predicted service of both networks, and what each takes alone, for each offset.

    Args:
        kind: the networks.
        session: the simulator.
        offsets: when the second starts, as a share of the first one's time alone; negative: the first waits.
    """
    pair = networks(kind)
    alone = [predicted([Request(item.program.lists)])[0].service for item in pair]
    found: list[tuple[float, float, float]] = []
    for offset in offsets:
        first, second = pair if offset >= 0 else pair[::-1]
        lead = round(abs(offset) * (alone[0] if offset >= 0 else alone[1]))
        ops = OpList()
        for item in pair:
            set_up(ops, item)
        begun = start(ops, first)
        ops.add(DELAY, lead)
        followed = start(ops, second)
        done = wait(ops, first, second)
        cycles = {item.unit: read_cycles(ops, item) for item in pair}
        results = run(session, ops, pair)
        assert results.info(done) == 0
        gap = results.cycle(followed) - results.cycle(begun)
        arrivals = {first.unit: 0.0, second.unit: float(gap)}
        order = sorted(pair, key=lambda item: arrivals[item.unit])
        timings = predicted([Request(item.program.lists, arrivals[item.unit]) for item in order])
        for item, timing in zip(order, timings, strict=True):
            assert (
                0 <= timing.start - arrivals[item.unit] <= 12
            )  # the tables have slower starts than this host
            found.append((results.value(cycles[item.unit]), timing.service, alone[pair.index(item)]))
    return found


@pytest.mark.rtl
def test_networks_that_meet_at_any_time_take_what_is_predicted(pair: Session) -> None:
    """Where they meet, one takes up to a third longer."""
    found = np.array(services_of("digits", pair, (0.0, 0.1, 0.3, 0.6, 0.9, -0.1, -0.3, -0.6, -0.9)))
    measured, expected, alone = found.T
    error = np.abs(expected / measured - 1)
    assert error.mean() < 0.005
    assert error.max() < 0.02
    assert (measured / alone).max() > 1.2
    assert np.corrcoef(measured - alone, expected - alone)[0, 1] > 0.98


@pytest.mark.data
@pytest.mark.rtl
@pytest.mark.parametrize(
    ("kind", "slowest"),
    [
        ("ad01_int8+ad01_int8", 1.95),
        ("kws_ref_model+ad01_int8", 1.2),
        ("pretrainedResnet_quant+vww_96_int8", 1.1),
    ],
)
def test_public_networks_that_meet_take_what_is_predicted(kind: str, slowest: float, pair: Session) -> None:
    """The autoencoder does nothing but load weights: two of them take twice as long."""
    found = np.array(services_of(kind, pair, (0.0, 0.05, 0.3, 0.7, -0.05, -0.3, -0.7)))
    measured, expected, alone = found.T
    error = np.abs(expected / measured - 1)
    assert error.mean() < 0.005
    assert error.max() < 0.01
    assert (measured / alone).max() > slowest


@pytest.mark.rtl
def test_a_unit_that_goes_on_and_on_takes_what_is_predicted_beside_another(pair: Session) -> None:
    """The big unit runs five requests, each started at the interrupt of the one before.

    Each has a memory image of its own: a network may write its results over its input.
    """
    _, little = networks("digits")
    bigs = [placed(load_model("digits_int8"), BIG, base=(number + 1) << 18) for number in range(5)]
    unit = PAIR.index(BIG)
    ops = OpList()
    for item in (little, bigs[0]):
        set_up(ops, item)
    starts, cycles, ends = [start(ops, bigs[0])], [], []
    beside = start(ops, little)
    for number, big in enumerate(bigs):
        ends.append(wait(ops, big))
        cycles.append(read_cycles(ops, big))
        if number + 1 < len(bigs):
            ops.write(unit, "irq_status", BOTH)
            ops.write(unit, "cmd_address", bigs[number + 1].program.starts[BIG][0])
            starts.append(start(ops, bigs[number + 1]))
    ends.append(wait(ops, bigs[0], little))
    cycles.append(read_cycles(ops, little))
    results = run(pair, ops, (*bigs, little))
    assert [results.info(op) for op in ends] == [0] * 6
    measured = [results.value(op) for op in cycles]
    begun = [results.cycle(op) - results.cycle(starts[0]) for op in (*starts, beside)]
    lists = [item.program.lists for item in (*bigs, little)]
    requests = [Request(item, float(at)) for item, at in zip(lists, begun, strict=True)]
    timings = predicted(requests)
    errors = [timing.service / value - 1 for timing, value in zip(timings, measured, strict=True)]
    assert np.abs(errors).mean() < 0.005
    assert np.abs(errors).max() < 0.02  # the little one, which meets all five at the port
    alone = predicted([Request(lists[0])])[0].service
    assert measured[0] > 1.1 * alone  # beside the little unit's request
    assert measured[3] == pytest.approx(alone, rel=0.01)  # which has ended long before
