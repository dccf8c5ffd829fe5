# SPDX-License-Identifier: Apache-2.0
"""What each pass promises holds on layers and networks, and every check notices when it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from common.errors import NpuloopError
from common.testing import data_dir, require
from golden.importers.tflite import load_tflite
from golden.network import Network
from hw.core import CoreConfig
from hw.system import System
from mapping.bench.networks import LIMITS
from mapping.compiler.channels import ChannelAssignment, ChannelOrder
from mapping.compiler.emit import COMPUTE, LOAD, EmittedPart
from mapping.compiler.invariants import CHECKS, check
from mapping.compiler.invariants.graphs import check_folded, check_legalised, check_ordered, check_requantised
from mapping.compiler.invariants.lists import check_emitted, check_linked, check_scheduled
from mapping.compiler.invariants.parts import check_divided, check_packed, check_placed, check_planned
from mapping.compiler.invariants.require import InvariantError
from mapping.compiler.legalise import legalise, legalise_network
from mapping.compiler.passes import Compilation, Options, run_passes
from mapping.compiler.plan import Bands
from mapping.compiler.program import Choice
from mapping.compiler.schedule import Entry
from mapping.run.random_layers import OPERATORS, random_layer
from mapping.run.random_networks import random_network, random_units

CORES = (
    CoreConfig("npu8"),
    CoreConfig("npu_lb", w_bits=2),
    CoreConfig("wide", w_bits=2, rows=32, cols=32, lanes=8),
    CoreConfig("narrow", w_bits=5, a_bits=6, dw_taps=3),
    CoreConfig("small", act_kib=4, weight_kib=4, param_kib=2, lanes=4, stripe_depth=16),
)
SYSTEMS = (
    System(),
    System((CoreConfig("a", w_bits=3, a_bits=5, rows=32, cols=32), CoreConfig("b", a_bits=7)), axi_bits=64),
    System((CoreConfig("x"), CoreConfig("y", w_bits=4), CoreConfig("z", w_bits=2))),
    System((CoreConfig("small", act_kib=8, weight_kib=8, param_kib=2, lanes=4, stripe_depth=16),)),
)
BANDINGS = get_args(Bands)


def compiled(
    network: Network, system: System, units: dict[str, ChannelAssignment], **options: Any
) -> Compilation:
    return run_passes(legalise_network(network), system.cores, units, Options(**options))


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("core", CORES, ids=[core.name for core in CORES])
def test_every_promise_holds_on_random_layers(op: str, core: CoreConfig) -> None:
    for seed in range(6):
        graph = legalise(random_layer(seed, core, op))
        units = {item.name: np.zeros(item.shape[2], np.int64) for item in graph.ops}
        for options in (Options(), Options(folding=False, overlap=False), Options(image_wanted=False)):
            check(run_passes(graph, (core,), units, options))


@pytest.mark.parametrize("system", SYSTEMS, ids=["pair", "64 bits", "three units", "small"])
def test_every_promise_holds_on_random_networks(system: System) -> None:
    done = 0
    for seed in range(20):
        network, units, _ = random_network(seed, system.cores)
        try:
            compilation = compiled(
                network, system, units,
                observe=seed % 3 == 0, overlap=seed % 5 > 0, image_wanted=seed % 7 > 0,
                choice=Choice(BANDINGS[seed % len(BANDINGS)], shares=seed % 2 > 0),
            )  # fmt: skip
        except NpuloopError:  # what does not fit
            continue
        check(compilation)
        done += 1
    assert done > 15


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.data
def test_every_promise_holds_on_real_networks(name: str, observe: bool) -> None:
    network = load_tflite(require(data_dir() / "models" / f"{name}.tflite"))
    system = System((CoreConfig("npu8"), CoreConfig("other")))
    rng = np.random.default_rng(1)
    units = {op.name: random_units(rng, op.shape[2], 2) for op in legalise_network(network).ops}
    check(compiled(network, system, units, observe=observe))


# ------------------------------------------------------------------------------- what each check notices
@pytest.fixture(scope="module")
def good() -> Compilation:
    """A network on two units with a folded input, tensors that they exchange, and streamed ones."""
    cores = (CoreConfig("a", act_kib=8), CoreConfig("b", act_kib=8))
    system = System(cores)
    for seed in range(200):
        network, units, _ = random_network(seed, cores, layers=10)
        compilation = compiled(network, system, units)
        parts = compilation.parts
        entries = [entry for entries in compilation.schedules[0].lists for entry in entries]
        if (
            compilation.program.folds
            and any(part.remote for part in parts)
            and any(len(part.tiling.target) > 1 for part in parts)
            and any(len(part.kept) > 1 for part in parts)
            and any(entry.name == "wait" for entry in entries)
            and any(entry.fields.get("fence") for entry in entries)
        ):
            check(compilation)
            return compilation
    raise AssertionError("no such network")


def with_part(
    good: Compilation, chosen: Callable[[EmittedPart], Any], change: Callable[[EmittedPart], EmittedPart]
) -> Compilation:
    """Change the first part for which something is true."""
    index = next(i for i, part in enumerate(good.parts) if chosen(part))
    parts = (*good.parts[:index], change(good.parts[index]), *good.parts[index + 1 :])
    return replace(good, parts=parts)


def with_graph(good: Compilation, **changes: Any) -> Compilation:
    """Change the first operator of the network."""
    first, *others = good.program.graph.ops
    graph = replace(good.program.graph, ops=(replace(first, **changes), *others))
    return replace(good, program=replace(good.program, graph=graph))


def other_geometry(good: Compilation) -> Compilation:
    return with_graph(good, stride=(2, 2))


def unknown_source(good: Compilation) -> Compilation:
    return with_graph(good, sources=("nobody",))


def other_bias(good: Compilation) -> Compilation:
    assert good.requantisations is not None
    key = next(iter(good.requantisations))
    item = good.requantisations[key][0]
    changed = {key: {0: replace(item, bias=item.bias + np.int32(1))}}
    return replace(good, requantisations={**good.requantisations, **changed})


def too_narrow(good: Compilation) -> Compilation:
    cores = tuple(replace(core, w_bits=2, cols=None) for core in good.program.cores)
    return replace(good, program=replace(good.program, cores=cores))


def other_fold(good: Compilation) -> Compilation:
    ((name, fold),) = good.program.folds.items()
    first = good.program.graph.ops[0]
    weights = np.ascontiguousarray(first.layer.weights[..., ::-1])
    graph = good.program.graph
    changed = replace(first, layer=replace(first.layer, weights=weights))
    graph = replace(graph, ops=(changed, *graph.ops[1:]))
    return replace(good, program=replace(good.program, graph=graph, folds={name: fold}))


def double_channel(good: Compilation) -> Compilation:
    name = good.program.graph.ops[0].name
    channels = good.program.orders[name].channels.copy()
    channels[1] = channels[0]
    orders = {**good.program.orders, name: ChannelOrder(channels)}
    return replace(good, program=replace(good.program, orders=orders))


def part_left_out(good: Compilation) -> Compilation:
    return replace(good, parts=good.parts[1:])


def nobody_loads(good: Compilation) -> Compilation:
    return with_part(good, lambda part: part.loads, lambda part: replace(part, loads={}))


def other_weight(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        first, *others = part.parameters
        weights = first.weights.copy()
        weights[0] ^= 1
        return replace(part, parameters=(replace(first, weights=weights), *others))

    return with_part(good, lambda part: part.parameters[0].weights.size, change)


def other_shift(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        first, *others = part.parameters
        params = {count: data ^ np.uint8(1) for count, data in first.params.items()}
        return replace(part, parameters=(replace(first, params=params), *others))

    return with_part(good, lambda _: True, change)


def kept_over_each_other(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        kept = {name: replace(place, base=0) for name, place in part.kept.items()}
        return replace(part, kept=kept)

    return replace(good, parts=tuple(change(part) for part in good.parts))


def buffer_over_buffer(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        target = (part.tiling.target[0],) * len(part.tiling.target)
        return replace(part, tiling=replace(part.tiling, target=target))

    return with_part(good, lambda part: len(part.tiling.target) > 1, change)


def not_stored(good: Compilation) -> Compilation:
    return with_part(good, lambda part: part.stores, lambda part: replace(part, stores=False))


def mark_over_parameters(good: Compilation) -> Compilation:
    return with_part(
        good, lambda _: True, lambda part: replace(part, mark=next(iter(part.slots[0].params.values())))
    )


def values_over_each_other(good: Compilation) -> Compilation:
    names = list(good.program.stored)
    address = good.program.stored[names[0]].address
    stored = {name: replace(place, address=address) for name, place in good.program.stored.items()}
    return replace(good, program=replace(good.program, stored=stored))


def no_place(good: Compilation) -> Compilation:
    return with_part(good, lambda part: part.loads, lambda part: replace(part, stored={}))


def load_left_out(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        index = next(i for i, item in enumerate(part.commands) if item.engine == LOAD)
        return replace(part, commands=part.commands[:index] + part.commands[index + 1 :])

    return with_part(good, lambda part: any(item.engine == LOAD for item in part.commands), change)


def operator_twice(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        index = max(i for i, item in enumerate(part.commands) if item.engine == COMPUTE)
        return replace(part, commands=(*part.commands[: index + 1], *part.commands[index:]))

    return with_part(good, lambda _: True, change)


def store_left_out(good: Compilation) -> Compilation:
    def change(part: EmittedPart) -> EmittedPart:
        kept = tuple(item for item in part.commands if item.name != "store")
        return replace(part, commands=kept)

    last = good.parts[-1].index  # nobody reads the outputs of the last layer
    return with_part(good, lambda part: part.index == last, change)


def no_time_stamp(good: Compilation) -> Compilation:
    return with_part(good, lambda _: True, lambda part: replace(part, commands=part.commands[:-1]))


def with_entries(good: Compilation, change: Callable[[Entry], Entry | None]) -> Compilation:
    """Change the first entry that a function changes, or leave it out where it gives None."""
    lists = []
    changed = False
    for entries in good.schedules[0].lists:
        kept: list[Entry] = []
        for entry in entries:
            new = entry if changed else change(entry)
            changed |= new is not entry
            if new is not None:
                kept.append(new)
        lists.append(tuple(kept))
    assert changed
    return replace(good, schedules=(replace(good.schedules[0], lists=tuple(lists)),))


def without(key: str) -> Callable[[Compilation], Compilation]:
    def change(entry: Entry) -> Entry:
        if key not in entry.fields:
            return entry
        return entry._replace(fields={name: value for name, value in entry.fields.items() if name != key})

    return lambda good: with_entries(good, change)


def without_entry(name: str) -> Callable[[Compilation], Compilation]:
    return lambda good: with_entries(good, lambda entry: None if entry.name == name else entry)


def other_byte(good: Compilation) -> Compilation:
    address = next(iter(good.program.starts.values()))[0]
    segments = {start: data.copy() for start, data in good.program.segments}
    segments[address][4:64] ^= 1  # the first command's fields
    return replace(good, program=replace(good.program, segments=tuple(segments.items())))


def small_memory(good: Compilation) -> Compilation:
    return replace(good, options=replace(good.options, mem_bytes=64))


BROKEN: list[tuple[Callable[[Compilation], None], Callable[[Compilation], Compilation], str]] = [
    (check_legalised, other_geometry, "not the geometry of its layer"),
    (check_legalised, unknown_source, "reads 'nobody' before it is made"),
    (check_requantised, other_bias, "the zero point is not in the bias"),
    (check_requantised, too_narrow, "weights do not fit"),
    (check_folded, other_fold, "folded, it gives other outputs"),
    (check_ordered, double_channel, "a channel is missing or is there twice"),
    (check_divided, part_left_out, "not made by exactly one part"),
    (check_divided, nobody_loads, "nobody brings a channel"),
    (check_packed, other_weight, "other weights"),
    (check_packed, other_shift, "other requantisation parameters"),
    (check_planned, kept_over_each_other, "overlap"),
    (check_planned, buffer_over_buffer, "overlap"),
    (check_planned, not_stored, "not stored, but read"),
    (check_placed, mark_over_parameters, "overlap"),
    (check_placed, values_over_each_other, "overlap"),
    (check_placed, no_place, "moves a value without a place"),
    (check_emitted, load_left_out, "before it is written"),
    (check_emitted, operator_twice, "not all outputs are computed once"),
    (check_emitted, store_left_out, "not all outputs are stored once"),
    (check_emitted, no_time_stamp, "does not end with its time stamp"),
    (check_scheduled, without("wait_load"), "does not wait for command"),
    (check_scheduled, without("fence"), "results that may still be on their way"),
    (check_scheduled, without("post_compute"), "the lists dead-lock"),
    (check_scheduled, without_entry("wait"), "does not wait for command"),
    (check_scheduled, without_entry("signal"), "the lists dead-lock"),
    (check_linked, other_byte, "command 0 is not"),
    (check_linked, small_memory, "does not fit the memory"),
]


@pytest.mark.parametrize(
    ("checks", "breaks", "message"),
    BROKEN,
    ids=[f"{item[0].__name__.removeprefix('check_')}: {item[2]} {i}" for i, item in enumerate(BROKEN)],
)
def test_a_broken_promise_is_noticed(
    checks: Callable[[Compilation], None],
    breaks: Callable[[Compilation], Compilation],
    message: str,
    good: Compilation,
) -> None:
    with pytest.raises(InvariantError, match=message):
        checks(breaks(good))


def test_every_check_is_proved() -> None:
    assert {item[0] for item in BROKEN} == set(CHECKS)
