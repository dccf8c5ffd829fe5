# SPDX-License-Identifier: Apache-2.0
"""What travels inside the compute engine (npu_compute_pkg), for benches that see it as one vector."""

from __future__ import annotations

Fields = dict[str, int]
Layout = tuple[tuple[str, int], ...]
"""(field, bits), most significant first."""

BEAT: Layout = (
    *(("read", 1), ("addr", 32), ("pad", 1), ("fire", 1), ("pixel", 8), ("first", 1), ("pass_first", 1)),
    *(("pass_last", 1), ("stripe_first", 1), ("stripe_last", 1), ("bank", 1), ("part", 4), ("phase", 1)),
    *(("tap_mask", 16), ("tap_pad", 16), ("useful_rows", 16), ("useful_cols", 16)),
)
STRIPE: Layout = (
    *(("out_addr", 20), ("out_part", 4), ("out_plane", 16), ("groups", 8), ("param_addr", 20), ("reuse", 1)),
    *(("pixels", 8), ("bank", 1), ("keep", 1), ("last", 1), ("single", 1)),
    *(("zero_point", 8), ("act_min", 8), ("act_max", 8)),
)


def unpack(vector: int, layout: Layout) -> Fields:
    """Return the fields of a packed structure."""
    fields = {}
    for name, bits in reversed(layout):
        fields[name] = vector & ((1 << bits) - 1)
        vector >>= bits
    return fields


def pack(fields: Fields, layout: Layout) -> int:
    """Return a structure as one vector: the inverse of `unpack`; negative values in two's complement."""
    vector = 0
    for name, bits in layout:
        vector = vector << bits | fields[name] & ((1 << bits) - 1)
    return vector
