# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import ConfigError
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB, PRESETS, System
from hw.system_file import load_system, system_text, with_settings

EXAMPLE = """\
npuloop_system: 1
axi_bits: 64
memory_mib: 8
units:
  - {name: npu8}
  - {name: little, w_bits: 2, rows: 32, cols: 32, act_kib: 64, count: 2}
  - {name: spare, type: npu_lb, lanes: 8}
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "system.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_describes_any_list_of_cores(tmp_path: Path) -> None:
    little = CoreConfig("little_0", w_bits=2, rows=32, cols=32, act_kib=64)
    spare = replace(NPU_LB, name="spare", lanes=8)
    cores = (CoreConfig("npu8"), little, replace(little, name="little_1"), spare)
    assert load_system(write(tmp_path, EXAMPLE)) == System(cores, axi_bits=64, mem_bytes=8 << 20)


def test_presets_are_systems_with_a_name() -> None:
    assert load_system("npu8") == System((NPU8,))
    assert load_system("npu_lb") == System((NPU_LB,))
    assert load_system("pair") == System() == System((NPU8, NPU_LB))


@pytest.mark.parametrize(
    "system",
    [
        *PRESETS.values(),
        System((CoreConfig("a", a_bits=7, w_bits=4, cols=48),), axi_bits=64, mem_bytes=1 << 20),
        System(tuple(CoreConfig(f"u{i}", w_bits=2 + i % 7, stripe_depth=16 + i) for i in range(16))),
    ],
)
def test_what_is_written_is_read_again(tmp_path: Path, system: System) -> None:
    assert load_system(write(tmp_path, system_text(system))) == system


def test_a_file_gives_memory_in_whole_mib() -> None:
    with pytest.raises(ConfigError, match="whole MiB"):
        system_text(System(mem_bytes=4096))


def of_units(units: str) -> str:
    return f"npuloop_system: 1\nunits:\n{units}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no system file; it begins with `npuloop_system: 1`"),
        ("[]", "no system file; it begins with `npuloop_system: 1`"),
        ("npuloop_system: 2\nunits: [{name: a}]", "no system file; it begins with `npuloop_system: 1`"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n",
            "no system file; it begins",
        ),
        (b"\x89PNG\x00\xff\xfe", "no text in UTF-8"),
        ("units: [", "no valid YAML"),
        (
            EXAMPLE + "cores: 3\n",
            "unknown key 'cores'; there are npuloop_system, axi_bits, memory_mib, units",
        ),
        (EXAMPLE + "axi_bits: 128\n", "key 'axi_bits' stands twice"),
        (EXAMPLE.replace("axi_bits: 64", "axi_bits: 32"), "axi_bits = 32 must be 64 or 128"),
        (EXAMPLE.replace("axi_bits: 64", "axi_bits: '64'"), "axi_bits is '64'; write an integer"),
        (
            EXAMPLE.replace("memory_mib: 8", "memory_mib: 12"),
            "memory_mib is 12; write a power of two, 1 to 2048",
        ),
        ("npuloop_system: 1", "units is None; write a list"),
        ("npuloop_system: 1\nunits: []", "units is []; write a list"),
        ("npuloop_system: 1\nunits: {name: a}", "units is {'name': 'a'}; write a list"),
        (of_units("- npu8"), "unit 1: is 'npu8'; write {name: big, w_bits: 8}"),
        (of_units("- {w_bits: 2}"), "unit 1: name is None; write a name"),
        (of_units("- {name: 8}"), "unit 1: name is 8; write a name"),
        (of_units("- {name: a b}"), "unit 1 ('a b'): core 'a b': name = 'a b' must be an identifier"),
        (
            of_units("- {name: a}\n- {name: b, widths: 2}"),
            "unit 2 ('b'): unknown key 'widths'; there are name,",
        ),
        (of_units("- {name: a, w_bits: 2, w_bits: 4}"), "key 'w_bits' stands twice"),
        (of_units("- {name: a, w_bits: two}"), "unit 1 ('a'): w_bits is 'two'; write an integer"),
        (of_units("- {name: a, w_bits: true}"), "unit 1 ('a'): w_bits is True; write an integer"),
        (of_units("- {name: a, w_bits: 9}"), "unit 1 ('a'): core 'a': w_bits = 9 must be 2 to 8"),
        (of_units("- {name: a, type: npu9}"), "unit 1 ('a'): no core 'npu9'; write type: npu8 or npu_lb"),
        (of_units("- {name: a, type: [npu8]}"), "unit 1 ('a'): no core ['npu8']; write type: npu8 or npu_lb"),
        (of_units("- {name: a, count: 0}"), "unit 1 ('a'): count is 0; write 1 to 16, or leave the unit out"),
        (of_units("- {name: a, count: many}"), "unit 1 ('a'): count is 'many'; write an integer"),
        (
            of_units("- {name: a, count: 9}\n- {name: b, count: 8}"),
            "units has 17 cores; a system has 1 to 16",
        ),
        (of_units("- {name: a}\n- {name: a}"), "two units are called 'a'; rename one"),
        (of_units("- {name: a, count: 2}\n- {name: a_1}"), "two units are called 'a_1'; rename one"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_system(path)
    line = str(refused.value)
    assert line.startswith(f"{path}")
    assert message in line
    assert "\n" not in line


def test_a_missing_file_is_refused_with_the_presets(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="npu9: no such file, and no preset; presets are npu8, npu_lb, pair;"
    ):
        load_system("npu9")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_system(tmp_path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), System()),
        (
            ("npu_lb.W_BITS=4",),
            System((NPU8, CoreConfig("npu_lb", w_bits=4, stripe_depth=16, weight_kib=16))),
        ),
        (
            ("npu_lb.w_bits=4", "npu_lb.W_BITS=3"),
            System((NPU8, CoreConfig("npu_lb", w_bits=3, stripe_depth=16, weight_kib=16))),
        ),
        (("npu_lb.ROWS=16",), System((NPU8, replace(NPU_LB, rows=16, cols=64)))),
        (("npu_lb.COLS=64",), System((NPU8, replace(NPU_LB, cols=64)))),
        (("npu8.WEIGHT_KIB=64",), System((CoreConfig("npu8", weight_kib=64), NPU_LB))),
        (("AXI_BITS=64", "npu8.LANES=8"), System((CoreConfig("npu8", lanes=8), NPU_LB), axi_bits=64)),
    ],
)
def test_a_setting_changes_the_unit_that_it_names(settings: tuple[str, ...], expected: System) -> None:
    assert with_settings(System(), settings) == expected


def test_columns_that_were_given_stay_unless_widths_or_rows_change() -> None:
    system = System((CoreConfig("a", w_bits=4, cols=48),))
    assert with_settings(system, ("LANES=8",)) == System((CoreConfig("a", w_bits=4, cols=48, lanes=8),))
    assert with_settings(system, ("a.W_BITS=2",)) == System((CoreConfig("a", w_bits=2, rows=32, cols=32),))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("WEIGHT_KIB=32",),
            (
                "'WEIGHT_KIB=32' does not say of which unit; the system has npu8, npu_lb: write "
                "npu8.WEIGHT_KIB=32 or npu_lb.WEIGHT_KIB=32"
            ),
        ),
        (("npu9.W_BITS=4",), "no unit 'npu9' in this system; it has npu8, npu_lb"),
        (("npu_lb.BITS=4",), "no parameter 'BITS' in 'npu_lb.BITS=4'; there are A_BITS, W_BITS, ROWS, COLS,"),
        (("npu_lb.name=4",), "no parameter 'name' in 'npu_lb.name=4'; there are A_BITS"),
        (("npu_lb.W_BITS=four",), "'npu_lb.W_BITS=four': give an integer, as in npu_lb.W_BITS=4"),
        (("npu_lb.W_BITS",), "'npu_lb.W_BITS': give an integer, as in npu_lb.W_BITS=4"),
        (("npu_lb.AXI_BITS=64",), "'npu_lb.AXI_BITS=64': the port belongs to no unit; write AXI_BITS=64"),
        (("npu_lb.W_BITS=9",), "core 'npu_lb': w_bits = 9 must be 2 to 8"),
        (("AXI_BITS=32",), "axi_bits = 32 must be 64 or 128"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        with_settings(System(), settings)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
