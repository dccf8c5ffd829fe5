# SPDX-License-Identifier: Apache-2.0
"""What several test modules need to run command lists: places in memory, transfers, jobs that copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from common.arrays import Bytes, Words
from hw.commands import command_list, encode
from hw.core import CoreConfig
from hw.interface import TRANSFER_WORD_BYTES
from hw.system import NPU8, NPU_LB, System
from tb.job import Job

LIST = 0x10_0000
"""Byte address of the command list."""
SOURCE = 0x20_0000
"""Byte address of what is loaded."""
TARGET = 0x30_0000
"""Byte address of what is stored."""
UNITS = ("npu8", "npu_lb")
"""Names of the units of the default pair."""
THREE_UNITS = System((NPU8, NPU_LB, replace(NPU_LB, name="npu_w4", w_bits=4, rows=0, cols=None)))
"""A system of three widths. Tests of several rooms use it, so that it is built once."""

REDUCED_UNITS = System(
    (
        CoreConfig("npu8", a_bits=7, lanes=2),
        CoreConfig("npu_lb", a_bits=5, w_bits=3, rows=32, cols=64, stripe_depth=200),
    )
)
"""Units that see their activations with different widths: the largest array beside few lanes, and stripes
beyond 128 pixels."""


def low_bit_system(w_bits: int) -> System:
    """Return a system of one low-bit unit, whose scratchpad takes the weights of every reference vector."""
    return System((CoreConfig("npu_lb", w_bits=w_bits, weight_kib=64),))


def random_bytes(seed: int, size: int) -> Bytes:
    """Return bytes that depend on the seed only."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def transfer(name: str, address: int, words: int, local: int = 0, **fields: int) -> Words:
    """Return a contiguous transfer of 16-byte words."""
    shape = {"line_words": words, "lines": 1, "planes": 1, "local_step": 1}
    return encode(name, mem_address=address, local_address=local, **(shape | fields))


def copy_commands(words: int, source: int = SOURCE, target: int = TARGET) -> list[Words]:
    """Return the commands that copy memory to a scratchpad and back to memory."""
    return [transfer("load", source, words, post_store=1), transfer("store", target, words, wait_load=1)]


def list_job(commands: Sequence[Words], *, units: Sequence[str] = ("npu8",), **fields: Any) -> Job:
    """Return a job in which every unit runs the same list."""
    segments = [(LIST, command_list(commands)), *fields.pop("segments", ())]
    starts = dict.fromkeys(units, (LIST, len(commands)))
    return Job(segments=segments, starts=starts, **fields)


def copy_job(words: int = 1000, seed: int = 1, **fields: Any) -> tuple[Job, Bytes]:
    """Return a job that copies random words, and the words."""
    size = TRANSFER_WORD_BYTES * words
    data = random_bytes(seed, size)
    job = list_job(copy_commands(words), segments=[(SOURCE, data)], reads=[(TARGET, size)], **fields)
    return job, data
