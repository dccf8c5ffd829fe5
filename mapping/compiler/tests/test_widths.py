# SPDX-License-Identifier: Apache-2.0
"""Widths of weights: of all layers, of single ones, and of the units of an assignment."""

from __future__ import annotations

import numpy as np
import pytest

from golden.network import Network
from golden.network_file import load_network
from golden.zoo.digits import network_file
from hw.system import System
from mapping.compiler.assignment import Assignment, MappingError
from mapping.compiler.widths import weight_widths

CONFIG = System()
WEIGHTED = ["conv1", "depthwise", "conv2", "conv3", "logits"]


@pytest.fixture
def network() -> Network:
    return load_network(network_file("int8"))


def test_all_layers_with_weights_get_the_width_and_single_ones_another(network: Network) -> None:
    assert weight_widths(network, CONFIG, 4) == dict.fromkeys(WEIGHTED, 4)
    assert weight_widths(network, CONFIG, 4, {"conv2": 2}) == dict.fromkeys(WEIGHTED, 4) | {"conv2": 2}
    assert weight_widths(network, CONFIG, layers={"conv2": 2}) == {"conv2": 2}


def test_a_channel_gets_the_width_of_its_unit(network: Network) -> None:
    assignment = Assignment(
        "npu8", {"conv1": "npu_lb", "conv2": {"npu_lb": (1,), "npu8": (0, *range(2, 32))}}
    )
    widths = weight_widths(network, CONFIG, assignment=assignment)
    assert list(widths) == WEIGHTED
    assert len(np.asarray(widths["conv2"])) == 32
    assert set(np.asarray(widths["conv1"]).tolist()) == {2}
    assert np.flatnonzero(np.asarray(widths["conv2"]) == 2).tolist() == [1]
    for name in ("depthwise", "conv3", "logits"):
        assert set(np.asarray(widths[name]).tolist()) == {8}, name


def test_an_assignment_of_another_network_is_refused(network: Network) -> None:
    with pytest.raises(MappingError, match="no layer 'conv9'"):
        weight_widths(network, CONFIG, assignment=Assignment("npu8", {"conv9": "npu8"}))
