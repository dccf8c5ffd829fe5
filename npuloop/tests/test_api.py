# SPDX-License-Identifier: Apache-2.0
"""The one door: its page runs as it stands, and each function refuses what it cannot do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import npuloop
from common.errors import ModelFileError, ShapeError, UnsupportedError
from common.paths import ROOT
from golden.importers.models import BUNDLED
from golden.zoo.digits import digits_images, quantize_image
from hw.system import System
from mapping.compiler.assignment import MappingError

PAGE = ROOT / "docs" / "how-to" / "python.md"


@pytest.fixture(scope="module")
def digits() -> npuloop.Network:
    return npuloop.load("digits_int8")


@pytest.mark.rtl
def test_the_page_of_ten_lines_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102  # our own page
    run, price = names["run"], names["price"]
    assert run.exact  # type: ignore[attr-defined]
    assert abs(price.cycles.cycles / run.cycles - 1) < 0.01  # type: ignore[attr-defined]
    assert npuloop.load(tmp_path / "narrow.npz").nodes


def test_the_page_of_serving_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (PAGE.parent / "serving.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(compile(code, "serving.md", "exec"), {})  # noqa: S102  # our own page
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["greedy", "fifo", "<function"]


@pytest.mark.rtl
def test_a_batch_gives_a_run_for_each_input(digits: npuloop.Network) -> None:
    images, labels = digits_images()
    program = npuloop.compile(digits, observe=True)
    runs = npuloop.run(program, quantize_image(images[:3]), check="layers")
    assert [int(run.output.argmax()) for run in runs] == labels[:3].tolist()
    assert all(run.exact and len(run.mismatches) > 3 for run in runs)


def test_importing_the_door_loads_nothing_heavy() -> None:
    code = "import sys, npuloop; print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_a_package_of_the_same_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates" / "__init__.py").touch()
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import npuloop"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert f"finds the package 'gates' in {tmp_path}" in done.stderr.splitlines()[-1]


def test_the_door_has_what_it_names_and_nothing_else() -> None:
    for name in npuloop.__all__:
        assert getattr(npuloop, name).__doc__
        assert name in dir(npuloop)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        npuloop.lod  # noqa: B018  # asking is the test


def test_bundled_networks_load_by_name() -> None:
    assert list(BUNDLED) == [
        "digits_int8", "digits_ternary", "digits_resnet8_int8", "digits_resnet8_2bit", "digits_ds_cnn_int8",
        "digits_ds_cnn_2bit",
    ]  # fmt: skip
    for name in BUNDLED:
        assert npuloop.load(name).name
    with pytest.raises(ModelFileError, match="npuloop brings digits_int8, digits_ternary"):
        npuloop.load("digits")


def test_predictions_of_units_differ(digits: npuloop.Network) -> None:
    eight, both = (npuloop.compile(digits, mapping) for mapping in ("npu8", None))
    price = npuloop.predict(eight)
    assert price == npuloop.predict(both)  # the first unit of the system is npu8
    assert price.energy is not None
    assert price.energy.value_pj > 0
    with pytest.raises(MappingError, match="no unit 'npu9'"):
        npuloop.compile(digits, "npu9")


def test_quantize_takes_modules_and_networks(digits: npuloop.Network) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    batch = torch.randn(4, 3, 8, 8)
    wide = npuloop.quantize(module, batch, name="small")
    narrow = npuloop.quantize(module, batch.numpy(), bits=2)
    assert wide.name == "small"
    largest = {
        network.name: [int(np.abs(node.layer.weights).max()) for node in network.nodes if node.layer]
        for network in (wide, narrow)
    }
    assert largest["network"] == [1, 1]
    assert min(largest["small"]) > 100
    mapped = npuloop.quantize(digits, mapping="npu_lb", system=System())
    assert all((node.weight_bits == 2).all() for node in mapped.nodes if node.weight_bits is not None)
    with pytest.raises(UnsupportedError, match="needs calibration"):
        npuloop.quantize(module)
    with pytest.raises(ShapeError, match="reads int8, the input is float32"):
        npuloop.quantize(digits, batch, bits=4)
    images, _ = digits_images()
    plain, better = (
        npuloop.quantize(digits, inputs, bits=3) for inputs in (None, quantize_image(images[:32]))
    )
    moved = [
        (one.layer.bias != other.layer.bias).any()
        for one, other in zip(plain.nodes, better.nodes, strict=True)
        if one.layer and other.layer and one.weight_bits is not None
    ]
    assert any(moved)
    with pytest.raises(UnsupportedError, match="or else a mapping"):
        npuloop.quantize(digits, bits=4, mapping="npu_lb")
