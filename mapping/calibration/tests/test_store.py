# SPDX-License-Identifier: Apache-2.0
"""Measurements, and the store that keeps them through kills and damage."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import ConfigError, UnsupportedError
from golden.layer import run_layer
from hw.core import CoreConfig
from hw.memory import ErrorRange, MemoryModel
from hw.sources import rtl_hash, rtl_sources
from hw.system import NPU8, System
from mapping.calibration.measurement import Measurement, Setup, commands_digest, compile_shape, measure
from mapping.calibration.store import Store, StoreError, _checksum
from mapping.cost.shapes import Shape
from mapping.run.layers import RunError
from tb.session import Session

CONV = Shape("conv", "conv2d", 16, 32, 8, 8, (3, 3), (1, 1), "same")
SHARED = Shape("shared", "conv2d", 64, 80, 16, 16, (3, 3), (1, 1), "same", {"npu8": 16, "npu_lb": 64})
SETUP = Setup(System())


def sample(number: int) -> Measurement:
    """A made-up measurement."""
    shape = replace(CONV, name=f"conv{number}", in_channels=16 + number)
    counters = {"npu8": {"cycles": 1000 + number, "macs_useful": shape.macs}}
    return Measurement(shape, "npu8", 1010 + number, counters, shape.macs, 1 / (3 + number), "s", "c", 0.25)


# ----------------------------------------------------------------------------------------------- measurements
@pytest.mark.parametrize(
    ("shape", "unit"),
    [
        (CONV, "npu8"),
        (CONV, "npu_lb"),
        (Shape("dw", "depthwise_conv2d", 24, 24, 9, 9, (3, 3), (2, 2), "same"), "npu8"),
        (Shape("dwm", "depthwise_conv2d", 8, 16, 6, 6, (3, 3), (1, 1), "valid"), "npu_lb"),
        (Shape("fc", "fully_connected", 100, 40, 1, 1), "npu_lb"),
        (Shape("fc2", "fully_connected", 100, 40, 1, 1, split={"npu8": 16, "npu_lb": 24}), "npu8"),
        (Shape("add", "add", 48, 48, 5, 5, split={"npu8": 16, "npu_lb": 32}), "npu8"),
        (Shape("max", "max_pool", 16, 16, 7, 7, (2, 2), (2, 2), "same"), "npu8"),
        (Shape("mean", "average_pool", 16, 16, 7, 7, (7, 7), (1, 1), "valid"), "npu_lb"),
        (Shape("stem", "conv2d", 3, 16, 16, 16, (3, 3), (2, 2), "same"), "npu8"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_every_operator_is_measured_and_equal_to_golden(pair: Session, shape: Shape, unit: str) -> None:
    result = measure(pair, SETUP, shape, unit)
    assert set(result.counters) == set(shape.split or (unit,))
    multipliers = {"npu8": 256, "npu_lb": 1024}
    offered = result.cycles * sum(multipliers[name] for name in result.counters)
    assert result.utilisation == shape.macs / offered
    for counters in result.counters.values():
        assert 0 < counters["cycles"] <= result.cycles
        for engine in ("load", "compute", "store"):
            states = [value for name, value in counters.items() if name.startswith(f"{engine}_")]
            assert sum(states) == counters["cycles"]


def test_cycles_do_not_depend_on_what_ran_before(pair: Session) -> None:
    jobs = [(SHARED, "npu8"), (CONV, "npu_lb"), (replace(SHARED, split=None), "npu8")]
    first = [measure(pair, SETUP, shape, unit) for shape, unit in jobs]
    for (shape, unit), before in reversed(list(zip(jobs, first, strict=True))):
        assert replace(measure(pair, SETUP, shape, unit), seconds=before.seconds) == before
    assert first[0].unit == "npu8+npu_lb"
    assert first[0].cycles == 11_302  # as in README.md


def test_latency_costs_cycles_and_has_another_key(pair: Session) -> None:
    slow = replace(SETUP, memory=MemoryModel(latency=500))
    quick, late = (measure(pair, setup, CONV, "npu8") for setup in (SETUP, slow))
    assert late.cycles > quick.cycles + 1000
    assert late.commands == quick.commands
    assert late.key != quick.key


def test_the_key_follows_all_that_decides_about_the_cycles() -> None:
    first = sample(1)
    assert replace(first, shape=replace(first.shape, name="other"), seconds=9.0, cycles=7).key == first.key
    others = [
        replace(first, unit="npu_lb"),
        replace(first, setup="other"),
        replace(first, commands="other"),
        replace(first, shape=replace(first.shape, stride=(2, 2))),
    ]
    assert len({first.key, *(item.key for item in others)}) == 5


def test_the_setup_digest_follows_every_parameter_and_the_memory() -> None:
    setups = [
        SETUP,
        Setup(System((NPU8, CoreConfig("npu_lb", w_bits=4)))),
        Setup(System((NPU8, CoreConfig("npu_lb", w_bits=2, dw_taps=3)))),
        Setup(System(axi_bits=64)),
        Setup(System((NPU8,))),
        Setup(System(), MemoryModel(latency=21)),
        Setup(System(), MemoryModel(write_latency=21)),
        Setup(System(), MemoryModel(beats=1, per_cycles=2)),
    ]
    assert len({setup.digest for setup in setups}) == len(setups)
    assert Setup(System()).digest == SETUP.digest


def test_the_rtl_hash_sees_every_change_but_comments_and_indentation(tmp_path: Path) -> None:
    files = []
    for source in rtl_sources():
        copy = tmp_path / source.name
        copy.write_text(f'/* // new\n*/  // "new\n\n{source.read_text()}'.replace("\n  ", " // new\n     "))
        files.append(copy)
    assert rtl_hash(files) == rtl_hash() == rtl_hash(rtl_sources())
    target = tmp_path / "npu_drain.sv"
    for old, new in (("1'b0", "1'b1"), ("<=", "=")):
        text = target.read_text()
        target.write_text(text.replace(old, new, 1))
        assert rtl_hash(files) != rtl_hash()
        target.write_text(text)
    assert rtl_hash(files) == rtl_hash()


def test_a_comment_mark_in_a_string_is_no_comment(tmp_path: Path) -> None:
    file = tmp_path / "x.sv"
    hashes = []
    for text in ('d("a // b");', 'd("a // c");', 'd("a \\" // b");', 'd("/*", "*/");', 'd("/*", "*/"); // f'):
        file.write_text(text)
        hashes.append(rtl_hash([file]))
    assert len(set(hashes)) == 4
    assert hashes[3] == hashes[4]


def test_another_compiler_makes_other_commands() -> None:
    config = System()
    digests = {
        commands_digest(compile_shape(shape, unit, config))
        for shape, unit in ((CONV, "npu8"), (CONV, "npu_lb"), (replace(CONV, out_channels=48), "npu8"))
    }
    assert len(digests) == 3
    assert commands_digest(compile_shape(replace(CONV, name="x"), "npu8", config)) in digests


def test_a_wrong_output_names_the_shape(pair: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "mapping.calibration.measurement.run_layer"
    monkeypatch.setattr(wrong, lambda layer, a_bits: run_layer(layer, a_bits) ^ 1)
    with pytest.raises(RunError, match=r"shape 'conv' on npu8: 2048 of 2048 values differ.*\nreproduce: "):
        measure(pair, SETUP, CONV, "npu8")


def test_a_hardware_error_names_the_shape(pair: Session) -> None:
    setup = replace(SETUP, memory=MemoryModel(errors=(ErrorRange(0, 1 << 24),)))
    with pytest.raises(RunError, match=r"shape 'conv' on npu8: npu8: .*slverr"):
        measure(pair, setup, CONV, "npu8")
    assert measure(pair, SETUP, CONV, "npu8").cycles > 0  # the session goes on


def test_a_split_names_its_units_and_other_shapes_need_one() -> None:
    digests = {commands_digest(compile_shape(SHARED, unit, System())) for unit in ("npu8", "npu_lb", None)}
    assert len(digests) == 1
    with pytest.raises(UnsupportedError, match=f"'{CONV.name}': has no split; give the unit"):
        compile_shape(CONV, None, System())


def test_unknown_units_and_back_pressure_are_refused() -> None:
    with pytest.raises(ConfigError, match="shape 'conv': no unit 'gpu' in this system; it has npu8, npu_lb"):
        compile_shape(CONV, "gpu", System())
    with pytest.raises(UnsupportedError, match="without back-pressure"):
        Setup(System(), MemoryModel(backpressure_percent=5))


# ------------------------------------------------------------------------------------------------------ store
def test_what_is_added_is_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.jsonl"
    store = Store(path)
    assert len(store) == 0
    assert not path.exists()
    for number in range(5):
        store.add(sample(number))
    shared = replace(sample(0), shape=SHARED, unit="npu8+npu_lb", utilisation=0.1 + 0.2)
    store.add(shared)
    again = Store(path)
    assert list(again) == list(store) == [*map(sample, range(5)), shared]
    assert again.get(sample(3).key) == sample(3)
    assert again.get("no such key") is None


def test_a_key_is_kept_once_and_its_first_measurement_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    first, second = Store(path), Store(path)
    first.add(sample(1))
    size = path.stat().st_size
    second.add(replace(sample(1), cycles=7))  # another process, which had not read it
    assert path.stat().st_size == size
    assert list(Store(path)) == list(second) == [sample(1)]


def test_a_stale_measurement_stays_in_the_file_and_is_asked_for_no_more(tmp_path: Path) -> None:
    store = Store(tmp_path / "m.jsonl")
    old, new = sample(1), replace(sample(1), commands="of another compiler", cycles=900)
    store.add(old)
    assert store.get(new.key) is None
    store.add(new)
    assert list(Store(store.path)) == [old, new]


def test_every_kill_in_the_middle_of_an_append_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    store = Store(path)
    for number in range(3):
        store.add(sample(number))
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for length in (*range(start + 1, len(whole), 7), len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        seen = 3 if length == len(whole) - 1 else 2  # only the line's end is missing
        assert list(Store(path)) == [sample(number) for number in range(seen)]
        assert path.read_bytes() == whole[:length]  # reading rewrites nothing
        after = Store(path)
        after.add(sample(7))
        after.add(sample(2))  # measured again
        assert path.read_bytes().startswith(whole[:length])
        assert len(after) == 4
        assert {item.key for item in Store(path)} == {sample(number).key for number in (0, 1, 2, 7)}


def test_a_kill_while_the_remnant_of_a_kill_is_ended_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Store(path).add(sample(0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    Store(path).add(sample(1))
    ended = path.read_bytes()
    for length in range(len(whole) + 20, len(ended)):
        path.write_bytes(ended[:length])
        Store(path).add(sample(2))
        keys = {item.key for item in Store(path)}
        assert keys - {sample(1).key} == {sample(0).key, sample(2).key}


def test_a_whole_last_line_that_is_damaged_was_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Store(path).add(sample(0))
    path.write_bytes(path.read_bytes() * 2)
    path.write_bytes(path.read_bytes().rstrip().replace(b"1010", b"1011"))
    with pytest.raises(StoreError, match="line 1: damaged"):
        Store(path)
    path.write_bytes(path.read_bytes().replace(b"1011", b"1010", 1))
    with pytest.raises(StoreError, match="line 2: damaged"):
        Store(path)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a digit changed": lambda line: line.replace(b'"cycles": 1011', b'"cycles": 1012'),
    "a field removed": lambda line: line.replace(b'"unit": "npu8", ', b"").replace(b', "unit": "npu8"', b""),
    "no checksum": lambda line: json.dumps({**json.loads(line), "sha": None}).encode(),
    "no schema": lambda line: line.replace(b'"schema": 1, ', b""),
    "cut inside": lambda line: line[:100],
    "two in one": lambda line: line + line,
    "empty": lambda _: b"",
    "another document": lambda _: b"[]",
    "no text": lambda _: b"\xff\x00",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_other_damage_is_an_error_with_file_and_line_and_nothing_is_rewritten(
    damage: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.jsonl"
    store = Store(path)
    for number in range(3):
        store.add(sample(number))
    lines = path.read_bytes().splitlines()
    changed = DAMAGES[damage](lines[1])
    assert changed != lines[1]
    path.write_bytes(b"\n".join([lines[0], changed, lines[2], b""]))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"m.jsonl, line 2: damaged .*; restore the file") as caught:
        Store(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_checksum_that_fits_does_not_excuse_a_missing_field(tmp_path: Path) -> None:
    entry = {name: value for name, value in sample(1).entry().items() if name != "cycles"}
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"schema": 1, "sha": _checksum(entry), **entry}) + "\n")
    with pytest.raises(StoreError, match=r"line 1: damaged \(its fields are .*, not "):
        Store(path)


def test_a_newer_schema_is_refused_and_a_file_of_something_else_too(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for text, message in (
        ('{"schema": 2, "what": "ever"}\n', "line 1: of schema 2, this npuloop reads 1; update it"),
        ('{"schema": 2, "what": "ever"}', "line 1: of schema 2"),
        ("name,cycles\n", "line 1: damaged"),
        ("name,cycles", "line 1: damaged"),
    ):
        path.write_text(text)
        with pytest.raises(StoreError, match=message):
            Store(path)
        assert path.read_text() == text


def test_a_store_that_cannot_be_read_or_written_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        Store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be (read|written)"):
        Store(tmp_path / "file" / "m.jsonl").add(sample(1))


def test_a_store_that_shrinks_while_in_use_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "m.jsonl")
    store.add(sample(1))
    store.path.write_bytes(b"")
    with pytest.raises(StoreError, match="was cut while in use"):
        store.add(sample(2))


def _append(path: Path, first: int, count: int) -> None:
    store = Store(path)
    for number in range(first, first + count):
        store.add(sample(number))


def test_many_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    context = multiprocessing.get_context("fork")
    ranges = [(0, 30), (15, 30), (30, 30), (0, 60)]  # most keys from two of them
    processes = [context.Process(target=_append, args=(path, first, count)) for first, count in ranges]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert {item.key for item in Store(path)} == {sample(number).key for number in range(60)}
    assert len(path.read_bytes().splitlines()) == 60


def _killed(path: Path, appends: int, cut: bool) -> None:
    """Add to the store what is missing, and die after some appends: after the last one, or in the middle."""
    write, count = os.write, 0

    def dying(handle: int, data: bytes) -> int:
        nonlocal count
        count += 1
        if count > appends:
            if cut:
                write(handle, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(handle, data)

    os.write = dying  # type: ignore[assignment]  # in this process only
    _append(path, 0, 20)


def test_killed_five_times_the_store_holds_what_an_undisturbed_one_holds(tmp_path: Path) -> None:
    path, undisturbed = tmp_path / "m.jsonl", tmp_path / "u.jsonl"
    _append(undisturbed, 0, 20)
    context = multiprocessing.get_context("fork")
    held = 0
    for appends, cut in ((3, True), (0, True), (2, False), (5, True), (1, False)):
        process = context.Process(target=_killed, args=(path, appends, cut))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        held += appends
        assert len(Store(path)) == held
    _append(path, 0, 20)
    assert list(Store(path)) == list(Store(undisturbed))
