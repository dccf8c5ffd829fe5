# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import numpy as np
import pytest

from hw.commands import CommandError, command_list, decode, encode
from hw.interface import COMMANDS, LAYOUTS


@pytest.mark.parametrize("name", COMMANDS)
def test_decode_returns_what_encode_was_given(name: str) -> None:
    rng = random.Random(name)
    _, layout, engine = COMMANDS[name]
    for _ in range(20):
        fields = {}
        for field, (_, _, width, signed) in LAYOUTS[layout].items():
            low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
            fields[field] = rng.choice((low, high, rng.randint(low, high)))
        words = encode(name, engine="store" if engine is None else None, **fields)
        decoded = decode(words)
        assert decoded.pop("command") == name
        decoded.pop("engine")
        assert decoded == {field: value for field, value in fields.items() if value}


@pytest.mark.parametrize("name", COMMANDS)
def test_fields_do_not_overlap(name: str) -> None:
    used = np.zeros(16, dtype=object)
    used[0] = 0x3FF
    for word, lsb, width, _ in LAYOUTS[COMMANDS[name][1]].values():
        mask = ((1 << width) - 1) << lsb
        assert mask < 1 << 32
        assert not used[word] & mask
        used[word] |= mask


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("lode", {}, "no command 'lode'"),
        ("load", {"words": 1}, "no field 'words'"),
        ("load", {"line_words": 1 << 16}, "line_words = 65536 must be an integer in 0 to 65535"),
        ("conv", {"in_row": -(1 << 15) - 1}, "in_row = -32769 must be"),
        ("mark", {"id": -1}, "id = -1 must be"),
        ("nop", {}, "say which engine"),
        ("nop", {"engine": "array"}, "no engine 'array'"),
    ],
)
def test_wrong_commands_are_refused_by_name(name: str, fields: dict[str, int], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        encode(name, **fields)


def test_decode_refuses_unknown_opcodes_and_sizes() -> None:
    with pytest.raises(CommandError, match="0xee"):
        decode(np.full(16, 0xEE, dtype=np.uint32))
    with pytest.raises(CommandError, match="64 bytes"):
        decode(np.zeros(8, dtype=np.uint32))


def test_a_list_is_64_bytes_a_command_little_endian() -> None:
    image = command_list([encode("mark", mem_address=0x12345670, id=7), encode("nop", engine="load")])
    assert image.dtype == np.uint8
    assert len(image) == 128
    assert list(image[4:8]) == [0x70, 0x56, 0x34, 0x12]
    assert decode(image[:64])["id"] == 7
    assert len(command_list([])) == 0
