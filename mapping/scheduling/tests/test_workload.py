# SPDX-License-Identifier: Apache-2.0
"""Workloads: what arrivals are like, files of them, and one clear error for each that cannot be served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mapping.scheduling.arrivals import Bursts, Cascade, Loop, Periodic, Poisson, Trace, drawn
from mapping.scheduling.testing import workload, write
from mapping.scheduling.versions import Version, as_imported, check_networks, load_versions
from mapping.scheduling.workload import STRICT, Arrival, Stream, Workload, WorkloadError, arrivals_of
from mapping.scheduling.workload_file import load_workload, versions_named

RNG = np.random.default_rng


# -------------------------------------------------------------------------------------------------- arrivals
def test_a_period_is_kept_but_for_its_jitter() -> None:
    assert drawn(Periodic(10, phase=3), 4, None, RNG(1)).tolist() == [3, 13, 23, 33]
    assert drawn(Periodic(10), 99, 40, RNG(1)).tolist() == [0, 10, 20, 30]
    times = drawn(Periodic(10, jitter=4, phase=5), 2000, None, RNG(1))
    moved = times - 5 - 10 * np.arange(2000)
    assert np.abs(moved).max() <= 4
    assert moved.std() == pytest.approx(8 / np.sqrt(12), rel=0.05)
    assert (np.diff(times) >= 0).all()


def test_gaps_of_poisson_arrivals_have_their_mean_and_as_much_spread() -> None:
    gaps = np.diff(drawn(Poisson(50), 20_000, None, RNG(2)))
    assert gaps.mean() == pytest.approx(50, rel=0.03)
    assert gaps.std() == pytest.approx(50, rel=0.03)
    times = drawn(Poisson(50), 99_999, 1e6, RNG(2))
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert times.max() < 1e6
    assert drawn(Poisson(50), 10, 1e6, RNG(2)).tolist() == times[:10].tolist()


def test_bursts_and_traces_arrive_as_they_say() -> None:
    assert drawn(Bursts(100, 3, 5), 7, None, RNG(1)).tolist() == [0, 5, 10, 100, 105, 110, 200]
    assert drawn(Bursts(100, 2), 99, 150, RNG(1)).tolist() == [0, 0, 100, 100]
    assert drawn(Trace((1.0, 7.0, 9.0)), 99, 8, RNG(1)).tolist() == [1, 7]
    assert drawn(Trace((1.0, 7.0, 9.0)), 1, None, RNG(1)).tolist() == [1]


def test_requests_are_numbered_by_time_and_streams_do_not_change_each_other() -> None:
    a, b = Stream("a", "x", Poisson(10), requests=50), Stream("b", "y", Poisson(30), requests=20)
    both = arrivals_of(workload(a, b), seed=3)
    assert [r.time for r in both] == sorted(r.time for r in both)
    alone = arrivals_of(workload(a), seed=3)
    assert [r.time for r in both if r.stream == a] == [r.time for r in alone]
    assert arrivals_of(workload(a, b), seed=3) == both
    assert arrivals_of(workload(a, b), seed=4) != both


def test_cascades_follow_the_share_of_requests_that_they_say() -> None:
    leader = Stream("a", "x", Periodic(10), requests=4000)
    second = Stream("b", "y", Cascade("a", 0.3))
    third = Stream("c", "z", Cascade("b"))
    made = arrivals_of(workload(third, second, leader))
    followers = {name: [r for r in made if r.stream.name == name] for name in "abc"}
    assert len(followers["b"]) == pytest.approx(0.3 * 4000, rel=0.1)
    assert len(followers["c"]) == len(followers["b"])
    for request in followers["b"] + followers["c"]:
        (before,) = request.after
        assert made[before].stream.name == {"b": "a", "c": "b"}[request.stream.name]
    assert len({r.after for r in followers["b"]}) == len(followers["b"])


def test_queries_of_several_samples_wait_for_all_of_the_one_before() -> None:
    made = arrivals_of(workload(Stream("a", "x", Loop(2), requests=5)))
    assert [r.after for r in made] == [(), (), (0, 1), (0, 1), (2, 3)]


def test_workloads_without_end_or_beginning_are_errors() -> None:
    with pytest.raises(WorkloadError, match="no request arrives before its end"):
        arrivals_of(workload(Stream("a", "x", Periodic(10, phase=50)), duration=40))
    with pytest.raises(WorkloadError, match="stream 'a': more than 200000 requests"):
        arrivals_of(workload(Stream("a", "x", Periodic(1)), duration=1e6))
    for arrivals in (Periodic(1e-300), Poisson(1e-9), Bursts(1e-300, 7), Bursts(1, 199_999, 1e-9)):
        with pytest.raises(WorkloadError, match="stream 'a': more than 200000 requests"):
            arrivals_of(workload(Stream("a", "x", arrivals), duration=1e15))
    for streams in (("b", "a"), ("a", "a")):
        chain = [Stream(n, "x", Cascade(after)) for n, after in zip("ab", streams, strict=False)]
        with pytest.raises(WorkloadError, match="follow each other"):
            arrivals_of(workload(*chain))


# ----------------------------------------------------------------------------------------------------- files
HEAD = "npuloop_workload: 1\nclock_mhz: 100\nduration: 1 ms\n"


def read(folder: Path, streams: str, head: str = HEAD) -> Workload:
    return load_workload(write(folder / "w.yaml", f"{head}streams:\n{streams}"))


def test_a_file_says_everything_that_a_workload_has(tmp_path: Path) -> None:
    load = read(
        tmp_path,
        """
  - name: wake
    network: kws
    arrivals: {kind: poisson, rate_hz: 4000}
    deadline: 50 us
    accuracy_limit: 0.5
    priority: 2
    drop_late: true
    requests: 9
  - {network: ad, arrivals: {kind: cascade, after: wake, probability: 0.25}}
""",
        HEAD + "confidence: strict\nversions: v.yaml\n",
    )
    wake, ad = load.streams
    assert wake == Stream("wake", "kws", Poisson(25_000.0), 5000.0, 0.5, 2, True, 9)
    assert ad == Stream("ad", "ad", Cascade("wake", 0.25))
    assert (load.duration, load.confidence, load.clock_mhz) == (100_000.0, STRICT, 100.0)
    assert versions_named(load.source) == tmp_path / "v.yaml"


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ("{kind: periodic, period: 20 us, jitter: 3 us, phase: 7}", Periodic(2000, 300, 7)),
        ("{kind: periodic, rate_hz: 1e6}", Periodic(100)),
        ("{kind: frames, sensor_hz: 50000, every: 2}", Periodic(4000)),
        ("{kind: poisson, gap: 500}", Poisson(500)),
        ("{kind: poisson, gap: 500 cycles}", Poisson(500)),
        ("{kind: bursts, period: 1e4, size: 3, spacing: 1 us}", Bursts(1e4, 3, 100)),
        ("{kind: trace, times: [5, 1 us, 2]}", Trace((2, 5, 100))),
        ("{kind: loadgen, scenario: server, rate_hz: 1000}", Poisson(1e5)),
        ("{kind: loadgen, scenario: offline, samples: 3}", Trace((0, 0, 0))),
        ("{kind: loadgen, scenario: single_stream}", Loop(1)),
        ("{kind: loadgen, scenario: multi_stream}", Loop(8)),
        ("{kind: loadgen, scenario: multi_stream, samples: 4}", Loop(4)),
    ],
)
def test_every_kind_of_arrivals_is_read(arrivals: str, expected: object, tmp_path: Path) -> None:
    (stream,) = read(tmp_path, f"  - {{network: x, requests: 4, arrivals: {arrivals}}}\n").streams
    assert stream.arrivals == expected


def test_frames_are_due_before_the_next_one(tmp_path: Path) -> None:
    frames = "arrivals: {kind: frames, sensor_hz: 100000, every: 3}"
    (stream,) = read(tmp_path, f"  - {{network: x, drop_late: true, {frames}}}\n").streams
    assert stream.deadline == 3000
    (stream,) = read(tmp_path, f"  - {{network: x, deadline: 7 us, {frames}}}\n").streams
    assert stream.deadline == 700


def test_a_trace_comes_from_a_file_of_one_column_or_of_one_that_is_named(tmp_path: Path) -> None:
    stream = "  - {network: x, arrivals: {kind: trace, file: t.csv}}\n"
    write(tmp_path / "t.csv", "30\n\n10\n2 us\n")
    assert read(tmp_path, stream).streams[0].arrivals == Trace((10, 30, 200))
    write(tmp_path / "t.csv", "stream,arrival_cycle\nx,5\ny,4\n")
    assert read(tmp_path, stream).streams[0].arrivals == Trace((4, 5))


POISSON = "arrivals: {kind: poisson, gap: 5}"


@pytest.mark.parametrize(
    ("streams", "says"),
    [
        ("  - {network: x, arrivals: {kind: poisson, rate_hz: -5}}", "rate_hz is -5; write a number above 0"),
        ("  - {network: x, arrivals: {kind: poisson, rate_hz: 0}}", "rate_hz is 0; write a number above 0"),
        ("  - {network: x, arrivals: {kind: poisson, gap: -1 ms}}", "gap is '-1 ms'; a time must be above 0"),
        ("  - {network: x, arrivals: {kind: poisson}}", "give gap or rate_hz, one of them"),
        ("  - {network: x, arrivals: {kind: poisson, gap: 5, rate_hz: 5}}", "give gap or rate_hz"),
        ("  - {network: x, arrivals: {kind: poisson, gap: soon}}", "gap is 'soon'; write cycles, or a time"),
        ("  - {network: x, arrivals: {kind: poisson, gap: 1e308 s}}", "gap is more than 1e+15 cycles"),
        ("  - {network: x, arrivals: {kind: poisson, rate_hz: 1e-300}}", "rate_hz is more than 1e+15 cycles"),
        ('  - {network: x, arrivals: {kind: trace, file: "a\\0"}}', "write the name of a file"),
        ("  - {network: x, arrivals: {kind: poisson, gap: .nan}}", "gap is nan; write cycles, or a time"),
        ("  - {network: x, arrivals: {kind: magic}}", "no kind 'magic'; write kind: periodic, frames"),
        ("  - {network: x}", "no kind None"),
        ("  - {network: x, arrivals: {kind: poisson, gap: 5, colour: 3}}", "unknown key 'colour'"),
        ("  - {network: x, colour: 3, " + POISSON + "}", "unknown key 'colour'"),
        ("  - {" + POISSON + "}", "stream 1: network is None"),
        ("  - 5", "stream 1: is 5"),
        ("  []", "streams is []"),
        ("  - {network: x, deadline: 0, " + POISSON + "}", "deadline is 0; a time must be above 0"),
        ("  - {network: x, drop_late: true, " + POISSON + "}", "drop_late needs a deadline"),
        ("  - {network: x, drop_late: 1, deadline: 5, " + POISSON + "}", "write true or false"),
        ("  - {network: x, priority: high, " + POISSON + "}", "priority is 'high'; write an integer"),
        ("  - {network: x, requests: 0, " + POISSON + "}", "requests is 0; write an integer, 1 to 200000"),
        ("  - {network: x, accuracy_limit: -1, " + POISSON + "}", "accuracy_limit is -1"),
        ("  - {network: x, arrivals: {kind: loadgen, scenario: single_stream}}", "give requests: N"),
        ("  - {network: x, arrivals: {kind: loadgen, scenario: solo}}", "no scenario 'solo'; there are"),
        ("  - {network: x, arrivals: {kind: periodic, period: 10, jitter: 6}}", "more than half a period"),
        ("  - {network: x, arrivals: {kind: cascade, after: y}}", "comes after 'y', and there is no"),
        ("  - {network: x, arrivals: {kind: cascade, after: x, probability: 2}}", "is 2; write 0 to 1"),
        ("  - {network: x, arrivals: {kind: trace, times: []}}", "the trace is empty"),
        ("  - {network: x, arrivals: {kind: trace}}", "a trace has a file or times"),
        ("  - {network: x, arrivals: {kind: trace, file: empty.csv}}", "empty.csv: the trace is empty"),
        ("  - {network: x, arrivals: {kind: trace, file: bad.csv}}", "bad.csv, line 2: line is 'late'"),
        ("  - {network: x, arrivals: {kind: trace, file: two.csv}}", "no column 'arrival_cycle' among a, b"),
        ("  - {network: x, arrivals: {kind: trace, file: none.csv}}", "none.csv: no such file"),
        (2 * ("  - {network: x, " + POISSON + "}\n"), "two streams are called 'x'"),
    ],
)  # fmt: skip
def test_each_fault_of_a_file_is_one_clear_error(streams: str, says: str, tmp_path: Path) -> None:
    write(tmp_path / "empty.csv", "")
    write(tmp_path / "bad.csv", "5\nlate\n")
    write(tmp_path / "two.csv", "a,b\n1,2\n")
    with pytest.raises(WorkloadError) as raised:
        read(tmp_path, streams + "\n")
    message = str(raised.value)
    assert says in message
    assert message.startswith(str(tmp_path))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("npuloop_workload: 2\n", "it begins with `npuloop_workload: 1`"),
        ("npuloop_workload: 1\nclock_mhz: -3\n", "clock_mhz is -3; write a number above 0"),
        (
            "npuloop_workload: 1\nduration: 5 ms\n",
            "duration is '5 ms', and there is no clock; give clock_mhz",
        ),
        ("npuloop_workload: 1\n", "has no end; give requests: N, or the workload a duration"),
        (
            "npuloop_workload: 1\nduration: 9\nconfidence: some\n",
            "confidence is 'some'; write mean or strict",
        ),
        ("npuloop_workload: 1\nduration: 9\nname: w\n", "unknown key 'name'"),
    ],
)
def test_each_fault_of_a_files_head_is_one_clear_error(head: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError) as raised:
        read(tmp_path, "  - {network: x, " + POISSON + "}\n", head)
    assert says in str(raised.value)


# -------------------------------------------------------------------------------------------------- versions
def test_a_file_of_versions_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "v.yaml",
        """npuloop_versions: 1
versions:
  - {name: a8, network: a, file: a.tflite, unit: npu8}
  - {name: a2, network: a, file: digits_ternary, unit: w2a8_16x64, accuracy_drop: 0.4, interval: [0.1, 0.7]}
  - {name: split, network: a, file: a.tflite, mapping: m.yaml, accuracy_drop: 0.2}
""",
    )
    eight, two, split = load_versions(path)
    assert eight == Version("a8", "a", str(tmp_path / "a.tflite"), "npu8")
    assert (two.file, two.drop, two.interval) == ("digits_ternary", 0.4, (0.1, 0.7))
    assert (split.mapping, split.unit, split.interval) == (tmp_path / "m.yaml", None, (0.2, 0.2))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{network: a, file: f}", "version 1: name is None"),
        ("{name: v, network: a}", "version 1 ('v'): file is None"),
        ("{name: v, network: a, file: f, unit: 3}", "unit is 3"),
        ("{name: v, network: a, file: f, unit: u, mapping: m}", "leave out unit"),
        ("{name: v, network: a, file: f, size: 3}", "unknown key 'size'"),
        ("{name: v, network: a, file: f, accuracy_drop: much}", "accuracy_drop is 'much'"),
        ("{name: v, network: a, file: f, interval: 3}", "interval is 3; write its two ends"),
        ("{name: v, network: a, file: f, accuracy_drop: 2, interval: [0, 1]}", "is outside its interval"),
        ("7", "version 1: is 7"),
        ("{name: v, network: a, file: f}\n  - {name: v, network: b, file: f}", "two versions are called 'v'"),
    ],
)
def test_each_fault_of_a_version_is_one_clear_error(entry: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "v.yaml", f"npuloop_versions: 1\nversions:\n  - {entry}\n")
    with pytest.raises(WorkloadError) as raised:
        load_versions(path)
    assert says in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("text", ["npuloop_versions: 3\n", "npuloop_versions: 1\nversions: []\n",
                                  "npuloop_versions: 1\nmore: 1\n"])  # fmt: skip
def test_files_that_are_no_versions_are_errors(text: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"v\.yaml: "):
        load_versions(write(tmp_path / "v.yaml", text))


def test_networks_without_versions_are_model_files_and_those_that_npuloop_brings(tmp_path: Path) -> None:
    load = read(tmp_path, "  - {network: digits_int8, " + POISSON + "}\n")
    assert as_imported(load) == (Version("digits_int8", "digits_int8", "digits_int8"),)
    write(tmp_path / "n.tflite", "")
    load = read(tmp_path, "  - {network: n.tflite, " + POISSON + "}\n")
    assert as_imported(load)[0].file == str(tmp_path / "n.tflite")
    load = read(tmp_path, "  - {network: resnet99, " + POISSON + "}\n")
    with pytest.raises(WorkloadError, match=r"w\.yaml: no network 'resnet99'; npuloop brings digits_int8"):
        as_imported(load)
    with pytest.raises(WorkloadError, match=r"stream 'resnet99': no network 'resnet99' in v\.yaml; it has a"):
        check_networks(load, [Version("v", "a", "f")], "v.yaml")


def test_an_arrival_knows_its_stream() -> None:
    stream = Stream("a", "x", Trace((3.0,)))
    assert arrivals_of(workload(stream)) == (Arrival(stream, 3.0),)
    assert workload(stream).stream("a") is stream
