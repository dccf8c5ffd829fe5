# SPDX-License-Identifier: Apache-2.0
"""What `npuloop area` prints and writes: the areas, frequencies and registers of a system's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.core import CoreConfig
from hw.sources import rtl_hash
from mapping.characterization.area import FILE, AreaError, read_area
from mapping.cost.area_model import FILE as MODEL_FILE, AreaModelError, read_area_model, rtl_of

SCHEMA = 1
"""Version of the document; fields may be added without a new one."""
MM2_PER_UM2 = 1e-6
WIRED, GATED = "max_frequency_wired_mhz", "gated_flops"
"""Fields of a table's unit that older tables lack."""


def area_document(
    cores: Sequence[CoreConfig], library: str, path: Path = FILE, model: Path = MODEL_FILE
) -> dict[str, Any]:
    """Return what `npuloop area --json` writes; docs/reference/machine-readable.md has the fields.

    What the area table does not have comes from the area model.

    Args:
        cores: the units, by whose names their figures are called.
        library: cells that the figures are of.
        path: the area table.
        model: the file of the area model.

    Raises:
        AreaError: the table is missing or damaged, or of other RTL.
        AreaModelError: a unit is not in the table, and the model is missing, damaged, or of other RTL.
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
        "units": {
            core.name: _figures(
                core, entries[core.key] if core.key in entries else _modelled(core, library, model), path
            )
            for core in cores
        },
    }


def _modelled(core: CoreConfig, library: str, path: Path) -> dict[str, Any]:
    if rtl_of(path) != rtl_hash():
        raise AreaModelError(
            f"{path}: stale: it was made of other RTL; make it with `npuloop synth --family`"
        )
    return read_area_model(library, path).entry(core)


def _figures(core: CoreConfig, entry: Mapping[str, Any], path: Path) -> dict[str, Any]:
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
    interval = entry.get("interval_90", {})
    area = _sum(cells | memories)

    def within(name: str, value: float | None) -> list[float] | None:
        return [value * (1 - interval[name]), value * (1 + interval[name])] if value and interval else None

    return {
        "key": core.key,
        "basis": entry.get("basis", "measured"),
        "area_mm2": area,
        "area_mm2_interval_90": within("area", area),
        "area_mm2_by_part": _mm2(cells | memories),
        "area_mm2_open_macros": _sum(cells | opened) if opened else None,
        "area_mm2_open_macros_by_part": _mm2(cells | opened) if opened else None,
        "max_mhz": max_mhz,
        "max_mhz_interval_90": within("max_mhz", max_mhz),
        "slowest_block": slowest,
        "max_mhz_wired": max_mhz_wired,
        "max_mhz_wired_interval_90": within("max_mhz_wired", max_mhz_wired),
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

    def half(figure: str, unit: dict[str, Any]) -> str:
        return f"{100 * (unit[f'{figure}_interval_90'][1] / unit[figure] - 1):.1f}"

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
    notes = [
        f"{name}: {unit['basis']} by the area model, 90 % interval of the area ± {half('area_mm2', unit)} %, "
        f"of the frequency ± {half('max_mhz', unit)} %"
        for name, unit in document["units"].items()
        if unit["area_mm2_interval_90"]
    ]
    shown.caption, shown.caption_justify = "\n".join(notes) or None, "left"
    return shown
