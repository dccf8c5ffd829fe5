# SPDX-License-Identifier: Apache-2.0
"""Traces are read back as the values before each rising edge of the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import TestbenchError
from hw.system import NPU_LB, System
from tb.session import Session
from tb.testing import copy_job
from tb.vcd import Recording, TraceError, read_trace

HEAD = """$version by hand $end
$timescale 1ps $end
 $scope module tb_top $end
  $var wire 1 ! clk_i $end
  $scope module i_unit $end
   $var wire 1 ! clk_i $end
   $var wire 8 " data_q [7:0] $end
   $var wire 1 # valid $end
   $scope module i_deep $end
    $var wire 70 $ wide [69:0] $end
    $var wire 8 " data_i [7:0] $end
   $upscope $end
   $var wire 4 % late[3:0] $end
  $upscope $end
  $scope module i_other $end
   $var wire 2 & other [1:0] $end
  $upscope $end
 $upscope $end
$enddefinitions $end
"""
UNIT, DEEP, OTHER = "tb_top.i_unit", "tb_top.i_unit.i_deep", "tb_top.i_other"


def trace(
    path: Path, body: str | Sequence[str], scopes: Sequence[str] = (UNIT,), head: str = HEAD
) -> Recording:
    """Read a trace with such changes of the values."""
    path.write_text(head + (body if isinstance(body, str) else "\n".join(body)) + "\n")
    return read_trace(path, scopes)


def clocked(*steps: str) -> list[str]:
    """A body in which the clock is high in even steps of time and low in odd ones."""
    return [f"#{time}\n{(time + 1) % 2}!\n{changes}" for time, changes in enumerate(steps)]


def test_values_are_those_before_each_rising_edge(tmp_path: Path) -> None:
    body = clocked('b00000001 "\n1#', "", 'b00000010 "', "", 'b11111111 "\n0#', "", "")
    recorded = trace(tmp_path / "t.vcd", body)
    assert recorded.cycles == 3
    assert recorded.scope(UNIT) == {
        "clk_i": (1, [0, 0, 0]),
        "data_q": (8, [1, 2, 255]),
        "valid": (1, [1, 1, 0]),
        "late": (4, [0, 0, 0]),
    }


def test_what_changes_at_the_edge_does_not_count_whether_it_stands_before_or_after_the_clock(
    tmp_path: Path,
) -> None:
    rise = ('#2\nb00000010 "\n1!\n0#', '#2\n1!\nb00000010 "\n0#')
    for i, text in enumerate(rise):
        recorded = trace(tmp_path / f"{i}.vcd", f'#0\n1!\nb00000001 "\n1#\n#1\n0!\n{text}\n#3\n0!\n#4\n1!')
        assert recorded.scope(UNIT)["data_q"] == (8, [1, 2])
        assert recorded.scope(UNIT)["valid"] == (1, [1, 0])


def test_elements_of_an_array_are_signals_of_their_own(tmp_path: Path) -> None:
    elements = "$var wire 3 ( state[0] [2:0] $end\n   $var wire 3 ) state[1] [2:0] $end"
    head = HEAD.replace("$var wire 1 # valid $end", elements)
    recorded = trace(tmp_path / "t.vcd", clocked("b101 (\nb010 )", "", "b001 )", ""), head=head).scope(UNIT)
    assert (recorded["state[0]"], recorded["state[1]"]) == ((3, [5, 5]), (3, [2, 1]))
    assert "state" not in recorded


def test_what_changes_while_the_clock_is_low_counts(tmp_path: Path) -> None:
    low = "#10\n0!\nb0001 %\n#12\nb0010 %\n#14\nb0011 %"
    body = f"#0\n1!\n{low}\n#20\n1!\nb0100 %\n#25\nb0101 %\n#30\n0!\n#40\n1!"
    assert trace(tmp_path / "t.vcd", body).scope(UNIT)["late"] == (4, [3, 5])


def test_of_several_changes_in_one_step_the_last_counts(tmp_path: Path) -> None:
    body = '#0\n1!\nb00000001 "\nb00000111 "\n1#\n0#\n#1\n0!\nb0001 %\nb1000 %\n#2\n1!'
    recorded = trace(tmp_path / "t.vcd", body).scope(UNIT)
    assert (recorded["data_q"], recorded["valid"], recorded["late"]) == ((8, [7]), (1, [0]), (4, [8]))


def test_unknown_bits_are_zero_and_short_vectors_are_extended(tmp_path: Path) -> None:
    body = clocked('bx1z1 "\nx#\nbxxxx %', "", 'b1 "\nz#', "", "1#", "", "x#", "")
    recorded = trace(tmp_path / "t.vcd", body).scope(UNIT)
    assert recorded["data_q"] == (8, [5, 1, 1, 1])
    assert recorded["valid"] == (1, [0, 0, 1, 0])
    assert recorded["late"] == (4, [0, 0, 0, 0])


def test_wide_vectors_and_signals_of_two_names_are_read_in_every_scope(tmp_path: Path) -> None:
    value = (1 << 69) | 5
    body = clocked(f'b{value:070b} $\nb00000011 "\nb11 &', "", 'b00000100 "', "")
    recorded = trace(tmp_path / "t.vcd", body, [UNIT, DEEP])
    assert recorded.scope(DEEP) == {"wide": (70, [value, value]), "data_i": (8, [3, 4])}
    assert recorded.scope(UNIT)["data_q"] == recorded.scope(DEEP)["data_i"]
    assert set(recorded.signals) == {UNIT, DEEP}
    with pytest.raises(TraceError, match=r"tb_top\.i_other is not in the trace; there are tb_top\.i_unit"):
        recorded.scope(OTHER)


def test_edges_before_the_first_fall_do_not_count_and_a_low_clock_at_the_end_does(tmp_path: Path) -> None:
    body = '#0\n0!\nb00000001 "\n#1\n1!\n#2\n0!\nb00000010 "\n#3\n1!\n#4\n0!\nb00000011 "'
    assert trace(tmp_path / "t.vcd", body).scope(UNIT)["data_q"] == (8, [2, 3])
    still = trace(tmp_path / "s.vcd", "#0\n0!\n#1\n#2")
    assert (still.cycles, still.scope(UNIT)["data_q"]) == (0, (8, []))


def test_dumped_values_and_other_lines_are_no_trouble(tmp_path: Path) -> None:
    body = '#0\n$dumpvars\n1!\nb00000001 "\nr1.5 @\n\n$end\n$comment 0! $end\n#1\n0!\n#2\n1!'
    assert trace(tmp_path / "t.vcd", body).scope(UNIT)["data_q"] == (8, [1])


def test_what_cannot_be_read_is_refused_with_the_files_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.vcd: cannot be read as a trace"):
        read_trace(tmp_path / "none.vcd", [UNIT])
    with pytest.raises(TraceError, match=r"t\.vcd: not a VCD file"):
        trace(tmp_path / "t.vcd", "#0\n1!", head="once upon a time\n")
    binary = tmp_path / "b.vcd"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match=r"b\.vcd: cannot be read as a trace"):
        read_trace(binary, [UNIT])


@pytest.mark.parametrize(
    ("scopes", "missing"),
    [
        (["tb_top.i_none"], r"tb_top\.i_none"),
        ([UNIT, "tb_top.i_none", "i_unit"], r"tb_top\.i_none, i_unit"),
        ([OTHER], r"tb_top\.i_other\.clk_i"),
    ],
)
def test_missing_modules_and_a_missing_clock_are_named(
    scopes: list[str], missing: str, tmp_path: Path
) -> None:
    with pytest.raises(TraceError, match=rf"t\.vcd: {missing} is not in the trace"):
        trace(tmp_path / "t.vcd", clocked("", ""), scopes)


def test_the_clocks_name_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "t.vcd"
    path.write_text(HEAD.replace("clk_i", "aclk") + "\n".join(clocked('b1 "', "", "")))
    assert read_trace(path, [UNIT], clock="aclk").cycles == 1
    with pytest.raises(TraceError, match=r"tb_top\.i_unit\.clk_i is not in the trace"):
        read_trace(path, [UNIT])


# ---------------------------------------------------------------------------------------- record sessions
CONFIG = System((NPU_LB,))
SOC = "tb_top.u_soc"
CORE = f"{SOC}.gen_core[0].i_core"


@pytest.fixture(scope="module")
def recording() -> Iterator[Session]:
    """The session in which the energy tables' streams are recorded."""
    with Session(CONFIG, "record", structural=True) as session:
        yield session


def beats(recorded: Recording, channel: str) -> int:
    """Transfers of a channel of the memory port."""
    signals = recorded.scope(SOC)
    valid, ready = (signals[f"m_axi_{channel}{name}"][1] for name in ("valid", "ready"))
    return sum(v & r for v, r in zip(valid, ready, strict=True))


@pytest.mark.rtl
def test_a_recorded_job_shows_every_cycle_of_the_modules_that_are_asked_for(
    recording: Session, tmp_path: Path
) -> None:
    for words in (40, 70):  # the second trace begins where the first has ended
        job, data = copy_job(words, units=("npu_lb",), waves=tmp_path / f"{words}.vcd")
        scopes = [SOC, f"{CORE}.i_load"]
        result = recording.run(replace(job, wave_scopes=scopes))
        assert result.ok, result.diagnosis
        np.testing.assert_array_equal(result.reads[0], data)
        assert job.waves is not None
        recorded = read_trace(job.waves, scopes)
        assert (beats(recorded, "r"), beats(recorded, "w")) == (result.read_beats, result.write_beats)
        written = [
            (value >> 8 * byte) & 0xFF
            for valid, ready, value in zip(
                *(recorded.scope(SOC)[f"m_axi_w{name}"][1] for name in ("valid", "ready", "data")),
                strict=True,
            )
            if valid & ready
            for byte in range(16)
        ]
        assert bytes(data) in bytes(written)
        assert 0 <= recorded.cycles - result.sim_cycles <= 4
        with pytest.raises(TraceError, match="i_compute is not in the trace"):
            read_trace(job.waves, [*scopes, f"{CORE}.i_compute"])


@pytest.mark.rtl
def test_without_names_of_modules_all_are_recorded(recording: Session, tmp_path: Path) -> None:
    job, _ = copy_job(4, units=("npu_lb",), waves=tmp_path / "all.vcd")
    recording.run(job)
    assert job.waves is not None
    column = f"{CORE}.i_compute.i_array.gen_structural.i_form.gen_column[31].i_column"
    recorded = read_trace(job.waves, [CORE, column])
    assert recorded.scope(column)["weight_q"][0] == 64
    assert len(recorded.scope(column)["weight_q"][1]) == recorded.cycles > 100


@pytest.mark.rtl
def test_a_job_without_waves_is_not_recorded(recording: Session, tmp_path: Path) -> None:
    job, data = copy_job(4, units=("npu_lb",), wave_scopes=[CORE])
    np.testing.assert_array_equal(recording.run(job).reads[0], data)
    assert list(tmp_path.iterdir()) == []


def test_only_sessions_that_trace_take_jobs_with_waves(pair: Session, tmp_path: Path) -> None:
    job, _ = copy_job(4, waves=tmp_path / "no.vcd")
    with pytest.raises(TestbenchError, match="waves need a session of the wave or record flavour"):
        pair.run(job)
    assert list(tmp_path.iterdir()) == []
