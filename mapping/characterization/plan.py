# SPDX-License-Identifier: Apache-2.0
"""Which columns are looked at, and in which windows of recorded layers: for the fit and its validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from mapping.characterization.recording import NetworkStreams, Stream
from mapping.characterization.windows import Window, pruned, warm_up_begin
from mapping.energy.features import unpack

FIT_IMAGE, VALIDATION_IMAGE = 0, 1
"""Inputs of the networks that are recorded, for the fit and for its validation."""
FIT_CYCLES, VALIDATION_CYCLES = 60, 256
FIT_PLACES = (0.15, 0.5, 0.8)
"""Where in a layer the fit's windows begin."""
VALIDATION_PLACE = 0.4
MANY_CELLS_BITS = 4
"""Widths above have columns of so many cells that fewer of them are replayed."""
PRUNED_BITS, PRUNED = 3, (0.5, 0.9)
"""Least width whose weights are pruned for some windows, and the shares of zeros."""
SHORT = 160
"""Cycles of a layer that is one window."""


@dataclass(frozen=True)
class Plan:
    """Which columns of the array are looked at: for the fit, and for its validation."""

    fit: tuple[int, ...]
    validation: tuple[int, ...]


def plan_of(core: CoreConfig) -> Plan:
    """Return the plan for a unit.

    Columns of one variant: behind the first ROWS columns, which also sum depthwise products, if most columns
    are; else behind the depthwise taps. Behind the first slice of 16 too if there are more: its accumulators
    may be wider.
    """
    first = core.rows if core.columns >= 2 * core.rows else core.dw_taps
    if core.columns > CHANNEL_BLOCK:
        first = max(first, CHANNEL_BLOCK)
    period, count = (2, 8) if core.w_bits > MANY_CELLS_BITS else (3, 12)
    places = np.linspace(first, core.columns - 1, count).round().astype(int).tolist()
    chosen = list(dict.fromkeys(places))
    validation = chosen[1::period]
    return Plan(fit=tuple(place for place in chosen if place not in validation), validation=tuple(validation))


def _column_window(
    streams: NetworkStreams, stream: Stream, layer: str, begin: int, end: int
) -> Window | None:
    """Return a window, or None where the array does not work."""
    if not any(stream.signals["mac_i"][1][begin:end]):
        return None
    return Window(f"{streams.network}/{layer}", stream, begin, end)


def fit_windows(streams: NetworkStreams) -> list[tuple[int, Window]]:
    """Return the fit's windows of the columns, with the number of the column in the plan."""
    windows = []
    for number, stream in enumerate(streams.columns):
        for layer, begin, end in streams.layers:
            short = end - begin < SHORT
            starts = [begin] if short else [int(begin + p * (end - begin)) for p in FIT_PLACES]
            for start in starts:
                stop = end if short else start + FIT_CYCLES
                window = _column_window(streams, stream, layer, start, stop)
                if window:
                    windows.append((number, window))
    return windows


def pruned_windows(windows: Sequence[Window], core: CoreConfig) -> list[Window]:
    """Return some of a fit's windows with more zeros among the weights than real layers of 8 bits have."""
    if core.w_bits < PRUNED_BITS:
        return []
    dense = [
        window
        for window in windows
        if window.end - window.begin == FIT_CYCLES
        and not any(window.stream.signals["depthwise_i"][1][warm_up_begin(window.begin) - 1 : window.end])
    ]
    return [
        pruned(window, PRUNED[i // 3 % len(PRUNED)], core.a_bits, core.w_bits)
        for i, window in enumerate(dense)
        if i % 3 == 0
    ]


def validation_windows(streams: NetworkStreams) -> list[tuple[int, Window]]:
    """Return the validation windows: for each column, VALIDATION_CYCLES in convolutions that use it."""
    windows = []
    for number, stream in enumerate(streams.columns):
        for layer, begin, end in streams.layers:
            if end - begin < VALIDATION_CYCLES:
                continue
            start = min(int(begin + VALIDATION_PLACE * (end - begin)), end - VALIDATION_CYCLES)
            window = _column_window(streams, stream, layer, start, start + VALIDATION_CYCLES)
            used = any(stream.signals["weight_q"][1][start : start + VALIDATION_CYCLES])
            dense = not any(stream.signals["depthwise_i"][1][start : start + VALIDATION_CYCLES])
            if window and used and dense:
                windows.append((number, window))
    return windows


def zero_share(windows: Sequence[Window], w_bits: int) -> float:
    """Return the share of zeros among the weights that a column's windows hold."""
    words = [window.stream.signals["weight_q"] for window in windows]
    spans = zip(words, windows, strict=True)
    held = [value for (_, values), window in spans for value in values[window.begin : window.end]]
    return float((unpack(held, words[0][0], w_bits) == 0).mean())
