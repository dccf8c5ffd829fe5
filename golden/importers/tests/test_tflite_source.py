# SPDX-License-Identifier: Apache-2.0
"""An import is compared with its file: what the importer gets wrong is named, whatever golden says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import ModelFileError
from golden.importers import tflite_source
from golden.importers.inputs import first_input, random_input
from golden.importers.testing import Case
from golden.importers.tflite import load_tflite
from golden.importers.tflite_source import compare_with_source
from golden.network import Network, replace_nodes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    case = Case.start((1, 8, 8, 4)).convolution(outputs=8).convolution(outputs=6)
    path.write_bytes(case.build())
    return path


def compared(network: Network, path: Path) -> str:
    return compare_with_source(network, path, first_input(random_input(network, 1)))


def test_a_right_import_is_equal(model: Path) -> None:
    assert compared(load_tflite(model), model) == "equal to TFLite's reference kernels on the first input"


@pytest.mark.parametrize("place", [0, 1])
def test_a_wrong_import_is_named_with_the_first_layer_that_differs(place: int, model: Path) -> None:
    network = load_tflite(model)
    node = network.nodes[place]
    assert node.layer is not None
    wrong = replace(node, layer=replace(node.layer, bias=node.layer.bias + 5000))
    with pytest.raises(ModelFileError, match=rf"{model}: imported wrong: .*first at layer '{node.name}'"):
        compared(replace_nodes(network, {node.name: wrong}), model)


def test_a_dropped_clamp_is_seen(model: Path, tmp_path: Path) -> None:
    """An operator that the import loses, as a ReLU would be."""
    path = tmp_path / "relu.tflite"
    path.write_bytes(Case.start((1, 8, 8, 4)).convolution(outputs=8, activation=1).build())
    network = load_tflite(path)
    (node,) = network.nodes
    assert node.layer is not None
    assert node.layer.act_min > -128
    lost = replace(node, layer=replace(node.layer, act_min=-128))
    with pytest.raises(ModelFileError, match="imported wrong"):
        compared(replace_nodes(network, {node.name: lost}), path)


def test_without_the_reference_it_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite_source, "has_reference", lambda: False)
    assert compared(load_tflite(model), model).endswith("not installed (pip install ai-edge-litert)")


def test_a_file_that_the_reference_refuses_is_said_to_be(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise ValueError("quantized_dimension\n must be in range")

    monkeypatch.setattr(tflite_source, "_interpreter", refuse)
    said = compared(load_tflite(model), model)
    assert said.endswith("which refuse the file (quantized_dimension must be in range)")


def test_not_a_number_equals_itself() -> None:
    value = np.array([np.nan, 1], np.float32)
    assert tflite_source._equal(value, value.copy())
    assert not tflite_source._equal(value, value.astype(np.float64))
