# SPDX-License-Identifier: Apache-2.0
"""Prices of mappings in their network: those of the compiler and the cost model, and their gradients."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from common.arrays import Floats
from common.errors import NpuloopError
from common.testing import data_dir, require
from golden.importers.tflite import load_tflite
from golden.network import Network
from golden.quantize.weights import quantize_weights
from golden.zoo.digits import load_digits_network
from golden.zoo.float_networks import resnet20_network
from hw.core import CoreConfig
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.assignment import Assignment, assignment_text, load_assignment
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Program
from mapping.cost.model import CostModel
from mapping.run.networks import compile_network
from mapping.search.costs import MapError, NetworkCosts, State, moved

pytestmark = pytest.mark.data

PAIR = System()
MODEL = CostModel(PAIR)
THREE = System((NPU8, NPU_LB, CoreConfig("npu_four", w_bits=4)))
TFLITE = {"resnet8": "pretrainedResnet_quant", "ds_cnn": "kws_ref_model"}
NAMES = ("digits", *TFLITE, "resnet20")


def cycles(program: Program) -> float:
    return MODEL.program(program).cycles


def expected_cycles(program: Program) -> float:
    """A price without tables."""
    return float(program.estimate)


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    """Networks with weights of 2 bits, by name; without those that need data that is not there."""
    networks = {"digits": load_digits_network("ternary").network, "resnet20": resnet20_network(w_bits=2)}
    for name, file in TFLITE.items():
        path = data_dir() / "models" / f"{file}.tflite"
        if path.exists():
            networks[name], _ = quantize_weights(load_tflite(path), 2)
    return networks


def network_of(name: str, networks: dict[str, Network]) -> Network:
    if name in TFLITE:
        require(data_dir() / "models" / f"{TFLITE[name]}.tflite")
    return networks[name]


@pytest.fixture(scope="module")
def digits(networks: dict[str, Network]) -> NetworkCosts:
    return NetworkCosts(networks["digits"], PAIR, cycles)


def random_splits(costs: NetworkCosts, seed: int) -> State:
    rng = np.random.default_rng(seed)
    units = len(costs.units)
    return tuple(tuple(rng.multinomial(total, np.full(units, 1 / units)).tolist()) for total in costs.totals)


def every_state(costs: NetworkCosts) -> list[State]:
    return list(itertools.product(*([(n, total - n) for n in range(total + 1)] for total in costs.totals)))


def compiled(network: Network, mapping: Assignment | dict[str, ChannelAssignment]) -> float:
    """The model's cycles of the first plan of a network, its memory image included."""
    graph = legalise_network(network)
    units = mapping.units(network, graph, PAIR.cores) if isinstance(mapping, Assignment) else mapping
    return cycles(compile_graph(graph, PAIR.cores, units))


# ----------------------------------------------------------------------------------------------------- prices
def test_the_cost_is_that_of_a_mapping_written_by_hand(
    digits: NetworkCosts, networks: dict[str, Network]
) -> None:
    assert digits.layers == ("conv1", "depthwise", "conv2", "conv3", "logits")
    assert digits.channels == (16, 16, 32, 32, 10)
    assert digits.totals == (1, 1, 2, 2, 1)
    by_hand = Assignment(
        "npu_lb", {"conv1": "npu8", "conv2": {"npu8": 16, "npu_lb": 16}, "logits": "npu8"}
    )  # the addition and the pools follow conv3
    state = ((1, 0), (0, 1), (1, 1), (0, 2), (1, 0))
    assert digits.cost(state) == compiled(networks["digits"], by_hand)
    everything = Assignment("npu8")
    assert digits.cost(digits.uniform("npu8")) == compiled(networks["digits"], everything)


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_is_that_of_the_mapping_file(
    name: str, networks: dict[str, Network], tmp_path: Path
) -> None:
    network = network_of(name, networks)
    costs = NetworkCosts(network, PAIR, cycles)
    for seed in (1, 2):
        state = random_splits(costs, seed)
        path = tmp_path / "map.yaml"
        path.write_text(assignment_text(costs.mapping(state), PAIR.cores, network.name))
        assert costs.cost(state) == compiled(network, load_assignment(path)), f"{name}, seed {seed}"
    cheapest = compile_network(network, PAIR, load_assignment(path)).program
    assert cycles(cheapest) <= costs.cost(state)  # another plan may be cheaper


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_channels_does_not_change_the_cost(name: str, networks: dict[str, Network]) -> None:
    network = network_of(name, networks)
    costs = NetworkCosts(network, PAIR, cycles)
    rng = np.random.default_rng(5)
    order = {}
    for members in costs.shared:
        drawn = rng.permutation(costs.channels[members[0]])
        order.update({costs.layers[layer]: drawn for layer in members})
    state = random_splits(costs, 3)
    mapping = costs.mapping(state, order)
    counts = costs.counts(state)
    for layer, layer_name in enumerate(costs.layers):
        assert np.bincount(mapping[layer_name], minlength=2).tolist() == list(counts[layer])
    changed = [n for n, units in mapping.items() if (units != costs.mapping(state)[n]).any()]
    assert changed
    assert costs.cost(state) == compiled(network, mapping)


def test_the_first_channels_of_an_order_go_to_the_first_unit(digits: NetworkCosts) -> None:
    order = np.random.default_rng(2).permutation(32)
    state = ((1, 0), (1, 0), (1, 1), (0, 2), (0, 1))
    mapping = digits.mapping(state, {"conv2": order, "conv3": order})
    assert set(np.flatnonzero(mapping["conv2"] == 0)) == set(order[:16])
    for name in ("conv3", "add", "max_pool", "average_pool"):
        assert (mapping[name] == 1).all(), name


def test_a_mapping_is_priced_once(networks: dict[str, Network]) -> None:
    priced: list[Program] = []

    def price(program: Program) -> float:
        priced.append(program)
        return 1.0

    costs = NetworkCosts(networks["digits"], PAIR, price)
    assert (costs.evaluations, priced) == (0, [])
    for _ in range(2):
        costs.cost(costs.uniform("npu8"))
    costs.cost(costs.uniform("npu_lb"))
    assert costs.evaluations == len(priced) == 2


# -------------------------------------------------------------------------------------------------- gradients
def slopes_at(costs: NetworkCosts, state: State) -> dict[tuple[int, int, int], float]:
    """Slope of every block that `sample` moves from a state: (layer, giver, taker), cost for a channel."""
    slopes: dict[tuple[int, int, int], float] = {}
    expected = np.array(costs.counts(state), np.float64)
    for seed in range(12):
        sample = costs.sample(expected, np.random.default_rng(seed))
        assert sample.state == state
        assert sample.cost == costs.cost(state)
        for layer, row in enumerate(sample.slopes):
            (giver,) = np.flatnonzero(row == 0)
            for taker in set(range(len(row))) - {int(giver)}:
                slopes[layer, int(giver), taker] = float(row[taker])
    return slopes


def test_slopes_of_resnet20_are_finite_differences_of_the_whole_networks_cycles(
    networks: dict[str, Network],
) -> None:
    """For each layer, from each unit to the other: one block of columns, through the compiler proper."""
    network = networks["resnet20"]
    costs = NetworkCosts(network, PAIR, cycles)
    state = random_splits(costs, 7)
    slopes = slopes_at(costs, state)
    assert {layer for layer, _, _ in slopes} == set(range(22))
    assert len(slopes) == sum(sum(count > 0 for count in row) for row in state) > 26
    before = compiled(network, costs.mapping(state))
    for (layer, giver, taker), slope in slopes.items():
        units = costs.mapping(moved(state, layer, giver, taker))
        channels = sum(units[costs.layers[layer]] == taker) - costs.counts(state)[layer][taker]
        assert channels == (10 if costs.layers[layer] == "linear" else 16)
        difference = (compiled(network, units) - before) / channels
        assert slope == pytest.approx(difference, rel=0.01), (costs.layers[layer], giver, taker)
    assert len({round(slope, 3) for slope in slopes.values()}) > 20


@pytest.mark.parametrize("units", [2, 3])
@pytest.mark.parametrize("whole", [False, True])
def test_the_rounding_is_without_bias(
    units: int, whole: bool, networks: dict[str, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = NetworkCosts(networks["resnet20"], PAIR if units == 2 else THREE, expected_cycles)
    monkeypatch.setattr(costs, "cost", lambda _: 1.0)
    rng = np.random.default_rng(units)
    shares = rng.dirichlet(np.ones(units), len(costs.layers))
    shares[0] = np.eye(units)[0]  # nothing to round
    exact = shares * np.array(costs.totals)[:, None]
    step = np.array(costs.totals)[:, None] if whole else 1
    draws = 1500
    states = np.array(
        [costs.sample(shares * np.array(costs.channels)[:, None], rng, whole).state for _ in range(draws)]
    )
    assert (states.sum(axis=2) == costs.totals).all()
    assert (np.abs(states - exact) < step).all()
    if whole:
        assert ((states == 0) | (states == step)).all()
    error = states.std(axis=0) / np.sqrt(draws)
    np.testing.assert_array_less(np.abs(states.mean(axis=0) - exact), 4.5 * error + 1e-9)


def interpolated(costs: NetworkCosts, exact: Floats, steps: list[int]) -> float:
    """The multilinear interpolation of the cost at (L) blocks on the first unit, corner by corner."""
    low = [int(blocks // step) * step for blocks, step in zip(exact, steps, strict=True)]
    total = 0.0
    for ups in itertools.product((0, 1), repeat=len(steps)):
        weight = 1.0
        for blocks, start, step, up in zip(exact, low, steps, ups, strict=True):
            inside = (blocks - start) / step
            weight *= inside if up else 1 - inside
        first = [start + step * up for start, step, up in zip(low, steps, ups, strict=True)]
        total += weight * costs.cost(tuple((n, t - n) for n, t in zip(first, costs.totals, strict=True)))
    return total


@pytest.mark.parametrize("whole", [False, True])
def test_the_mean_slope_is_the_derivative_of_the_multilinear_interpolation(
    whole: bool, digits: NetworkCosts
) -> None:
    shares = np.array([0.3, 0.6, 0.2, 0.7, 0.45])
    totals, channels = np.array(digits.totals), np.array(digits.channels)
    steps = digits.totals if whole else (1,) * 5
    expected = np.stack([shares, 1 - shares], axis=1) * channels[:, None]
    rng = np.random.default_rng(3)
    samples = [digits.sample(expected, rng, whole) for _ in range(4000)]
    slopes = np.array([sample.slopes[:, 0] - sample.slopes[:, 1] for sample in samples])
    assert np.mean([sample.cost for sample in samples]) == pytest.approx(
        interpolated(digits, shares * totals, list(steps)), rel=0.01
    )
    for layer in range(5):
        around = []
        for direction in (-1, 1):
            exact = shares * totals
            exact[layer] += direction * 1e-3
            around.append(interpolated(digits, exact, list(steps)))
        derivative = (around[1] - around[0]) / (2e-3 * channels[layer] / totals[layer])
        error = slopes[:, layer].std() / np.sqrt(len(slopes))
        assert abs(slopes[:, layer].mean() - derivative) <= 4.5 * error + 1e-6, digits.layers[layer]
        assert abs(derivative) > 3 * error, f"{digits.layers[layer]}: too noisy to say anything"


def test_layers_without_a_choice_have_no_slope(networks: dict[str, Network]) -> None:
    costs = NetworkCosts(networks["digits"], PAIR, cycles, {"conv2": "npu_lb"})
    expected = np.array([[8.0, 8], [8, 8], [0, 32], [11, 21], [3, 7]])
    sample = costs.sample(expected, np.random.default_rng(0))
    assert sample.state[2] == (0, 2)
    assert (sample.slopes[2] == 0).all()
    assert ((sample.slopes != 0).sum(axis=1) == [1, 1, 0, 1, 1]).all()


# --------------------------------------------------------------------------------------------- shared orders
def test_layers_that_an_addition_joins_share_an_order(networks: dict[str, Network]) -> None:
    costs = NetworkCosts(network_of("resnet8", networks), PAIR, cycles)
    names = {tuple(costs.layers[layer] for layer in members) for members in costs.shared}
    assert names == {
        ("conv2d_0", "conv2d_2"),
        ("conv2d_1",),
        ("conv2d_4",),
        ("conv2d_5", "conv2d_6"),
        ("conv2d_8",),
        ("conv2d_9", "conv2d_10"),
        ("fully_connected_14",),
    }


def test_depthwise_layers_share_the_order_of_their_input(networks: dict[str, Network]) -> None:
    costs = NetworkCosts(network_of("ds_cnn", networks), PAIR, cycles)
    names = [[costs.layers[layer] for layer in members] for members in costs.shared]
    assert names == [
        ["conv2d_0", "depthwise_conv2d_1"],
        ["conv2d_2", "depthwise_conv2d_3"],
        ["conv2d_4", "depthwise_conv2d_5"],
        ["conv2d_6", "depthwise_conv2d_7"],
        ["conv2d_8"],
        ["fully_connected_11"],
    ]


# ------------------------------------------------------------------------------------- units, pins, refusals
def test_three_units(networks: dict[str, Network]) -> None:
    network = networks["digits"]
    costs = NetworkCosts(network, THREE, expected_cycles)
    assert costs.units == ("npu8", "npu_lb", "npu_four")
    assert costs.allowed.all()
    state = ((0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (0, 0, 1))
    assert costs.counts(state)[2:] == ((0, 16, 16), (16, 0, 16), (0, 0, 10))
    by_hand = Assignment(
        "npu8",
        {
            "conv1": "npu_lb",
            "conv2": {"npu_lb": 16, "npu_four": 16},
            "conv3": {"npu8": 16, "npu_four": 16},
            "add": {"npu8": 16, "npu_four": 16},
            "max_pool": {"npu8": 16, "npu_four": 16},
            "average_pool": {"npu8": 16, "npu_four": 16},
            "logits": "npu_four",
        },
    )
    assert costs.cost(state) == compile_network(network, THREE, by_hand).program.estimate
    sample = costs.sample(np.array(costs.counts(state), np.float64), np.random.default_rng(0))
    assert sample.state == state
    for layer, row in enumerate(sample.slopes):
        giver = next(unit for unit in range(3) if row[unit] == 0 and state[layer][unit])
        for taker in set(range(3)) - {giver}:
            change = costs.cost(moved(state, layer, giver, taker)) - sample.cost
            assert row[taker] == pytest.approx(change / (10 if layer == 4 else 16))


def test_a_pin_leaves_one_unit(networks: dict[str, Network]) -> None:
    costs = NetworkCosts(networks["digits"], PAIR, cycles, {"conv1": "npu8", "logits": "npu_lb"})
    assert costs.allowed.tolist() == [[True, False], [True, True], [True, True], [True, True], [False, True]]
    assert costs.uniform("npu_lb") == ((1, 0), (0, 1), (0, 2), (0, 2), (0, 1))
    assert costs.uniform("npu8") == ((1, 0), (1, 0), (2, 0), (2, 0), (0, 1))


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ({"conv9": "npu8"}, "pin conv9=npu8: there is no layer 'conv9' with weights; there are conv1, depth"),
        ({"add": "npu8"}, "pin add=npu8: there is no layer 'add' with weights"),
        ({"conv1": "npu7"}, "pin conv1=npu7: no unit 'npu7'; the system has npu8, npu_lb"),
    ],
)
def test_an_unknown_pin_is_one_clear_error(
    pins: dict[str, str], message: str, networks: dict[str, Network]
) -> None:
    with pytest.raises(MapError, match=message) as caught:
        NetworkCosts(networks["digits"], PAIR, cycles, pins)
    assert isinstance(caught.value, NpuloopError)
    assert "\n" not in str(caught.value)


def tiny(name: str) -> CoreConfig:
    """A unit that is too small for the digits network's wide convolutions."""
    return CoreConfig(name, act_kib=1, weight_kib=1)


def test_a_unit_that_cannot_run_a_layer_does_not_get_it(networks: dict[str, Network]) -> None:
    config = System((tiny("npu_tiny"), NPU8))
    costs = NetworkCosts(networks["digits"], config, expected_cycles)
    assert costs.allowed.tolist() == [[True, True], [True, True], [False, True], [False, True], [True, True]]
    state = costs.uniform("npu_tiny")
    assert state == ((1, 0), (1, 0), (0, 2), (0, 2), (1, 0))
    assert costs.cost(state) > 0
    with pytest.raises(MapError, match="pin conv2=npu_tiny: npu_tiny cannot run this layer; pin it to"):
        NetworkCosts(networks["digits"], config, expected_cycles, {"conv2": "npu_tiny"})


def test_a_layer_that_no_unit_can_run_is_one_clear_error(networks: dict[str, Network]) -> None:
    config = System((tiny("npu_tiny"), tiny("npu_other")))
    message = r"network 'digits_ternary': no unit can run layer 'conv2' \(.*; set npu_other\.WEIGHT_KIB=3\)"
    with pytest.raises(MapError, match=message) as caught:
        NetworkCosts(networks["digits"], config, expected_cycles)
    assert "\n" not in str(caught.value)
