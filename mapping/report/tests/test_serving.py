# SPDX-License-Identifier: Apache-2.0
"""Tables of a served workload: their cells say what the figures say."""

from __future__ import annotations

from dataclasses import replace

from mapping.report.serving import policies_table, rtl_summary, streams_table, summary
from mapping.report.tests.test_console_tables import headings, rows
from mapping.scheduling.bounds import Optimum
from mapping.scheduling.measured import Measured
from mapping.scheduling.metrics import Metrics, Responses
from mapping.scheduling.testing import trace, workload
from mapping.scheduling.tests.test_measured import measured_load

SOME = Responses(requests=4, served=3, mean=1234.0, p95=2000.0, late_percent=25.0, drop_points=0.4)
NONE = Responses(
    requests=2, served=0, mean=float("nan"), p95=float("nan"), late_percent=None, drop_points=0.0
)
FIGURES = Metrics(
    total=SOME,
    streams={"x": SOME, "y": NONE},
    makespan=10_000.0,
    utilisation={"big": 0.5, "little": 0.25},
    contention_percent=3.21,
    events_uj={"array": 4.0, "external_memory": 1.0},
    busy_uj=2.0,
    idle_uj=3.0,
)
LOAD = workload(trace("x", 0, deadline=5000), trace("y", 0))


def test_streams_are_in_cycles_without_a_clock_and_in_milliseconds_with_one() -> None:
    table = streams_table(FIGURES, LOAD)
    assert rows(table) == [
        ["x", "x", "4", "3", "5,000", "1,234", "2,000", "25.0", "0.40"],
        ["y", "y", "2", "0", "", "-", "-", "", "0.00"],
        ["all", "", "4", "3", "", "1,234", "2,000", "25.0", "0.40"],
    ]
    timed = streams_table(FIGURES, replace(LOAD, clock_mhz=10.0))
    assert rows(timed)[0][4:7] == ["0.500", "0.123", "0.200"]
    assert timed.title == "responses, ms"


def test_a_summary_has_units_contention_and_the_parts_of_the_energy() -> None:
    text = summary(FIGURES)
    assert "10,000 cycles; units at work: big 50%, little 25%; services 3.2 % longer than alone" in text
    assert "10.0 µJ: clocks and leakage of units at work 2.0, of units at rest 3.0, array 4.0" in text
    assert summary(replace(FIGURES, events_uj=None)).endswith("no energy: a unit has no energy table")


def test_rtl_stands_beside_its_prediction() -> None:
    predicted, real = measured_load()
    assert rtl_summary(predicted, real) == (
        "in RTL: 3 of 4 requests exact; mean response 27 cycles, predicted 23 (-14.8 %), 95 % 43 cycles, "
        "predicted 37 (-13.5 %); services off by 14.14 %, at most 16.7 %"
    )
    nothing = Measured(predicted, {}, {})
    assert rtl_summary(predicted, nothing) == "in RTL: 0 of 0 requests exact"


def test_policies_are_means_over_seeds_with_an_interval() -> None:
    other = replace(FIGURES, total=replace(SOME, mean=1434.0, late_percent=None), events_uj=None)
    table = policies_table({"fifo": [FIGURES, other], "edf": [FIGURES]}, LOAD, Optimum(900.0, None))
    assert headings(table) == [
        "policy", "mean response", "± (95 %)", "95 %", "late %", "energy of one, µJ", "accuracy drop",
    ]  # fmt: skip
    assert rows(table) == [
        ["fifo", "1,334", "1,271", "2,000", "", "", "0.40"],
        ["edf", "1,234", "-", "2,000", "25.0", "3.33", "0.40"],
        ["optimum", "900", "", "", "", "", ""],
    ]
