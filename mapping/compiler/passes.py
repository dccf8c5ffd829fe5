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
from mapping.compiler.channels import ChannelAssignment, order_channels
from mapping.compiler.cuts import sections_of
from mapping.compiler.divide import divide
from mapping.compiler.emit import EmittedPart, commands_of, emit
from mapping.compiler.fold import fold
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


def run_passes(
    graph: Graph, cores: Sequence[CoreConfig], units: Mapping[str, ChannelAssignment], options: Options
) -> Compilation:
    """Compile a graph; errors as in `compile_graph`."""
    requantisations = requantise(graph, units, cores) if options.image_wanted else None
    folded, folds = fold(graph, units, cores) if options.folding else (graph, {})
    orders = order_channels(folded, units, cores)
    sections = sections_of(folded, options.cuts)
    parts = divide(folded, units, orders, cores, sections)
    packed = pack(parts, orders, requantisations)
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
        folds=folds,
        observed=observed,
        parts=part_reports,
        end=image.base,
    )
    return Compilation(graph, units, options, requantisations, emitted, schedules, program)
