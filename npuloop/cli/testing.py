# SPDX-License-Identifier: Apache-2.0
"""How tests run the installed command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).parent / "npuloop"


def npuloop(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command from an environment without an activated shell."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        [str(COMMAND), *map(str, arguments)], capture_output=True, text=True, env=env, cwd=cwd, check=False
    )
