# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop doctor`: what this machine lacks."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Say what this machine lacks to build and run the project, and how to get it.

    Exit status: 0, 1 if something that is required is missing.
    """
    from tb.doctor import main

    raise typer.Exit(main())
