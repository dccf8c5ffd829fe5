# SPDX-License-Identifier: Apache-2.0
"""The command `npuloop` as `python -m npuloop`."""

from __future__ import annotations

from npuloop.cli.main import main

if __name__ == "__main__":
    main()
