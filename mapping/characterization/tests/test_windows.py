# SPDX-License-Identifier: Apache-2.0
"""Windows of recorded streams as stimuli of a block's netlist."""

from __future__ import annotations

from pathlib import Path

from mapping.characterization.recording import Stream
from mapping.characterization.testing import Signals, packed, ports
from mapping.characterization.windows import WARM_UP_CYCLES, Window, segments

ACCUMULATOR = {
    "read_i": 2, "select_i": 8, "forward_i": 2, "bank_i": 1, "write_select_i": 4, "first_i": 1, "add_i": 1,
    "max_i": 1, "value_i": 8, "drain_bank_i": 1,
}  # fmt: skip
"""Inputs of a block of accumulators: two banks of four words of a column of 8 bits."""


def accumulator(length: int, **changed: list[int]) -> Signals:
    """A stream of a block of accumulators at rest, but for some signals."""
    widths = ACCUMULATOR | {"sum": 8, "read_q": 16, "drain_o": 8}
    return {name: (width, changed.get(name, [0] * length)) for name, width in widths.items()}


def test_the_stream_before_a_window_is_replayed_but_does_not_count(tmp_path: Path) -> None:
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, **ACCUMULATOR}, {"drain_o": 8})
    length = 3 * WARM_UP_CYCLES
    held = [0x6500 + t for t in range(length)]
    signals = accumulator(length, value_i=list(range(length)), read_q=held)
    begin = 2 * WARM_UP_CYCLES
    joined = segments([Window("a", Stream("npu_acc_columns", 0, signals), begin, begin + 3)], netlist)
    assert joined.spans == ((2 + WARM_UP_CYCLES, 2 + WARM_UP_CYCLES + 3),)
    values = list(joined.stimulus.inputs["value_i"][1])
    assert values == [begin - WARM_UP_CYCLES, 0x65, *range(begin - WARM_UP_CYCLES, begin + 3)]


def test_a_columns_window_begins_with_its_weights_and_a_beat(tmp_path: Path) -> None:
    netlist = ports(
        tmp_path / "n.json",
        {"clk_i": 1, "swap_i": 1, "tile_i": 4, "mac_i": 1, "depthwise_i": 1, "operand_i": 4},
        {"product_o": 4, "sum_o": 6},
    )
    signals: Signals = {
        "swap_i": (1, [0, 0, 0, 0, 1, 0, 0]), "tile_i": (4, [1, 2, 3, 4, 5, 6, 7]),
        "mac_i": (1, [1, 1, 0, 1, 1, 1, 1]), "depthwise_i": (1, [0, 0, 0, 1, 0, 0, 0]),
        "operand_i": (4, [8, 9, 10, 11, 12, 13, 14]), "product_o": (4, [0, 1, 2, 3, 4, 5, 6]),
        "sum_o": (6, [20, 21, 22, 23, 24, 25, 26]), "weight_q": (4, [15, 15, 15, 15, 15, 5, 5]),
    }  # fmt: skip
    stream = Stream("npu_column", 3, signals)
    joined = segments([Window("a", stream, 2, 6), Window("b", stream, 5, 7)], netlist)
    assert joined.spans == ((2, 6), (8, 10))
    assert joined.stimulus.clock == "clk_i"
    assert {name: list(values) for name, (_, values) in joined.stimulus.inputs.items()} == {
        "swap_i": [1, 0, 0, 0, 1, 0, 1, 0, 0, 0],
        "tile_i": [15, 3, 3, 4, 5, 6, 5, 6, 6, 7],  # the weights that are held in the window's first cycle
        "mac_i": [0, 1, 0, 1, 1, 1, 0, 1, 1, 1],
        "depthwise_i": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        "operand_i": [10, 9, 10, 11, 12, 13, 13, 12, 13, 14],  # the beat is the one before the window
    }
    assert {name: width for name, (width, _) in joined.stimulus.inputs.items()} == {
        "swap_i": 1, "tile_i": 4, "mac_i": 1, "depthwise_i": 1, "operand_i": 4,
    }  # fmt: skip
    assert {name: list(values) for name, values in joined.stimulus.expected.items()} == {
        "product_o": [None, None, 2, 3, 4, 5, None, None, 5, 6],
        "sum_o": [
            None,
            None,
            None,
            None,
            None,
            25,
            None,
            None,
            None,
            26,
        ],  # after the first beat that is kept
    }


def test_an_accumulators_window_begins_with_the_words_that_it_reads(tmp_path: Path) -> None:
    """Of bank 0 it reads pixel 2, written twice before; of bank 1 pixel 3.

    Pixel 1 it has written itself when it reads it, and pixel 2 is forwarded: both were written before too.
    """
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, **ACCUMULATOR}, {"drain_o": 8})
    signals = accumulator(
        11,
        add_i=[1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 1], bank_i=[1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1],
        write_select_i=[2, 4, 4, 4, 8, 1, 2, 1, 1, 1, 4], sum=[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        read_i=[0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 2], select_i=[0, 0, 0, 0, 0, 0, 0x04, 0x80, 0x20, 0, 0x40],
        forward_i=[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], read_q=[0, 0, 0, 0, 0, 0x2221, 0, 0, 0, 0, 0],
        drain_o=[38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48],
    )  # fmt: skip
    joined = segments([Window("a", Stream("npu_acc_columns", 0, signals), 5, 11)], netlist)
    assert joined.spans == ((4, 10),)
    begun = {name: list(values[:4]) for name, (_, values) in joined.stimulus.inputs.items()}
    assert begun == {
        "add_i": [1, 1, 0, 0], "bank_i": [0, 1, 0, 0], "write_select_i": [4, 8, 1, 1],
        "value_i": [8, 9, 0x21, 0x22], "first_i": [1, 1, 1, 1], "max_i": [0, 0, 0, 0],
        "read_i": [0, 0, 1, 2], "forward_i": [0, 0, 1, 2], "select_i": [0, 0, 0, 0],
        "drain_bank_i": [0, 0, 0, 0],
    }  # fmt: skip
    for name, (_, values) in joined.stimulus.inputs.items():
        assert list(values[4:]) == signals[name][1][5:]
    assert list(joined.stimulus.expected["drain_o"]) == [None] * 4 + [43, 44, 45, 46, 47, 48]


def test_a_lanes_outputs_are_compared_when_the_first_result_of_the_window_is_there(tmp_path: Path) -> None:
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, "valid_i": 5}, {"wide_o": 8, "data_o": 4})
    entering = [1, 0, 1, 0, 0, 0, 0, 1, 0, 0]  # what enters before the window is not known in it
    stages = [[0] * k + entering[: len(entering) - k] for k in range(5)]
    valid = [packed([stage[t] & 1 for stage in stages], 1) for t in range(len(entering))]
    signals: Signals = {
        "valid_i": (5, valid),
        "wide_o": (8, list(range(100, 110))),
        "data_o": (4, list(range(10))),
    }
    joined = segments([Window("a", Stream("npu_requant_lane", 0, signals), 1, 10)], netlist)
    assert joined.spans == ((6, 15),)
    assert list(joined.stimulus.inputs["valid_i"][1]) == [31] * 6 + valid[1:]
    # enters in cycle 2: is in the register behind stage 3 in cycle 6, behind stage 4 in cycle 7
    assert list(joined.stimulus.expected["wide_o"]) == [None] * 11 + [106, 107, 108, 109]
    assert list(joined.stimulus.expected["data_o"]) == [None] * 12 + [7, 8, 9]


def test_other_blocks_begin_with_a_reset_if_they_have_one(tmp_path: Path) -> None:
    signals: Signals = {"rst_ni": (1, [1, 1, 1]), "a_i": (2, [1, 2, 3]), "y_o": (1, [0, 1, 0])}
    stream = Stream("npu_load", 0, signals)
    netlist = ports(tmp_path / "n.json", {"clk_i": 1, "rst_ni": 1, "a_i": 2}, {"y_o": 1})
    joined = segments([Window("a", stream, 0, 3)], netlist)
    assert joined.spans == ((2, 5),)
    assert list(joined.stimulus.inputs["rst_ni"][1]) == [0, 0, 1, 1, 1]
    assert list(joined.stimulus.inputs["a_i"][1]) == [1, 1, 1, 2, 3]
    assert list(joined.stimulus.expected["y_o"]) == [None, None, 0, 1, 0]
    del signals["rst_ni"]
    gate = ports(tmp_path / "g.json", {"a_i": 2}, {"y_o": 1})
    joined = segments([Window("a", stream, 1, 3)], gate)
    assert (joined.spans, joined.stimulus.clock, joined.stimulus.cycles) == (((0, 2),), None, 2)
