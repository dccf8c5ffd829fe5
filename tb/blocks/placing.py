# SPDX-License-Identifier: Apache-2.0
"""Random operators whose tensors, weights and parameters lie inside small scratchpads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw.interface import PARAM_GROUP_WORDS
from tb.blocks.operators import MACS, Operator, Unit, draw, passes_of

BLOCK = 16


class Placer:
    """Draws operators for scratchpads of given sizes; parameters lie one after the other.

    Args:
        unit: the array.
        size: ActWords (of `rows` bytes), WeightWords, ParamWords and StripeDepth.
        rng: random numbers.
        most_groups: groups of 16 output channels that an operator may have.
    """

    def __init__(
        self, unit: Unit, size: Mapping[str, int], rng: np.random.Generator, most_groups: int = 8
    ) -> None:
        self.unit, self.size, self.rng, self.most_groups = unit, size, rng, most_groups
        self.next_param = 0

    def pick(self, low: int, high: int) -> int:
        """Return a random number in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def draw(self, kind: str, beats: int) -> Operator:
        """Return a random operator that stays inside the scratchpads."""
        while True:
            placed = self.place(draw(kind, self.unit, self.rng, beats))
            if placed is not None:
                return placed

    def place(self, op: Operator) -> Operator | None:
        """Return an operator with all that it works on put into the scratchpads, if it fits."""
        f, unit = dict(op.fields), self.unit
        macs = op.kind in MACS
        blocks = len(list(op.blocks()))
        planes_out = -(-f["out_channels"] // unit.rows)
        planes_in = -(-f["in_channels"] // unit.rows) if op.kind == "conv" else planes_out
        plane = f["out_pixels"] if op.kind == "add" else f["in_height"] * f["in_width"]
        act = self.size["ActWords"]
        if planes_in * plane > act or planes_out * f["out_pixels"] > act:
            return None
        f["in_plane"] = self.pick(plane, (act - plane) // (planes_in - 1)) if planes_in > 1 else plane
        room = act - (planes_in - 1) * f["in_plane"] - plane
        origin, second = self.pick(0, room), self.pick(0, room)
        pixels = f["out_pixels"]
        f["out_plane"] = self.pick(pixels, (act - pixels) // (planes_out - 1)) if planes_out > 1 else pixels
        f["out_base"] = self.pick(0, act - (planes_out - 1) * f["out_plane"] - pixels)
        f["stripe_pixels"] = min(f["stripe_pixels"], self.size["StripeDepth"])
        f["act_min"], f["act_max"] = sorted((f["act_min"], f["act_max"]))
        if self.pick(0, 2):
            f["act_min"], f["act_max"] = -128, 127
        f["accumulate"] = f["keep"] = 0
        if op.kind == "add":
            f |= {"in_base": origin, "in2_base": second}
            f |= {f"zero_point{i}": self.pick(-128, 127) for i in (1, 2)}
            f |= {f"multiplier{i}": self.pick(1 << 30, (1 << 31) - 1) for i in (1, 2)}
            f |= {f"shift{i}": self.pick(-6, 1) for i in (1, 2)}
            del f["accumulate"], f["keep"]
        else:
            f["in_base"] = origin + f["in_row"] * f["in_width"] + f["in_column"]
            f["pad_value"] = self.pick(-128, 127)
        if not macs:
            f["left_shift"] = self.pick(0, 20)
        else:
            words = blocks * sum(item.words for item in passes_of(op))
            if words > self.size["WeightWords"]:
                return None
            f["weight_base"] = self.pick(0, self.size["WeightWords"] - words)
        groups = -(-f["out_channels"] // BLOCK)
        if groups > self.most_groups:
            return None
        if self.next_param + groups * PARAM_GROUP_WORDS > self.size["ParamWords"]:
            self.next_param = 0
        f["param_base"] = self.next_param
        self.next_param += groups * PARAM_GROUP_WORDS
        return Operator(op.kind, unit, f, origin, second)
