# SPDX-License-Identifier: Apache-2.0
"""Made-up words and netlists for tests of recorded streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gates.netlist import Netlist
from gates.testing import write_netlist

Signals = dict[str, tuple[int, list[int]]]
"""Width and values of each signal of a stream."""


def packed(lanes: Sequence[int], bits: int) -> int:
    """Return signed lanes as one word, the first in the lowest bits."""
    return sum((lane & (1 << bits) - 1) << bits * place for place, lane in enumerate(lanes))


def ports(path: Path, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Netlist:
    """Return a netlist with such ports and one cell."""
    bits = iter(range(2, 1000))
    nets = {
        kind: {name: [next(bits) for _ in range(width)] for name, width in names.items()}
        for kind, names in (("input", inputs), ("output", outputs))
    }
    first, last = next(iter(nets["input"].values()))[0], next(iter(nets["output"].values()))[0]
    return write_netlist(path, nets["input"], nets["output"], [("INVX1", {"A": first, "Y": last})])
