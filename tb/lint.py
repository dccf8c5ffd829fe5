"""Checks the SystemVerilog: ``python -m tb.lint`` runs Verilator's lint on the design, verible's on all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tb.build import ROOT, TB, find_verilator, rtl_sources

WAIVERS = ROOT / "rtl" / "lint" / "verilator.vlt"
RULES = ROOT / "rtl" / "lint" / "verible.rules"


def verilator_command() -> list[str]:
    """Return the lint of the design as it is delivered: npu_soc with its default parameters."""
    waivers = [WAIVERS] if WAIVERS.exists() else []
    files = [str(path.relative_to(ROOT)) for path in (*waivers, *rtl_sources())]
    flags = ["--lint-only", "-Wall", "--assert", "--top-module", "npu_soc"]
    return [str(find_verilator().executable), *flags, *files]


def verible_command() -> list[str]:
    """Return the style check of every file that was written by hand."""
    written = [path for path in rtl_sources() if path.parent.name != "generated"]
    files = [str(path.relative_to(ROOT)) for path in (*written, *sorted(TB.glob("*.sv")))]
    rules = [f"--rules_config={RULES.relative_to(ROOT)}"] if RULES.exists() else []
    return [str(Path(sys.executable).parent / "verible-verilog-lint"), *rules, *files]


def main() -> int:
    """Run both; return 1 if one finds something."""
    failed = []
    for name, command, env in (
        ("verilator", verilator_command(), find_verilator().environment()),
        ("verible", verible_command(), None),
    ):
        if subprocess.run(command, cwd=ROOT, env=env, check=False).returncode != 0:
            failed.append(name)
    print(f"lint: {', '.join(failed)} found something" if failed else "lint: SystemVerilog is clean")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
