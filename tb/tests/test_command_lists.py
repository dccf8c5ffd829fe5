# SPDX-License-Identifier: Apache-2.0
"""Lists that the compiler does not emit: convolutions split over input channels, chains in the scratchpad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from common.arrays import Bytes, Int8, Words
from golden.layer import Layer, run_layer
from hw.commands import command_list
from hw.core import CoreConfig
from hw.memory import MemoryModel
from mapping.compiler.compile import compile_layer
from mapping.compiler.program import LayerProgram
from tb.testing import LIST
from tb.tests.faults import Bench, commands_of, conv_layer, encoded, small


def split(program: LayerProgram, parts: int, *, flags: bool = True) -> list[Words]:
    """Return a program's list with its convolutions split over the input channels, in blocks of ROWS each."""
    unit = program.unit
    tile = unit.columns * unit.rows * unit.w_bits // 8 // 32
    list_: list[Words] = []
    for command in commands_of(program):
        if command["command"] != "conv":
            list_.append(encoded(command))
            continue
        blocks = -(-command["in_channels"] // unit.rows)
        taps = command["kernel_h"] * command["kernel_w"]
        assert blocks >= parts
        bounds = [blocks * i // parts for i in range(parts + 1)]
        for i, (first, end) in enumerate(pairwise(bounds)):
            piece = dict(command)
            piece["in_base"] = command.get("in_base", 0) + first * command["in_plane"]
            piece["weight_base"] = command.get("weight_base", 0) + first * taps * tile
            piece["in_channels"] = min(command["in_channels"], end * unit.rows) - first * unit.rows
            if flags:
                piece |= {"accumulate": int(i > 0), "keep": int(i < parts - 1)}
            if i > 0:
                piece.pop("wait_load", None)
            if i < parts - 1:
                piece.pop("post_store", None)
            list_.append(encoded(piece))
    return list_


def run_list(bench: Bench, program: LayerProgram, commands: list[Words], **fields: Any) -> Int8:
    """Run another list on a program's memory image; return the output."""
    job = bench.job(commands, segments=program.segments, reads=[program.output], **fields)
    result = bench.session.run(replace(job, segments=[*program.segments, (LIST, command_list(commands))]))
    assert result.ok, result.diagnosis
    return program.decode_output(result.reads[0])


@pytest.mark.parametrize(
    ("channels", "parts", "size", "kernel"),
    [(32, 2, 4, 1), (32, 2, 4, 3), (27, 2, 4, 3), (48, 3, 4, 2), (80, 2, 4, 2), (80, 5, 4, 1), (32, 2, 1, 1)],
)
@pytest.mark.parametrize("percent", [0, 30])
def test_a_convolution_split_over_its_input_channels_is_exact(
    bench: Bench, channels: int, parts: int, size: int, kernel: int, percent: int
) -> None:
    outputs = bench.core.columns - 3
    channels = channels * bench.core.rows // 16
    layer = conv_layer(bench.core, size, size, channels, outputs, kernel)
    program = compile_layer(layer, bench.core)
    golden = run_layer(layer, bench.core.a_bits)
    assert len(np.unique(golden)) > (50 if size > 1 else 5)
    list_ = split(program, parts)
    assert len(list_) == program.commands[1] + parts - 1
    memory = MemoryModel(backpressure_percent=percent)
    np.testing.assert_array_equal(run_list(bench, program, list_, memory=memory), golden)
    assert (run_list(bench, program, split(program, parts, flags=False)) != golden).any()
    bench.recovers()


def test_bands_of_split_convolutions_follow_each_other_exactly(bench: Bench) -> None:
    """Four stripes: a stripe's first half runs while the one before is drained."""
    core = bench.core
    layer = conv_layer(core, 16, 16, 2 * core.rows, core.columns, 3)
    program = compile_layer(layer, core, overlap=False)
    conv = next(command for command in commands_of(program) if command["command"] == "conv")
    rows = core.stripe_depth // 16
    tile = core.columns * core.rows * core.w_bits // 8 // 32
    list_: list[Words] = []
    for command in commands_of(program):
        if command["command"] != "conv":
            list_.append(encoded(command))
            continue
        for first in range(0, 16, rows):
            band = conv | {
                "in_base": conv.get("in_base", 0) + first * 16,
                "in_row": first - 1,
                "out_pixels": rows * 16,
                "stripe_pixels": rows * 16,
                "out_base": conv.get("out_base", 0) + first * 16,
                "in_channels": core.rows,
            }
            for flag in ("wait_load", "post_store"):
                band.pop(flag, None)
            head = band | {"keep": 1} | ({"wait_load": 1} if first == 0 else {})
            second = band | {
                "accumulate": 1,
                "in_base": band["in_base"] + conv["in_plane"],
                "weight_base": 9 * tile,
            }
            list_ += [encoded(head), encoded(second | ({"post_store": 1} if first + rows == 16 else {}))]
    np.testing.assert_array_equal(run_list(bench, program, list_), run_layer(layer, core.a_bits))
    bench.recovers()


@dataclass(frozen=True)
class Chain:
    """Layers of which each reads the scratchpad where those before have left their results."""

    list_: Callable[[bool], list[Words]]
    segments: list[tuple[int, Bytes]]
    output: LayerProgram
    golden: Int8


def chain_layers(core: CoreConfig) -> list[Layer]:
    """Convolution, maximum, sum of both, depthwise convolution, average."""
    conv = conv_layer(
        core, 4, 4, 16, 16, 3
    )  # one stripe: without a fence the next operator runs ahead of its drain
    convolved = run_layer(conv, core.a_bits)
    ends: dict[str, Any] = {"act_min": -128, "act_max": 127}
    pool = Layer(
        name="max", op="max_pool", input=convolved, kernel=(3, 3), padding=(1, 1, 1, 1), stride=(1, 1), **ends
    )
    pooled = run_layer(pool, core.a_bits)
    total = Layer(
        name="add", op="add", input=convolved, input2=pooled, left_shift=20,
        input1_zero_point=-4, input1_multiplier=1 << 30, input1_shift=0,
        input2_zero_point=-4, input2_multiplier=3 << 29, input2_shift=-1, output_zero_point=1,
        output_multiplier=1 << 30, output_shift=-18, **ends,
    )  # fmt: skip
    added = run_layer(total, core.a_bits)
    rng = np.random.default_rng(8)
    high = 127 if core.w_bits == 8 else 1
    depthwise = Layer(
        name="depthwise", op="depthwise_conv2d", input=added,
        weights=rng.integers(-high, high, (1, 3, 3, 16), endpoint=True).astype(np.int8),
        bias=rng.integers(-50, 50, 16).astype(np.int32), multiplier=np.full(16, 1 << 30, np.int32),
        shift=np.full(16, -7 if core.w_bits == 8 else -1, np.int32), stride=(1, 1), dilation=(1, 1),
        padding=(1, 1, 1, 1), input_zero_point=1, output_zero_point=2, **ends,
    )  # fmt: skip
    last = run_layer(depthwise, core.a_bits)
    average = Layer(
        name="average", op="average_pool", input=last, kernel=(2, 2), stride=(1, 1), padding=(0,) * 4, **ends
    )
    return [conv, pool, total, depthwise, average]


def chain(core: CoreConfig) -> Chain:
    layers = chain_layers(core)
    base = 0
    programs = []
    for layer in layers:
        programs.append(compile_layer(layer, core, base, overlap=False))
        base = (programs[-1].end + 63) // 64 * 64
    loads: list[dict[str, Any]] = []
    operators: list[dict[str, Any]] = []
    params = weights = 0
    parts = core.rows // 16  # of a word of the activation scratchpad
    regions = [0]  # the input, then every operator's result
    place = 1024
    sources = {1: (1,), 2: (1, 2), 3: (3,), 4: (4,)}
    for i, program in enumerate(programs):
        list_ = commands_of(program)
        (operator,) = [command for command in list_ if command["engine"] == "compute"]
        operator = {key: value for key, value in operator.items() if not key.startswith(("wait_", "post_"))}
        source_words = 16  # of every operator's input plane
        if i > 0:
            own = operator.get("in_base", 0)  # padding puts it before 0
            operator["in_base"] = own + regions[sources[i][0]]
            if operator["command"] == "add":
                operator["in2_base"] = regions[sources[i][1]]
            assert operator["in_plane"] == source_words
        operator["out_base"] = place
        regions.append(place)
        place += source_words
        operator["param_base"] = operator.get("param_base", 0) + params
        if operator["command"] in ("conv", "depthwise"):
            operator["weight_base"] = weights
        for command in list_:
            target = command.get("target", 0)
            if command["engine"] != "load" or (target == 0 and i > 0):
                continue
            moved = {key: value for key, value in command.items() if not key.startswith("post_")}
            if target == 2:
                moved["local_address"] = moved.get("local_address", 0) + params
                params += command["line_words"]
            elif target == 1:
                moved["local_address"] = moved.get("local_address", 0) + 2 * weights
                weights += -(-command["line_words"] // 2)
            loads.append(moved)
        operators.append(operator)
    stores = [command for command in commands_of(programs[-1]) if command["command"] == "store"]
    for store in stores:
        store["local_address"] = regions[-1] * parts
    # what lies in the scratchpad from before must not be right by chance
    junk = small("load", local_address=1024 * parts, line_words=1024, post_compute=1)

    def list_of(fence: bool) -> list[Words]:
        result = [*(encoded(command) for command in loads), junk]
        for i, operator in enumerate(operators):
            changes = {"wait_load": 1} if i == 0 else {"fence": int(fence)}
            changes |= {"post_store": 1} if i == len(operators) - 1 else {}
            result.append(encoded(operator | changes))
        return result + [encoded(store) for store in stores]

    segments = [segment for program in programs for segment in program.segments]
    return Chain(list_of, segments, programs[-1], run_layer(layers[-1], core.a_bits))


@pytest.mark.parametrize("percent", [0, 30])
def test_five_operators_in_the_scratchpad_are_exact_with_fences(bench: Bench, percent: int) -> None:
    """Nothing but the first input and the last output goes through memory."""
    work = chain(bench.core)
    assert len(np.unique(work.golden)) > 50
    for fence in (True, False, True):
        commands = work.list_(fence)
        job = bench.job(
            commands,
            segments=work.segments,
            reads=[work.output.output],
            memory=MemoryModel(backpressure_percent=percent),
        )
        result = bench.session.run(replace(job, segments=[*work.segments, (LIST, command_list(commands))]))
        assert result.ok, result.diagnosis
        output = work.output.decode_output(result.reads[0])
        if fence:
            np.testing.assert_array_equal(output, work.golden)
        else:  # a command reads before the one ahead of it has written: the test above can fail
            assert (output != work.golden).any()
    bench.recovers()
