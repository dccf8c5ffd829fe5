# SPDX-License-Identifier: Apache-2.0
"""What it costs to cut networks into sections: cycles and energy beside the network as a whole, in RTL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from common.paths import data_dir
from mapping.bench.networks import BIG, LIMITS
from mapping.report.console import console_table
from mapping.scheduling.arrivals import Trace
from mapping.scheduling.deployment import Option, deploy
from mapping.scheduling.metrics import request_energy_uj
from mapping.scheduling.policy import Start, UnitState, Waiting
from mapping.scheduling.rtl_replay import replay
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.versions import Version
from mapping.scheduling.workload import Stream, Workload, arrivals_of
from tb.session import Session

SHARES = (1 / 2, 1 / 4, 1 / 8)
"""Longest sections that are asked for: shares of the network's cycles."""


@dataclass(frozen=True)
class Price:
    """A network in sections, one after the other without anything between, beside the whole one.

    Attributes:
        network: the network.
        asked: cycles that a section should take at most.
        sections: how many there are.
        longest: cycles of the longest, in RTL.
        whole: cycles of the whole network, in RTL.
        predicted: cycles of all sections, predicted.
        measured: cycles of all sections, in RTL.
        between: cycles of the host between two sections, on average.
        energy_percent: what they take more than the whole network, by the energy model; None without tables.
        exact: whether the outputs of both are the golden model's.
    """

    network: str
    asked: float
    sections: int
    longest: float
    whole: float
    predicted: float
    measured: float
    between: float
    energy_percent: float | None
    exact: bool

    @property
    def price_percent(self) -> float:
        """What the sections take more than the whole network, in RTL."""
        return 100.0 * (self.measured / self.whole - 1.0)


def prices(session: Session, progress: Callable[[int, int], None] = lambda _done, _all: None) -> list[Price]:
    """Return the prices of the networks of `LIMITS` that are on this machine, on npu8.

    Args:
        session: a session of the default system.
        progress: called with the networks that are done and all.
    """
    found: list[Price] = []
    for done, name in enumerate(LIMITS):
        file = data_dir() / "models" / f"{name}.tflite"
        if file.exists():
            found += _network_prices(session, name, str(file))
        progress(done + 1, len(LIMITS))
    return found


def _network_prices(session: Session, name: str, file: str) -> list[Price]:
    version = Version(name, name, file, BIG)
    whole_cycles = deploy(session.config, [version]).options[name][0].cycles
    asked = [round(share * whole_cycles) for share in SHARES]
    cut = [Version(f"{name}_{cycles}", name, file, BIG, longest_section=cycles) for cycles in asked]
    deployment = deploy(session.config, [version, *cut])
    options = deployment.options[name]
    load = Workload((Stream(name, name, Trace(tuple(10 * whole_cycles * i for i in range(len(options))))),))

    def each(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        del now, units
        return [
            Start(item.number, item.options[0] if item.begun else options[item.number]) for item in waiting
        ]

    predicted = simulate(deployment, load, arrivals_of(load), each)
    done = replay(predicted, session)
    cut_ones = range(1, len(options))
    return [
        _price(name, asked[i - 1], options[i], predicted, done.run, i, done.exact[0] and done.exact[i])
        for i in cut_ones
    ]


def _price(
    name: str, asked: float, option: Option, predicted: Run, measured: Run, number: int, exact: bool
) -> Price:
    whole, cut = measured.requests[0], measured.requests[number]
    energies = [request_energy_uj(measured, request) for request in (whole, cut)]
    energy = None if energies[0] is None or energies[1] is None else 100 * (energies[1] / energies[0] - 1)
    gaps = [after.start - before.end for before, after in zip(cut.spans, cut.spans[1:], strict=False)]
    return Price(
        network=name,
        asked=asked,
        sections=len(option.sections),
        longest=max(span.end - span.start for span in cut.spans),
        whole=whole.service or 0.0,
        predicted=predicted.requests[number].service or 0.0,
        measured=cut.service or 0.0,
        between=sum(gaps) / len(gaps) if gaps else 0.0,
        energy_percent=energy,
        exact=exact,
    )


def prices_table(found: Sequence[Price]) -> Table:
    """Return the prices as a table."""
    numbers = (
        "asked",
        "sections",
        "longest",
        "whole",
        "all sections",
        "predicted",
        "cycles %",
        "energy %",
        "host",
    )
    table = console_table(f"networks in sections, on {BIG}, cycles", ("network",), numbers)
    for item in found:
        table.add_row(
            item.network,
            f"{item.asked:,.0f}",
            str(item.sections),
            f"{item.longest:,.0f}",
            f"{item.whole:,.0f}",
            f"{item.measured:,.0f}",
            f"{item.predicted:,.0f}",
            f"{item.price_percent:+.1f}",
            "" if item.energy_percent is None else f"{item.energy_percent:+.1f}",
            f"{item.between:.0f}",
        )
    return table


def missed_prices(found: Sequence[Price]) -> list[str]:
    """Return a line for every network whose outputs differ."""
    return [
        f"{item.network} in {item.sections} sections: its output differs from the golden model"
        for item in found
        if not item.exact
    ]
