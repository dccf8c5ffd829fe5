# SPDX-License-Identifier: Apache-2.0
"""Layers in RTL: reference vectors, random layers, parameter sweep, the pair at work together."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from common.arrays import Array
from common.testing import data_dir, require, vector_files
from golden.arithmetic import integer_range
from golden.layer import Layer, load_layer, run_layer
from hw.commands import command_list, encode
from hw.memory import MemoryModel
from hw.system import NPU_LB, System
from hw.system_file import with_settings
from mapping.compiler.compile import compile_layer
from mapping.run.layers import failure_report, job_of, run_layers, run_program
from mapping.run.random_layers import OPERATORS, random_layer
from mapping.run.soak import soak
from tb.job import Job
from tb.session import Session
from tb.testing import THREE_UNITS, low_bit_system

pytestmark = pytest.mark.rtl

WEIGHT_BITS = (2, 4, 5, 8)
RANDOM_LAYERS = 150

# every width of weights and activations, both bus widths, two array shapes, few lanes, shallow stripes
SWEEP = (
    ("W_BITS=2", "A_BITS=8", "ROWS=32", "COLS=32", "LANES=8"),
    ("W_BITS=3", "A_BITS=7", "AXI_BITS=64"),
    ("W_BITS=4", "A_BITS=8", "LANES=4"),
    ("W_BITS=5", "A_BITS=6", "AXI_BITS=64", "DW_TAPS=3"),
    ("W_BITS=6", "A_BITS=4", "STRIPE_DEPTH=16"),
    ("W_BITS=7", "A_BITS=8", "AXI_BITS=64", "LANES=2", "DW_TAPS=1"),
    ("W_BITS=8", "A_BITS=7", "ACT_KIB=64", "WEIGHT_KIB=128", "PARAM_KIB=4", "LANES=1"),
)


@pytest.fixture
def vectors() -> list[Path]:
    require(data_dir() / "vectors")
    files = vector_files()
    assert len(files) >= 50
    return files


@pytest.mark.data
def test_every_reference_vector_is_exact_on_npu8(pair: Session, vectors: list[Path]) -> None:
    for file, run in zip(
        vectors, run_layers([load_layer(f) for f in vectors], "npu8", session=pair), strict=True
    ):
        assert run.passed, failure_report(pair.config, run)
        assert run.match_expected, f"{file}: no expected output"


@pytest.mark.parametrize("w_bits", WEIGHT_BITS)
@pytest.mark.data
def test_every_clipped_convolution_vector_is_exact_on_npu_lb(w_bits: int, vectors: list[Path]) -> None:
    layers = [layer for layer in map(load_layer, vectors) if layer.op in ("conv2d", "fully_connected")]
    system = low_bit_system(w_bits)
    runs = list(run_layers(layers, "npu_lb", system=system, clip=True))
    assert len(runs) == len(layers) >= 30
    for run in runs:
        limit = 2 ** (w_bits - 1) - 1
        assert np.abs(run.layer.weights.astype(int)).max() <= limit
        assert run.match, failure_report(system, run)


def extreme_layers(w_bits: int) -> list[Layer]:
    """Layers of the smallest weight alone and of all weights of a width; inputs of -128, 127 and others."""
    low, high = integer_range(w_bits)
    rng = np.random.default_rng(w_bits)
    shapes = {"conv2d": (40, 3, 3, 24), "fully_connected": (70, 50), "depthwise_conv2d": (1, 3, 3, 24)}
    layers: list[Layer] = []
    for op, shape in shapes.items():
        outputs = shape[-1] if op == "depthwise_conv2d" else shape[0]
        image = (50,) if op == "fully_connected" else (6, 5, 24)
        reach = 128 * 2 ** (w_bits - 1) * math.prod(shape) / outputs
        drawn = rng.integers(low, high + 1, shape)
        drawn.flat[:2] = low, high
        for name, weights in (("lowest", np.full(shape, low)), ("any", drawn)):
            for kind, x in (
                ("-128", np.full(image, -128)), ("127", np.full(image, 127)),
                ("any", rng.integers(-128, 128, image)),
            ):  # fmt: skip
                layers.append(Layer(
                    name=f"{op}, {name} weights, inputs {kind}", op=op, input=x.astype(np.int8),
                    weights=weights.astype(np.int8), bias=np.zeros(outputs, np.int32),
                    multiplier=np.full(outputs, 1 << 30, np.int32), input_zero_point=0, output_zero_point=0,
                    shift=np.full(outputs, 8 - math.ceil(math.log2(reach)), np.int32),
                ))  # fmt: skip
    return layers


@pytest.mark.rtl
@pytest.mark.parametrize("w_bits", WEIGHT_BITS)
def test_all_of_twos_complement_is_multiplied_right(w_bits: int) -> None:
    """-2 in 2 bits, -8 in 4, -16 in 5, -128 in 8: weights as other quantisers make them."""
    system = low_bit_system(w_bits)
    runs = list(run_layers(extreme_layers(w_bits), "npu_lb", system=system))
    assert len(runs) == 18
    for run in runs:
        assert run.layer.weights.min() == -(2 ** (w_bits - 1))
        assert run.match, failure_report(system, run)
    assert any(len(np.unique(run.output)) > 20 for run in runs)


@pytest.mark.parametrize("unit", ["npu8", "npu_lb"])
def test_random_layers_are_exact_with_and_without_backpressure(unit: str) -> None:
    result = soak(unit, range(RANDOM_LAYERS))
    assert not result.failures, "\n".join(result.failures)
    assert result.runs == 2 * RANDOM_LAYERS


def test_random_layers_are_exact_from_random_initial_values() -> None:
    """What a flip-flop or memory holds at power-up must never reach a result."""
    result = soak("npu_lb", range(900, 940), config=System(), seed=7)
    assert not result.failures, "\n".join(result.failures)


@pytest.mark.parametrize("settings", SWEEP, ids=" ".join)
def test_every_parameter_builds_and_is_exact(settings: tuple[str, ...]) -> None:
    system = with_settings(System((NPU_LB,)), settings)
    result = soak("npu_lb", range(100, 115), system)
    assert not result.failures, "\n".join(result.failures)
    assert result.runs == 30


def test_three_cores_share_a_port() -> None:
    config, cores = THREE_UNITS, THREE_UNITS.cores
    layers = [random_layer(40 + i, core, "conv2d") for i, core in enumerate(cores)]
    with Session(config) as session:
        base, programs = 0, []
        for layer, core in zip(layers, cores, strict=True):
            programs.append(compile_layer(layer, core, base))
            base = programs[-1].end
        result = session.run(
            Job(
                segments=list(chain.from_iterable(program.segments for program in programs)),
                starts={program.unit.name: program.commands for program in programs},
                reads=[program.output for program in programs],
                max_cycles=1_000_000,
            )
        )
    assert result.ok, result.diagnosis
    for program, raw in zip(programs, result.reads, strict=True):
        np.testing.assert_array_equal(program.decode_output(raw), run_layer(program.layer))


@pytest.mark.parametrize("op", OPERATORS)
def test_the_smallest_layer_of_every_operator(op: str, pair: Session) -> None:
    """1 x 1 x 1, kernel 1: one word in, one out."""
    layer = next(
        layer
        for layer in (random_layer(seed, pair.config.core("npu8"), op) for seed in range(5000))
        if layer.input.size <= 3
    )
    for unit in ("npu8",):
        run = run_program(pair, compile_layer(layer, pair.config.core(unit)))
        assert run.match


# ------------------------------------------------------------------------------------------ the pair together
@pytest.mark.parametrize("backpressure", [None, 5])
def test_both_units_run_different_layers_at_once(pair: Session, backpressure: int | None) -> None:
    for seed in range(12):
        first_core, second_core = pair.config.cores
        first = compile_layer(random_layer(seed, first_core), first_core)
        second = compile_layer(random_layer(seed + 500, second_core), second_core, first.end)
        job = job_of(first, backpressure=backpressure)
        result = pair.run(
            replace(
                job,
                segments=[*first.segments, *second.segments],
                starts={"npu8": first.commands, "npu_lb": second.commands},
                reads=[first.output, second.output],
                max_cycles=job.max_cycles * 4,
            )
        )
        assert result.ok, result.diagnosis
        for program, raw in zip((first, second), result.reads, strict=True):
            np.testing.assert_array_equal(
                program.decode_output(raw), run_layer(program.layer), f"seed {seed}"
            )


def handover(pair: Session, wait: bool) -> tuple[Array, Array, dict[str, int]]:
    """npu8 makes a tensor; npu_lb, started at the same time, reads it from memory."""
    first_core, second_core = pair.config.cores
    # a long first layer, so that a reader that does not wait is surely too early
    producer = random_layer(2, first_core, "conv2d")
    producer = replace(
        producer,
        input=np.resize(producer.input, (16, 16, 32)), weights=np.resize(producer.weights, (16, 3, 3, 32)),
        bias=np.zeros(16, np.int32), multiplier=np.full(16, 1 << 30, np.int32),
        shift=np.full(16, -10, np.int32),
        stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), act_min=-128, act_max=127,
    )  # fmt: skip
    produced = run_layer(producer)
    consumer = replace(random_layer(3, second_core, "max_pool"), input=produced, kernel=(3, 3), stride=(1, 1),
                       padding=(1, 1, 1, 1), act_min=-128, act_max=127)  # fmt: skip
    first = compile_layer(producer, first_core)
    second = compile_layer(consumer, second_core, first.end, input_address=first.output[0])
    lists = dict(first.segments) | dict(second.segments)
    signal = command_list([encode("signal", engine="store", event_id=3)])
    hold = command_list([encode("wait", engine="load", event_id=3, amount=1)])
    first_list = np.concatenate([lists[first.commands[0]], signal])
    second_list = np.concatenate([hold, lists[second.commands[0]]]) if wait else lists[second.commands[0]]
    base = (second.end + 63) // 64 * 64
    result = pair.run(
        Job(
            segments=[
                *first.segments,
                *second.segments,
                (base, first_list),
                (base + first_list.size, second_list),
            ],
            starts={
                "npu8": (base, first_list.size // 64),
                "npu_lb": (base + first_list.size, second_list.size // 64),
            },
            reads=[second.output],
            max_cycles=200_000,
        )
    )
    assert result.ok, result.diagnosis
    pair.run(Job(starts={"npu8": (0, 0), "npu_lb": (0, 0)}, reset_after=0))  # events are forgotten too
    return second.decode_output(result.reads[0]), run_layer(consumer), dict(result.units["npu_lb"].counters)


def test_signal_and_wait_order_two_units(pair: Session) -> None:
    output, golden, counters = handover(pair, wait=True)
    np.testing.assert_array_equal(output, golden)
    assert counters["load_wait_token"] > 1000, "the reader did not have to wait: the test shows nothing"


def test_without_the_wait_the_reader_is_too_early(pair: Session) -> None:
    """The test above can fail: without WAIT the second unit reads memory that is not written yet."""
    output, golden, _ = handover(pair, wait=False)
    assert (output != golden).any()


# ------------------------------------------------------------------------------------------ counters
@pytest.mark.parametrize("backpressure", [None, 1])
def test_the_states_of_every_engine_sum_to_the_cycles(pair: Session, backpressure: int | None) -> None:
    for seed in range(20):
        core = pair.config.core("npu8")
        run = run_program(pair, compile_layer(random_layer(seed, core), core), backpressure=backpressure)
        for engine in ("load", "compute", "store"):
            states = {k: v for k, v in run.counters.items() if k.startswith(f"{engine}_")}
            assert sum(states.values()) == run.cycles, (seed, states)


def test_useful_macs_are_the_layers_macs(pair: Session) -> None:
    from golden.layer import macs

    for core in pair.config.cores:
        for op in ("conv2d", "depthwise_conv2d", "fully_connected"):
            for seed in range(6):
                layer = random_layer(seed, core, op)
                run = run_program(pair, compile_layer(layer, core))
                assert run.useful_macs == macs(layer), layer.name


def test_slow_memory_changes_cycles_but_no_result(pair: Session) -> None:
    core = pair.config.core("npu8")
    program = compile_layer(random_layer(4, core, "conv2d"), core)
    fast = pair.run(job_of(program))
    slow = pair.run(replace(job_of(program), memory=MemoryModel(latency=200, beats=1, per_cycles=4)))
    np.testing.assert_array_equal(fast.reads[0], slow.reads[0])
    assert slow.units["npu8"].cycles > fast.units["npu8"].cycles + 200


def test_a_memory_may_wait_for_write_data_before_it_takes_the_address(pair: Session) -> None:
    """AXI4, A3.3.1: a master offers write data without waiting for AWREADY."""
    for core in pair.config.cores:
        for seed in range(4):
            program = compile_layer(random_layer(seed, core), core)
            result = pair.run(replace(job_of(program), memory=MemoryModel(data_first=True)))
            assert result.ok, result.diagnosis
            np.testing.assert_array_equal(program.decode_output(result.reads[0]), run_layer(program.layer))


def test_a_list_begins_without_tokens(pair: Session) -> None:
    """A token that nobody took must not let the next list start too early."""
    load = encode("load", post_compute=1, line_words=1, lines=1, planes=1, local_step=1)
    nop = encode("nop", engine="compute", wait_load=1)
    for commands, ends in ((command_list([load]), True), (command_list([nop]), False)):
        result = pair.run(Job(segments=[(0x1000, commands)], starts={"npu8": (0x1000, 1)}, max_cycles=3000))
        assert result.timed_out is not ends, result.diagnosis


def test_the_mark_holds_the_cycle_of_the_layers_end(pair: Session) -> None:
    core = pair.config.core("npu8")
    program = compile_layer(random_layer(4, core, "conv2d"), core)
    result = pair.run(replace(job_of(program), reads=[(program.mark, 16)]))
    stamp = result.reads[0].view(np.uint32)
    cycles = result.units["npu8"].cycles
    assert stamp[1] == stamp[2] == stamp[3] == 0
    assert cycles - 60 < stamp[0] < cycles
