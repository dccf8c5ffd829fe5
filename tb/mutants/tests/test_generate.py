# SPDX-License-Identifier: Apache-2.0
"""The generator finds every kind of fault, and leaves alone what is no run-time value."""

from __future__ import annotations

import pytest

from tb.mutants.draw import all_mutants
from tb.mutants.mutant import CLASSES, Mutant
from tb.mutants.source import MutantError, read_texts
from tb.mutants.testing import LEAF, PACKAGE, made_up


@pytest.fixture(scope="module")
def found() -> list[Mutant]:
    return all_mutants(made_up(), tops="")


def changes(found: list[Mutant], operator: str) -> set[str]:
    return {mutant.change for mutant in found if mutant.operator == operator}


EXPECTED = {
    "arithmetic": ["a_i - b_i -> a_i + b_i", "Twice'(a_i) + Twice'(b_i) -> (Twice'(a_i)) - (Twice'(b_i))",
                   "signed'(a_i) >>> 1 -> (signed'(a_i)) >> 1"],
    "relational": ["a_i < b_i -> a_i <= b_i", "kept == 4'd3 -> kept != 4'd3",
                   "32'(a_i) > Limit -> (32'(a_i)) <= Limit"],
    "logical": ["a_i < b_i && kept == 4'd3 -> (a_i < b_i) || (kept == 4'd3)",
                "a_i < b_i && kept == 4'd3 -> (kept == 4'd3)", "!rst_ni -> rst_ni"],
    "bitwise": ["a_i & ~{Width{b_i[0]}} -> a_i | (~{Width{b_i[0]}})",
                "~{Width{b_i[0]}} -> ({Width{b_i[0]}})",
                "bit_q ^ masked[i] -> bit_q | (masked[i])"],
    "constant": ["4'd3 -> 4'd4", "4'd3 -> 4'd2", "4'd3 -> 4'd0", "1 -> 2", "Limit -> Limit + 1'b1",
                 "WORK -> LAST", "0 -> 1"],
    "condition": ["flag_o -> 1'b1", "flag_o -> !flag_o", "we_i -> !we_i"],
    "dropped": ["data_o <= data_i; -> (nothing)", "state_o <= WORK; -> (nothing)",
                "bit_q = 1'b0; -> (nothing)"],
    "swapped": ["a_i - b_i -> b_i - a_i", "{a_i, b_i} -> {b_i, a_i}",
                "32'(a_i) > Limit ? LAST : IDLE -> (32'(a_i) > Limit) ? IDLE : LAST"],
    "stuck": ["Twice'(a_i) + Twice'(b_i) -> top bit always 0", "data_i -> bit 0 always 1"],
    "strobe": ["flag_o -> '0", "flag_o -> '1"],
    "reset": ["4'd5 -> 4'd6", "IDLE -> WORK", "data_o <= 4'd5; -> (nothing)", ".rst_ni -> '1",
              "!rst_ni -> 1'b0"],
    "width": ["a_i -> top bit lost", "signed'(a_i) -> unsigned'(a_i)"],
    "port": ["a_i - b_i -> '0", "a_i - b_i -> '1"],
}  # fmt: skip


@pytest.mark.parametrize("operator", sorted(CLASSES))
def test_every_class_of_faults_is_found(operator: str, found: list[Mutant]) -> None:
    assert set(EXPECTED[operator]) <= changes(found, operator)


def test_what_is_no_run_time_value_is_left_alone(found: list[Mutant]) -> None:
    lines = {mutant.text for mutant in found}
    assert not any("parameter" in line or "genvar" in line or "assert" in line for line in lines)
    assert not any(line.startswith(("logic", "input", "output", "if (Width", "Holds")) for line in lines)
    originals = {mutant.original for mutant in found}
    assert not originals & {"Width", "Width - 1", "Width * 2", "i", "k", "3", "i < Width - 1"}


def test_a_bit_of_one_bit_and_a_cast_that_cuts_have_no_second_top_bit(found: list[Mutant]) -> None:
    assert {change for change in changes(found, "stuck") if change.startswith("bit_q ^")} == {
        "bit_q ^ masked[i] -> 1'b0", "bit_q ^ masked[i] -> 1'b1",
    }  # fmt: skip


def test_names_of_mutants_are_unique_and_stay_when_lines_move(found: list[Mutant]) -> None:
    keys = [mutant.key for mutant in found]
    assert len(set(keys)) == len(keys) > 80
    moved = all_mutants(read_texts({"npu_pkg.sv": PACKAGE, "leaf.sv": f"\n\n// moved\n{LEAF}"}), tops="")
    assert {mutant.key for mutant in moved} == {key for key in keys if key.startswith("leaf.sv")}
    assert {mutant.line - 3 for mutant in moved} == {
        mutant.line for mutant in found if mutant.file == "leaf.sv"
    }


def test_what_types_forbid_is_left_out(found: list[Mutant]) -> None:
    """A bit of an enumeration cannot be stuck without a cast; its members can be exchanged."""
    assert not any(mutant.operator == "stuck" and "LAST" in mutant.original for mutant in found)


def test_a_text_that_is_no_systemverilog_is_named() -> None:
    with pytest.raises(MutantError, match=r"broken\.sv: slang cannot parse it"):
        read_texts({"broken.sv": "module m; assign = 3 endmodule"})
    with pytest.raises(MutantError, match="slang refuses the design"):
        all_mutants(read_texts({"unknown.sv": "module m; nothing i_nothing (); endmodule"}), tops="")
