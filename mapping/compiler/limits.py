# SPDX-License-Identifier: Apache-2.0
"""Which parts are beyond a unit's memories: the memory, what it would need, and the setting that would do.

The passes stop at the first layer that does not fit. What is said to the user comes from here: every layer
that does not fit, with all that it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hw.core import CoreConfig
from hw.interface import TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES
from mapping.compiler.graph import described
from mapping.compiler.pack import PackedPart
from mapping.compiler.plan import MAX_WORDS, smallest_tiling
from mapping.compiler.regions import ceil_div

SLICES = 3
"""Slices of a convolution's weights that the weight scratchpad holds: in use, next, and on the way."""


def shortages(parts: Sequence[PackedPart]) -> list[str]:
    """Return one sentence for every memory that is too small for a part by itself."""
    return [text for part in parts for text in (*_weights(part), *_parameters(part), *_activations(part))]


def _short(
    part: PackedPart, what: str, need: int, share: str, setting: str, limit: int, fits: Callable[[int], bool]
) -> str:
    """Return the sentence for a memory; `fits` says whether that many KiB would do, up to `limit`."""
    core: CoreConfig = part.core
    enough = next((kib for kib in range(1, limit + 1) if fits(kib)), None)
    remedy = (
        f"set {core.name}.{setting.upper()}={enough}"
        if enough is not None
        else f"not even {setting.upper()}={limit}, the largest, would do: split the layer"
    )
    return (
        f"{described(part.op)}: {what} take {need / 1024:.1f} KiB, more than {share}the "
        f"{getattr(core, setting)} KiB that {core.name} has for them; {remedy}"
    )


def _weights(part: PackedPart) -> Iterator[str]:
    """Yield what is short for weights: half for a block of channels, a third for a slice of its kernel."""
    words = max(item.weight_words for item in part.parameters)
    if not words:
        return
    channels = part.parameters[0].block_channels
    if part.op.kind == "conv2d":
        rows = ceil_div(part.in_channels, part.core.rows) * part.op.kernel[0]
        need, parts_of, share = ceil_div(words, rows) * WEIGHT_WORD_BYTES, SLICES, "a third of "
        what = f"the weights of one kernel row for {channels} output channels"
    else:
        need, parts_of, share = words * WEIGHT_WORD_BYTES, 2, "half of "
        what = f"the weights of {channels} channels"

    def fits(kib: int) -> bool:
        return kib * 1024 // WEIGHT_WORD_BYTES // parts_of * WEIGHT_WORD_BYTES >= need

    if not fits(part.core.weight_kib):
        yield _short(part, what, need, share, "weight_kib", 4095, fits)


def _parameters(part: PackedPart) -> Iterator[str]:
    """Yield what is short for requantisation parameters: half for a block of channels."""
    need = max(len(item.params) * item.param_words for item in part.parameters) * TRANSFER_WORD_BYTES
    channels = part.parameters[0].block_channels
    what = f"the requantisation parameters of {channels} channels"

    def fits(kib: int) -> bool:
        return kib * 1024 // 2 >= need

    if not fits(part.core.param_kib):
        yield _short(part, what, need, "half of ", "param_kib", 255, fits)


def _activations(part: PackedPart) -> Iterator[str]:
    """Yield what is short for activations: what one output reads, and the output."""
    rows = part.core.rows
    limit = MAX_WORDS * rows // 1024

    def fits(kib: int) -> bool:
        return smallest_tiling(part, min(kib * 1024 // rows, MAX_WORDS)) is not None

    if fits(part.core.act_kib):
        return
    low, high = part.core.act_kib, min(limit, 4095)
    if fits(high):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        need = high
        yield (
            f"{described(part.op)}: not even what one output reads fits the {part.core.act_kib} KiB that "
            f"{part.core.name} has for activations; set {part.core.name}.ACT_KIB={need}"
        )
        return
    yield (
        f"{described(part.op)}: not even what one output reads fits the {part.core.act_kib} KiB that "
        f"{part.core.name} has for activations, nor {high} KiB, the most that commands reach: split the layer"
    )
