# SPDX-License-Identifier: Apache-2.0
"""Whole networks beside what bounds them, and a wide layer on one unit, on the other, and on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.table import Table

from common.paths import data_dir
from golden.importers.models import load_model
from golden.layer import Layer
from golden.network import Network, Node, Tensor, placeholder
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.report.console import console_table
from mapping.report.networks import bound_cycles
from mapping.run.networks import NetworkRun, compile_network, network_job, run_inputs
from tb.session import Session
from tb.speed import Speed, compare_speed

BIG, LITTLE = System().units
"""The units of the default system, on which networks are measured."""
LIMITS = {"pretrainedResnet_quant": 1.20, "kws_ref_model": 1.35, "vww_96_int8": 1.35, "ad01_int8": 1.15}
"""Public int8 networks (MLPerf Tiny), and the most cycles that npu8 may take for each cycle of the bound."""
SPEED_REPEATS = 20


@dataclass(frozen=True)
class SplitCase:
    """A wide layer's cycles on each unit alone and on both, by unit."""

    channels: int
    shared: tuple[int, int]
    cycles: dict[str, int]
    exact: bool


def models() -> list[Network]:
    """Return those of the networks of `LIMITS` that are on this machine."""
    files = [data_dir() / "models" / f"{name}.tflite" for name in LIMITS]
    return [load_model(file) for file in files if file.exists()]


def run_random(session: Session, network: Network, assignment: Assignment) -> NetworkRun:
    """Run a network on one random input, its output compared; cycles do not depend on the data."""
    program = compile_network(network, session.config, assignment)
    inputs = np.random.default_rng(1).integers(-128, 128, network.input.shape).astype(np.int8)
    return next(run_inputs(session, program, inputs))


def network_runs(session: Session) -> list[NetworkRun]:
    """Run every network of `models` on npu8."""
    return [run_random(session, network, Assignment(BIG)) for network in models()]


def missed_network_targets(runs: Sequence[NetworkRun]) -> list[str]:
    """Return a line for every network beyond its limit, and for every output that differs."""
    missed = []
    for run in runs:
        name, limit = run.program.network.name, LIMITS[run.program.network.name]
        ratio = run.cycles / bound_cycles(run.program)
        if ratio > limit:
            missed.append(f"{name}: {ratio:.3f} x the bound, the limit {limit}")
        if not run.exact:
            missed.append(f"{name}: its output differs from the golden model")
    return missed


def network_table(runs: Sequence[NetworkRun]) -> Table:
    """Return the table of the networks: cycles, bound, and where the compute engine's cycles went."""
    title = f"Networks on {BIG}, end to end; compute engine: share of cycles that it runs, or waits for"
    numbers = (
        "MACs", "cycles", "bound", "ratio", "limit", "array busy", "run", "token", "weights", "drain",
    )  # fmt: skip
    table = console_table(title, ("network",), numbers)
    for run in runs:
        network, counters = run.program.network, run.counters[BIG]
        bound, cycles = bound_cycles(run.program), counters["cycles"]
        core = run.program.config.core(BIG)
        states = ("run", "wait_token", "wait_memory", "wait_drain")
        shares = [counters[f"compute_{state}"] / cycles for state in states]
        table.add_row(
            network.name, f"{network.macs:,}", f"{run.cycles:,}", f"{bound:,}", f"{run.cycles / bound:.3f}",
            f"{LIMITS[network.name]:.2f}", f"{network.macs / (core.rows * core.columns * run.cycles):.1%}",
            *(f"{share:.1%}" for share in shares),
        )  # fmt: skip
    return table


def split_network(channels: int = 80) -> Network:
    """Return a network of one wide convolution, 3 x 3 on 16 x 16 x 64, with ternary weights."""
    rng = np.random.default_rng(1)
    layer = Layer(
        name="wide", op="conv2d", input=placeholder((16, 16, 64)),
        weights=rng.integers(-1, 2, (channels, 3, 3, 64)).astype(np.int8),
        bias=np.zeros(channels, np.int32), multiplier=np.full(channels, 1 << 30, np.int32),
        shift=np.full(channels, -4, np.int32), padding=(1, 1, 1, 1),
    )  # fmt: skip
    node = Node(
        name="wide", op="conv2d", inputs=("input",), output=Tensor(shape=(16, 16, channels)), layer=layer,
        weight_scales=np.ones(channels), weight_bits=np.full(channels, 2, np.int8),
    )  # fmt: skip
    return Network(name="wide", input_name="input", input=Tensor(shape=(16, 16, 64)), nodes=(node,))


def split_case(session: Session, channels: int = 80, shared: tuple[int, int] = (16, 64)) -> SplitCase:
    """Run a wide layer on each unit alone and on both.

    Args:
        session: a session of the default pair.
        channels: output channels.
        shared: how many of them npu8 and npu_lb make when both work.
    """
    network = split_network(channels)
    both = Assignment(BIG, {"wide": {BIG: shared[0], LITTLE: shared[1]}})
    places = {BIG: Assignment(BIG), LITTLE: Assignment(LITTLE), "both": both}
    runs = {name: run_random(session, network, assignment) for name, assignment in places.items()}
    cycles = {name: run.cycles for name, run in runs.items()}
    return SplitCase(channels, shared, cycles, all(run.exact for run in runs.values()))


def split_table(case: SplitCase) -> Table:
    """Return the table of a split layer."""
    title = f"conv 3x3 64-{case.channels}, 16x16, ternary weights: on one unit and on both"
    numbers = (f"channels on {BIG}", f"channels on {LITTLE}", "cycles")
    table = console_table(title, (), numbers, no_wrap=False, min_width=len(title))
    rows = {BIG: (case.channels, 0), LITTLE: (0, case.channels), "both": case.shared}
    for name, (first, second) in rows.items():
        table.add_row(str(first), str(second), f"{case.cycles[name]:,}")
    return table


def missed_split(case: SplitCase) -> list[str]:
    """Return a line if a split layer is not faster than on either unit alone, or not exact."""
    missed = [] if case.exact else ["split layer: its output differs from the golden model"]
    alone = min(case.cycles[BIG], case.cycles[LITTLE])
    if case.cycles["both"] >= alone:
        missed.append(f"split layer: {case.cycles['both']:,} cycles on both units, {alone:,} on one")
    return missed


def network_speed(network: Network, session: Session) -> Speed:
    """Return the simulator's speed on a network, in a session and in the plain harness, same job."""
    program = compile_network(network, session.config, Assignment(BIG))
    job = network_job(program, np.zeros(network.input.shape, np.int8))
    (unit, (address, count)), *_ = job.starts.items()
    commands = next(data for start, data in job.segments if start == address)
    at = (program.program.end + 63) // 64 * 64
    segments = [*job.segments, (at, np.tile(commands, SPEED_REPEATS))]
    starts = {unit: (at, SPEED_REPEATS * count)}
    return compare_speed(
        session.config, replace(job, segments=segments, starts=starts, reads=(), max_cycles=100_000_000)
    )
