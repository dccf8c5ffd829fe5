# SPDX-License-Identifier: Apache-2.0
"""Area of memories as published open macros of sky130 have it, beside CACTI's model.

The sizes below are outlines of macros that were laid out, read from their LEF views, or from a published
table where no view is distributed. Two generators are there: OpenRAM (macros with one port to read and write
and one to read) and SRAM22 (one port for both); OpenRAM has one single-port macro as well. DFFRAM's memories
are of standard cells. A memory of another size is interpolated: within a kind of ports the outlines lie on a
line, overhead + bits x area of a bit, that is fitted with least squares of the relative error. That error is
at most 4 % with two ports and 15 % with one, where the two generators differ (`test_open_macros.py`). Whether
the generators make a word of 64 or 128 bits of every depth is not asked, halos and routing channels are not
counted.

Memories larger than the largest published macro, 8 KiB, are composed of equal macros that are not larger.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from common.errors import GatesError
from gates.memories import Composition, Ports, compositions
from hw.core import CoreConfig

_OPENRAM = "https://github.com/VLSIDA/sky130_sram_macros"
_OPENRAM_TABLE = "OpenRAM on MPW2, table I, ISCAS 2023, https://ieeexplore.ieee.org/document/10181379"
_SRAM22 = "https://github.com/rahulk29/sram22_sky130_macros"
_DFFRAM = "https://github.com/AUCOHL/DFFRAM, table of the Readme"


@dataclass(frozen=True)
class Macro:
    """A macro that is published.

    Attributes:
        name: as it is published.
        words, width_bits: its size.
        ports: "1r1w" stands for one port to read and write and one to read, which can do both in a cycle.
        width_um, height_um: its outline.
        source: where it is published.
    """

    name: str
    words: int
    width_bits: int
    ports: Ports
    width_um: float
    height_um: float
    source: str

    @property
    def bits(self) -> int:
        """Its bits."""
        return self.words * self.width_bits

    @property
    def area_um2(self) -> float:
        """Its outline."""
        return self.width_um * self.height_um


PUBLISHED = (
    Macro("sky130_sram_1kbyte_1rw1r_32x256_8", 256, 32, "1r1w", 479.78, 397.5, _OPENRAM),
    Macro("sky130_sram_1kbyte_1rw1r_8x1024_8", 1024, 8, "1r1w", 455.3, 446.46, _OPENRAM),
    Macro("sky130_sram_2kbyte_1rw1r_32x512_8", 512, 32, "1r1w", 683.1, 416.54, _OPENRAM),
    Macro("sky130_sram_4kbyte_1rw1r_32x1024_8", 1024, 32, "1r1w", 693.9, 668.8, _OPENRAM_TABLE),
    Macro("sky130_sram_8kbyte_1rw1r_32x2048_8", 2048, 32, "1r1w", 1093.8, 720.5, _OPENRAM_TABLE),
    Macro("sky130_sram_2kbyte_1rw_32x512_8", 512, 32, "1rw", 483.86, 326.1, _OPENRAM),
    Macro("sram22_64x32m4w8", 64, 32, "1rw", 360.32, 191.0, _SRAM22),
    Macro("sram22_512x32m4w8", 512, 32, "1rw", 443.28, 448.72, _SRAM22),
    Macro("sram22_1024x32m8w8", 1024, 32, "1rw", 764.24, 460.28, _SRAM22),
    Macro("sram22_256x128m4w8", 256, 128, "1rw", 1085.88, 313.4, _SRAM22),
    Macro("sram22_2048x32m8w8", 2048, 32, "1rw", 674.48, 781.92, _SRAM22),
    Macro("sram22_512x128m4w8", 512, 128, "1rw", 1206.24, 467.76, _SRAM22),
)
"""Macros of SRAM cells."""
STANDARD_CELLS = (
    Macro("DFFRAM 128x32", 128, 32, "1rw", 395.6, 388.96, _DFFRAM),
    Macro("DFFRAM 256x32", 256, 32, "1rw", 788.44, 394.4, _DFFRAM),
    Macro("DFFRAM 512x32", 512, 32, "1rw", 793.5, 783.36, _DFFRAM),
    Macro("DFFRAM 1024x32", 1024, 32, "1rw", 1584.24, 788.8, _DFFRAM),
    Macro("DFFRAM 2048x32", 2048, 32, "1rw", 1589.0, 1572.0, _DFFRAM),
)
"""Memories of standard cells: no overhead, and smaller than SRAM below 2 kbit."""


@dataclass(frozen=True)
class OpenArea:
    """The area of a memory.

    Attributes:
        area_um2: of all its macros.
        label: how the figure came about: published, interpolated or extrapolated.
    """

    area_um2: float
    label: str


@functools.cache
def fitted_line(ports: Ports) -> tuple[float, float]:
    """Return the line on which the published macros of SRAM cells lie: overhead, µm², and µm² a bit."""
    macros = [macro for macro in PUBLISHED if macro.ports == ports]
    areas = np.array([macro.area_um2 for macro in macros])
    terms = np.array([[1.0, macro.bits] for macro in macros]) / areas[:, None]
    (overhead, per_bit), *_ = np.linalg.lstsq(terms, np.ones(len(macros)), rcond=None)
    return float(overhead), float(per_bit)


def open_area(words: int, width_bits: int, ports: Ports) -> OpenArea:
    """Return the area of a memory of open macros: published, or on the line between published ones.

    Args:
        words, width_bits: its size.
        ports: its ports.

    Raises:
        GatesError: a memory without bits, or ports that no published macro has.
    """
    macros = [macro for macro in PUBLISHED if macro.ports == ports]
    if words < 1 or width_bits < 1:
        raise GatesError(f"memory of {words} x {width_bits} bits: give 1 word and 1 bit or more")
    if not macros:
        known = ", ".join(dict.fromkeys(macro.ports for macro in PUBLISHED))
        raise GatesError(f"no open macro has ports {ports!r}; there are {known}")
    equal = [macro for macro in macros if (macro.words, macro.width_bits) == (words, width_bits)]
    if equal:
        smallest = min(equal, key=lambda macro: macro.area_um2)
        return OpenArea(smallest.area_um2, f"published ({smallest.name})")
    bits, most, least = (
        words * width_bits, max(macro.bits for macro in macros), min(macro.bits for macro in macros)
    )  # fmt: skip
    count = math.ceil(bits / most)
    overhead, per_bit = fitted_line(ports)
    label = "interpolated" if bits / count >= least else "extrapolated"
    if count > 1:
        label += f", {count} macros"
    area = OpenArea(count * overhead + bits * per_bit, label)
    cells = [macro.area_um2 / macro.bits for macro in STANDARD_CELLS if macro.ports == ports]
    if cells and bits * max(cells) < area.area_um2:
        return OpenArea(bits * max(cells), "standard cells, at DFFRAM's density")
    return area


def core_open_areas(core: CoreConfig) -> dict[str, OpenArea]:
    """Return the area of each of a core's memories, all equal ones together, by name."""
    return {name: _composed(item) for name, item in compositions(core).items()}


def _composed(item: Composition) -> OpenArea:
    area = open_area(item.words, item.width_bits, item.ports)
    return OpenArea(item.count * item.macros * area.area_um2, area.label)
