# SPDX-License-Identifier: Apache-2.0
"""How tests run the command: the installed one, or the same in this process, which saves its imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from npuloop.cli.main import app

COMMAND = Path(sys.executable).parent / "npuloop"


def npuloop(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command from an environment without an activated shell."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        [str(COMMAND), *map(str, arguments)], capture_output=True, text=True, env=env, cwd=cwd, check=False
    )


def npuloop_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in this process; an exception that the command would end with is raised."""
    words = [str(item) for item in arguments]
    done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
