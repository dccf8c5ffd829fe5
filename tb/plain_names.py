# SPDX-License-Identifier: Apache-2.0
"""Names that makefiles can cope with, for paths with spaces, quotes and whatever else a folder may be called.

Verilator's makefiles and the shells that they start take apart what they do not quote. A link with a plain
name stands for each path that would not survive that, in a folder that is removed afterwards.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

_PLAIN = re.compile(r"[A-Za-z0-9_./+-]*")


def is_plain(path: Path) -> bool:
    """Return whether makefiles and shells take a path as it is."""
    return _PLAIN.fullmatch(str(path)) is not None


class PlainNames:
    """Plain names for paths. Links and folders end with the `with` block."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._links: dict[Path, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def name(self, path: Path) -> Path:
        """Return a plain name of a file or folder: its own, or that of a link to it."""
        if is_plain(path):
            return path
        if path not in self._links:
            self._links[path] = self._new() / "link"
            self._links[path].symlink_to(path)
        return self._links[path]

    def folder(self, path: Path) -> Path:
        """Return a new folder to build in: the path, or one elsewhere; make asks where a link leads."""
        if not is_plain(path):
            return self._new()
        path.mkdir(parents=True)
        return path

    def _new(self) -> Path:
        usual = Path(tempfile.gettempdir())
        place = usual if is_plain(usual) else Path("/tmp")  # noqa: S108  # a new folder in it, nobody else's
        folder = tempfile.TemporaryDirectory(prefix=f"npuloop-{os.getpid()}-", dir=place)
        return Path(self._stack.enter_context(folder))
