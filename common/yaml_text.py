# SPDX-License-Identifier: Apache-2.0
"""YAML of people and programs, read within bounds: its depth, its size, and what its aliases stand for.

A few lines of aliases of aliases describe more values than any memory holds, and a few kilobytes of brackets
more levels than Python's stack. Both are counted before anything is made of them.
"""

from __future__ import annotations

from typing import Any

import yaml

MAX_DEPTH = 40
"""Most levels of lists and mappings in each other."""
MAX_NODES = 300_000
"""Most values, with those that aliases repeat."""
MAX_SCALAR = 3000
"""Most characters of one value; longer integers could not even be printed."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> Any:
    """Return the document of a text, in which no key may stand twice.

    Raises:
        ValueError: a text that is no YAML, or goes beyond the bounds; says what is wrong.
    """
    try:
        _check_events(text)
        loader = _UniqueKeys(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, {}) > MAX_NODES:
                raise ValueError(f"its aliases stand for more than {MAX_NODES} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (
        *(yaml.YAMLError, RecursionError),
        *(ArithmeticError, AttributeError, LookupError, TypeError),  # of a value that its tag does not fit
    ) as problem:
        raise ValueError(" ".join(str(problem).split())) from None


def _check_events(text: str) -> None:
    """Refuse a text that is too deep or too large, before anything is made of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.events.ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise ValueError(f"a value of {len(event.value)} characters; up to {MAX_SCALAR} are supported")
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} lists and mappings in each other")
        if count > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} values")


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node has, those behind aliases each time; an alias of itself has no end."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # while it is being counted
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


class _UniqueKeys(_Loader):  # type: ignore[misc, valid-type]
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
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping
