# SPDX-License-Identifier: Apache-2.0
"""The command as a process: streams that are closed or full, signals, names that are no UTF-8."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.paths import ROOT, build_root
from common.processes import descendants
from common.testing import alive, eventually
from golden.layer import save_layer
from hw.system import NPU8
from mapping.run.random_layers import random_layer
from npuloop.cli.console import MAX_MESSAGE, say_error

COMMAND = [sys.executable, "-m", "npuloop"]


def start(*arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*COMMAND, *arguments], env=env, **streams)


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    """Undo what a shell does for its background jobs, and nohup: what they start ignores signals."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def said(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return the exit status and what stands on standard error, which is no traceback."""
    try:
        _, text = process.communicate(timeout=120)
    finally:
        process.kill()  # only where it hangs
    message = (text or b"").decode()
    assert "Traceback" not in message
    assert "Exception ignored" not in message
    return process.returncode, message


def test_output_that_nobody_reads_ends_the_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert said(start("restamp", "mapping/cost_tables/area.yaml", stdout=writer, cwd=ROOT)) == (141, "")
    os.close(writer)


def test_output_that_is_full_is_one_error() -> None:
    with Path("/dev/full").open("wb") as full:
        status, message = said(start("restamp", "mapping/cost_tables/area.yaml", stdout=full, cwd=ROOT))
        assert status == 2
        assert message == "error: standard output: cannot be written (No space left on device)\n"
        status, message = said(start("--help", stdout=full))
        assert (status, message) == (2, "error: output: cannot be written (No space left on device)\n")


def test_streams_that_are_closed_are_no_fault_and_their_numbers_go_to_no_file(tmp_path: Path) -> None:
    table = tmp_path / "area.yaml"
    text = (ROOT / "mapping/cost_tables/area.yaml").read_text()
    table.write_text(text.replace("sha256:", "sha256: 0", 1))
    script = f'exec {sys.executable} -m npuloop restamp "$0" <&- >&- 2>&-'
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(["sh", "-c", script, str(table)], env=env, check=False).returncode == 0
    assert table.read_text() == text


def test_names_that_are_no_utf8_are_shown_and_found() -> None:
    status, message = said(start("restamp", b"none-\xff.npz", env={"LC_ALL": "C.UTF-8"}))
    assert (status, message) == (2, "error: none-\\udcff.npz: no such file; check the path\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;title\x07b", "a\\x1b]0;title\\x07b\n"),
        ("line\nnext\ttab", "line\nnext    tab\n"),
        ("\u202eright", "\\u202eright\n"),
        ("[bold]µ[/", "[bold]µ[/\n"),
        ("x" * (MAX_MESSAGE + 1), "x" * MAX_MESSAGE + f" ... ({MAX_MESSAGE + 1} characters)\n"),
    ],
)
def test_messages_tell_a_terminal_nothing_and_end(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_error(text)
    assert capsys.readouterr().err == shown


# --------------------------------------------------------------------------------------------------- signals
@pytest.mark.rtl
@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "interrupted\n"), (signal.SIGKILL, -9, "")],
)
def test_a_signal_to_the_parent_alone_ends_it_and_its_simulator_in_two_seconds(
    number: signal.Signals, status: int, line: str
) -> None:
    process = start("soak", "--count", "1000000", "--unit", "npu8")

    def simulators() -> list[int]:
        return [pid for pid in descendants(process.pid) if comm(pid) == "npuloop_sim"]

    assert eventually(lambda: bool(simulators()) or process.poll() is not None)
    (simulator,) = simulators()
    children = descendants(process.pid)
    began = time.monotonic()
    process.send_signal(number)
    assert said(process) == (status, line)
    assert time.monotonic() - began < 2
    assert eventually(lambda: not any(alive(pid) for pid in {simulator, *children}))
    left = [
        folder
        for folder in (build_root() / "sessions").iterdir()
        if folder.name.startswith(f"{process.pid}-")
    ]
    assert len(left) == (number == signal.SIGKILL)  # which test_leftovers.py has the next run remove


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_what_does_not_unwind_is_ended_all_the_same(tmp_path: Path) -> None:
    module = tmp_path / "stubborn.py"
    module.write_text(
        "import subprocess, time\n"
        "from pathlib import Path\n"
        "def network():\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    Path('pid').write_text(str(child.pid))\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(600)\n"
        "        except BaseException:\n"
        "            pass\n"
    )
    process = start("accuracy", "stubborn:network", "--data", "digits", cwd=tmp_path)
    assert eventually(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    time.sleep(0.1)  # until it sleeps
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert said(process) == (130, "interrupted\n")
    assert time.monotonic() - began < 2
    assert not alive(int((tmp_path / "pid").read_text()))


# --------------------------------------------------------------------------------------------------- outputs
@pytest.mark.rtl
def test_two_runs_into_one_folder_are_one_clear_refusal(tmp_path: Path) -> None:
    from common.files import claimed
    from npuloop.cli.testing import npuloop_here

    file, out = tmp_path / "layer.npz", tmp_path / "out"
    save_layer(random_layer(21, NPU8, "conv2d"), file)
    with claimed(out):
        done = npuloop_here("layer", file, "--out", out)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: {out}: another run writes into it; wait for its end, or choose another folder\n"
    )
    assert list(out.iterdir()) == []
