# SPDX-License-Identifier: Apache-2.0
"""Tensors of at most 16 channels share the words of a scratchpad where a plan would spill, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from golden.network import Network
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from hw.system import NPU_LB
from mapping.compiler import plan as planning
from mapping.compiler.emit import COMPUTE, LOAD, STORE, EmittedPart
from mapping.compiler.invariants import check
from mapping.compiler.invariants.lists import check_emitted
from mapping.compiler.invariants.parts import check_packed, check_planned
from mapping.compiler.invariants.require import InvariantError
from mapping.compiler.legalise import legalise_network
from mapping.compiler.passes import Compilation, Options, run_passes
from mapping.compiler.plan import Kept
from mapping.compiler.share import Request, sharings
from mapping.run.random_networks import narrow_network

CORE = replace(NPU_LB, act_kib=16)
PIXELS = 200  # two and a half tensors fill the scratchpad
PARTS = ("in_part", "in2_part", "out_part")


def compiled(network: Network, core: CoreConfig = CORE) -> Compilation:
    graph = legalise_network(network)
    units = {op.name: np.zeros(op.shape[2], np.int64) for op in graph.ops}
    return run_passes(graph, (core,), units, Options())


def unshared(network: Network, monkeypatch: pytest.MonkeyPatch) -> Compilation:
    """Compile without sharing."""
    with monkeypatch.context() as patch:
        patch.setattr(planning, "sharings", lambda *_: iter(()))
        return compiled(network)


def spilled(compilation: Compilation) -> set[str]:
    """Return the tensors that are not kept."""
    return {
        name
        for part in compilation.parts
        for name in (*part.op.sources, part.op.name)
        if name not in part.kept
    }


def moved(compilation: Compilation) -> int:
    return sum(part.moved_bytes(engine) for part in compilation.parts for engine in (LOAD, STORE))


def shared(compilation: Compilation) -> dict[str, Kept]:
    """Return the places of tensors in a part other than the first."""
    return {name: at for part in compilation.parts for name, at in part.kept.items() if at.first < 0}


def commands_in_parts(compilation: Compilation) -> set[tuple[str, str]]:
    """Return (operator, field) of what is not in the first part."""
    return {
        (entry.name, name)
        for entries in compilation.schedules[0].lists
        for entry in entries
        for name in PARTS
        if entry.fields.get(name)
    }


def test_words_are_shared_only_where_a_plan_would_spill(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = unchanged = 0
    for seed in range(30):
        network, _, _ = narrow_network(seed, (CORE,), PIXELS if seed % 3 else 80)
        before, after = unshared(network, monkeypatch), compiled(network)
        check(after)
        if not shared(after):
            assert before.schedules == after.schedules
            same = zip(before.program.segments, after.program.segments, strict=True)
            assert all(a == b and np.array_equal(x, y) for (a, x), (b, y) in same)
            unchanged += 1
            continue
        assert spilled(before), "nothing shares words where nothing spills"
        assert len(spilled(after)) < len(spilled(before))
        assert moved(after) < moved(before)
        fewer += 1
    assert fewer >= 12
    assert unchanged >= 8


def test_every_operator_reads_and_writes_other_parts_but_no_depthwise_one_reads_them() -> None:
    seen: set[tuple[str, str]] = set()
    beside = 0  # depthwise layers whose input shares its words
    for seed in range(60):
        compilation = compiled(narrow_network(seed, (CORE,), PIXELS)[0])
        seen |= commands_in_parts(compilation)
        bases = {place.base for place in shared(compilation).values()}
        for part in compilation.parts:
            if part.op.kind == "depthwise_conv2d" and part.op.sources[0] in part.kept:
                place = part.kept[part.op.sources[0]]
                assert place.first == 0
                beside += place.base in bases
    operators = ("conv", "depthwise", "add", "average_pool", "max_pool")
    readers = ("add", "average_pool", "max_pool")
    expected = {(name, "out_part") for name in operators} | {(name, "in_part") for name in readers}
    assert seen == expected | {("add", "in2_part")}
    assert beside > 0


def test_four_tensors_share_words_of_64_channels() -> None:
    core = CoreConfig("wide", w_bits=2, rows=64, cols=64, act_kib=16, param_kib=16)
    parts = set()
    for seed in range(12):
        compilation = compiled(narrow_network(seed, (core,), 100)[0], core)
        check(compilation)
        parts |= {place.first for place in shared(compilation).values()}
    assert parts >= {-CHANNEL_BLOCK, -2 * CHANNEL_BLOCK}


def request(name: str, **changes: object) -> Request:
    """Return a tensor that may share its words."""
    usual = {"words": 100, "start": 0, "end": 3, "narrow": True, "fixed": False, "first": 0}
    return Request(names=(name,), **(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "possible"),
    [
        ({}, True),
        ({"start": 3, "end": 5}, True),
        ({"start": 4, "end": 5}, False),  # the room of the one is free for the other
        ({"words": 101}, False),
        ({"narrow": False}, False),
    ],
)
def test_only_equal_narrow_tensors_share_that_live_at_the_same_time(
    change: dict[str, object], possible: bool
) -> None:
    pairs = list(sharings((request("a"), request("b", **change)), 2))
    assert [item.names for pair in pairs for item in pair] == ([("a", "b")] if possible else [])


def test_what_a_depthwise_layer_reads_is_first_and_words_of_16_channels_are_not_shared() -> None:
    ((pair,),) = sharings((request("a"), request("b", fixed=True)), 2)
    assert (pair.names, pair.fixed) == (("b", "a"), True)
    assert list(sharings((request("a", fixed=True), request("b", fixed=True)), 2)) == []
    assert list(sharings((request("a"), request("b")), 1)) == []


# ------------------------------------------------------------------------------- what the checks notice
@pytest.fixture(scope="module")
def good() -> Compilation:
    """A network with tensors that share words, one of them a convolution's input, one a pooling's."""
    for seed in range(100):
        compilation = compiled(narrow_network(seed, (CORE,), PIXELS)[0])
        there = shared(compilation)
        read = {part.op.kind for part in compilation.parts if part.op.sources[0] in there}
        if read >= {"conv2d", "max_pool"}:
            return compilation
    raise AssertionError("no such network")


def moved_to_the_first_part(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        kept = {name: replace(place, first=max(0, place.first)) for name, place in part.kept.items()}
        return replace(part, kept=kept)

    return replace(good, parts=tuple(change(part) for part in good.parts))


def with_field(good: Compilation, name: str, value: int) -> Compilation:
    """Change a field of all operators that have it."""

    def change(part: EmittedPart) -> EmittedPart:
        commands = tuple(
            item._replace(fields=item.fields | {name: value})
            if item.engine == COMPUTE and item.fields.get(name)
            else item
            for item in part.commands
        )
        return replace(part, commands=commands)

    return replace(good, parts=tuple(change(part) for part in good.parts))


def test_tensors_in_the_same_part_of_the_same_words_are_noticed(good: Compilation) -> None:
    with pytest.raises(InvariantError, match="overlap"):
        check_planned(moved_to_the_first_part(good))


def test_weights_for_another_part_are_noticed(good: Compilation) -> None:
    with pytest.raises(InvariantError, match="other weights"):
        check_packed(moved_to_the_first_part(good))


@pytest.mark.parametrize("name", ["in_part", "out_part"])
def test_a_command_on_another_part_is_noticed(name: str, good: Compilation) -> None:
    with pytest.raises(InvariantError, match=f"{name} is not '.*'s"):
        check_emitted(with_field(good, name, 0))
