# SPDX-License-Identifier: Apache-2.0
"""The bench of imports says which limit is missed; the seconds themselves are for a quiet machine."""

import pytest
from torch import nn

from mapping.bench import export as bench
from mapping.bench.export import ImportTime, import_table, import_time, missed_import_times
from npuloop.cli.console import console


def test_a_small_network_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    small = nn.Sequential(
        nn.Conv2d(3, 8, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    monkeypatch.setitem(bench.NETWORKS, "small", (lambda: small, 60.0))
    time = import_time("small")
    assert time.network == "small"
    assert time.export > 0
    assert time.compile > 0
    assert missed_import_times([time]) == []


def test_what_takes_too_long_is_named() -> None:
    times = [ImportTime("ResNet18", 5.1, 1.0), ImportTime("MobileNetV2", 2.0, 5.2)]
    assert missed_import_times(times) == [
        "export of ResNet18 takes 5.1 s, the limit is 5",
        "compilation of MobileNetV2 takes 5.2 s, the limit is 5",
    ]
    with console.capture() as capture:
        console.print(import_table(times))
    assert [line.split() for line in capture.get().splitlines()[-2:]] == [
        ["ResNet18", "5.1", "1.0"], ["MobileNetV2", "2.0", "5.2"]
    ]  # fmt: skip
