# SPDX-License-Identifier: Apache-2.0
"""Files: YAML read without surprises, results written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from common.errors import NpuloopError

MAX_FILE_BYTES = 16 << 20


def read_yaml(path: Path, error: type[NpuloopError], kind: str) -> Any:
    """Return the document of a file, in which no key may stand twice.

    Args:
        path: the file.
        error: what is raised where it cannot be read, naming the file.
        kind: what the file should be, for the message.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise error(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no {kind}")
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506  # a SafeLoader
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        raise error(f"{path}: no valid YAML ({' '.join(str(problem).split())}); write a {kind}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int)) and key in seen:
                problem = f"key {key!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key if isinstance(key, (str, int)) else id(key_node))
        return super().construct_mapping(node, deep)


def write_atomically(
    path: Path, write: Callable[[Any], object], error: type[NpuloopError] = NpuloopError
) -> None:
    """Write a file so that it is there whole or not at all; its folder is made where it is missing.

    Args:
        path: the file; one that exists is replaced.
        write: writes the content into a file that is open for binary writing.
        error: what is raised.

    Raises:
        error: the file cannot be written; whatever `write` raises that is no OSError is passed on.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror or problem})") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror or problem})") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Write plain data as a JSON file, whole or not at all.

    Raises:
        NpuloopError: the file cannot be written.
    """
    text = json.dumps(document, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
