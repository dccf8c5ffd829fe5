# SPDX-License-Identifier: Apache-2.0
"""Whole networks in RTL: public int8 models, narrow weights, mappings over both units, large layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.arrays import Array, Int8
from common.testing import data_dir, require
from golden.importers.testing import interpreter, invoke
from golden.importers.tflite import load_tflite
from golden.layer import WEIGHTED_OPS, Layer
from golden.network import Network, Node, Tensor, placeholder, run_network
from golden.quantize.weights import quantize_weights
from hw.core import CoreConfig
from hw.system import System
from mapping.bench import networks as bench_networks
from mapping.bench.utilisation import Case, bench_layer
from mapping.compiler.assignment import Assignment
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_layer
from mapping.compiler.legalise import legalise_network
from mapping.compiler.plan import CapacityError
from mapping.run.layers import run_program
from mapping.run.networks import NetworkRun, compile_network, run_inputs
from mapping.run.random_networks import random_network, random_units
from mapping.run.soak import soak_networks
from tb.session import Session
from tb.testing import REDUCED_UNITS, THREE_UNITS, low_bit_system

pytestmark = pytest.mark.rtl

RESNET, DS_CNN, MOBILENET, AUTOENCODER = "pretrainedResnet_quant", "kws_ref_model", "vww_96_int8", "ad01_int8"
MODELS = (RESNET, DS_CNN, MOBILENET, AUTOENCODER)
INPUTS = 20
MAPPINGS = 50


def model_file(name: str) -> Path:
    return require(data_dir() / "models" / f"{name}.tflite")


def inputs_of(name: str, count: int) -> Int8:
    """Real inputs where there are some, else random ones."""
    if name == RESNET:
        with np.load(require(data_dir() / "cifar10" / "cifar10_test_first2000.npz")) as data:
            return np.asarray(data["image"][:count].astype(np.int16) - 128, np.int8)
    if name == DS_CNN:
        with np.load(require(data_dir() / "kws" / "kws01_first500.npz")) as data:
            return np.asarray(data["input"][:count], np.int8)
    shape = load_tflite(model_file(name)).input.shape
    return np.random.default_rng(7).integers(-128, 128, (count, *shape)).astype(np.int8)


def check_all(
    session: Session,
    network: Network,
    mapping: Assignment | dict[str, ChannelAssignment],
    inputs: Array,
    **options: Any,
) -> list[NetworkRun]:
    """Run a network with every tensor compared; return the runs."""
    program = compile_network(network, session.config, mapping, observe=True)
    runs = list(run_inputs(session, program, inputs, check="layers", **options))
    for i, run in enumerate(runs):
        assert len(run.mismatches) == len(program.program.graph.ops)
        assert run.exact, f"{network.name}, input {i}: {dict(run.mismatches)}"
    return runs


# ---------------------------------------------------------------------------------------- public int8 models
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.data
def test_a_public_model_is_exact_at_every_layer_and_equals_the_interpreter(name: str, pair: Session) -> None:
    network, inputs = load_tflite(model_file(name)), inputs_of(name, INPUTS)
    runs = check_all(pair, network, Assignment("npu8"), inputs)
    assert len(runs) == INPUTS
    expected = invoke(interpreter(str(model_file(name))), inputs)
    for i, run in enumerate(runs):
        np.testing.assert_array_equal(run.output, expected[i], err_msg=f"input {i}")
    assert len({run.cycles for run in runs}) == 1, "cycles depend on the data"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.data
def test_what_is_not_observed_is_not_stored_and_the_output_stays_the_same(name: str, pair: Session) -> None:
    network, inputs = load_tflite(model_file(name)), inputs_of(name, 2)
    program = compile_network(network, pair.config, Assignment("npu8"))
    stored = sum(part.store_bytes for part in program.program.parts)
    height, width, channels = program.program.graph.ops[-1].shape
    spilled = {MOBILENET: 48 * 48 * 16}.get(name, 0)  # the widest tensor beside the one made of it
    assert stored == height * width * (channels + 15) // 16 * 16 + spilled
    for run, wanted in zip(
        run_inputs(pair, program, inputs), invoke(interpreter(str(model_file(name))), inputs), strict=True
    ):
        assert run.exact
        np.testing.assert_array_equal(run.output, wanted)


@pytest.mark.parametrize("w_bits", [5, pytest.param(4, marks=pytest.mark.slow), 2])
@pytest.mark.data
def test_every_model_with_narrow_weights_is_exact_on_npu_lb(w_bits: int) -> None:
    with Session(low_bit_system(w_bits)) as session:
        for name in MODELS:
            network, errors = quantize_weights(load_tflite(model_file(name)), w_bits)
            assert all(error.relative_rms > 0 for error in errors)
            check_all(session, network, Assignment("npu_lb"), inputs_of(name, 2))


# ------------------------------------------------------------------------------------------- both units
def narrow_to(network: Network, units: dict[str, ChannelAssignment], config: System) -> Network:
    """The network with every channel's weights as narrow as its unit's."""
    bits = np.array([core.w_bits for core in config.cores])
    weighted = [node.name for node in network.nodes if node.op in WEIGHTED_OPS]
    return quantize_weights(network, {name: bits[units[name]] for name in weighted})[0]


@pytest.mark.parametrize("name", [RESNET, DS_CNN])
@pytest.mark.data
def test_random_mappings_over_both_units_are_exact_at_every_layer(name: str, pair: Session) -> None:
    network, inputs = load_tflite(model_file(name)), inputs_of(name, MAPPINGS // 2)
    graph = legalise_network(network)
    both = 0
    for seed in range(MAPPINGS // 2):
        rng = np.random.default_rng(seed)
        units = {op.name: random_units(rng, op.shape[2], 2) for op in graph.ops}
        narrow = narrow_to(network, units, pair.config)
        stall = seed if seed % 5 == 4 else None
        (run,) = check_all(pair, narrow, units, inputs[seed : seed + 1], backpressure=stall)
        both += all(counters["compute_run"] > 1000 for counters in run.counters.values())
    assert both >= MAPPINGS // 2 - 2, "most mappings should keep both units at work"


@pytest.mark.parametrize("unit", ["npu8", "npu_lb"])
@pytest.mark.data
def test_a_mapping_to_one_unit_is_the_same_as_running_there(unit: str, pair: Session) -> None:
    network, inputs = load_tflite(model_file(RESNET)), inputs_of(RESNET, 1)
    if unit == "npu_lb":
        network, _ = quantize_weights(network, 2)
    graph = legalise_network(network)
    listed = {op.name: {unit: op.shape[2]} for op in graph.ops}
    plain = compile_network(network, pair.config, Assignment(unit))
    mapped = compile_network(network, pair.config, Assignment("npu8", listed))
    assert [a for a, _ in plain.program.segments] == [a for a, _ in mapped.program.segments]
    for (_, first), (_, second) in zip(plain.program.segments, mapped.program.segments, strict=True):
        np.testing.assert_array_equal(first, second)
    there, here = (next(run_inputs(pair, program, inputs)) for program in (plain, mapped))
    assert there.exact
    assert there.cycles == here.cycles
    np.testing.assert_array_equal(there.output, here.output)


@pytest.mark.data
def test_both_units_compute_at_the_same_time(pair: Session) -> None:
    """The parts of a split layer overlap: together they take less than one after the other."""
    case = bench_networks.split_case(pair)
    assert bench_networks.missed_split(case) == []
    network = bench_networks.split_network()
    halves = Assignment("npu8", {"wide": {"npu8": 16, "npu_lb": 64}})
    run = bench_networks.run_random(pair, network, halves)
    busy = [counters["compute_run"] for counters in run.counters.values()]
    assert min(busy) > 9000
    assert run.cycles < sum(busy)
    assert {item.layer for item in run.layers} == {"wide"}


@pytest.fixture(scope="module")
def reduced() -> Iterator[Session]:
    with Session(REDUCED_UNITS) as session:
        yield session


def test_random_networks_are_exact_on_units_with_different_activations(reduced: Session) -> None:
    for seed in range(20):
        network, units, x = random_network(seed, reduced.config.cores)
        check_all(reduced, network, units, x, backpressure=seed if seed % 2 else None)


def test_random_networks_with_random_mappings_are_exact() -> None:
    """Half of them as they run without a check: nothing is stored that nobody needs."""
    result = soak_networks(range(60))
    assert result.failures == []
    assert result.runs == 120


def test_three_units_share_random_networks() -> None:
    result = soak_networks(range(6), THREE_UNITS)
    assert result.failures == []


@pytest.mark.data
def test_networks_without_overlap_are_exact(pair: Session) -> None:
    for seed in range(12):
        network, units, x = random_network(seed, pair.config.cores)
        program = compile_network(network, pair.config, units, observe=True, overlap=False)
        (run,) = run_inputs(pair, program, x, check="layers")
        assert run.exact, f"seed {seed}: {dict(run.mismatches)}"


def test_small_scratchpads_make_every_tensor_travel_and_change_no_result() -> None:
    cores = (
        CoreConfig("npu8", act_kib=4, weight_kib=4, param_kib=2),
        CoreConfig("npu_lb", w_bits=2, act_kib=4, weight_kib=4, param_kib=2),
    )
    config = System(cores)
    exact = 0
    with Session(config) as session:
        for seed in range(12):
            network, units, x = random_network(seed, cores)
            try:
                program = compile_network(network, config, units, observe=seed % 2 == 0)
            except CapacityError:
                continue  # a kernel row of a flattened layer that is too large
            (run,) = run_inputs(session, program, x, check="layers", backpressure=seed)
            assert run.exact, f"seed {seed}: {dict(run.mismatches)}"
            exact += 1
    assert exact >= 5


# ------------------------------------------------------------------------------------------- large layers
LARGE = (
    Case("7x7 stride 2 on 224x224x3", "conv2d", 224, 3, 64, 7, "", {}),
    Case("3x3 512-512 on 14x14", "conv2d", 14, 512, 512, 3, "", {}),
    Case("fully connected 2048-1000", "fully_connected", 1, 2048, 1000, 1, "", {}),
    Case("depthwise 3x3 on 112x112x64", "depthwise_conv2d", 112, 64, 64, 3, "", {}),
    Case("3x3 on 3x3x16384", "conv2d", 3, 16384, 16, 3, "", {}),
)


STRANGE: dict[str, dict[str, Any]] = {
    "depthwise 7x7 on rows of 3000": {"op": "depthwise_conv2d", "shape": (4, 3000, 32), "kernel": (3, 7)},
    "depthwise 3x3 on rows of 9000": {"op": "depthwise_conv2d", "shape": (3, 9000, 16), "kernel": (3, 3)},
    "dilated by 12 on 224 channels": {
        "op": "conv2d", "shape": (26, 26, 224), "kernel": (3, 3), "dilation": (12, 12), "outputs": 20,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_large_layers_are_exact_with_and_without_overlap(name: str, pair: Session) -> None:
    case = dict(STRANGE[name])
    shape, kernel, outputs = case.pop("shape"), case.pop("kernel"), case.pop("outputs", None)
    rng = np.random.default_rng(3)
    depthwise = case["op"] == "depthwise_conv2d"
    k = shape[2] if depthwise else outputs
    layer = Layer(
        name=name, input=rng.integers(-128, 128, shape).astype(np.int8),
        weights=rng.integers(-1, 2, (1, *kernel, k) if depthwise else (k, *kernel, shape[2])).astype(np.int8),
        bias=np.zeros(k, np.int32), multiplier=np.full(k, 1 << 30, np.int32),
        shift=np.full(k, -2 if depthwise else -6, np.int32), input_zero_point=4, **case,
    )  # fmt: skip
    for core in pair.config.cores:
        for overlap in (True, False):
            run = run_program(pair, compile_layer(layer, core, overlap=overlap))
            assert run.match, f"{core.name}, overlap {overlap}: {run.mismatches} values differ"


def test_a_flattened_long_row_is_fully_connected(pair: Session) -> None:
    """The row becomes several: a kernel has 255 columns at most."""
    rng = np.random.default_rng(2)
    source, flat = Tensor(shape=(1, 510, 16)), Tensor(shape=(8160,))
    layer = Layer(
        name="fc", op="fully_connected", input=placeholder((8160,)), bias=np.zeros(10, np.int32),
        weights=rng.integers(-1, 2, (10, 8160)).astype(np.int8), multiplier=np.full(10, 1 << 30, np.int32),
        shift=np.full(10, -6, np.int32),
    )  # fmt: skip
    nodes = (
        Node(name="flat", op="reshape", inputs=("input",), output=flat),
        Node(
            name="fc", op="fully_connected", inputs=("flat",), output=Tensor(shape=(10,)), layer=layer,
            weight_scales=np.ones(10), weight_bits=np.full(10, 2, np.int8),
        ),
    )  # fmt: skip
    network = Network(name="row", input_name="input", input=source, nodes=nodes)
    x = rng.integers(-128, 128, source.shape).astype(np.int8)
    check_all(pair, network, Assignment("npu_lb"), x)


@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
@pytest.mark.parametrize("unit", ["npu8", "npu_lb"])
def test_a_layer_larger_than_the_scratchpads_is_exact(unit: str, case: Case, pair: Session) -> None:
    core = pair.config.core(unit)
    layer = bench_layer(case, core)
    if "stride 2" in case.name:
        layer = replace(layer, stride=(2, 2))
    if case.channels > 4096 and core.acc_bits < 32:  # as many weights as the accumulators can sum
        few = (np.arange(case.channels) % 4 == 0).astype(np.int8)
        layer = replace(layer, weights=layer.weights * few)
    program = compile_layer(layer, core, folding=True)
    capacity = 1024 * (core.act_kib + core.weight_kib)
    assert sum(part.load_bytes + part.store_bytes for part in program.program.parts) > capacity
    run = run_program(pair, program)
    assert run.match, f"{run.mismatches} values differ"
    assert len(np.unique(run.output)) > 50, "the outputs should spread over int8"


# ------------------------------------------------------------------------------------------- efficiency
# Cycles of one inference on npu8, start to interrupt. A change of the hardware or of the compiler that
# changes one of these must say so here.
CYCLES = {RESNET: 54341, DS_CNN: 17205, MOBILENET: 59109, AUTOENCODER: 18515}


@pytest.mark.data
def test_networks_take_exactly_the_documented_cycles_and_reach_their_limits(pair: Session) -> None:
    for name in MODELS:
        model_file(name)
    runs = bench_networks.network_runs(pair)
    assert {run.program.network.name: run.cycles for run in runs} == CYCLES
    assert bench_networks.missed_network_targets(runs) == []


def test_the_golden_model_follows_the_units_activations(reduced: Session) -> None:
    """The comparison above would fail with the wrong width: it is not blind to it."""
    network, units, x = random_network(2, reduced.config.cores)
    program = compile_network(network, reduced.config, units)
    wide = run_network(network, x)[network.output_name]
    narrow = run_network(network, x, program.a_bits)[network.output_name]
    assert (wide != narrow).any()
