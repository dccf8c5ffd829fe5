# SPDX-License-Identifier: Apache-2.0
"""The prover itself: what does not hold, does not follow, or says nothing is told apart; and the command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from common.errors import TestbenchError
from tb.formal import __main__ as command
from tb.formal.prover import Proof, prove, statement

MODULE = """\
module prove_small (input logic clk_i, input logic go_i);
  logic started_q = 1'b0;
  logic [3:0] count_q, other_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    count_q   <= started_q ? count_q + 4'(go_i) : '0;
    other_q   <= started_q ? other_q + 4'(go_i) : '0;
  end
  always_comb begin
    ASSUMPTION
    if (started_q) begin
      // The counters are equal, or small.
      Claim : assert (EXPRESSION);
      Reached : cover (count_q == 4'd2);
    end
  end
endmodule
"""


def small(folder: Path, expression: str, assumption: str = "") -> Proof:
    text = MODULE.replace("EXPRESSION", expression).replace("ASSUMPTION", assumption)
    (folder / "prove_small.sv").write_text(text)
    return Proof(folder.name, "npu_fifo", "prove_small", depth=3, cover_cycles=6, folder=folder)


@pytest.mark.formal
def test_what_follows_from_itself_is_proven(tmp_path: Path) -> None:
    outcome = prove(small(tmp_path, "count_q == other_q"))
    assert (outcome.status, outcome.covers, outcome.trace) == ("proven", ("Reached",), None)


@pytest.mark.formal
def test_what_is_false_is_refuted_with_its_text_and_waves(tmp_path: Path) -> None:
    proof = dataclasses.replace(small(tmp_path, "count_q != 4'd1"), depth=4)
    outcome = prove(proof)
    assert (outcome.status, outcome.failed) == ("refuted", ("Claim",))
    assert statement(proof, "Claim") == "The counters are equal, or small. assert (count_q != 4'd1);"
    assert outcome.text.splitlines()[1].endswith(statement(proof, "Claim"))
    assert outcome.trace is not None
    assert "count_q" in outcome.trace.read_text()


@pytest.mark.formal
def test_what_is_false_only_later_is_not_inductive(tmp_path: Path) -> None:
    assert prove(small(tmp_path, "count_q != 4'd9")).status == "not inductive"


@pytest.mark.formal
def test_what_cannot_happen_makes_a_proof_vacuous(tmp_path: Path) -> None:
    outcome = prove(small(tmp_path, "count_q == other_q", "assume (!go_i);"))
    assert (outcome.status, outcome.failed) == ("vacuous", ("Reached",))


@pytest.mark.formal
def test_a_bounded_proof_claims_no_more_than_its_cycles(tmp_path: Path) -> None:
    proof = dataclasses.replace(small(tmp_path, "count_q != 4'd9"), bounded=True)
    assert prove(proof).status == "proven"
    assert proof.mode == "bounded, 3 cycles"
    assert prove(dataclasses.replace(proof, depth=12)).status == "refuted"


@pytest.mark.formal
def test_what_yosys_cannot_read_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TestbenchError, match=r"Yosys stopped: prove_small.sv:13: .*nobody"):
        prove(small(tmp_path, "nobody"))


@pytest.mark.formal
def test_the_command_prints_a_table_and_fails_with_its_proofs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in ("good", "bad")]
    for folder in folders:
        folder.mkdir()
    good, bad = small(folders[0], "count_q == other_q"), small(folders[1], "count_q != 4'd1")
    monkeypatch.setattr(command, "PROOFS", (good, bad))
    assert command.main(["good"]) == 0
    assert "1 of 1 proofs of 1 blocks hold" in capsys.readouterr().out
    assert command.main([]) == 1
    out, err = capsys.readouterr()
    assert "bad    npu_fifo" in out
    assert "refuted" in out
    assert "1 of 2 proofs of 1 blocks hold" in out
    assert "Claim: The counters are equal, or small." in err
    assert command.main(["nothing"]) == 2
    assert "no proof begins with 'nothing'; there are good, bad" in capsys.readouterr().err
