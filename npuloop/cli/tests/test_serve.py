# SPDX-License-Identifier: Apache-2.0
"""npuloop serve as a user meets it, and the same from Python."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import npuloop as door
from golden.network import run_network
from mapping.scheduling import images
from mapping.scheduling.policy import Start, Waiting
from mapping.scheduling.results import COLUMNS, POLICY_COLUMNS
from npuloop.cli.testing import npuloop_here

VERSIONS = """npuloop_versions: 1
versions:
  - {name: int8, network: digits, file: digits_int8, unit: npu8}
  - {name: ternary, network: digits, file: digits_ternary, accuracy_drop: 0.6, interval: [0.2, 1.0]}
"""
STREAM = "{network: digits, requests: 6, arrivals: {kind: poisson, gap: 1500}, deadline: 9000}"


def files(folder: Path, streams: str = STREAM, versions: str = VERSIONS, head: str = "") -> Path:
    (folder / "v.yaml").write_text(versions)
    path = folder / "w.yaml"
    path.write_text(f"npuloop_workload: 1\nversions: v.yaml\n{head}streams:\n  - {streams}\n")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.rtl
def test_without_arguments_a_bundled_workload_is_served() -> None:
    done = npuloop_here("serve")
    assert done.returncode == 0, done.stderr
    for word in ("responses, ms", "scanner", "camera", "touch", "cheques", "units at work: npu8", "µJ"):
        assert word in done.stdout
    (exact, run) = re.findall(r"in RTL: (\d+) of (\d+) requests exact", done.stdout)[0]
    assert int(exact) == int(run) > 100
    predicted = npuloop_here("serve", "--no-replay")
    assert predicted.returncode == 0, predicted.stderr
    assert predicted.stdout == done.stdout.split("in RTL")[0]
    assert "in RTL" not in npuloop_here("serve", "--policy", "fifo,edf").stdout


def test_a_row_for_each_request_and_a_trace_are_left(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    done = npuloop_here("serve", "--workload", files(tmp_path), "--policy", "fifo", "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "report.html", "requests.csv", "trace.json", "work",
    ]  # fmt: skip
    requests = rows(out / "requests.csv")
    assert tuple(requests[0]) == COLUMNS
    assert len(requests) == 6
    for row in requests:
        start, end, arrival = (float(row[f"{name}_cycle"]) for name in ("start", "end", "arrival"))
        assert arrival <= start < end
        assert float(row["predicted_service_cycles"]) == pytest.approx(end - start, abs=0.11)
        assert float(row["predicted_response_cycles"]) == pytest.approx(end - arrival, abs=0.11)
        assert row["deadline_met"] == ("yes" if end - arrival <= 9000 else "no")
        assert float(row["energy_uj"]) > 0
        assert row["measured_service_cycles"] == row["measured_response_cycles"] == row["exact"] == ""
        assert (row["stream"], row["network"]) == ("digits", "digits")
        assert (row["version"], row["units"]) in (
            ("int8", "npu8"),
            ("ternary", "npu8"),
            ("ternary", "npu_lb"),
        )
    events = json.loads((out / "trace.json").read_text())["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "b", "e"}
    served = {event["name"]: event for event in events if event["ph"] == "X"}
    assert len(served) == 6
    for number, row in enumerate(requests):
        event = served[f"digits {number}"]
        assert event["ts"] == pytest.approx(float(row["start_cycle"]), abs=0.06)
        assert event["dur"] == pytest.approx(float(row["predicted_service_cycles"]), abs=0.11)
        assert event["args"]["version"] == row["version"]


@pytest.mark.rtl
@pytest.mark.parametrize("how", ["--rtl", "--replay"])
def test_the_same_requests_run_in_rtl(how: str, tmp_path: Path) -> None:
    done = npuloop_here("serve", "--workload", files(tmp_path), how, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "in RTL: 6 of 6 requests exact; mean response" in done.stdout
    for row in rows(tmp_path / "out" / "requests.csv"):
        assert row["exact"] == "yes"
        service, response = (float(row[f"measured_{name}_cycles"]) for name in ("service", "response"))
        assert service == pytest.approx(float(row["end_cycle"]) - float(row["start_cycle"]), abs=0.11)
        assert service == pytest.approx(float(row["predicted_service_cycles"]), rel=0.07)
        assert service < response


@pytest.mark.rtl
@pytest.mark.parametrize("how", ["--rtl", "--replay"])
def test_an_output_that_differs_in_rtl_is_exit_status_1(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: Any) -> dict[str, Any]:
        return {name: value ^ 1 for name, value in run_network(*arguments).items()}

    monkeypatch.setattr(images, "run_network", wrong)
    done = npuloop_here("serve", "--workload", files(tmp_path), how, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "in RTL: 0 of 6 requests exact" in done.stdout
    assert {row["exact"] for row in rows(tmp_path / "out" / "requests.csv")} == {"no"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rtl", "--seeds", "2"), "--rtl runs one policy with one seed"),
        (("--replay", "--policy", "fifo,edf"), "--replay runs one policy with one seed"),
        (("--rtl", "--replay"), "two ways to run the requests in RTL; give one of them"),
    ],
)
def test_rtl_runs_one_policy_in_one_way(options: Sequence[str], says: str, tmp_path: Path) -> None:
    done = npuloop_here("serve", "--workload", files(tmp_path), *options)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_schedule_that_was_left_is_served_again(tmp_path: Path) -> None:
    workload, first, second = files(tmp_path), tmp_path / "a", tmp_path / "b"
    assert npuloop_here("serve", "--workload", workload, "--policy", "sjf", "--out", first).returncode == 0
    again = ("serve", "--workload", workload, "--policy", f"fixed:{first / 'requests.csv'}", "--out", second)
    assert npuloop_here(*again).returncode == 0
    assert (first / "requests.csv").read_text() == (second / "requests.csv").read_text()


def test_policies_stand_side_by_side_over_seeds(tmp_path: Path) -> None:
    done = npuloop_here(
        "serve", "--workload", files(tmp_path), "--policy", "all", "--seeds", "2", "--out", tmp_path / "o"
    )
    assert done.returncode == 0, done.stderr
    for name in ("greedy-energy", "cheapest", "split", "optimum"):
        assert name in done.stdout
    figures = rows(tmp_path / "o" / "policies.csv")
    assert tuple(figures[0]) == POLICY_COLUMNS
    assert [row["seed"] for row in figures[:2]] == ["1", "2"]
    assert len(figures) == 16
    assert {row["served"] for row in figures} == {"6"}
    page = (tmp_path / "o" / "report.html").read_text()
    assert "Which policy serves these requests best?" in page
    assert page.count('<th scope="row">cheapest</th>') == 1


def test_the_fast_clock_and_another_system_are_served(tmp_path: Path) -> None:
    system = tmp_path / "s.yaml"
    system.write_text("npuloop_system: 1\nunits: [{name: big, count: 3}]\n")
    versions = VERSIONS.replace("npu8", "big")
    workload = files(tmp_path, versions=versions)
    done = npuloop_here("serve", "--system", system, "--workload", workload, "--clock", "fast")
    assert done.returncode == 0, done.stderr
    assert "big_0" in done.stdout
    assert "big_2" in done.stdout


@pytest.mark.parametrize(
    ("streams", "versions", "says"),
    [
        (STREAM.replace("digits", "faces", 1), VERSIONS, "no network 'faces' in"),
        (STREAM, VERSIONS.replace("npu8", "npu9"), "no unit 'npu9' in this system; it has npu8"),
        (STREAM, VERSIONS.replace("npu8", "npu_lb"), "version 'int8': "),
        (STREAM, VERSIONS.replace("npu8", "w4a8_16x32").split("  - {name: t")[0], "no unit of this"),
        (STREAM.replace("9000", "90"), VERSIONS, "its deadline of 90 cycles cannot be met"),
        (STREAM.replace("1500", "-1500"), VERSIONS, "gap is -1500; a time must be above 0"),
        (STREAM.replace("poisson, gap: 1500", "trace, times: []"), VERSIONS, "the trace is empty"),
        (STREAM, VERSIONS.replace("digits_int8", "none.tflite"), "none.tflite: no such file"),
        (STREAM, VERSIONS.replace("network: digits", "network: 3"), "network is 3; write a name"),
    ],
)  # fmt: skip
def test_each_bad_workload_is_one_clear_error(streams: str, versions: str, says: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = npuloop_here("serve", "--workload", files(tmp_path, streams, versions), "--out", out)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("error") == 1
    assert says in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--policy", "best"), "there is no policy 'best'; give one of greedy"),
        (("--policy", "fifo,fifo"), "'fifo' is empty or stands twice"),
        (("--policy", "fixed:none.csv"), "none.csv: no such file"),
        (("--workload", "none.yaml"), "none.yaml: no such file"),
        (("--versions", "none.yaml"), "none.yaml: no such file"),
        (("--system", "trio"), "trio: no such file, and no preset"),
    ],
)  # fmt: skip
def test_each_bad_option_is_one_clear_error(options: Sequence[str], says: str) -> None:
    done = npuloop_here("serve", *options)
    assert done.returncode == 2
    assert says in done.stderr


def test_two_runs_into_one_folder_are_refused(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    done = npuloop_here("serve", "--workload", files(tmp_path), "--out", tmp_path)
    os.close(handle)
    assert done.returncode == 2
    assert "another run writes into it" in done.stderr


def test_python_serves_the_same(tmp_path: Path) -> None:
    workload = files(tmp_path)
    service = door.serve(workload, policy="fifo", seed=3)
    assert len(service.run.requests) == service.metrics.total.served == 6
    done = npuloop_here("serve", "--workload", workload, "--policy", "fifo", "--seed", "3")
    assert f"{service.metrics.total.mean:,.0f}" in done.stdout

    def last(_now: float, waiting: Sequence[Waiting], _units: object) -> list[Start]:
        return [Start(request.number, request.options[-1]) for request in waiting]

    own = door.serve(workload, policy=last)
    assert {request.option.units for request in own.run.requests if request.option} == {("npu_lb",)}
