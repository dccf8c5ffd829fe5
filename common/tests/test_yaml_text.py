# SPDX-License-Identifier: Apache-2.0
"""YAML that describes more than it says is refused before anything is made of it."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from common import yaml_text
from common.yaml_text import MAX_DEPTH, MAX_NODES, MAX_SCALAR, parse_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, f"its aliases stand for more than {MAX_NODES} values"),
        ("&a [*a]", "its aliases stand for more than"),
        ("a: &a\n  b: *a", "its aliases stand for more than"),
        ("[" * 1_000_000, f"more than {MAX_DEPTH} lists and mappings in each other"),
        ("{a: " * 100, f"more than {MAX_DEPTH} lists and mappings in each other"),
        ("- " * 1000, f"more than {MAX_DEPTH} lists and mappings in each other"),
        ("a: 0x" + "f" * MAX_SCALAR, "a value of 3002 characters; up to 3000"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ('a: !!int ""', "index out of range"),
        ("a: !!timestamp x", "NoneType"),
        ("a: 2001-99-99", "month"),
        ("? [1]\n: 2", "unhashable"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: \x00", "not allowed"),
    ],
)
def test_hostile_yaml_is_one_reason_in_no_time_and_memory(text: str, says: str) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ValueError, match=says):
            parse_yaml(text)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 10


def test_a_document_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "MAX_NODES", 100)
    assert len(parse_yaml("[" + "1," * 90 + "1]")) == 91
    with pytest.raises(ValueError, match="more than 100 values"):
        parse_yaml("[" + "1," * 97 + "1]")


def test_aliases_within_bounds_are_what_they_stand_for() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x\nc: [*x, *x]") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}
    assert parse_yaml("") is None
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert str(parse_yaml(deep)) == deep
