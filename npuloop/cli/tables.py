# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop restamp`: tables that somebody has changed on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.stamp import restamp
from npuloop.cli.console import console


def restamp_tables(
    files: Annotated[list[Path], typer.Argument(help="tables of cycles, energies or areas (.yaml)")],
) -> None:
    """Accept tables as they are: write the checksums of what they say now, and nothing else.

    A table that was changed after it was written is refused by every command until then.
    Exit status: 0, 2 if a file is no table.
    """
    for file in files:
        changed = restamp(file)
        console.print(f"{file}: {'stamped' if changed else 'as it was'}", markup=False, soft_wrap=True)
