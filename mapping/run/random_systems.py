# SPDX-License-Identifier: Apache-2.0
"""Random systems of one to four units, from one seed each: any legal one, or such as one would build."""

from __future__ import annotations

import numpy as np

from hw.core import ACT_BANKS_BYTES, CoreConfig
from hw.system import System
from mapping.compiler.regions import ceil_div

MAX_UNITS = 4
ROWS = (16, 32, 64, 128)
MAX_TILE_BITS = 255 * 256
"""Weight bits of the largest array that `CoreConfig` accepts."""
MEM_BYTES = 4 << 20
"""Memory of a random system: its layers and networks are small."""


def random_system(seed: int) -> System:
    """Return a random system of legal parameters; equal seeds give equal systems.

    Every parameter is drawn on its own, with its ends: scratchpads of 1 KiB too, in which few layers fit. One
    array in four may be as large as a weight tile allows; two units may be equal.
    """
    rng = np.random.default_rng([seed, 0x5F57])
    count = int(rng.choice((1, 2, 3, 4), p=(0.35, 0.3, 0.2, 0.15)))
    cores = [_core(rng, f"u{i}") for i in range(count)]
    if count > 1 and rng.random() < 0.2:
        cores[-1] = CoreConfig(**{**vars(cores[0]), "name": cores[-1].name})
    return System(tuple(cores), axi_bits=int(rng.choice((64, 128))), mem_bytes=MEM_BYTES)


USUAL_TILE_BITS = 16384
"""Weight bits of the largest array of a usual system."""


def usual_system(seed: int) -> System:
    """Return a random system such as somebody would build; equal seeds give equal systems.

    Scratchpads have powers of two or half more, tiles of weights up to 16,384 bits.
    """
    rng = np.random.default_rng([seed, 0xFA31])
    count = int(rng.choice((1, 2, 3, 4), p=(0.5, 0.3, 0.1, 0.1)))
    cores = tuple(usual_core(rng, f"u{i}") for i in range(count))
    return System(cores, axi_bits=int(rng.choice((64, 128), p=(0.3, 0.7))))


def usual_core(rng: np.random.Generator, name: str) -> CoreConfig:
    """Return a random core such as somebody would build; see `usual_system`."""
    w_bits = int(rng.integers(2, 9))
    rows = int(rng.choice([rows for rows in (16, 32, 64) if rows * rows * w_bits <= USUAL_TILE_BITS]))
    multiples = [m for m in (1, 2, 4) if m * rows * rows * w_bits <= USUAL_TILE_BITS]
    cols = rows * int(rng.choice(multiples))
    tile_kib = rows * cols * w_bits / 8192
    weights = [kib for kib in (8, 12, 16, 24, 32, 48, 64, 96, 128) if kib >= 8 * tile_kib]
    return CoreConfig(
        name,
        a_bits=int(rng.choice((4, 5, 6, 7, 8), p=(0.1, 0.1, 0.1, 0.1, 0.6))),
        w_bits=w_bits,
        rows=rows,
        cols=cols,
        stripe_depth=int(rng.choice((8, 16, 24, 32, 48, 64))),
        lanes=int(rng.choice((2, 4, 8, 16), p=(0.1, 0.2, 0.3, 0.4))),
        dw_taps=int(rng.integers(1, 10)),
        act_kib=int(rng.choice((32, 48, 64, 96, 128, 192, 256))),
        weight_kib=int(rng.choice(weights)),
        param_kib=int(rng.choice((4, 6, 8, 16))),
    )


def _core(rng: np.random.Generator, name: str) -> CoreConfig:
    w_bits, a_bits = int(rng.integers(2, 9)), int(rng.integers(4, 9))
    rows, cols = _shape(rng, w_bits)
    tile_kib = rows * cols * w_bits / 8192
    return CoreConfig(
        name,
        a_bits=a_bits,
        w_bits=w_bits,
        rows=rows,
        cols=cols,
        stripe_depth=int(rng.choice((1, 2, 3, 16, 64, 100, 254, 255))),
        lanes=int(rng.choice((1, 2, 4, 8, 16))),
        dw_taps=int(rng.integers(1, 17)),
        act_kib=_whole_banks(_kib(rng, 8, 256), rows),
        weight_kib=_kib(rng, max(4.0, 12 * tile_kib), 256),
        param_kib=_kib(rng, 2 + cols / 32, 64),
    )


def _shape(rng: np.random.Generator, w_bits: int) -> tuple[int, int]:
    """Draw rows and columns: mostly of the presets' size, sometimes any that the weight tile allows."""
    limit = MAX_TILE_BITS if rng.random() < 0.25 else 8192
    rows = int(rng.choice([rows for rows in ROWS if rows * rows * w_bits <= limit]))
    most = limit // (rows * rows * w_bits)
    multiple = int(rng.choice((1, int(rng.integers(1, most, endpoint=True)), most)))
    return rows, multiple * rows


def _whole_banks(kib: int, rows: int) -> int:
    """Return the next size of an activation scratchpad whose banks have whole words."""
    step = ceil_div(max(ACT_BANKS_BYTES, 2 * rows), 1024)
    return ceil_div(kib, step) * step


def _kib(rng: np.random.Generator, least: float, most: int) -> int:
    """Draw the size of a scratchpad in KiB: one in eight as small as it can be, others any number."""
    if rng.random() < 1 / 8:
        return int(rng.integers(1, 4))
    return int(2 ** rng.uniform(np.log2(min(least, most)), np.log2(most)))
