# SPDX-License-Identifier: Apache-2.0
"""Checks the SystemVerilog: ``python -m tb.lint`` runs Verilator's lint on the design, verible's on all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common.paths import ROOT
from hw.core import CoreConfig
from hw.sources import rtl_sources
from hw.system import System
from tb.build import find_verilator

WAIVERS = ROOT / "rtl" / "lint" / "verilator.vlt"
RULES = ROOT / "rtl" / "lint" / "verible.rules"


CONFIGS = (
    System(),
    *(
        System((core,), axi_bits=axi_bits)
        for core, axi_bits in (
            (CoreConfig("core", w_bits=2, rows=32, cols=32, lanes=8), 128),
            (CoreConfig("core", w_bits=3, a_bits=7), 64),
            (CoreConfig("core", w_bits=4, lanes=4, dw_taps=16), 128),
            (CoreConfig("core", w_bits=5, a_bits=6, dw_taps=3), 64),
            (CoreConfig("core", w_bits=6, a_bits=4, stripe_depth=16), 128),
            (CoreConfig("core", w_bits=7, lanes=2, dw_taps=1), 64),
            (CoreConfig("core", w_bits=8, a_bits=7, lanes=1, act_kib=64, weight_kib=128, param_kib=4), 128),
        )
    ),
)
"""What Verilator checks: the default pair, and every parameter once."""


def verilator_command(config: System, structural: bool) -> list[str]:
    """Return the lint of the design with these parameters, in one of its two forms."""
    files = [str(path.relative_to(ROOT)) for path in (WAIVERS, *rtl_sources())]
    parameters = [
        f"-GNumCores={len(config.cores)}",
        f"-GAxiDataBits={config.axi_bits}",
        f"-GCores={config.parameter()}",
        f"-GStructural={int(structural)}",
    ]
    flags = ["--lint-only", "-Wall", "--quiet-stats", "--assert", "--top-module", "npu_soc"]
    return [str(find_verilator().executable), *flags, *parameters, *files]


def verible_command() -> list[str]:
    """Return the style check of every file that was written by hand."""
    rtl = (ROOT / "rtl").rglob("*.sv")
    written = [path for path in (*rtl, *(ROOT / "tb").rglob("*.sv")) if path.parent.name != "generated"]
    files = sorted(str(path.relative_to(ROOT)) for path in written)
    rules = f"--rules_config={RULES.relative_to(ROOT)}"
    return [str(Path(sys.executable).parent / "verible-verilog-lint"), rules, *files]


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Return a check's exit status and what it says."""
    merged: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, **merged)
    return done.returncode, done.stdout


def main() -> int:
    """Run both; return 1 if one finds something."""
    env = find_verilator().environment()
    commands = [
        (f"verilator ({form} form, configuration {i})", verilator_command(config, form == "structural"), env)
        for form in ("behavioural", "structural")
        for i, config in enumerate(CONFIGS)
    ]
    commands.append(("verible", verible_command(), dict(os.environ)))
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda item: _run(*item[1:]), commands)
        for (name, *_), (status, said) in zip(commands, results, strict=True):
            print(said, end="")
            if status != 0:
                failed.append(name)
    print(f"lint: {', '.join(failed)} found something" if failed else "lint: SystemVerilog is clean")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
