# SPDX-License-Identifier: Apache-2.0
"""The compiler's passes, from top to bottom: each takes what those before it have made.

`legalise` has turned the network or the layer into a graph before. Each pass is a plain function in a module
of its name; it says what holds after it, and `invariants` checks that. To stop early, call the first few; to
change one, put another function of the same type in its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import together
from hw.core import CoreConfig
from mapping.compiler.channels import ChannelAssignment, ChannelOrder, order_channels
from mapping.compiler.cuts import sections_of
from mapping.compiler.divide import divide
from mapping.compiler.emit import EmittedPart, commands_of, emit
from mapping.compiler.fold import Fold, fold
from mapping.compiler.graph import Graph
from mapping.compiler.limits import shortages
from mapping.compiler.link import link, reports
from mapping.compiler.pack import pack
from mapping.compiler.place import Image, place
from mapping.compiler.plan import CapacityError, plan
from mapping.compiler.program import Program
from mapping.compiler.requantise import Requantisations, requantise
from mapping.compiler.schedule import Schedule, schedule


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
    graph: Graph, cores: Sequence[CoreConfig], units: Mapping[str, ChannelAssignment], options: Options
) -> Compilation:
    """Compile a graph; errors as in `compile_graph`."""
    begun = front(graph, cores, units, options)
    folded, orders = begun.graph, begun.orders
    sections = sections_of(folded, options.cuts)
    parts = divide(folded, units, orders, cores, sections)
    packed = pack(parts, orders, begun.requantisations)
    observed = tuple(op.name for op in graph.ops) if options.observe else graph.outputs
    image = Image(options.base, sizes_only=not options.image_wanted)
    try:
        planned = plan(folded, packed, observed, options.overlap)
        placed, stored = place(folded, planned, orders, observed, options.addresses, image)
        emitted = emit(placed, options.overlap, options.word_cycles)
    except CapacityError as error:
        reasons = shortages(packed) or [str(error)]
        raise CapacityError(together(reasons, f"network {graph.name!r}")) from None
    schedules = tuple(
        schedule(commands_of(emitted, section), len(cores), options.first_event)
        for section in range(len(sections))
    )
    part_reports = reports(folded, emitted, orders, options.word_cycles)
    linked = link(folded, cores, schedules, image, options.mem_bytes)
    program = Program(
        graph=folded,
        cores=tuple(cores),
        segments=tuple(image.segments),
        sections=linked,
        stored=stored,
        orders=orders,
        folds=begun.folds,
        observed=observed,
        parts=part_reports,
        end=image.base,
    )
    return Compilation(graph, units, options, begun.requantisations, emitted, schedules, program)
