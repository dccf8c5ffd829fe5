# SPDX-License-Identifier: Apache-2.0
"""The compiler's passes, from top to bottom: each takes what those before it have made.

`legalise` has turned the network or the layer into a graph before. Each pass is a plain function in a module
of its name; it says what holds after it, and `invariants` checks that. To stop early, call the first few; to
change one, put another function of the same type in its line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from common.errors import together
from hw.core import CoreConfig
from mapping.compiler.channels import ChannelAssignment, ChannelOrder, order_channels
from mapping.compiler.cuts import sections_of
from mapping.compiler.divide import Part, divide
from mapping.compiler.emit import EmittedPart, commands_of, emit
from mapping.compiler.fold import Fold, fold
from mapping.compiler.graph import Graph
from mapping.compiler.limits import shortages
from mapping.compiler.link import link, reports
from mapping.compiler.pack import PackedPart, pack
from mapping.compiler.place import Image, place
from mapping.compiler.plan import CapacityError, PlannedPart, plan
from mapping.compiler.program import PLAIN, Choice, Program
from mapping.compiler.requantise import Requantisations, requantise
from mapping.compiler.schedule import Schedule, schedule

Price: TypeAlias = Callable[[Program], float]
"""What the command lists of a program take, such as their predicted cycles."""
CHANGES: tuple[dict[str, Any], ...] = ({"bands": "all"}, {"bands": "streamed"}, {"shares": False})
"""What is tried in turn, each in the cheapest plan so far."""
HOPELESS = 1.02
"""Times the first plan's estimate that another plan's may be, to be priced."""


@dataclass(frozen=True)
class Options:
    """How to compile; `compile_graph` says what each option means."""

    base: int = 0
    mem_bytes: int = 16 << 20
    observe: bool = False
    overlap: bool = True
    folding: bool = True
    addresses: Mapping[str, int] = field(default_factory=dict)
    word_cycles: int = 1
    image_wanted: bool = True
    first_event: int = 0
    cuts: tuple[str, ...] = ()
    choice: Choice = PLAIN


@dataclass(frozen=True, eq=False)
class Compilation:
    """A program, and what the passes have made on the way to it.

    Attributes:
        graph: the graph before the first pass.
        units: the unit of every output channel of each operator.
        options: how it was compiled.
        requantisations: how units requantise; None without a memory image.
        parts: the parts with all that the passes know of them, as they were emitted.
        schedules: the order of their commands, section by section.
        program: the program.
    """

    graph: Graph
    units: Mapping[str, ChannelAssignment]
    options: Options
    requantisations: Requantisations | None
    parts: tuple[EmittedPart, ...]
    schedules: tuple[Schedule, ...]
    program: Program


@dataclass(frozen=True, eq=False)
class Front:
    """What the first passes make of a graph, wherever it is cut.

    Attributes:
        graph: the graph, folded.
        folds: inputs that the host folds.
        orders: the order of every value's channels.
        requantisations: how units requantise; None without a memory image.
    """

    graph: Graph
    folds: Mapping[str, Fold]
    orders: Mapping[str, ChannelOrder]
    requantisations: Requantisations | None


def front(
    graph: Graph, cores: Sequence[CoreConfig], units: Mapping[str, ChannelAssignment], options: Options
) -> Front:
    """Run the first passes; errors as in `compile_graph`."""
    requantisations = requantise(graph, units, cores) if options.image_wanted else None
    folded, folds = fold(graph, units, cores) if options.folding else (graph, {})
    return Front(folded, folds, order_channels(folded, units, cores), requantisations)


def section_schedule(
    begun: Front,
    cores: Sequence[CoreConfig],
    units: Mapping[str, ChannelAssignment],
    options: Options,
    span: range,
) -> Schedule:
    """Return the lists of one section alone, for estimates: it takes as long as the network's layers in it.

    Args:
        begun: what the first passes have made.
        cores, units, options: as in `run_passes`.
        span: places in the graph of the section's operators.

    Raises:
        CapacityError: not even a tile of a layer fits.
    """
    graph = begun.graph
    parts = divide(graph, units, begun.orders, cores, (span,))
    later = {name for op in graph.ops[span.stop :] for name in op.sources}
    observed = tuple(op.name for op in graph.ops if op.name in later or op.name in graph.outputs)
    planned = plan(graph, pack(parts, begun.orders, None), observed, options.overlap)
    image = Image(options.base, sizes_only=True)
    placed, _ = place(graph, planned, begun.orders, observed, options.addresses, image)
    emitted = emit(placed, options.overlap, options.word_cycles)
    return schedule(commands_of(emitted, 0), len(cores), options.first_event)


def run_passes(
    graph: Graph,
    cores: Sequence[CoreConfig],
    units: Mapping[str, ChannelAssignment],
    options: Options,
    price: Price | None = None,
) -> Compilation:
    """Compile a graph; errors as in `compile_graph`.

    Args:
        graph, cores, units, options: see `compile_graph`.
        price: what the lists of a plan take, if plans other than the options' are to be looked at.
    """
    begun = front(graph, cores, units, options)
    parts = divide(begun.graph, units, begun.orders, cores, sections_of(begun.graph, options.cuts))
    if price:
        options = replace(options, choice=_cheapest(begun, parts, cores, options, price))
    planned = _planned(begun.graph, pack(parts, begun.orders, begun.requantisations), options)
    emitted, schedules, program = _linked(begun, planned, cores, options)
    return Compilation(graph, units, options, begun.requantisations, emitted, schedules, program)


def _planned(graph: Graph, packed: Sequence[PackedPart], options: Options) -> tuple[PlannedPart, ...]:
    try:
        return plan(graph, packed, _observed(graph, options), options.overlap, options.choice.bands)
    except CapacityError as error:
        raise _capacity_error(graph, packed, error) from None


def _linked(
    begun: Front, planned: Sequence[PlannedPart], cores: Sequence[CoreConfig], options: Options
) -> tuple[tuple[EmittedPart, ...], tuple[Schedule, ...], Program]:
    """Run the passes behind `plan`."""
    graph, orders, choice = begun.graph, begun.orders, options.choice
    observed = _observed(graph, options)
    image = Image(options.base, sizes_only=not options.image_wanted)
    try:
        placed, stored = place(graph, planned, orders, observed, options.addresses, image, choice.shares)
        emitted = emit(placed, options.overlap, options.word_cycles)
    except CapacityError as error:
        raise _capacity_error(graph, planned, error) from None
    schedules = tuple(
        schedule(commands_of(emitted, section), len(cores), options.first_event)
        for section in range(len(options.cuts) + 1)
    )
    part_reports = reports(graph, emitted, orders, options.word_cycles)
    linked = link(graph, cores, schedules, image, options.mem_bytes)
    program = Program(
        graph=graph,
        cores=tuple(cores),
        segments=tuple(image.segments),
        sections=linked,
        stored=stored,
        orders=orders,
        folds=begun.folds,
        observed=observed,
        parts=part_reports,
        end=image.base,
        choice=choice,
    )
    return emitted, schedules, program


def _observed(graph: Graph, options: Options) -> tuple[str, ...]:
    """Return the values that the host reads."""
    return tuple(op.name for op in graph.ops) if options.observe else graph.outputs


def _capacity_error(graph: Graph, parts: Sequence[PackedPart], error: CapacityError) -> CapacityError:
    """Return the error that names everything that is too small."""
    return CapacityError(together(shortages(parts) or [str(error)], f"network {graph.name!r}"))


def _cheapest(
    begun: Front, parts: Sequence[Part], cores: Sequence[CoreConfig], options: Options, price: Price
) -> Choice:
    """Return the plan with the least price; the options' own, if none costs less.

    A plan that is the same as one before, or that is expected to take far longer, has no price. What one unit
    stores for itself alone it seldom has to wait for: there, values share memory as they do.
    """
    options = replace(options, image_wanted=False)
    packed = pack(parts, begun.orders, None)
    best, least, expected = options.choice, math.inf, 0
    layouts: list[list[object]] = []
    known: list[object] = []
    alone = len({part.unit for part in parts}) == 1
    for change in ({}, *(item for item in CHANGES if "bands" in item or not alone)):
        tried = replace(options, choice=replace(best, **change))
        try:
            planned = _planned(begun.graph, packed, tried)
            layout = [tried.choice.shares, *((part.tiling, part.kept) for part in planned)]
            if layout in layouts:
                continue
            layouts.append(layout)
            _, _, program = _linked(begun, planned, cores, tried)
        except CapacityError:
            if not known:
                raise
            continue
        commands = _commands(program)
        expected = expected or program.estimate
        if commands in known or program.estimate > HOPELESS * expected:
            continue
        known.append(commands)
        cost = price(program)
        if cost < least:
            best, least = tried.choice, cost
    return best


def _commands(program: Program) -> list[tuple[str, str, dict[str, int]]]:
    """Return a program's commands with what they wait for, wherever in memory their data lie."""
    lists = [(unit, entries) for section in program.sections for unit, entries in section.lists.items()]
    return [
        (unit, entry.name, entry.fields | {"mem_address": 0}) for unit, entries in lists for entry in entries
    ]
