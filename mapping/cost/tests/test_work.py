# SPDX-License-Identifier: Apache-2.0
"""What commands ask of their engines: bursts of transfers, stripes and beats of operators."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB, System
from mapping.calibration.design import random_shapes
from mapping.compiler.cycle_law import cycle_law, slides
from mapping.compiler.emit import COMPUTE
from mapping.compiler.program import Program
from mapping.compiler.schedule import Entry
from mapping.cost import work
from mapping.cost.model import shape_program
from mapping.cost.shapes import Shape
from mapping.cost.work import Stripe, stripes, transfer

CONFIG = System()


@functools.cache
def random_layers() -> list[tuple[Shape, str]]:
    """Random shapes, each with the unit that they are for."""
    return [
        (shape, unit)
        for unit in ("npu8", "npu_lb")
        for shape in random_shapes(CONFIG, (unit,), 120, 11, set(), f"random_{unit}")
    ]


# -------------------------------------------------------------------------------------------------- transfers
def load(address: int, words: int, lines: int = 1, planes: int = 1, **fields: int) -> Mapping[str, int]:
    return {"mem_address": address, "line_words": words, "lines": lines, "planes": planes, **fields}


@pytest.mark.parametrize(
    ("fields", "bursts"),
    [
        (load(0, 1), [1]),
        (load(0, 16), [16]),
        (load(0, 17), [16, 1]),
        (load(0, 40), [16, 16, 8]),
        (load(64, 40), [16, 16, 8]),  # bursts need not begin at a multiple of their length
        (load(4096 - 16, 2), [1, 1]),
        (load(4096 - 6 * 16, 24), [6, 16, 2]),
        (load(3 * 4096 - 16 * 20, 40), [16, 4, 16, 4]),
        (load(4096, 256), [16] * 16),
        (load(16, 257), [*[16] * 15, 15, 2]),
        (load(0, 3, lines=3, line_stride=64), [3, 3, 3]),  # lines are not joined, not even without a gap
        (load(0, 4, lines=2, line_stride=64), [4, 4]),
        (load(4096 - 32, 4, lines=2, line_stride=4096), [2, 2, 2, 2]),
        (load(0, 18, lines=2, planes=2, line_stride=512, plane_stride=4096 - 128),
         [16, 2, 16, 2, 8, 10, 16, 2]),
    ],
    ids=str,
)  # fmt: skip
def test_bursts_end_at_16_words_and_at_pages_and_lines(fields: Mapping[str, int], bursts: list[int]) -> None:
    for name in ("load", "store"):
        assert transfer(name, fields).bursts == tuple(bursts)


def test_a_mark_is_one_word_and_not_of_the_scratchpad() -> None:
    mark = transfer("mark", {"mem_address": 4080})
    assert mark.bursts == (1,)
    assert not mark.activations


def test_only_transfers_of_activations_meet_the_array_in_the_scratchpad() -> None:
    assert [transfer("load", load(0, 1, target=target)).activations for target in (0, 1, 2)] == [
        True, False, False
    ]  # fmt: skip
    assert transfer("store", load(0, 1)).activations


@given(
    address=st.integers(0, 2000),
    words=st.integers(1, 700),
    lines=st.integers(1, 4),
    planes=st.integers(1, 3),
    strides=st.tuples(st.integers(0, 700), st.integers(0, 3000)),
)
@settings(deadline=None, derandomize=True)
def test_bursts_carry_every_word_once_and_are_as_few_as_the_bus_allows(
    address: int, words: int, lines: int, planes: int, strides: tuple[int, int]
) -> None:
    line, plane = strides
    fields = load(16 * address, words, lines, planes, line_stride=16 * line, plane_stride=16 * plane)
    bursts = transfer("load", fields).bursts
    assert sum(bursts) == words * lines * planes
    fewest = 0
    for p in range(planes):
        for i in range(lines):
            first = address + p * plane + i * line
            pages: dict[int, int] = defaultdict(int)
            for word in range(first, first + words):
                pages[word // 256] += 1
            fewest += sum(math.ceil(n / 16) for n in pages.values())
    assert len(bursts) == fewest
    assert all(0 < n <= 16 for n in bursts)


# -------------------------------------------------------------------------------------------------- operators
def operators(program: Program, unit: str) -> list[Entry]:
    return [e for e in program.lists[unit] if e.engine == COMPUTE and "out_pixels" in e.fields]


def law_of(program: Program, core: CoreConfig, lengths: list[int] | None = None) -> int:
    """The cycle law of a program's only operator, whose whole output is made in one command."""
    (op,) = program.graph.ops
    (source, *_) = op.sources
    in_channels = program.orders[source].physical_channels
    return cycle_law(op, core, op.shape[2], in_channels, slides(op, core), lengths)


def beats(pieces: Sequence[Stripe]) -> int:
    return sum(piece.times * piece.array for piece in pieces)


def compiled(shape: Shape, unit: str) -> tuple[CoreConfig, int, list[Entry], list[Stripe]]:
    """The unit, the law's cycles, the operator's commands, and their stripes."""
    core = CONFIG.cores[CONFIG.index(unit)]
    program = shape_program(shape, unit, CONFIG)
    entries = operators(program, unit)
    pieces = [piece for entry in entries for piece in stripes(entry.name, entry.fields, core)[1]]
    return core, law_of(program, core), entries, pieces


def test_the_beats_of_the_stripes_are_the_cycle_law_where_it_is_exact_and_never_fewer_than_its_pixels() -> (
    None
):
    """Short stripes wait for weights: which are short depends on the tiles; the passes over pixels do not."""
    exact = 0
    for shape, unit in random_layers():
        core, law, entries, pieces = compiled(shape, unit)
        pixels = [shape.out_height * shape.out_width]
        assert beats(pieces) >= law_of(shape_program(shape, unit, CONFIG), core, pixels), (shape, unit)
        whole = max(entry.fields["out_pixels"] for entry in entries) == shape.out_height * shape.out_width
        pointwise = shape.op in ("add", "max_pool", "average_pool")  # tiles of it change nothing
        convolution = shape.op in ("conv2d", "fully_connected")
        if pointwise or (convolution and whole and entries[0].name == "conv"):
            assert beats(pieces) == law, (shape, unit)
            exact += 1
    assert exact > 100


def test_sliding_depthwise_layers_take_the_law_and_their_lead_words() -> None:
    """As docs/explanation/hardware.md says: (kx - 1 - left padding) words more per stripe and kernel row."""
    for kernel, padding, height, width in ((3, "same", 8, 8), (3, "valid", 10, 10), (5, "same", 8, 8)):
        window = ((kernel, kernel), (1, 1), padding)
        shape = Shape("s", "depthwise_conv2d", 48, 48, height, width, *window)  # 3 blocks of 16 rows
        _, law, entries, pieces = compiled(shape, "npu8")
        assert all(entry.fields.get("slide") for entry in entries)
        assert {entry.fields["out_pixels"] for entry in entries} == {shape.out_height * shape.out_width}
        stripe = entries[0].fields["stripe_pixels"]
        assert stripe % shape.out_width == 0  # stripes begin at a row's begin
        count = math.ceil(shape.out_height * shape.out_width / stripe)
        lead = kernel - 1 - shape.pads[2]
        assert law == 3 * kernel * shape.out_height * (width if padding == "same" else shape.out_width)
        rows = shape.out_height - count  # ends of rows inside stripes, where valid padding leaves words out
        skipped = rows * (width - shape.out_width)
        assert beats(pieces) == law + 3 * kernel * (count * lead + skipped)


@pytest.mark.parametrize(
    ("name", "fields", "array"),
    [
        # 3 x 3 of 20 channels: 2 row blocks, 18 passes of 40 pixels
        ("conv", {"in_channels": 20, "kernel_h": 3, "kernel_w": 3, "out_pixels": 40}, [18 * 40]),
        # a pass of one pixel takes the 8 words of the next tile
        ("conv", {"in_channels": 16, "kernel_h": 1, "kernel_w": 1, "out_pixels": 1}, [8]),
        ("conv", {"in_channels": 16, "kernel_h": 1, "kernel_w": 1, "out_pixels": 10, "stripe_pixels": 4},
         [8] * 3),
        # 3 x 3 that slides over 4 x 4, padded: rows follow each other without a gap, one lead word
        ("depthwise", {"kernel_h": 3, "kernel_w": 3, "out_pixels": 16, "out_width": 4, "stride_w": 1,
                       "row_advance": 1, "in_column": -1, "slide": 1}, [3 * 17]),
        # the same at stride 2 on 8 x 8 (padding on the right): 7 words a row, 2 from row to row, 2 of lead
        ("depthwise", {"kernel_h": 3, "kernel_w": 3, "out_pixels": 16, "out_width": 4, "stride_w": 2,
                       "row_advance": 2, "in_column": 0, "slide": 1}, [3 * (7 + 3 * (2 + 6) + 2)]),
        # 7 columns in groups of 5 and 2; the second group begins 2 to the right of the first output
        ("depthwise", {"kernel_h": 1, "kernel_w": 7, "out_pixels": 9, "out_width": 9, "stride_w": 1,
                       "row_advance": 1, "in_column": -3, "slide": 1}, [(9 + 4 - 3) + (9 + 1)]),
        ("depthwise", {"kernel_h": 1, "kernel_w": 1, "out_pixels": 9}, [9]),
        ("depthwise", {"kernel_h": 2, "kernel_w": 2, "out_pixels": 1}, [4]),
        ("max_pool", {"kernel_h": 2, "kernel_w": 3, "out_pixels": 9}, [54]),
        ("average_pool", {"kernel_h": 7, "kernel_w": 7, "out_pixels": 1}, [49]),
        ("add", {"out_pixels": 9}, [18]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_beats_are_those_counted_by_hand(name: str, fields: dict[str, int], array: list[int]) -> None:
    fields = {"stripe_pixels": fields["out_pixels"], "out_channels": 16} | fields
    _, pieces = stripes(name, fields, NPU8)
    assert [piece.array for piece in pieces] == array


def test_a_block_of_columns_drains_in_groups_of_16_and_reads_their_parameters() -> None:
    fields = {"in_channels": 16, "kernel_h": 1, "kernel_w": 1, "stripe_pixels": 20, "out_pixels": 50}
    wide = CoreConfig("wide", w_bits=2, rows=16, cols=64)
    lead, pieces = stripes("conv", fields | {"out_channels": 80}, wide)
    assert lead == 8
    assert [piece.groups for piece in pieces] == [4, 4, 4, 1, 1, 1]
    assert [piece.drain for piece in pieces] == [20, 20, 10] * 2
    assert [piece.parameters for piece in pieces] == [True, True, True, True, False, False]
    assert [piece.tail for piece in pieces] == [0] * 6
    _, kept = stripes("conv", fields | {"out_channels": 80, "keep": 1}, wide)
    assert [(piece.groups, piece.parameters) for piece in kept] == [(0, False)] * 6
    assert [piece.array for piece in kept] == [piece.array for piece in pieces]
    _, short = stripes("conv", fields | {"out_channels": 16, "stripe_pixels": 3, "out_pixels": 3}, wide)
    assert [(piece.array, piece.tail) for piece in short] == [(8, 5)]


def totals(pieces: Sequence[Stripe]) -> dict[str, int]:
    return {
        "stripes": sum(piece.times for piece in pieces),
        "array": beats(pieces),
        "tail": sum(piece.times * piece.tail for piece in pieces),
        "groups": sum(piece.times * piece.groups for piece in pieces),
        "drain": sum(piece.times * piece.groups * piece.drain for piece in pieces),
        "parameters": sum(piece.times * piece.parameters for piece in pieces),
    }


def test_rows_of_equal_stripes_taken_together_have_the_totals_of_single_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = [
        (entry, CONFIG.cores[CONFIG.index(unit)])
        for shape, unit in random_layers()
        for entry in operators(shape_program(shape, unit, CONFIG), unit)
    ]
    monkeypatch.setattr(work, "LONG", 6)
    merged = [stripes(entry.name, entry.fields, core) for entry, core in commands]
    monkeypatch.setattr(work, "LONG", 1 << 30)
    single = [stripes(entry.name, entry.fields, core) for entry, core in commands]
    together = 0
    for (lead, pieces), (single_lead, single_pieces) in zip(merged, single, strict=True):
        assert lead == single_lead
        assert totals(pieces) == totals(single_pieces)
        assert all(piece.times == 1 for piece in single_pieces)
        assert pieces[0].times == pieces[-1].times == 1  # ends stay: what is before and after meets them
        together += len(single_pieces) - len(pieces)
    assert together > 100


def test_a_split_layers_parts_have_the_stripes_of_their_channels() -> None:
    whole = Shape("whole", "conv2d", 32, 96, 8, 8, (3, 3), (1, 1), "same")
    split = replace(whole, split={"npu8": 32, "npu_lb": 64})
    program = shape_program(split, None, CONFIG)
    for core, channels in ((NPU8, 32), (NPU_LB, 64)):
        (op,) = program.graph.ops
        law = cycle_law(op, core, channels, 32)
        parts = [stripes(entry.name, entry.fields, core)[1] for entry in operators(program, core.name)]
        # 32 channels are read in two planes of 16 rows, or in one of 32
        assert sum(map(beats, parts)) == law == channels // core.columns * 32 // core.rows * 9 * 64
    # 6 blocks of columns and 2 planes against 3 blocks and one plane
    assert beats(compiled(whole, "npu8")[3]) == 4 * beats(compiled(whole, "npu_lb")[3])
