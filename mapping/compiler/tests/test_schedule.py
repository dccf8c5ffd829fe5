# SPDX-License-Identifier: Apache-2.0
"""The command lists of whole networks: who waits for whom, and what happens if somebody does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.errors import UnsupportedError
from common.testing import data_dir, require
from golden.importers.tflite import load_tflite
from golden.layer import Layer, output_shape
from golden.network import Network, Node, Tensor, placeholder
from hw.commands import command_list, decode, encode
from hw.core import CoreConfig
from hw.interface import ENGINES
from hw.system import System
from mapping.bench.networks import LIMITS
from mapping.compiler.assignment import Assignment
from mapping.compiler.schedule import MAX_AHEAD, merge_waits
from mapping.run.layers import RunError
from mapping.run.networks import NetworkProgram, NetworkRun, compile_network, run_inputs
from mapping.run.random_networks import random_network
from tb.session import Session

TOKEN_LIMIT, EVENT_LIMIT = 63, 255
Command = dict[str, Any]


def lists_of(program: NetworkProgram) -> dict[str, list[Command]]:
    """The decoded commands of every unit."""
    segments = dict(program.program.segments)
    return {
        unit: [dict(decode(block)) for block in segments[address].reshape(count, -1)]
        for unit, (address, count) in program.program.starts.items()
    }


def blocked(command: Command, unit: str, tokens: Counter[Any], events: Counter[int]) -> bool:
    if command["command"] == "wait":
        return bool(events[command.get("event_id", 0)] < command["amount"])
    waits = [engine for engine in ENGINES if command.get(f"wait_{engine}")]
    return any(tokens[unit, engine, command["engine"]] < 1 for engine in waits)


def play(lists: dict[str, list[Command]]) -> tuple[int, int]:
    """Run the lists one command after the other, each unit in its order; return the most tokens and events.

    Fails where no unit can go on, a counter is too small, or something is left over.
    """
    tokens: Counter[Any] = Counter()
    events: Counter[int] = Counter()
    at = dict.fromkeys(lists, 0)
    most_tokens = most_events = 0
    while any(at[unit] < len(commands) for unit, commands in lists.items()):
        moved = False
        for unit, commands in lists.items():
            while at[unit] < len(commands) and not blocked(commands[at[unit]], unit, tokens, events):
                command = commands[at[unit]]
                for engine in ENGINES:
                    tokens[unit, engine, command["engine"]] -= command.get(f"wait_{engine}", 0)
                    tokens[unit, command["engine"], engine] += command.get(f"post_{engine}", 0)
                if command["command"] == "wait":
                    events[command.get("event_id", 0)] -= command["amount"]
                if command["command"] == "signal":
                    events[command.get("event_id", 0)] += 1
                most_tokens = max(most_tokens, *tokens.values())
                most_events = max(most_events, *events.values(), 0)
                at[unit] += 1
                moved = True
        assert moved, f"dead-lock at {at}"
    assert not any(tokens.values()), "tokens are left over"
    assert not any(events.values()), "events are left over"
    return most_tokens, most_events


def test_lists_run_to_their_ends_in_their_order_and_leave_no_token() -> None:
    config = System()
    both = 0
    for seed in range(80):
        network, units, _ = random_network(seed, config.cores, layers=14)
        lists = lists_of(compile_network(network, config, units, observe=seed % 3 == 0))
        most_tokens, most_events = play(lists)
        assert most_tokens <= TOKEN_LIMIT, f"seed {seed}"
        assert most_events <= EVENT_LIMIT, f"seed {seed}"
        both += any(command["command"] == "wait" for commands in lists.values() for command in commands)
    assert both > 60, "most random networks should pass tensors between the units"


def convolutions(shape: tuple[int, int, int], outputs: Sequence[int], kernel: int = 1) -> Network:
    """A chain of convolutions that keep the image's size."""
    rng = np.random.default_rng(0)
    nodes, tensor, source = [], Tensor(shape=shape), "input"
    for i, k in enumerate(outputs):
        layer = Layer(
            name=f"c{i}", op="conv2d", input=placeholder(tensor.shape), padding=(kernel // 2,) * 4,
            weights=rng.integers(-1, 2, (k, kernel, kernel, tensor.shape[2])).astype(np.int8),
            bias=np.zeros(k, np.int32), multiplier=np.full(k, 1 << 30, np.int32),
            shift=np.full(k, -2, np.int32),
        )  # fmt: skip
        tensor = Tensor(shape=output_shape(layer))
        scales, bits = np.ones(k), np.full(k, 2, np.int8)
        nodes.append(
            Node(
                name=f"c{i}", op="conv2d", inputs=(source,), output=tensor, layer=layer,
                weight_scales=scales, weight_bits=bits,
            )
        )  # fmt: skip
        source = f"c{i}"
    return Network(name="convs", input_name="input", input=Tensor(shape=shape), nodes=tuple(nodes))


SMALL = System((CoreConfig("npu8", act_kib=4, weight_kib=4, param_kib=2),))


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (convolutions((400, 400, 16), (16, 16)), System()),
        (convolutions((224, 224, 3), (64, 64), 3), System()),
        (convolutions((300, 16, 16), (16, 16)), SMALL),
    ],
    ids=["wide", "VGG", "small scratchpads"],
)
def test_tensors_of_many_tiles_do_not_fill_the_token_counters(network: Network, config: System) -> None:
    """All of a layer is stored before the next one begins to load: 80 stores that 80 loads depend on."""
    program = compile_network(network, config, Assignment("npu8"))
    stores = [command for command in lists_of(program)["npu8"] if command["command"] == "store"]
    assert len(stores) > TOKEN_LIMIT
    most_tokens, _ = play(lists_of(program))
    assert most_tokens <= MAX_AHEAD + 1


@pytest.mark.rtl
def test_tensors_of_many_tiles_run() -> None:
    network = convolutions((300, 16, 16), (16, 16))
    x = np.random.default_rng(1).integers(-128, 128, network.input.shape).astype(np.int8)
    with Session(SMALL) as session:
        program = compile_network(network, SMALL, Assignment("npu8"), observe=True)
        assert outcome(session, program, x) == "exact"


def test_waits_are_merged_until_few_enough_are_outstanding() -> None:
    late = [(i, 100 + i) for i in range(80)]
    merged = merge_waits(late, 10)
    assert len(merged) <= 10
    for posting, waiting in merged:
        assert posting < waiting
    for posting, waiting in late:  # everything that was waited for is still waited for, and no later
        assert any(p >= posting and w <= waiting for p, w in merged)
    alternating = [(2 * i, 2 * i + 1) for i in range(80)]
    assert merge_waits(alternating, 10) == alternating


def test_four_units_have_events_enough_and_eight_are_refused() -> None:
    def compiled(seed: int, config: System) -> NetworkProgram:
        network, units, _ = random_network(seed, config.cores, layers=14)
        return compile_network(network, config, units)

    four, eight = (System(tuple(CoreConfig(f"u{i}") for i in range(count))) for count in (4, 8))
    for seed in range(8):
        events = {
            command.get("event_id", 0)
            for commands in lists_of(compiled(seed, four)).values()
            for command in commands
            if command["command"] == "wait"
        }
        assert 6 < len(events) <= 16, f"seed {seed}"
    with pytest.raises(UnsupportedError, match="of 8 units wait for each other; there are 16 event counters"):
        compiled(0, eight)


def test_every_layer_of_a_unit_ends_with_a_mark_and_all_commands_come_before_the_interrupt() -> None:
    config = System()
    network, units, _ = random_network(5, config.cores)
    program = compile_network(network, config, units)
    marks = {
        unit: [command.get("id", 0) for command in commands if command["command"] == "mark"]
        for unit, commands in lists_of(program).items()
    }
    names = [op.name for op in program.program.graph.ops]
    for unit, ids in marks.items():
        assert ids == [names.index(part.layer) for part in program.program.parts if part.unit == unit]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.data
def test_the_scheduler_expects_what_the_hardware_measures(name: str, pair: Session) -> None:
    network = load_tflite(require(data_dir() / "models" / f"{name}.tflite"))
    program = compile_network(network, pair.config, Assignment("npu8"))
    (run,) = run_inputs(pair, program, np.zeros(network.input.shape, np.int8))
    assert abs(program.program.estimate - run.cycles) < 0.03 * run.cycles


# ------------------------------------------------------------------------------- what breaks without it
def without(program: NetworkProgram, key: str, engine: str) -> NetworkProgram:
    """The program with a header bit cleared in every command of an engine, waits with their posts."""
    direction, _, other = key.partition("_")
    segments = dict(program.program.segments)
    for unit, commands in lists_of(program).items():
        words = []
        for command in commands:
            fields = {name: value for name, value in command.items() if name not in ("command", "engine")}
            if command["engine"] == engine:
                fields.pop(key, 0)
            if direction == "wait" and command["engine"] == other:
                fields.pop(f"post_{engine}", 0)
            words.append(encode(command["command"], engine=command["engine"], **fields))
        segments[program.program.starts[unit][0]] = command_list(words)
    changed = replace(program.program, segments=tuple(segments.items()))
    return replace(program, program=changed)


def outcome(session: Session, program: NetworkProgram, x: Any) -> str:
    try:
        runs: list[NetworkRun] = list(run_inputs(session, program, x, check="layers"))
    except RunError:
        return "error"
    return "exact" if all(run.exact for run in runs) else "different"


@pytest.mark.parametrize(
    ("key", "engine"), [("fence", "compute"), ("wait_load", "compute"), ("wait_compute", "store")]
)
def test_without_its_waits_a_network_goes_wrong(key: str, engine: str, pair: Session) -> None:
    """Every kind of wait is needed: the comparison notices when it is missing."""
    results = []
    for seed in range(12):
        network, units, x = random_network(seed, pair.config.cores)
        program = compile_network(network, pair.config, units, observe=True)
        assert outcome(pair, program, x) == "exact"
        results.append(outcome(pair, without(program, key, engine), x))
    assert set(results) - {"exact"}, f"nothing went wrong without {key} of {engine}"


@pytest.mark.data
def test_loads_that_do_not_wait_overwrite_weights_in_use(pair: Session) -> None:
    """ResNet8's weights are larger than the scratchpad."""
    network = load_tflite(require(data_dir() / "models" / "pretrainedResnet_quant.tflite"))
    x = np.random.default_rng(1).integers(-128, 128, network.input.shape).astype(np.int8)
    program = compile_network(network, pair.config, Assignment("npu8"), observe=True)
    assert outcome(pair, program, x) == "exact"
    assert outcome(pair, without(program, "wait_compute", "load"), x) == "different"


def test_without_the_events_a_unit_reads_what_the_other_has_not_made(pair: Session) -> None:
    wrong = 0
    for seed in range(6):
        network, units, x = random_network(seed, pair.config.cores)
        program = compile_network(network, pair.config, units)
        segments, starts = dict(program.program.segments), dict(program.program.starts)
        for unit, commands in lists_of(program).items():
            kept = [command for command in commands if command["command"] not in ("wait", "signal")]
            words = [
                encode(
                    command["command"],
                    engine=command["engine"],
                    **{name: value for name, value in command.items() if name not in ("command", "engine")},
                )
                for command in kept
            ]
            segments[starts[unit][0]] = command_list(words)
            starts[unit] = (starts[unit][0], len(kept))
        whole = replace(program.program.whole, starts=starts)
        changed = replace(program.program, segments=tuple(segments.items()), sections=(whole,))
        wrong += outcome(pair, replace(program, program=changed), x) != "exact"
    assert wrong
