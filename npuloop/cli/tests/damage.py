# SPDX-License-Identifier: Apache-2.0
"""Damages files: their bytes, and where it is known, their structure."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.stamp import stamped

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    -1,
    2**31,
    2**63,
    10**40,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "[red]",
    "[/x]",
    "\x1b[2J",
    "a\nb",
    "x" * 2000,
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": 1},
    {"schema": 2},
    "\udcff",
)
"""Values that take the place of others."""


WORDS = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20)


def damaged(rng: np.random.Generator, file: Path, content: bytes) -> bytes:
    """Return a file's content with random damage: of its structure for half of the draws where it has one."""
    structured = STRUCTURED.get(file.suffix)
    if structured and rng.random() < 0.6:
        return structured(rng, content)
    return _bytes(rng, content)


def _bytes(rng: np.random.Generator, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        size = max(len(data), 1)
        place, kind = int(rng.integers(size)), int(rng.integers(6))
        if kind == 0:
            del data[place:]
        elif kind == 1 and data:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            data[place : place + 4] = int(rng.choice(WORDS)).to_bytes(4, "little")
        elif kind == 3:
            data[place:place] = data[place : place + int(rng.integers(1, 64))]
        elif kind == 4:
            data[place:place] = rng.bytes(int(rng.integers(1, 16)))
        else:
            del data[place : place + int(rng.integers(1, 32))]
    return bytes(data)


def _tree(rng: np.random.Generator, value: Any) -> Any:
    """Return plain data with one value somewhere in it replaced, doubled or taken away."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[int(rng.integers(len(keys)))]
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        if rng.random() < 0.1:
            del copy[key]
        elif rng.random() < 0.05 and isinstance(copy, list):
            copy += copy
        else:
            copy[key] = _tree(rng, value[key])
        return copy
    return ODD[int(rng.integers(len(ODD)))]


def _renamed(rng: np.random.Generator, text: str) -> str:
    """Return JSON text in which one string is another wherever it stands."""
    strings = sorted(set(re.findall(r'"[^"\\]*"', text)))
    odd = [value for value in ODD if isinstance(value, str)]
    return text.replace(
        strings[int(rng.integers(len(strings)))], json.dumps(odd[int(rng.integers(len(odd)))])
    )


def _yaml(rng: np.random.Generator, content: bytes) -> bytes:
    document = _tree(rng, yaml.safe_load(content))
    if isinstance(document, dict) and "sha256" in document and "schema" in document and rng.random() < 0.8:
        document = stamped(document)  # so that what reads the figures sees them
    text = yaml.safe_dump(document, sort_keys=False)
    if rng.random() < 0.1:
        text = f"a: &a [{text!r}]\nb: [*a, *a]\n" if rng.random() < 0.5 else "- " * 500 + text
    return text.encode(errors="replace")


def _json(rng: np.random.Generator, content: bytes) -> bytes:
    return b"\n".join(json.dumps(_tree(rng, json.loads(line))).encode() for line in content.splitlines())


def _npz(rng: np.random.Generator, content: bytes) -> bytes:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    name = list(arrays)[int(rng.integers(len(arrays)))]
    kind = int(rng.integers(7))
    if "network" in arrays and rng.random() < 0.6:
        text = str(arrays["network"])
        changed = _renamed(rng, text) if rng.random() < 0.5 else json.dumps(_tree(rng, json.loads(text)))
        arrays["network"] = np.array(changed)
    elif kind == 0:
        del arrays[name]
    elif kind == 1 and arrays[name].dtype.kind == "U":
        arrays[name] = np.array(9)
    elif kind == 1:
        arrays[name] = arrays[name].astype(rng.choice(["f4", "i8", "u1", "i4", "U3", "f8", "?"]))
    elif kind == 2:
        arrays[name] = arrays[name].reshape(-1)
    elif kind == 3:
        arrays[name] = np.full_like(arrays[name], "9" if arrays[name].dtype.kind == "U" else 127)
    elif kind == 4:
        arrays[name] = arrays[name][None]
    elif kind == 5:
        return _bomb(name)
    else:
        arrays["more/[red]"] = arrays[name]
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _bomb(name: str) -> bytes:
    """Return an archive with a member that says that it is large."""
    header, file = io.BytesIO(), io.BytesIO()
    shape = {"descr": "|i1", "fortran_order": False, "shape": (1 << 33, 4)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", header.getvalue() + bytes(1 << 20))
    return file.getvalue()


def _npy(rng: np.random.Generator, content: bytes) -> bytes:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    changed = [
        array[0],
        array[None],
        array.astype("f8"),
        array.astype("c16"),
        array[:0],
        array.T,
        array + np.nan,
    ]
    file = io.BytesIO()
    np.save(file, changed[int(rng.integers(len(changed)))], allow_pickle=False)
    return file.getvalue()


STRUCTURED: dict[str, Callable[[np.random.Generator, bytes], bytes]] = {
    ".yaml": _yaml,
    ".jsonl": _json,
    ".json": _json,
    ".npz": _npz,
    ".npy": _npy,
}
