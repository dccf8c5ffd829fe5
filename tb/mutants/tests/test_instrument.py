# SPDX-License-Identifier: Apache-2.0
"""A copy holds the mutants that were drawn, each under its number, and is the design under 0."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tb.build import find_verilator
from tb.mutants.draw import all_mutants, draws, folder_of, shuffled
from tb.mutants.elaborate import elaborate
from tb.mutants.instrument import VARIABLE, instrument, legal
from tb.mutants.mutant import Mutant
from tb.mutants.source import Source
from tb.mutants.testing import TEXTS, made_up


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return made_up()


@pytest.fixture(scope="module")
def found(sources: list[Source]) -> list[Mutant]:
    return all_mutants(sources, tops="")


def test_a_copy_without_mutants_is_the_design_behind_a_package(sources: list[Source]) -> None:
    copy = instrument(sources, {})
    first, *others = TEXTS
    assert copy.texts[first].endswith(TEXTS[first])
    assert VARIABLE in copy.texts[first].removesuffix(TEXTS[first])
    assert {name: copy.texts[name] for name in others} == {name: TEXTS[name] for name in others}


def test_all_mutants_fit_into_one_copy_whose_lines_stay_where_they_are(
    sources: list[Source], found: list[Mutant]
) -> None:
    numbered = dict(enumerate(found, 1))
    copy = instrument(sources, numbered, simulator=False)
    assert elaborate(copy.texts, "").faults == []
    for name, text in copy.texts.items():
        assert text.count("\n") == TEXTS[name].count("\n")
        numbers = [int(number) for number in re.findall(r"chosen [!=]= (\d+)", text)]
        assert sorted(numbers) == [number for number, mutant in numbered.items() if mutant.file == name]
    for number, mutant in numbered.items():
        assert number in copy.on_line(mutant.file, mutant.line)


def test_a_statement_that_is_left_out_keeps_its_else(sources: list[Source], found: list[Mutant]) -> None:
    """`if (a) x; else y;` stays one statement when x is guarded."""
    dropped = next(mutant for mutant in found if mutant.change.startswith("data_o <= 4'd5; ->"))
    text = instrument(sources, {7: dropped}).texts["leaf.sv"]
    assert "if (!rst_ni) begin if (npu_mutant_pkg::chosen != 7) data_o <= 4'd5; end\n    else if" in text


def test_a_mutant_that_slang_refuses_is_left_out(sources: list[Source], found: list[Mutant]) -> None:
    place = next(mutant for mutant in found if mutant.file == "leaf.sv" and mutant.kind == "expression")
    wrong = Mutant(**(vars(place) | {"replacement": "no_such_name"}))
    assert legal(sources, [*found[:20], wrong], "") == found[:20]


def test_a_draw_depends_on_its_seed_alone(sources: list[Source], found: list[Mutant], tmp_path: Path) -> None:
    assert shuffled(found, 1) == shuffled(found, 1) != shuffled(found, 2)
    both = draws(found, 5, [1, 2])
    assert both[:5] == shuffled(found, 1)[:5]
    assert both[5:10] == [mutant for mutant in shuffled(found, 2) if mutant not in both[:5]][:5]
    assert sorted(both) == sorted(found)
    folders = {folder_of(tmp_path, n, [seed], sources, found) for n in (5, 6) for seed in (1, 2)}
    assert len(folders) == 4
    assert folder_of(tmp_path, 5, [1], sources, found[:-1]) not in folders


BOTH = """\
module both (
  input  logic       clk_i, rst_ni, we_i,
  input  logic [3:0] data_i,
  output logic [3:0] original_o, copy_o
);
  original i_original (.*, .data_o(original_o));
  leaf i_copy (.*, .data_o(copy_o));
endmodule
"""
MAIN = """\
#include "Vboth.h"
#include <cstdio>
int main() {
  Vboth top;
  auto step = [&](int reset, int enable, int data) {
    top.rst_ni = reset, top.we_i = enable, top.data_i = data;
    for (int level : {0, 1}) top.clk_i = level, top.eval();
    std::printf("%d:%d ", top.original_o, top.copy_o);
  };
  step(1, 0, 0), step(0, 0, 0), step(1, 0, 3), step(1, 1, 7), step(1, 1, 8), step(1, 0, 1);
}
"""


def outputs(texts: Mapping[str, str], folder: Path, numbers: Iterable[int]) -> dict[int, list[list[str]]]:
    """Return what the design and its copy do for each number, in one program."""
    original = TEXTS["leaf.sv"].replace("module leaf", "module original")
    for name, text in {**texts, "original.sv": original, "both.sv": BOTH, "main.cpp": MAIN}.items():
        (folder / name).write_text(text)
    verilator = find_verilator()
    sources = ["npu_pkg.sv", "leaf.sv", "original.sv", "both.sv", "main.cpp"]
    verilate = [str(verilator.executable), "--cc", "--exe", "-Wno-fatal", "--top-module", "both", *sources]
    make = ["make", "-C", "obj_dir", "-f", "Vboth.mk", *verilator.make_variables(), "OPT_GLOBAL=-O0"]
    for command in (verilate, make):
        subprocess.run(command, cwd=folder, env=verilator.environment(), check=True, capture_output=True)
    printed = {}
    for number in numbers:
        environment = os.environ | {VARIABLE: str(number)}
        program = [str(folder / "obj_dir" / "Vboth")]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
        steps = [step.split(":") for step in done.stdout.split()[1:]]
        printed[number] = [list(values) for values in zip(*steps, strict=True)]
    return printed


@pytest.mark.rtl
def test_one_program_is_the_design_and_each_of_its_mutants(
    sources: list[Source], found: list[Mutant], tmp_path: Path
) -> None:
    """The number is read when the program starts: one build, many mutants."""
    mutants = dict(enumerate([mutant for mutant in found if mutant.file == "leaf.sv"], 1))
    seen = outputs(instrument(sources, mutants).texts, tmp_path, [0, *mutants, 999])
    original = ["5", "5", "7", "8", "8"]
    assert all(steps[0] == original for steps in seen.values())
    assert seen[0][1] == seen[999][1] == original
    by_change = {mutant.change: seen[number][1] for number, mutant in mutants.items()}
    assert by_change["4'd5 -> 4'd6"] == ["6", "6", "7", "8", "8"]
    assert by_change["data_o <= data_i; -> (nothing)"] == ["5", "5", "5", "5", "5"]
    assert by_change["data_i -> bit 0 always 1"] == ["5", "5", "7", "9", "9"]
    assert by_change["we_i -> 1'b1"] == ["5", "3", "7", "8", "1"]
