# SPDX-License-Identifier: Apache-2.0
"""Fills all scratchpads of a system's units with random bytes and stores all activations again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.arrays import Words
from hw.commands import command_list, encode
from hw.core import CoreConfig
from hw.interface import TARGETS, TRANSFER_WORD_BYTES
from hw.memory import MemoryModel
from tb.job import Job
from tb.session import Session

LIST = 0
"""Byte address of the command list."""
SOURCE = 0x1000
"""Byte address of what is loaded into each scratchpad; what is stored follows it."""
LINE_WORDS = 1 << 15
"""Most 16-byte words of a transfer."""
STALLS = (0, 30, 75)
"""Percent of the cycles in which each channel of the memory stalls, in turn with the seed."""


def whole_scratchpads(session: Session, core: CoreConfig, seed: int) -> tuple[int, str | None]:
    """Load every word of a unit's scratchpads, and store every word of activations.

    Args:
        session: a session of the unit's system.
        core: the unit.
        seed: of the bytes, and of the memory's stalls.

    Returns:
        The bytes of activations that differ from those loaded, and what went wrong, or None.
    """
    kib = dict(zip(TARGETS, (core.act_kib, core.weight_kib, core.param_kib), strict=True))
    size = 1024 * max(kib.values())
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    commands: list[Words] = []
    for target, amount in enumerate(kib.values()):
        words = 1024 * amount // TRANSFER_WORD_BYTES
        commands += _transfers("load", SOURCE, words, target=target)
    commands.append(encode("nop", engine="load", fence=1, post_store=1))
    commands.append(encode("nop", engine="store", wait_load=1))
    stored, held = SOURCE + size, 1024 * core.act_kib
    commands += _transfers("store", stored, held // TRANSFER_WORD_BYTES)
    segments = [(LIST, command_list(commands)), (SOURCE, data)]
    memory = MemoryModel(backpressure_percent=STALLS[seed % len(STALLS)], backpressure_seed=seed)
    job = Job(segments, {core.name: (LIST, len(commands))}, [(stored, held)], memory=memory)
    result = session.run(job)
    if not result.ok:
        return 0, f"the scratchpads of {core.name} could not be filled: {result.diagnosis}"
    wrong = int(np.count_nonzero(result.reads[0] != data[:held]))
    return wrong, f"{wrong} bytes of the activations of {core.name} differ" if wrong else None


def _transfers(name: str, address: int, words: int, **fields: int) -> Sequence[Words]:
    """Return the commands that move words between memory and the start of a scratchpad."""
    return [
        encode(
            name,
            mem_address=address + TRANSFER_WORD_BYTES * first,
            local_address=first,
            local_step=1,
            line_words=min(LINE_WORDS, words - first),
            lines=1,
            planes=1,
            **fields,
        )
        for first in range(0, words, LINE_WORDS)
    ]
