# SPDX-License-Identifier: Apache-2.0
"""The bench of serving: two clocks and the RTL serve the same requests, and are measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.testing import data_dir, require
from mapping.bench import serving
from mapping.bench.networks import LIMITS
from mapping.bench.serving import Served, bench_serving, missed_serving, serving_table
from npuloop.cli.console import console
from tb.session import Session

pytestmark = pytest.mark.rtl


@pytest.mark.data
def test_clocks_and_rtl_serve_the_same_requests(pair: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    require(data_dir() / "models")
    monkeypatch.setattr(serving, "REQUESTS", 2)
    fast, exact, rtl = bench_serving(pair)
    assert [item.clock for item in (fast, exact, rtl)] == ["fast", "exact", "rtl"]
    assert fast.requests == exact.requests == rtl.requests == 2 * len(LIMITS)
    assert fast.rate > exact.rate > rtl.rate > 0
    assert rtl.wrong == 0
    assert rtl.mean == pytest.approx(exact.mean, rel=0.01)
    assert fast.mean == pytest.approx(exact.mean, rel=0.05)
    with console.capture() as capture:
        console.print(serving_table([fast, exact, rtl]))
    assert [line.split()[0] for line in capture.get().splitlines()[2:]] == ["fast", "exact", "rtl"]


def test_what_is_slow_or_wrong_is_named() -> None:
    good = Served("exact", 200, 1.0, 5.0, 9.0)
    assert missed_serving([good]) == []
    assert missed_serving([replace(good, seconds=20.0)]) == ["exact: 10.0 requests a second, not 20.0"]
    assert missed_serving([replace(good, clock="rtl", wrong=3)]) == ["rtl: 3 outputs differ"]


def test_without_the_networks_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, pair: Session) -> None:
    monkeypatch.setattr(serving, "LIMITS", {})
    assert bench_serving(pair) == []
