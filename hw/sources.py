# SPDX-License-Identifier: Apache-2.0
"""The hardware's SystemVerilog: which files a design is made of, and a hash of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from common.paths import ROOT

TB = ROOT / "tb" / "sv"
TESTBENCH = (
    "visible.vlt", "tb_host_pkg.sv", "tb_memory.sv", "tb_axi_checker.sv", "tb_host_arbiter.sv",
    "tb_host_queue.sv", "tb_host.sv", "tb_top.sv",
)  # fmt: skip
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
"""A comment, or a string (group 1), which may look like one inside."""


def rtl_sources(root: Path = ROOT) -> list[Path]:
    """Return the design's SystemVerilog files in compile order: packages, generated files, then modules."""
    rtl = root / "rtl"
    files = [*sorted((rtl / "generated").glob("*.sv")), *sorted(rtl.glob("*.sv"))]
    for folder in ("structural", "technology"):
        files += sorted((rtl / folder).glob("*.sv"))
    packages = [file for file in files if file.stem.endswith("_pkg")]
    return packages + [file for file in files if file not in packages]


def rtl_hash(rtl: Sequence[Path] | None = None) -> str:
    """Return a hash of the design and the test bench that does not see comments and indentation.

    Args:
        rtl: the design's files instead of :func:`rtl_sources`.
    """
    digest = hashlib.sha256()
    for file in [*(rtl or rtl_sources()), *(TB / name for name in TESTBENCH)]:
        text = _COMMENT.sub(lambda match: match[1] or " ", file.read_text())
        lines = (" ".join(line.split()) for line in text.splitlines())
        digest.update("\n".join([f"// {file.name}", *filter(None, lines), ""]).encode())
    return digest.hexdigest()
