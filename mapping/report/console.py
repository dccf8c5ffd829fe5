# SPDX-License-Identifier: Apache-2.0
"""The one style of the tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table


def console_table(
    title: str, words: Sequence[str], numbers: Sequence[str], *, no_wrap: bool = True, min_width: int = 0
) -> Table:
    """Return a table without rows.

    Args:
        title: what stands above it.
        words: headings of the first columns.
        numbers: headings of the columns behind these; their cells stand at the right.
        no_wrap: cells are cut and not wrapped where the console is too narrow.
        min_width: columns of the console that it has at least.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, min_width=min_width or None)
    for name in words:
        table.add_column(name, no_wrap=no_wrap)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=no_wrap)
    return table
