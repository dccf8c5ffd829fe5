# SPDX-License-Identifier: Apache-2.0
"""Commands of the NPU as 16-word blocks: made from field names, taken apart again, put together to lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from common.arrays import Bytes, Words
from common.errors import TestbenchError
from hw.interface import COMMAND_BYTES, COMMANDS, ENGINES, LAYOUTS

COMMAND_WORDS = COMMAND_BYTES // 4
_BY_OPCODE = {opcode: name for name, (opcode, _, _) in COMMANDS.items()}
_ENDS = {  # the least and the largest value of every field of each layout
    layout: {
        field: (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        for field, (_, _, width, signed) in fields.items()
    }
    for layout, fields in LAYOUTS.items()
}


class CommandError(TestbenchError):
    """A command that cannot be encoded or decoded."""


def encode(name: str, *, engine: int | str | None = None, **fields: int) -> Words:
    """Return one command as 16 little-endian words.

    Args:
        name: the command's name in the table, such as ``"load"``.
        engine: its engine, as a name or number; needed only by commands that any engine executes.
        fields: fields of the command's layout by name; those not given are 0.

    Raises:
        CommandError: an unknown command, engine or field, or a value that its field cannot hold.
    """
    check(name, fields)
    opcode, layout_name, only = COMMANDS[name]
    layout = LAYOUTS[layout_name]
    number = _engine_number(name, engine, only)
    words = [opcode | number << 8] + [0] * (COMMAND_WORDS - 1)
    for field, value in fields.items():
        word, lsb, width, _ = layout[field]
        words[word] |= (int(value) & ((1 << width) - 1)) << lsb
    return np.array(words, dtype=np.uint32)


def check(name: str, fields: Mapping[str, int]) -> None:
    """Check that a command can be encoded, engine apart.

    Raises:
        CommandError: an unknown command or field, or a value that its field cannot hold.
    """
    if name not in COMMANDS:
        raise CommandError(f"no command {name!r}; there are {', '.join(COMMANDS)}")
    ends = _ENDS[COMMANDS[name][1]]
    for field, value in fields.items():
        if field not in ends:
            raise CommandError(f"{name}: no field {field!r}; it has {', '.join(ends)}")
        low, high = ends[field]
        if isinstance(value, float) or not low <= value <= high:
            raise CommandError(f"{name}: {field} = {value!r} must be an integer in {low} to {high}")


def _engine_number(name: str, engine: int | str | None, only: int | None) -> int:
    if engine is None:
        if only is None:
            raise CommandError(f"{name}: say which engine executes it: {', '.join(ENGINES)}")
        return only
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise CommandError(f"{name}: no engine {engine!r}; there are {', '.join(ENGINES)}")
        engine = ENGINES.index(engine)
    if not 0 <= engine < 4:
        raise CommandError(f"{name}: engine {engine!r} must be 0 to 3")
    return int(engine)  # a wrong engine is encodable: the hardware has to refuse it


def decode(words: Words | Bytes) -> dict[str, int | str]:
    """Return a command's name, engine and fields. Fields that are 0 are left out.

    Raises:
        CommandError: not 16 words (64 bytes), or an unknown opcode.
    """
    array = np.ascontiguousarray(words)
    if array.nbytes != COMMAND_BYTES:
        raise CommandError(f"a command has {COMMAND_BYTES} bytes, not {array.nbytes}")
    values = [int(value) for value in array.view(np.uint32).reshape(-1)]
    opcode, engine = values[0] & 0xFF, values[0] >> 8 & 3
    if opcode not in _BY_OPCODE:
        raise CommandError(f"no command has the opcode {opcode:#x}")
    name = _BY_OPCODE[opcode]
    result: dict[str, int | str] = {
        "command": name,
        "engine": ENGINES[engine] if engine < len(ENGINES) else str(engine),
    }
    for field, (word, lsb, width, signed) in LAYOUTS[COMMANDS[name][1]].items():
        value = values[word] >> lsb & ((1 << width) - 1)
        if signed and value >> width - 1:
            value -= 1 << width
        if value:
            result[field] = value
    return result


def command_list(commands: Iterable[Words]) -> Bytes:
    """Return the memory image of a list of commands."""
    blocks = list(commands)
    for i, block in enumerate(blocks):
        if block.dtype != np.uint32 or block.shape != (COMMAND_WORDS,):
            raise CommandError(f"command {i} of the list must be {COMMAND_WORDS} words of uint32")
    if not blocks:
        return np.zeros(0, dtype=np.uint8)
    return np.concatenate(blocks).astype("<u4").view(np.uint8)


def describe(command: Mapping[str, int | str]) -> str:
    """Return a decoded command on one line."""
    rest = ", ".join(f"{key}={value}" for key, value in command.items() if key not in ("command", "engine"))
    return f"{command['command']} [{command['engine']}] {rest}".rstrip()
