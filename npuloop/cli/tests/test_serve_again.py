# SPDX-License-Identifier: Apache-2.0
"""npuloop serve that was killed and is given again, into the same folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mapping.scheduling import serving_folder, simulate as simulation
from mapping.scheduling.serving_folder import fingerprint
from mapping.scheduling.testing import digits, workload
from npuloop.cli.testing import npuloop_here
from npuloop.cli.tests.test_serve import STREAM, VERSIONS, files

LONG = "{network: digits, requests: 80, arrivals: {kind: poisson, gap: 6000}}"


def served(*options: object) -> str:
    done = npuloop_here("serve", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*options: object) -> str:
    done = npuloop_here("serve", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    return " ".join(done.stderr.split())


def test_policies_and_seeds_that_are_done_are_not_served_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--workload", files(tmp_path), "--policy", "fifo,edf,sjf", "--seeds", "2")
    whole = served(*options, "--out", tmp_path / "whole").split("wrote")[0]
    real, calls = simulation.simulate, 0

    def stops(*arguments: Any) -> object:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(simulation, "simulate", stops)
    out = tmp_path / "out"
    assert npuloop_here("serve", *options, "--out", out).returncode != 0
    assert sorted(path.name for path in (out / "work").iterdir()) == [
        "edf.1.json", "fifo.1.json", "fifo.2.json", "run.json", "sjf.1.json",
    ]  # fmt: skip
    assert served(*options, "--out", out).split("wrote")[0] == whole
    assert calls == 7  # the fifth again, and the sixth
    for name in ("policies.csv", "report.html"):
        assert (out / name).read_text() == (tmp_path / "whole" / name).read_text()
    served(*options, "--out", out)
    assert calls == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("workload", "other workload; choose another --out, or remove it"),
        ("versions", "other versions; choose"),
        ("schedule", "other policies; choose"),
        (("--seed", "2"), "other seed; choose"),
        (("--clock", "fast"), "other clock; choose"),
        (("--policy", "sjf"), "other policies; choose"),
        (("--policy", "sjf", "--seeds", "3"), "other policies, seeds; choose"),
    ],
)
def test_another_run_in_the_folder_is_refused(
    change: str | tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    workload = files(tmp_path)
    served("--workload", workload, "--policy", "fifo", "--out", tmp_path / "first")
    schedule = tmp_path / "schedule.csv"
    schedule.write_text((tmp_path / "first" / "requests.csv").read_text())
    options = ["--workload", workload, "--policy", f"fixed:{schedule}", "--out", out]
    before = served(*options)
    if change == "workload":
        files(tmp_path, STREAM.replace("9000", "9001"))
    elif change == "versions":
        files(tmp_path, versions=VERSIONS.replace("unit: npu8", "unit: npu8, accuracy_drop: 0.1"))
    elif change == "schedule":
        schedule.write_text(schedule.read_text() + "\n")
    else:
        options += change
    left = (out / "requests.csv").read_bytes()
    assert f"{out}: holds a run with {says}" in refused(*options)
    assert (out / "requests.csv").read_bytes() == left
    if change == "workload":
        files(tmp_path)
        assert served(*options) == before


def test_a_damaged_folder_is_one_clear_error(tmp_path: Path) -> None:
    options = ("--workload", files(tmp_path), "--policy", "fifo,edf", "--out", tmp_path / "out")
    served(*options)
    work = tmp_path / "out" / "work"
    (work / "fifo.1.json").write_text("{}")
    assert "fifo.1.json: damaged; remove it, and it is made again" in refused(*options)
    (work / "fifo.1.json").write_text("{")
    assert "fifo.1.json: damaged" in refused(*options)
    (work / "run.json").write_text("[]")
    assert "run.json: damaged; remove the folder, or choose another --out" in refused(*options)


def test_what_decides_a_run_is_in_its_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    load = workload()
    one = fingerprint(digits(), load, ["fifo"], "exact", 1, 1, "")
    wider = replace(digits(), system=replace(digits().system, axi_bits=64))
    slower = replace(digits(), options={"digits": digits().options["digits"][:1]})
    for deployment, changed in ((wider, ["system"]), (slower, ["versions", "cost tables"])):
        other = fingerprint(deployment, load, ["fifo"], "exact", 1, 1, "")
        assert [key for key in one if one[key] != other[key]] == changed
    live = fingerprint(digits(), load, ["fifo"], "exact", 1, 1, "replay")
    assert {key for key in live if live[key] != one.get(key)} == {"way to run in RTL", "RTL"}
    monkeypatch.setattr(serving_folder, "rtl_hash", lambda: "of yesterday")
    old = fingerprint(digits(), load, ["fifo"], "exact", 1, 1, "replay")
    assert [key for key in live if live[key] != old[key]] == ["RTL"]


@pytest.mark.rtl
def test_a_replay_that_was_killed_goes_on(tmp_path: Path) -> None:
    options = ("--workload", files(tmp_path, LONG), "--policy", "fifo", "--replay")
    served(*options, "--out", tmp_path / "whole")
    whole = (tmp_path / "whole" / "requests.csv").read_text()
    out = tmp_path / "out"
    journal = out / "work" / "replay.jsonl"
    command = [sys.executable, "-m", "npuloop", "serve", *map(str, options), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 30):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes().count(b"\n")
    assert kept >= 30
    assert not (out / "requests.csv").exists() or kept == 80  # killed, unless it was quicker than we look
    served(*options, "--out", out)
    assert (out / "requests.csv").read_text() == whole
    assert journal.read_bytes().count(b"\n") == 80
