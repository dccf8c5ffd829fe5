# SPDX-License-Identifier: Apache-2.0
"""The command `npuloop` as `python -m npuloop`."""

from __future__ import annotations

from npuloop.cli.main import app

if __name__ == "__main__":
    app()
