# SPDX-License-Identifier: Apache-2.0
"""Names that makefiles can cope with, for paths with spaces, quotes and whatever else a folder may be called.

Verilator's makefiles and the shells that they start take apart what they do not quote. A link with a plain
name stands for each path that would not survive that, in a folder that is removed afterwards.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_./+-]*")


def is_plain(path: Path) -> bool:
    """Return whether makefiles and shells take a path as it is."""
    return _PLAIN.fullmatch(str(path)) is not None


@contextmanager
def plain_names() -> Iterator[Callable[[Path], Path]]:
    """Have a function that returns a plain name of a file or folder: its own, or that of a link to it."""
    folders: list[tempfile.TemporaryDirectory[str]] = []
    links: dict[Path, Path] = {}

    def plain(path: Path) -> Path:
        if is_plain(path):
            return path
        if not folders:
            usual = Path(tempfile.gettempdir())
            place = usual if is_plain(usual) else Path("/tmp")  # noqa: S108  # a new folder in it, nobody else's
            folders.append(tempfile.TemporaryDirectory(prefix="npuloop-names-", dir=place))
        if path not in links:
            links[path] = Path(folders[0].name) / str(len(links))
            links[path].symlink_to(path)
        return links[path]

    try:
        yield plain
    finally:
        for folder in folders:
            folder.cleanup()
