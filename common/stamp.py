# SPDX-License-Identifier: Apache-2.0
"""Checksums of tables that programs write and people read: a figure that was changed later is noticed.

A table is a YAML mapping whose key `sha256` is the hash of everything else in it, whatever its order, layout
and comments. It is no signature: whoever changes a table on purpose stamps it again (`npuloop restamp`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import NpuloopError
from common.files import MAX_YAML_BYTES, read_text, read_yaml, write_atomically

KEY = "sha256"
_LINE = re.compile(rf"^{KEY}:.*\n?", re.MULTILINE)
_FIRST = re.compile(r"^schema:.*\n", re.MULTILINE)


def checksum(document: Mapping[str, Any]) -> str:
    """Return the hash of a table's content, 64 hexadecimal digits."""
    content = {str(name): value for name, value in document.items() if name != KEY}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def stamped(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with its checksum, behind its schema."""
    rest = {name: value for name, value in document.items() if name not in ("schema", KEY)}
    return {"schema": document["schema"], KEY: checksum(document), **rest}


def check_stamp(path: Path, document: Mapping[str, Any], error: type[NpuloopError], remedy: str) -> None:
    """Refuse a table that is not as it was written.

    Raises:
        error: the checksum is missing or another; names the file, the remedy and how to keep the change.
    """
    given = document.get(KEY)
    if given != checksum(document):
        what = (
            "has no checksum"
            if given is None
            else "was changed after it was written: its checksum is another"
        )
        raise error(f"{path}: {what}; {remedy}, or accept it as it is with `npuloop restamp {path}`")


def restamp(path: Path) -> bool:
    """Write a table's checksum anew and nothing else; return whether it was another one.

    Raises:
        NpuloopError: the file is no table, or cannot be written.
    """
    kind = "table with `schema` and figures"
    document = read_yaml(path, NpuloopError, kind)
    if not isinstance(document, dict) or "schema" not in document:
        raise NpuloopError(f"{path}: has no `schema`; this is no {kind}")
    sha = checksum(document)
    if document.get(KEY) == sha:
        return False
    text = _LINE.sub("", read_text(path, NpuloopError, kind, MAX_YAML_BYTES), count=1)
    text, found = _FIRST.subn(lambda match: f"{match[0]}{KEY}: {sha}\n", text, count=1)
    if not found:
        raise NpuloopError(f"{path}: `schema` has no line of its own; write it as `schema: 1` at the left")
    write_atomically(path, lambda file: file.write(text.encode()))
    return True
