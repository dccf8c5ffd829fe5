# SPDX-License-Identifier: Apache-2.0
"""What `npuloop area` prints and writes: the areas, frequencies and registers of a system's units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.core import CoreConfig
from hw.sources import rtl_hash
from mapping.characterization.area import FILE, AreaError, read_area

SCHEMA = 1
"""Version of the document; fields may be added without a new one."""
MM2_PER_UM2 = 1e-6
WIRED, GATED = "max_frequency_wired_mhz", "gated_flops"
"""Fields of a table's unit that older tables lack."""


def area_document(cores: Sequence[CoreConfig], library: str, path: Path = FILE) -> dict[str, Any]:
    """Return what `npuloop area --json` writes; docs/reference/machine-readable.md has the fields.

    Args:
        cores: the units, by whose names their figures are called.
        library: cells that the figures are of.
        path: the area table.

    Raises:
        AreaError: the table is missing or damaged, of other RTL, or has not one of the units.
    """
    table = read_area(path)
    if table["rtl_sha256"] != rtl_hash():
        raise AreaError(f"{path}: stale: it was made of other RTL; make it again with `npuloop synth`")
    entries = table["units"].get(library)
    if not isinstance(entries, dict):
        known = ", ".join(table["units"])
        raise AreaError(f"{path}: has no units in cells of {library!r}; it has those of {known}")
    return {
        "schema": SCHEMA,
        "command": "area",
        "library": library,
        "units": {core.name: _figures(core, entries, path) for core in cores},
    }


def _figures(core: CoreConfig, entries: dict[str, Any], path: Path) -> dict[str, Any]:
    if core.key not in entries:
        raise AreaError(
            f"{path}: has no unit {core.key} ({core.name}); make a table that has it with `npuloop synth "
            "--system SYSTEM --out FILE`, and give --table FILE"
        )
    entry = entries[core.key]
    try:
        cells = {str(name): float(um2) for name, um2 in entry["groups_um2"].items()}
        memories = {f"memory: {name}": float(um2) for name, um2 in entry["memories_um2"].items()}
        macros = entry.get("open_memories_um2")
        opened = macros and {f"memory: {name}": float(um2) for name, um2 in macros.items()}
        slowest = str(entry["critical_path"]["block"])
        wired = entry.get("critical_path_wired")
        slowest_wired = wired and str(wired["block"])
        max_mhz, flops = float(entry["max_frequency_mhz"]), int(entry["flops"])
        max_mhz_wired = float(entry[WIRED]) if WIRED in entry else None
        gated_flops = int(entry[GATED]) if GATED in entry else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AreaError(f"{path}: {core.key} is damaged ({error}); make it with `npuloop synth`") from None
    return {
        "key": core.key,
        "area_mm2": _sum(cells | memories),
        "area_mm2_by_part": _mm2(cells | memories),
        "area_mm2_open_macros": _sum(cells | opened) if opened else None,
        "area_mm2_open_macros_by_part": _mm2(cells | opened) if opened else None,
        "max_mhz": max_mhz,
        "slowest_block": slowest,
        "max_mhz_wired": max_mhz_wired,
        "slowest_block_wired": slowest_wired,
        "flops": flops,
        "gated_flops": gated_flops,
    }


def _mm2(parts: dict[str, float]) -> dict[str, float]:
    return {name: um2 * MM2_PER_UM2 for name, um2 in parts.items()}


def _sum(parts: dict[str, float]) -> float:
    return sum(parts.values()) * MM2_PER_UM2


def area_figures_table(document: dict[str, Any]) -> Table:
    """Return the document's figures as a table; what the area table does not say is a dash."""
    shown = Table(
        title=f"Area in cells of {document['library']}, mm²; no wires, no clock tree",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    shown.add_column("unit", no_wrap=True)
    shown.add_column("parameters", no_wrap=True)
    for name in (
        "cells", "memories, CACTI 7", "unit, CACTI 7", "memories, open macros", "unit, open macros",
        "MHz", "MHz with wires", "flops", "gated",
    ):  # fmt: skip
        shown.add_column(name, justify="right", vertical="bottom")
    for name, unit in document["units"].items():
        parts, opened = unit["area_mm2_by_part"], unit["area_mm2_open_macros_by_part"]
        cells = sum(value for part, value in parts.items() if not part.startswith("memory: "))
        shown.add_row(
            name, unit["key"],
            f"{cells:.3f}", f"{unit['area_mm2'] - cells:.3f}", f"{unit['area_mm2']:.3f}",
            f"{unit['area_mm2_open_macros'] - cells:.3f}" if opened else "-",
            f"{unit['area_mm2_open_macros']:.3f}" if opened else "-",
            *(f"{unit[key]:,.0f}" if unit[key] is not None else "-" for key in (
                "max_mhz", "max_mhz_wired", "flops", "gated_flops"
            )),
        )  # fmt: skip
    return shown
