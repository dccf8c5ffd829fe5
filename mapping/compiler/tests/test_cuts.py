# SPDX-License-Identifier: Apache-2.0
"""Networks that are cut into sections: every promise holds of each, and other programs may run between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from common.arrays import Array
from common.errors import NpuloopError, UnsupportedError
from golden.network import run_network, run_nodes
from hw.core import CoreConfig
from hw.system import System
from mapping.compiler.compile import compile_graph
from mapping.compiler.cuts import CutError
from mapping.compiler.invariants import check
from mapping.compiler.invariants.lists import check_emitted
from mapping.compiler.invariants.require import InvariantError
from mapping.compiler.legalise import legalise_network
from mapping.compiler.operators import Fields
from mapping.compiler.passes import Compilation, Options, run_passes
from mapping.run.networks import NetworkProgram
from mapping.run.random_networks import random_network
from tb.job import Job
from tb.queues import QueuedRequest
from tb.session import Session

SYSTEMS = (
    System(),
    System((CoreConfig("x"), CoreConfig("y", w_bits=4), CoreConfig("z", w_bits=2))),
    System((CoreConfig("small", act_kib=8, weight_kib=8, param_kib=2, lanes=4, stripe_depth=16),)),
)


def some_cuts(seed: int, names: list[str]) -> tuple[str, ...]:
    """A third of the places where a network can be cut; of every fourth network all."""
    rng = np.random.default_rng(seed)
    share = 1.0 if seed % 4 == 0 else 0.35
    return tuple(name for name in names[:-1] if rng.random() < share)


def cut_network(seed: int, system: System, base: int = 0) -> tuple[NetworkProgram, Array, Compilation]:
    """A random network on all units, cut at some places, and its input."""
    network, units, x = random_network(seed, system.cores)
    graph = legalise_network(network)
    cuts = some_cuts(seed, [op.name for op in graph.ops])
    compilation = run_passes(graph, system.cores, units, Options(base=base, cuts=cuts))
    assert len(compilation.program.sections) == len(cuts) + 1
    return NetworkProgram(network, system, units, compilation.program), x, compilation


@pytest.mark.parametrize("system", SYSTEMS, ids=["pair", "three units", "small"])
def test_every_promise_holds_of_sections(system: System) -> None:
    done = 0
    for seed in range(16):
        try:
            _, _, compilation = cut_network(seed, system)
        except NpuloopError:  # what does not fit
            continue
        check(compilation)
        done += 1
    assert done > 12


def test_only_what_later_sections_read_is_stored() -> None:
    """The names of what is stored follow from who reads what, whatever the compiler does."""
    some = 0
    for seed in range(16):
        _, _, compilation = cut_network(seed, System((CoreConfig("one"),)))
        for part in compilation.parts:
            readers = [other for other in compilation.parts if part.op.name in other.op.sources]
            if any(other.section > part.section for other in readers):
                assert part.stores
            elif part.op.name not in compilation.program.observed:
                assert part.stores == any(part.op.name not in other.kept for other in (part, *readers))
                some += not part.stores
    assert some > 10


def test_a_section_finds_nothing_in_the_scratchpads() -> None:
    """Without the loads at its begin, a section reads what may have been overwritten, and that is noticed."""
    noticed = 0
    for seed in range(8):
        _, _, compilation = cut_network(seed, System())
        begun: set[tuple[int, int]] = set()
        for index, part in enumerate(compilation.parts):
            first = part.section > 0 and (part.unit, part.section) not in begun
            begun.add((part.unit, part.section))
            kept = tuple(item for item in part.commands if not _loads_activations(item.name, item.fields))
            if not first or len(kept) == len(part.commands):
                continue
            parts = list(compilation.parts)
            parts[index] = replace(part, commands=kept)
            with pytest.raises(InvariantError, match="reads act before it is written"):
                check_emitted(replace(compilation, parts=tuple(parts)))
            noticed += 1
    assert noticed > 10


def _loads_activations(name: str, fields: Fields) -> bool:
    return name == "load" and fields.get("target", 0) == 0


def test_cuts_that_cannot_be_are_refused() -> None:
    network, units, _ = random_network(3, System().cores)
    graph = legalise_network(network)
    names = [op.name for op in graph.ops]
    for cuts, message in (
        (("nobody",), "cannot be cut after 'nobody', which is no layer that runs on a unit; there are "),
        ((names[-1],), f"nothing comes after its last layer '{names[-1]}'; leave that cut out"),
        ((names[1], names[0]), f"the cut after '{names[0]}' comes before or with the one after"),
        ((names[1], names[1]), "name each cut once, in the order of the layers"),
    ):
        with pytest.raises(CutError, match=message):
            compile_graph(graph, System().cores, units, cuts=cuts)
    cut = compile_graph(graph, System().cores, units, cuts=names[:1])
    with pytest.raises(UnsupportedError, match="is cut into 2 sections"):
        cut.starts  # noqa: B018


def interleaved(
    programs: list[NetworkProgram], inputs: list[Array]
) -> Iterator[tuple[QueuedRequest, NetworkProgram | None]]:
    """A section of each in turn, with its program where it is the last one."""
    last: dict[int, int] = {}
    longest = max(len(item.program.sections) for item in programs)
    for place in range(longest):
        for which, item in enumerate(programs):
            sections = item.program.sections
            if place >= len(sections):
                continue
            number = place * len(programs) + which
            after = (last[which],) if which in last else ()
            last[which] = number
            batch = {item.network.input_name: inputs[which][None]}
            given = run_nodes(item.network, item.program.graph.host_before, batch)
            values = {value.name: given[value.name][0] for value in item.program.graph.inputs}
            ends = place + 1 == len(sections)
            yield (
                QueuedRequest(
                    number=number,
                    starts=sections[place].starts,
                    after=after,
                    segments=[] if place else item.program.input_segments(values),
                    reads=[item.program.read_of(name) for name in item.program.observed] if ends else [],
                ),
                item if ends else None,
            )


@pytest.mark.rtl
def test_other_programs_run_between_sections_bit_for_bit(pair: Session) -> None:
    """Three networks take turns on both units, section by section: each ends as if it had been alone."""
    seen = sections = 0
    for first in range(0, 12, 3):
        programs: list[NetworkProgram] = []
        inputs: list[Array] = []
        for seed in range(first, first + 3):
            base = programs[-1].program.end if programs else 0
            program, x, _ = cut_network(seed, System(), base)
            programs.append(program)
            inputs.append(x)
        requests = list(interleaved(programs, inputs))
        ends = {request.number: program for request, program in requests if program}
        segments = [segment for item in programs for segment in item.program.segments]
        for done in pair.serve((request for request, _ in requests), Job(segments=segments)):
            assert not done.failure
            if done.number not in ends:
                continue
            program = ends[done.number]
            golden = run_network(program.network, inputs[programs.index(program)][None], program.a_bits)
            for name, raw in zip(program.program.observed, done.reads, strict=True):
                value = program.program.decode(name, raw)
                assert np.array_equal(value, golden[name][0].reshape(value.shape))
            seen += 1
        sections += len(requests)
    assert seen == 12
    assert sections > 30
