# SPDX-License-Identifier: Apache-2.0
"""Windows of recorded streams as stimuli of a block's netlist.

Windows of one block follow each other in one stimulus. Before each, some cycles bring the block's registers
to a known state, and some of the stream follow; their energy does not count. Outputs are compared with the
recording in every cycle in which they follow from what the block has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gates.netlist import Netlist
from gates.replay import Stimulus
from mapping.characterization.recording import Stream
from mapping.energy.features import unpack

WARM_UP_CYCLES = 8
"""Cycles of the stream before a window, so that pipelines hold what they held."""
Cycle = dict[str, int]
"""Values of a block's inputs in a cycle."""


@dataclass(frozen=True)
class Window:
    """Some cycles of a stream: where it comes from, which, and the share of weights made zero."""

    layer: str
    stream: Stream
    begin: int
    end: int
    pruned: float = 0.0


def pruned(window: Window, share: float, a_bits: int, w_bits: int) -> Window:
    """Return a column's window as if a share of its weights were zero, with the sums that follow.

    Which weights are zero is drawn for each weight tile, from a fixed seed. Not for depthwise beats.
    """
    rng = np.random.default_rng(round(1000 * share))
    signals, end = dict(window.stream.signals), window.end
    width, held = signals["weight_q"]
    rows = width // w_bits
    lane = (1 << w_bits) - 1
    kept: dict[int, int] = {}  # by the weights before

    def thinned(word: int) -> int:
        if word not in kept:
            stays = rng.random(rows) >= share
            kept[word] = word & sum(lane << (w_bits * row) for row in range(rows) if stays[row])
        return kept[word]

    before = max(warm_up_begin(window.begin) - 1, 0)
    weights = [*held[:before], *map(thinned, held[before:end])]
    signals["weight_q"] = (width, weights)
    tiles = signals["tile_i"][1]
    signals["tile_i"] = (width, [*tiles[:before], *map(thinned, tiles[before:end])])
    operands = unpack(signals["operand"][1][before:end], signals["operand"][0], a_bits)
    bits = signals["sum_o"][0]
    sums = ((operands * unpack(weights[before:end], width, w_bits)).sum(axis=1) & ((1 << bits) - 1)).tolist()
    shown = [0] * (before + 1)
    for total, mac in zip(sums, signals["mac_i"][1][before:end], strict=True):
        shown.append(total if mac else shown[-1])
    signals["sum_o"] = (bits, shown)
    stream = replace(window.stream, signals=signals)
    return replace(window, stream=stream, pruned=share)


@dataclass(frozen=True)
class Segments:
    """A stimulus of several windows.

    Attributes:
        stimulus: inputs and expected outputs.
        spans: first cycle and end of each window in it.
    """

    stimulus: Stimulus
    spans: tuple[tuple[int, int], ...]


def warm_up_begin(begin: int) -> int:
    """Return the cycle from which on a window is replayed; its energy counts from `begin` on."""
    return begin - WARM_UP_CYCLES if begin > WARM_UP_CYCLES else begin


def segments(windows: Sequence[Window], netlist: Netlist) -> Segments:
    """Return the windows of a block as one stimulus of its netlist.

    Args:
        windows: of one block each.
        netlist: the block's.
    """
    prepare, known = _BLOCKS.get(windows[0].stream.block, (_prepare_engine, _known_engine))
    inputs = {port.name: len(port.bits) for port in netlist.ports_of("input") if port.name != "clk_i"}
    outputs = [port.name for port in netlist.ports_of("output")]
    values: dict[str, list[int]] = {name: [] for name in inputs}
    expected: dict[str, list[int | None]] = {name: [] for name in outputs}
    spans = []
    for window in windows:
        signals, end = window.stream.signals, window.end
        begin = warm_up_begin(window.begin)
        lead = prepare(signals, begin, end)
        first = known(signals, begin, end)
        for cycle in lead:
            for name in inputs:
                values[name].append(cycle.get(name, signals[name][1][begin]))
            for name in outputs:
                expected[name].append(None)
        for name in inputs:
            values[name] += signals[name][1][begin:end]
        for name in outputs:
            from_cycle = first.get(name, begin)
            expected[name] += [
                value if t >= from_cycle else None
                for t, value in enumerate(signals[name][1][begin:end], begin)
            ]
        stop = len(values[next(iter(inputs))])
        spans.append((stop - (end - window.begin), stop))
    return Segments(
        Stimulus(
            inputs={name: (width, values[name]) for name, width in inputs.items()},
            expected=expected,
            clock="clk_i" if "clk_i" in netlist.ports else None,
        ),
        tuple(spans),
    )


# ------------------------------------------------------------------------------------------------- by block
Signals = Mapping[str, tuple[int, list[int]]]


def _first(values: Sequence[int], begin: int, end: int) -> int:
    """Return the cycle after the first in which a signal is up; the end if there is none."""
    return next((t + 1 for t in range(begin, end) if values[t]), end)


def _prepare_column(signals: Signals, begin: int, end: int) -> list[Cycle]:
    del end
    weights = signals["weight_q"][1][begin]
    still = {"mac_i": 0, "swap_i": 0, "depthwise_i": 0}
    return [
        still | {"swap_i": 1, "tile_i": weights},
        still | {"mac_i": 1, "operand_i": signals["operand_i"][1][max(begin - 1, 0)]},
    ]


def _known_column(signals: Signals, begin: int, end: int) -> dict[str, int]:
    mac, depthwise = signals["mac_i"][1], signals["depthwise_i"][1]
    return {"sum_o": _first([m & ~d for m, d in zip(mac, depthwise, strict=True)], begin, end)}


def _prepare_accumulator(signals: Signals, begin: int, end: int) -> list[Cycle]:
    """Write the words that the window reads before it writes them, then set what was read of each bank."""
    words, (read_bits, held) = _words_read(signals, begin, end), signals["read_q"]
    still = {"read_i": 0, "select_i": 0, "forward_i": 0, "add_i": 0, "max_i": 0, "first_i": 1}
    depth, width = signals["write_select_i"][0], read_bits // 2
    write = [
        still | {"add_i": 1, "bank_i": word // depth, "write_select_i": 1 << word % depth, "value_i": value}
        for word, value in words.items()
    ]
    lanes = (1 << width) - 1
    read = [
        still | {"read_i": 1 << bank, "forward_i": 1 << bank, "value_i": held[begin] >> width * bank & lanes}
        for bank in (0, 1)
    ]
    return write + read


def _words_read(signals: Signals, begin: int, end: int) -> dict[int, int]:
    """Return the words that are read in some cycles and that were written before them, with what they hold.

    A word's number is that of its pixel, and of the second bank's DEPTH more.
    """
    depth = signals["write_select_i"][0]
    add, bank, written, sums = (signals[name][1] for name in ("add_i", "bank_i", "write_select_i", "sum"))
    read, select, forward = (signals[name][1] for name in ("read_i", "select_i", "forward_i"))

    def writes(t: int) -> int | None:
        return bank[t] * depth + written[t].bit_length() - 1 if add[t] else None

    wanted: dict[int, None] = {}
    fresh: set[int | None] = set()
    for t in range(begin, end):
        chosen = select[t] & ~_banks(forward[t], depth) & _banks(read[t], depth)
        words = [word for word in range(2 * depth) if chosen >> word & 1] if chosen else []
        wanted |= dict.fromkeys(word for word in words if word not in fresh)
        fresh.add(writes(t))
    held: dict[int, int] = {}
    for t in range(begin - 1, -1, -1):
        if len(held) == len(wanted):
            break
        word = writes(t)
        if word in wanted and word not in held:
            held[word] = sums[t]
    return dict(sorted(held.items()))


def _banks(bits: int, depth: int) -> int:
    """Return a bit for each bank as a bit for each of its words."""
    return sum(((1 << depth) - 1) << depth * bank for bank in (0, 1) if bits >> bank & 1)


def _known_accumulator(signals: Signals, begin: int, end: int) -> dict[str, int]:
    del signals, begin, end
    return {}


def _prepare_engine(signals: Signals, begin: int, end: int) -> list[Cycle]:
    del begin, end
    return [{"rst_ni": 0}] * 2 if "rst_ni" in signals else []


def _known_engine(signals: Signals, begin: int, end: int) -> dict[str, int]:
    del signals, begin, end
    return {}


STAGES = 5
"""Pipeline stages of the requantiser."""


def _prepare_lane(signals: Signals, begin: int, end: int) -> list[Cycle]:
    del signals, begin, end
    return [{"valid_i": (1 << STAGES) - 1}] * (STAGES + 1)


def _known_lane(signals: Signals, begin: int, end: int) -> dict[str, int]:
    valid = signals["valid_i"][1]
    entered = _first([value & 1 for value in valid], begin, end)
    return {
        name: _first([value >> stage & 1 for value in valid], entered + stage - 1, end)
        for name, stage in (("wide_o", 3), ("data_o", 4))
    }


_BLOCKS: Mapping[
    str, tuple[Callable[[Signals, int, int], list[Cycle]], Callable[[Signals, int, int], dict[str, int]]]
] = {
    "npu_column": (_prepare_column, _known_column),
    "npu_acc_columns": (_prepare_accumulator, _known_accumulator),
    "npu_requant_lane": (_prepare_lane, _known_lane),
}
"""For each block how its registers are set, and from when on its outputs are known. All others begin with a
reset or with registers that are zero, as their recordings do."""
