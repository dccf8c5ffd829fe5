# SPDX-License-Identifier: Apache-2.0
"""Simulators are found by a hash of all that goes into them: whatever changes, another one is built."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.paths import ROOT
from hw.core import CoreConfig
from hw.sources import rtl_sources
from hw.system import NPU8, System
from tb import build as building
from tb.build import Verilator, build


class WouldBuildError(Exception):
    """Raised in place of building: its argument is the file that would lock the build."""


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Returns the key of a build, without Verilator and compiler."""

    def refuse(lock: Path) -> None:
        raise WouldBuildError(lock)

    def key_of(config: System | None = None, flavour: Any = "fast", **options: Any) -> str:
        with pytest.raises(WouldBuildError) as caught:
            build(config or System(), flavour, **options)
        lock: Path = caught.value.args[0]
        assert lock.parent == tmp_path
        return lock.stem

    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path))
    monkeypatch.setattr(building, "locked", refuse)
    monkeypatch.setattr(building, "_has_fst", lambda: False)
    monkeypatch.setattr(building, "_compiler", lambda: "g++ 12")
    monkeypatch.setattr(building, "find_verilator", lambda: Verilator(Path("verilator"), None, "5.48"))
    return key_of


def test_equal_builds_have_equal_keys_and_flavours_stand_in_them(key: Callable[..., str]) -> None:
    assert key() == key(System(), "fast", structural=False)
    assert {flavour: key(flavour=flavour).rpartition("-")[0] for flavour in ("fast", "wave", "coverage")} == {
        flavour: flavour for flavour in ("fast", "wave", "coverage")
    }


def test_every_parameter_form_and_flavour_has_a_key_of_its_own(key: Callable[..., str]) -> None:
    systems = (
        System(), System((NPU8,)), System(axi_bits=64), System(mem_bytes=1 << 20),
        System((NPU8, CoreConfig("npu_lb", w_bits=3))),
        System((NPU8, CoreConfig("npu_lb", w_bits=2, lanes=8))),
    )  # fmt: skip
    keys = [key(system) for system in systems] + [key(structural=True), key(flavour="record")]
    assert len({name.rpartition("-")[2] for name in keys}) == len(keys)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("_compiler", lambda: "g++ 13"),
        ("find_verilator", lambda: Verilator(Path("verilator"), None, "5.50")),
        ("ONE_FILE", "# another makefile"),
        ("OPTIMISE", "-O3"),
        ("HEADERS", "#include <vector>"),
        ("SPLIT_FUNCTIONS", 1),
    ],
)
def test_other_tools_and_flags_have_another_key(
    name: str, other: Any, key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key()
    monkeypatch.setattr(building, name, other)
    assert key() != before


def test_a_changed_design_has_another_key(key: Callable[..., str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rtl", tmp_path / "changed" / "rtl")
    files = rtl_sources(tmp_path / "changed")
    assert key(rtl=files) == key()
    drain = tmp_path / "changed" / "rtl" / "npu_drain.sv"
    drain.write_text(drain.read_text().replace("<=", "=", 1))
    assert key(rtl=files) != key()
