# SPDX-License-Identifier: Apache-2.0
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from npuloop.cli.main import app

SHORT = [
    "--train", "warmup_epochs=4", "--train", "search_epochs=3", "--train", "finetune_epochs=2", "--train",
    "integer_epochs=0", "--verification-images", "1",
]  # fmt: skip
CLEAN_SECONDS = 1200


def npuloop(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["map", *arguments])
    return result.exit_code, result.output


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "npuloop.cli.main", "map", *SHORT, *arguments, "--out", str(folder)]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
@pytest.mark.rtl
def test_a_study_that_is_killed_in_its_workers_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """Kill -9 of the command and its workers: after a search's first epoch, and after a point is done."""
    options = ("--strengths", "0.3", "--baselines", "npu_lb", "--workers", "1")
    undisturbed = start(tmp_path / "a", *options)
    output, _ = undisturbed.communicate(timeout=CLEAN_SECONDS)
    assert undisturbed.returncode == 0, output.decode()
    for awaited in ("searched-0.3-s1.search.pt", "searched-0.3-s1.point.json"):
        process = start(tmp_path / "b", *options)
        file, began = tmp_path / "b" / "work" / awaited, time.monotonic()
        while not file.exists() and time.monotonic() - began < CLEAN_SECONDS:
            assert process.poll() is None, process.communicate()[0].decode()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    resumed = start(tmp_path / "b", *options)
    output, _ = resumed.communicate(timeout=CLEAN_SECONDS)
    assert resumed.returncode == 0, output.decode()
    assert (tmp_path / "a" / "pareto.csv").read_bytes() == (tmp_path / "b" / "pareto.csv").read_bytes()
    one, other = (json.loads((tmp_path / name / "study.json").read_text()) for name in "ab")
    assert one["curves"] == other["curves"]
    with (tmp_path / "b" / "pareto.csv").open() as rows:
        assert [row["exact_in_rtl"] for row in csv.DictReader(rows)] == ["true", "true"]
    page = (tmp_path / "b" / "report.html").read_text()
    assert "searched" in page
    assert "2 of 2 points exact in RTL" in output.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target-cycles", "10"], "target of 10 cycles cannot be met: mappings of 'digits' take 1,0"),
        (["--strengths", "a"], "give numbers with commas between"),
        (["--objective", "speed"], "no objective 'speed'; there are latency, energy, both"),
        (["--target-cycles", "5", "--objective", "both"], "--target-cycles needs --objective latency, not"),
        (["--target-energy", "5"], "--target-energy needs --objective energy"),
        (["--model", "nosuch"], "nosuch"),
        (["--model", "resnet8", "--data", "cifar10:/nowhere"], "/nowhere"),
        (["--data", "nosuch.package:load"], "nosuch"),
        (["--pin", "conv1"], "--pin 'conv1': give NAME=VALUE"),
        (["--train", "epochs=3"], "a recipe has warmup_epochs"),
        (["--train", "batch=0"], "it is too small"),
        (["--train", "rate=fast"], "give a number"),
        (["--set", "npu_lb.ROWS=17"], "rows = 17"),
    ],
)
def test_bad_input_gives_one_message_and_leaves_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    code, output = npuloop(*arguments, "--out", str(tmp_path / "out"), "--workers", "0")
    assert code == 2
    assert message in output
    assert output.count("error:") == 1
    assert not (tmp_path / "out").exists()


UNSUPPORTED = """
from torch import nn

def sigmoid(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes), nn.Sigmoid())
"""


def test_a_module_that_the_exporter_does_not_take_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_nets.py").write_text(UNSUPPORTED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    code, output = npuloop("--model", "odd_nets:sigmoid", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "Sigmoid is not supported" in output
    assert not (tmp_path / "out").exists()
