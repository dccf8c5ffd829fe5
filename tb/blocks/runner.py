# SPDX-License-Identifier: Apache-2.0
"""Builds the simulator of one block and runs a module's cocotb tests in it: what pytest calls.

A block's simulator holds a few files, so it is built with everything visible and little optimisation.
The part of it that is Verilator's own is compiled once for all blocks. Environment: NPULOOP_SEED (another
seed), NPULOOP_CASE (a regular expression: only these cocotb tests), NPULOOP_FIRST_FAILURE (the first failure
ends everything, and does not run again with waves), and those of `tb.build`, such as NPULOOP_RTL.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree as ET

import find_libpython
from cocotb_tools import config as cocotb_config

from common.errors import TestbenchError
from common.paths import ROOT, build_root
from tb.blocks.support import FIRST_FAILURE
from tb.build import (
    HEADERS,
    ONE_FILE,
    OPTIMISE,
    BuildError,
    find_verilator,
    make_runtime,
    simulators_root,
    write_one_file,
)
from tb.coverage import collect
from tb.leftovers import PARTIAL, locked

BLOCKS = Path(__file__).resolve().parent
DEFAULT_SEED = 1
TIMEOUT_SECONDS = 600
EXCERPT_LINES = 30
MAIN = Path(cocotb_config.share_dir) / "lib" / "verilator" / "verilator.cpp"
CREATE = 'std::unique_ptr<Vtop> top(new Vtop(""));'
IN_RESET = "top->clk_i = 0; top->rst_ni = 0;"
"""Simulations start in reset, with all registers random: no assertion looks at the random state."""

PACKAGES = ("generated/npu_pkg.sv", "npu_axi_pkg.sv", "npu_compute_pkg.sv", "npu_core_pkg.sv")
"""Packages of the RTL in compile order."""


class BenchError(TestbenchError):
    """Cocotb tests of a block have failed; the message says which, why and how to see it again."""


@dataclass(frozen=True)
class Block:
    """What a bench simulates.

    Args:
        top: the module on top: a block, or a wrapper in this folder.
        sources: RTL files in compile order, relative to `rtl`. The packages come before them, and behind them
            the wrapper `top`.sv if there is one.
        parameters: of the module on top.
    """

    top: str
    sources: Sequence[str]
    parameters: Mapping[str, int] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Return the files to compile."""
        rtl = Path(os.environ.get("NPULOOP_RTL") or ROOT / "rtl").resolve()
        wrapper = BLOCKS / f"{self.top}.sv"
        names = [*PACKAGES, *self.sources]
        files = [*(rtl / name for name in names), *([wrapper] if wrapper.exists() else [])]
        return files + collect.verilator_sources([file.stem for file in files])


def seed() -> int:
    """Return the seed of all random stimulus."""
    return int(os.environ.get("NPULOOP_SEED") or DEFAULT_SEED)


def _run(command: Sequence[str], log: Path, cwd: Path = ROOT) -> None:
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        environment = find_verilator().environment()
        done = subprocess.run(
            command, cwd=cwd, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-EXCERPT_LINES:])
        raise BuildError(f"{Path(command[0]).name} failed building a block; whole log: {log}\n{tail}")


def _verilate(top: str, parameters: Mapping[str, int], files: Sequence[Path], waves: bool) -> list[str]:
    """Return Verilator's command without the output folder."""
    libraries = cocotb_config.libs_dir
    return [
        str(find_verilator().executable),
        *("--cc", "--exe", "--vpi", "--public-flat-rw", "--assert", "--no-timing", "-Wno-fatal"),
        *("--prefix", "Vtop", "-o", "sim", "--timescale", "1ns/1ps", "--top-module", top),
        *("--x-assign", "unique", "--x-initial", "unique", "-CFLAGS", "-std=c++20"),
        *collect.verilator_flags(),
        *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
        *(("--trace-vcd", "--trace-structs") if waves else ()),
        *(f"-G{name}={value}" for name, value in parameters.items()),
        *(str(file) for file in files),
        "main.cpp",
    ]


def _main() -> str:
    """Return cocotb's main program, changed to start in reset."""
    text = MAIN.read_text()
    if text.count(CREATE) != 1:
        raise BuildError(f"{MAIN} does not create the model as expected: adapt tb/blocks/runner.py")
    return text.replace(CREATE, f"{CREATE} {IN_RESET}")


def _cached(name: str, key: Sequence[str | bytes]) -> Path:
    """Return the folder of a build that depends on `key`."""
    digest = hashlib.sha256()
    for item in (
        find_verilator().version,
        metadata.version("cocotb"),
        sys.version,
        OPTIMISE,
        ONE_FILE,
        HEADERS,
        *key,
    ):
        digest.update((item.encode() if isinstance(item, str) else item) + b"\0")
    root = simulators_root() / "blocks"
    root.mkdir(parents=True, exist_ok=True)
    return root / f"{name}-{digest.hexdigest()[:16]}"


def build(block: Block, waves: bool = False) -> Path:
    """Return the simulator of a block, building it if no cached one fits.

    Raises:
        BuildError: a tool fails; the message holds the log's end.
    """
    files = block.files()
    command = _verilate(block.top, block.parameters, files, waves)
    contents = [_main().encode(), *(file.read_bytes() for file in files)]
    folder = _cached(block.top + ("-waves" if waves else ""), [*command, *contents])
    executable = folder / "sim"
    if executable.exists():
        return executable
    with locked(folder.with_suffix(".lock")):
        if executable.exists():
            return executable
        work = folder.with_suffix(PARTIAL)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        log, objects = work / "build.log", work / "obj"
        objects.mkdir()
        (objects / "main.cpp").write_text(_main())
        _run([*command, "--Mdir", str(objects)], log)
        make = ["make", *find_verilator().make_variables(), *write_one_file(objects, objects / "main.cpp")]
        runtime = _cached("runtime-waves" if waves else "runtime", _verilate("any", {}, [], waves))
        make_runtime(objects, lambda names: _run([*make, *names], log), runtime)
        _run([*make, f"RUNTIME={runtime}", "simulator"], log)
        shutil.copy2(objects / "simulator", work / "sim")
        shutil.rmtree(objects)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    return executable


@dataclass(frozen=True)
class Outcome:
    """How a run of the simulator ended."""

    passed: list[str]
    failed: list[str]
    status: int
    log: Path

    @property
    def good(self) -> bool:
        """Tests have run and nothing has failed: no test, no assertion of the RTL, not the simulator."""
        return bool(self.passed) and not self.failed and self.status == 0


def simulate(block: Block, module: str, case: str = "", waves: bool = False) -> Outcome:
    """Run the cocotb tests of a module whose names match `case` in the simulator of a block."""
    executable = build(block, waves)
    parent = build_root() / "blocks" / "runs"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{block.top}-", dir=parent))
    libpython = find_libpython.find_libpython()
    if libpython is None:
        raise TestbenchError("this Python has no shared library (libpython); see `npuloop doctor`")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COCOTB_", "GPI_", "PYGPI_", "PYTEST_"))
    }
    parameters = " ".join(f"{name}={value}" for name, value in block.parameters.items())
    environment = kept | {
        "GPI_USERS": f"{libpython};{cocotb_config.pygpi_entry_point()}",
        "PYGPI_PYTHON_BIN": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "COCOTB_TOPLEVEL": block.top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_RESULTS_FILE": str(folder / "results.xml"),
        "COCOTB_LOG_LEVEL": "WARNING",
        "COCOTB_RANDOM_SEED": str(seed()),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "NPULOOP_BLOCK_PARAMETERS": parameters,
        "TOPLEVEL_LANG": "verilog",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    if case:
        environment["COCOTB_TEST_FILTER"] = case
    random_start = ["+verilator+rand+reset+2", f"+verilator+seed+{seed() & 0x7FFFFFFF or 1}"]
    command = [str(executable), *random_start, *(["--trace"] if waves else [])]
    log = folder / "sim.log"
    with log.open("wb") as file:
        try:
            status = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_SECONDS * collect.slower(),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
    collect.absorb(folder / "coverage.dat", executable.parent.name)
    passed, failed = _results(folder / "results.xml")
    outcome = Outcome(passed, failed, status, log)
    if outcome.good:
        shutil.rmtree(folder)
    return outcome


def _results(path: Path) -> tuple[list[str], list[str]]:
    """Return the names of the tests that passed, and of those that did not; a skipped test has not passed."""
    try:
        cases = ET.parse(path).getroot().iter("testcase")  # noqa: S314 our own simulator's file
    except (OSError, ET.ParseError):
        return [], []
    passed: list[str] = []
    failed: list[str] = []
    for item in cases:
        good = not any(item.find(tag) is not None for tag in ("failure", "error", "skipped"))
        (passed if good else failed).append(item.get("name", "?"))
    return passed, failed


def _excerpt(log: Path) -> str:
    """Return what a log says about its first error."""
    lines = log.read_text(errors="replace").splitlines()
    marks = ("Traceback", "%Error", "Assertion", "ERROR", "failed")
    first = next((i for i, line in enumerate(lines) if any(mark in line for mark in marks)), len(lines))
    first = max(0, min(first - 2, len(lines) - EXCERPT_LINES))
    return "\n".join(lines[first : first + EXCERPT_LINES])


def run(block: Block, module: str, needs: Sequence[str] = ()) -> list[str]:
    """Run the cocotb tests of a module in the simulator of a block; every one must pass.

    Args:
        block: what is simulated.
        module: the Python module of the tests.
        needs: names that must be among the tests' names (each as a part), unless NPULOOP_CASE picks some.

    Returns:
        The names of the tests that ran.

    Raises:
        BenchError: a test or an assertion failed; its first failure has run again with waves, unless
            NPULOOP_FIRST_FAILURE is set.
    """
    __tracebackhide__ = True
    case = os.environ.get("NPULOOP_CASE", "")
    outcome = simulate(block, module, case)
    if outcome.good:
        missing = [name for name in needs if not case and not any(name in test for test in outcome.passed)]
        if missing:
            raise BenchError(f"{module}: the tests {', '.join(missing)} have not run")
        return outcome.passed
    if os.environ.get(FIRST_FAILURE):
        raise BenchError(f"{block.top} ended with {outcome.status}\n{_excerpt(outcome.log)}")
    again = outcome.failed[0] if outcome.failed else case
    pattern = again.replace("/", ".") + "$" if outcome.failed else case
    waves = simulate(block, module, pattern, waves=True)
    picture = waves.log.parent / "dump.vcd"
    test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0] or str(block)
    text = [
        f"{block.top} {dict(block.parameters)}: {len(outcome.failed)} of "
        f"{len(outcome.failed) + len(outcome.passed)} cocotb tests failed"
        + (f" ({', '.join(outcome.failed[:8])})" if outcome.failed else "")
        + f"; the simulator ended with {outcome.status}",
        _excerpt(outcome.log),
        f"log: {outcome.log}",
        f"waves: {picture}" if picture.exists() else f"no waves: {waves.log}",
    ]
    if waves.good:
        text.append("attention: it passed alone, with waves")
    text.append(
        f"reproduce: NPULOOP_SEED={seed()} NPULOOP_CASE='{pattern}' {sys.executable} -m pytest '{test}'"
    )
    raise BenchError("\n".join(text))
