# SPDX-License-Identifier: Apache-2.0
"""Durations in files: a number of cycles, or text with s, ms or us where there is a clock."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from mapping.scheduling.workload import WorkloadError

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_DURATION = re.compile(r"([0-9.eE+-]+)\s*([a-zµ]+)")
MAX_CYCLES = 1e15
"""Most cycles of a time: beyond them, cycles are no longer told apart."""


def plain(value: Any) -> Any:
    """Return text that is a number as one: YAML takes 1e6 for text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def cycles_of(
    entry: Mapping[str, Any], key: str, where: str, clock_mhz: float | None, *, zero: bool = False
) -> float:
    """Return a duration in cycles: a number of cycles, or a number with s, ms or us.

    Args:
        entry: what has the duration.
        key: its key there.
        where: the file and the entry, for messages.
        clock_mhz: cycles in a microsecond; None: there are only cycles.
        zero: whether it may be 0.

    Raises:
        WorkloadError: it is no duration.
    """
    value = entry.get(key)
    factor = 1.0
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match and match[2] in (*_SECONDS, "cycles"):
            if match[2] != "cycles":
                factor = cycles_per_second(clock_mhz, where, key, value) * _SECONDS[match[2]]
            value = match[1]
        value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WorkloadError(f"{where}: {key} is {entry.get(key)!r}; write cycles, or a time as in 5 ms")
    if value < 0 or (value == 0 and not zero):
        raise WorkloadError(f"{where}: {key} is {entry.get(key)!r}; a time must be above 0")
    return some(value * factor, key, where)


def cycles_per_second(clock_mhz: float | None, where: str, key: str, value: object) -> float:
    """Return the clock's cycles of a second.

    Raises:
        WorkloadError: there is no clock.
    """
    if clock_mhz is None:
        raise WorkloadError(f"{where}: {key} is {value!r}, and there is no clock; give clock_mhz")
    return clock_mhz * 1e6


def some(cycles: float, key: str, where: str) -> float:
    """Return a number of cycles that is not beyond all measure.

    Raises:
        WorkloadError: it is.
    """
    if cycles > MAX_CYCLES:
        raise WorkloadError(f"{where}: {key} is more than {MAX_CYCLES:g} cycles; write less")
    return cycles
