# SPDX-License-Identifier: Apache-2.0
"""Memories from CACTI: their figures, what a core's are composed of, and errors."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import GatesError
from common.paths import build_root
from gates import memories
from gates.memories import Memory, at_supply, cacti, compositions, core_memories, memory, side_by_side
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB


def test_figures_are_those_of_cacti_at_its_own_supply() -> None:
    """Pinned: 32 KiB in words of 16 bytes at 90 nm, which an untouched CACTI gives too."""
    modelled = memory(2048, 128, "1r1w", 90)
    assert (modelled.read_pj, modelled.write_pj) == pytest.approx((64.6365, 92.1838))
    assert (modelled.area_um2, modelled.leakage_mw, modelled.access_ns) == pytest.approx(
        (792_551, 6.93795, 1.07314)
    )
    assert modelled.supply_v == 1.2
    assert modelled.label == "modelled (CACTI 7, 90 nm)"


def test_nodes_between_90_and_180_nm_are_interpolated() -> None:
    sizes = [memory(2048, 128, "1r1w", node) for node in (90, 110, 130, 150, 180)]
    for before, after in itertools.pairwise(sizes):
        assert 1 < after.read_pj / before.read_pj < 1.6
        assert 1 < after.area_um2 / before.area_um2 < 1.6
        assert after.supply_v > before.supply_v
    assert sizes[2].supply_v == pytest.approx(4 / 3)
    assert sizes[-1].supply_v == 1.5
    assert sizes[2].read_pj == pytest.approx(122.739)
    assert sizes[-1].leakage_mw < sizes[0].leakage_mw / 15


def test_energy_grows_with_the_size_and_falls_with_fewer_ports() -> None:
    small, large = memory(512, 128), memory(4096, 128)
    assert small.read_pj < large.read_pj
    assert small.area_um2 * 6 < large.area_um2
    single = memory(4096, 128, "1rw")
    assert single.area_um2 < 0.7 * large.area_um2
    assert single.read_pj < large.read_pj


def test_results_are_kept_and_damaged_ones_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = cacti()
    monkeypatch.setattr(memories, "cacti", lambda: program)
    monkeypatch.setattr(memories, "build_root", lambda: tmp_path)
    first = memory(64, 64)
    (kept,) = (tmp_path / "memories").iterdir()
    document = json.loads(kept.read_text())
    assert document["arguments"]["words"] == 64
    document["result"]["read_pj"] = 5.0
    kept.write_text(json.dumps(document))
    assert memory(64, 64) == replace(first, read_pj=5.0)
    kept.write_text("{")
    assert memory(64, 64) == first
    assert [path.name for path in (tmp_path / "memories").iterdir()] == [kept.name]


def test_cacti_is_compiled_once() -> None:
    program = cacti()
    before = program.stat().st_mtime_ns
    assert cacti() == program
    assert program.stat().st_mtime_ns == before
    assert program.parent.parent == build_root()


def test_few_words_are_taken_as_32() -> None:
    few = memory(5, 64)
    assert few.words == 5
    assert replace(few, words=32) == memory(32, 64)


def test_macros_side_by_side_are_read_together_and_written_in_part() -> None:
    macro = Memory("x", 10, 64, 1.0, 5.0, 2.0, 3.0, 0.25, 1.5)
    assert side_by_side(macro, 4, 2) == Memory("x", 10, 256, 1.0, 20.0, 8.0, 6.0, 1.0, 1.5)


def test_energy_goes_with_the_square_of_the_supply() -> None:
    macro = Memory("modelled (CACTI 7, 130 nm)", 10, 64, 1.2, 5.0, 2.0, 3.0, 0.25, 1.5)
    modelled = at_supply(macro, 1.8)
    assert (modelled.read_pj, modelled.write_pj) == pytest.approx((4.5, 6.75))
    assert modelled.leakage_mw == pytest.approx(0.375)
    assert modelled.label == "modelled (CACTI 7, 130 nm, from 1.2 V scaled to 1.8 V)"
    assert at_supply(macro, 1.2) == macro


@pytest.mark.parametrize("core", [NPU8, NPU_LB, CoreConfig("wide", rows=32, cols=64, lanes=8)], ids=str)
@pytest.mark.parametrize("technology", ["sky130", "osu018"])
def test_a_cores_memories_hold_what_its_parameters_say(core: CoreConfig, technology: str) -> None:
    modelled = core_memories(core, technology)
    bits = {name: count * item.words * item.width_bits for name, (count, item) in modelled.items()}
    assert bits["activations"] == core.act_kib * 8192
    assert bits["weights"] == core.weight_kib * 8192
    assert bits["parameters"] == core.param_kib * 8192
    assert set(modelled) == {"activations", "weights", "parameters"}  # accumulators are registers
    assert modelled["activations"][1].width_bits == core.rows * 8
    assert modelled["weights"][1].width_bits == 256
    assert {name: count for name, (count, _) in modelled.items()} == {
        "activations": 256 // core.rows, "weights": 2, "parameters": 2,
    }  # fmt: skip
    for _, item in modelled.values():
        assert item.label.startswith(f"modelled (CACTI 7, {'130' if technology == 'sky130' else '180'} nm")
        assert item.supply_v == 1.8
        assert min(item.area_um2, item.read_pj, item.write_pj, item.leakage_mw) > 0


def test_a_scratchpads_lanes_are_written_one_by_one() -> None:
    weights = core_memories(NPU8)["weights"][1]
    lane = at_supply(memory(512, 128, "1rw"), 1.8)  # 32 KiB in two banks of two lanes
    assert weights.write_pj == lane.write_pj
    assert weights.read_pj == 2 * lane.read_pj


def test_memories_have_one_port_and_are_smaller_than_with_two() -> None:
    for name, item in compositions(NPU8).items():
        assert item.ports == "1rw"
        two = at_supply(memory(item.words, item.width_bits), 1.8)
        assert core_memories(NPU8)[name][1].area_um2 < 0.7 * item.macros * two.area_um2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 64), "memory of 0 x 64 bits"),
        ((64, 60), "a width in steps of 8 bits"),
        ((64, 64, "2rw"), "ports '2rw': there are 1r1w, 1rw"),
        ((64, 64, "1rw", 45), "from 90 to 180 nm"),
    ],
)
def test_memories_that_cannot_be_are_refused(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(GatesError, match=message):
        memory(*arguments)


def test_a_size_without_an_array_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "FEWEST_WORDS", 1)
    with pytest.raises(GatesError, match=r"16 x 128 bits at 130 nm .*no valid data array"):
        memory(16, 128)


def test_an_unknown_technology_is_refused() -> None:
    with pytest.raises(GatesError, match="no technology 'tsmc'; there are sky130, osu018"):
        core_memories(NPU8, "tsmc")


def test_a_folder_without_source_and_a_missing_compiler_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "wheel_folder", lambda _: tmp_path)
    with pytest.raises(GatesError, match="has no source of CACTI"):
        cacti()
    source = tmp_path / "hwcomponents_cacti" / "cacti"
    source.mkdir(parents=True)
    (source / "io.cc").write_text("int main() { return 1 }\n")
    monkeypatch.setattr(memories, "build_root", lambda: tmp_path / "cache")
    with pytest.raises(GatesError, match="is not the CACTI that is expected"):
        cacti()
    (source / "io.cc").write_text("int main() { if (F_sz_um > 0.091) return 1 }\n")
    with pytest.raises(GatesError, match=r"CACTI does not compile: .*error"):
        cacti()
    assert list((tmp_path / "cache").iterdir()) == []
