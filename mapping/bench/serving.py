# SPDX-License-Identifier: Apache-2.0
"""How many requests a second the two clocks and the RTL serve, and how far they are from each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from common.paths import data_dir
from golden.importers.models import load_model
from golden.network_file import save_network
from golden.quantize.weights import quantize_weights
from hw.system import System
from mapping.bench.networks import BIG, LIMITS, LITTLE
from mapping.compiler.widths import weight_widths
from mapping.report.console import console_table
from mapping.scheduling.arrivals import Poisson
from mapping.scheduling.clocks import EXACT, FAST
from mapping.scheduling.deployment import Deployment, deploy
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.rtl_replay import replay
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.versions import Version
from mapping.scheduling.workload import Stream, Workload, arrivals_of
from tb.session import Session

POLICY = "fifo"
LOAD = 0.6
"""Share of what both units can do together."""
REQUESTS = 50
"""Of each network."""
LEAST = {FAST: 10_000.0, EXACT: 20.0, "rtl": 100.0 / 60.0}
"""Requests for each second of processor time."""


@dataclass(frozen=True)
class Served:
    """Requests as a clock serves them.

    Attributes:
        clock: the clock, or the RTL.
        requests: how many.
        seconds: of processor time; of the RTL of wall time, simulator and comparisons included.
        mean: of the responses, cycles.
        p95: their 95th percentile.
        wrong: outputs that differ from the golden model's; None where nothing is run.
    """

    clock: str
    requests: int
    seconds: float
    mean: float
    p95: float
    wrong: int | None = None

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def mixed_load(folder: Path, system: System) -> tuple[Deployment, Workload] | None:
    """Return the public networks in equal numbers, at 8 bits on npu8, narrower on npu_lb; None without them.

    Args:
        folder: where networks with narrower weights are written.
        system: the default one.
    """
    versions: list[Version] = []
    little = system.core(LITTLE)
    for name in LIMITS:
        file = data_dir() / "models" / f"{name}.tflite"
        if not file.exists():
            continue
        network = load_model(file)
        narrow = folder / f"{name}.npz"
        save_network(quantize_weights(network, weight_widths(network, system, little.w_bits))[0], narrow)
        versions.append(Version(f"{name}_w8", name, str(file), BIG))
        versions.append(Version(f"{name}_w{little.w_bits}", name, str(narrow), LITTLE))
    if not versions:
        return None
    deployment = deploy(system, versions)
    capacity = 0.0  # requests a cycle
    for unit in system.units:
        cycles = [o.cycles for made in deployment.options.values() for o in made if o.units == (unit,)]
        capacity += len(cycles) / sum(cycles)
    networks = list(deployment.options)
    gap = len(networks) / (LOAD * capacity)
    streams = (Stream(name, name, Poisson(gap), requests=REQUESTS) for name in networks)
    return deployment, Workload(tuple(streams))


def serving_speed(session: Session, deployment: Deployment, load: Workload) -> list[Served]:
    """Return what each clock makes of a workload, and the RTL, which replays what the exact clock decides."""
    found: list[Served] = []
    runs: dict[str, Run] = {}
    arrivals = arrivals_of(load)
    for clock in (FAST, EXACT):
        simulate(deployment, load, arrivals, SHIPPED[POLICY], clock)  # slow-downs and works are kept
        began = time.process_time()
        runs[clock] = simulate(deployment, load, arrivals, SHIPPED[POLICY], clock)
        found.append(_served(clock, runs[clock], time.process_time() - began))
    began = time.perf_counter()
    done = replay(runs[EXACT], session)
    wrong = sum(not exact for exact in done.exact.values())
    return [*found, _served("rtl", done.run, time.perf_counter() - began, wrong)]


def _served(clock: str, run: Run, seconds: float, wrong: int | None = None) -> Served:
    total = metrics(run).total
    return Served(clock, len(run.requests), seconds, total.mean, total.p95, wrong)


def bench_serving(session: Session) -> list[Served]:
    """Return the speeds of serving the public networks; nothing without them."""
    with TemporaryDirectory() as folder:
        mixed = mixed_load(Path(folder), session.config)
        return serving_speed(session, *mixed) if mixed else []


def serving_table(found: Sequence[Served]) -> Table:
    """Return the speeds as a table; responses beside those of the exact clock."""
    numbers = ("requests", "s", "requests/s", "mean response", "%", "95 %", "%", "wrong")
    table = console_table(f"public networks on the pair, load {LOAD}, {POLICY}", ("clock",), numbers)
    exact = next(item for item in found if item.clock == EXACT)
    for item in found:
        table.add_row(
            item.clock,
            f"{item.requests:,}",
            f"{item.seconds:.3f}",
            f"{item.rate:,.1f}",
            f"{item.mean:,.0f}",
            f"{100 * (item.mean / exact.mean - 1):+.2f}",
            f"{item.p95:,.0f}",
            f"{100 * (item.p95 / exact.p95 - 1):+.2f}",
            "" if item.wrong is None else str(item.wrong),
        )
    return table


def missed_serving(found: Sequence[Served]) -> list[str]:
    """Return a line for every clock that is too slow, and for outputs that differ."""
    slow = [
        f"{item.clock}: {item.rate:,.1f} requests a second, not {LEAST[item.clock]:,.1f}"
        for item in found
        if item.rate < LEAST[item.clock]
    ]
    return slow + [f"{item.clock}: {item.wrong} outputs differ" for item in found if item.wrong]
