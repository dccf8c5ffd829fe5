# SPDX-License-Identifier: Apache-2.0
"""Damaged `.tflite` files: each loads or is refused with one clear error, quickly and in little memory."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite

from common.arrays import Array, Int64
from common.errors import NpuloopError
from common.testing import data_dir, require
from golden.importers.testing import Builder, Case, random_inputs
from golden.importers.tflite import load_tflite
from golden.network import Network, Node, run_network, run_node

SEED = 20261120
MUTANTS = 1200
COMPARED = 60  # mutants that load, and that the interpreter then has to agree with
MAX_SECONDS = 3.0  # of this process, whatever else the machine does
MAX_GROWTH_BYTES = 256 << 20
MODELS = (
    "pretrainedResnet_quant", "kws_ref_model", "vww_96_int8", "ad01_int8", "public/micro_speech_quantized",
    "public/mcunet_vww", "public/mltk_anomaly_detection", "public/ptq_mnist_lenet-300-100",
    "public/wake_word_vad",
)  # fmt: skip
MAX_MESSAGE = 3000  # characters: twelve reasons, each with a few operators
HOSTILE_WORDS = (
    0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 65535, 65536, 2**24, 2**26 + 1, 2**30, 2**31 - 1, 2**31,
    2**32 - 4, 2**32 - 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00000001, 0x7F7FFFFF, 0xBF800000, 0x3F800000,
)  # fmt: skip


def metadata_places(content: bytes) -> Int64:
    """The positions outside the data of large buffers."""
    inside = np.zeros(len(content), bool)
    model = tflite.Model.GetRootAs(content, 0)
    start = np.frombuffer(content, np.uint8).ctypes.data
    for index in range(model.BuffersLength()):
        data = model.Buffers(index).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size > 64:
            first = data.ctypes.data - start
            inside[first : first + data.size] = True
    return np.flatnonzero(~inside)


def mutate(rng: np.random.Generator, content: bytes, places: Int64) -> bytes:
    """One to four random changes, nearly all of them to the metadata."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.choice(places)) if rng.random() < 0.95 else int(rng.integers(len(data)))
        place = min(place, len(data) - 5)
        kinds = {"bit": 0.25, "byte": 0.2, "word": 0.25, "nudge": 0.2, "cut": 0.04, "splice": 0.06}
        kind = rng.choice(list(kinds), p=list(kinds.values()))
        if kind == "bit":
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == "byte":
            data[place] = int(rng.integers(256))
        elif kind == "word":
            data[place & ~3 : (place & ~3) + 4] = int(rng.choice(HOSTILE_WORDS)).to_bytes(4, "little")
        elif kind == "nudge":
            data[place] = (data[place] + int(rng.integers(-4, 5))) % 256
        elif kind == "cut":
            del data[max(16, int(rng.integers(len(data)))) :]
            break
        else:
            source, length = int(rng.choice(places)), int(rng.integers(1, 200))
            data[place : place + length] = content[source : source + length]
        if len(data) < 16:
            break
    return bytes(data)


def many_ends() -> bytes:
    """A model with two inputs, four outputs and all that the host does."""
    builder = Builder()
    pixels = builder.tensor((1, 6, 5, 4), "uint8", 0.02, 130)
    planes = builder.tensor((1, 4, 6, 5), "int8", 0.1, -3)
    quantised = builder.tensor((1, 6, 5, 4), "int8", 0.02, 2)
    builder.operator("QUANTIZE", [pixels], quantised)
    image = builder.tensor((1, 6, 5, 4), "int8", 0.1, -3)
    builder.operator("TRANSPOSE", [planes, builder.constant([0, 2, 3, 1])], image)
    total = builder.tensor((1, 6, 5, 4), "int8", 0.1, 7)
    builder.operator("ADD", [quantised, image], total)
    back = builder.tensor((1, 4, 6, 5), "int8", 0.1, 7)
    builder.operator("TRANSPOSE", [total, builder.constant([0, 3, 1, 2])], back)
    classes = builder.tensor((1, 6, 5), "int64")
    builder.operator("ARG_MAX", [back, builder.constant([1])], classes, outputType=4)
    mean = builder.tensor((1, 4), "int8", 0.04, 1)
    builder.operator("MEAN", [back, builder.constant([2, 3])], mean)
    likely = builder.tensor((1, 4), "int8", 1 / 256, -128)
    builder.operator("LOGISTIC", [mean], likely)
    logarithm = builder.tensor((1, 4), "int8", 1 / 16, 127)
    builder.operator("LOG_SOFTMAX", [mean], logarithm)
    unsigned = builder.tensor((1, 4), "uint8", 1 / 256, 0)
    builder.operator("QUANTIZE", [likely], unsigned)
    real = builder.tensor((1, 4), "float32")
    builder.operator("DEQUANTIZE", [mean], real)
    chances = builder.tensor((1, 4), "float32")
    builder.operator("SOFTMAX", [real], chances)
    return builder.build([pixels, planes], [classes, unsigned, logarithm, chances])


def narrow_weights() -> bytes:
    """A model with int4 and int2 weights."""
    case = Case.start((1, 9, 8, 3))
    case.weight_type = "int4"
    case.convolution(outputs=5, stride=(2, 2)).convolution(multiplier=1, padding="VALID")
    case.weight_type = "int2"
    return case.fully_connected(7).build()


def mutants() -> Iterator[tuple[str, bytes]]:
    """Name and content of every mutant, the same in every process."""
    contents = [(data_dir() / "models" / f"{model}.tflite").read_bytes() for model in MODELS]
    contents += [many_ends(), narrow_weights()]
    places = [metadata_places(content) for content in contents]
    for index in range(MUTANTS):
        which = index % len(contents)
        yield (
            f"{index}_{(*MODELS, 'many_ends', 'narrow_weights')[which].rpartition('/')[2]}",
            mutate(np.random.default_rng((SEED, index)), contents[which], places[which]),
        )


def load_all(folder: Path) -> dict[str, Any]:
    """Loads every mutant under a limit on memory; what went wrong, and how many loaded."""
    path = folder / "mutant.tflite"
    load_tflite(data_dir() / "models" / f"{MODELS[0]}.tflite")  # whatever is imported late is imported now
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MAX_GROWTH_BYTES, size + MAX_GROWTH_BYTES))
    report: dict[str, Any] = {"wrong": [], "loaded": 0, "slowest": 0.0}
    for name, content in mutants():
        path.write_bytes(content)
        start = time.process_time()
        try:
            network = load_tflite(path)
            report["loaded"] += 1
            if report["loaded"] <= COMPARED and network.macs < 10**8:
                (folder / f"{name}.loaded").write_bytes(content)
        except NpuloopError as error:
            if str(path) not in str(error) or len(str(error)) > MAX_MESSAGE:
                report["wrong"].append(f"{name}: unclear message {error}")
        except BaseException as error:  # noqa: BLE001 (any other exception is what this test looks for)
            report["wrong"].append(f"{name}: {type(error).__name__}: {error}")
        report["slowest"] = max(report["slowest"], time.process_time() - start)
    return report


def differences(network: Network, interpreter: Any, rng: np.random.Generator) -> list[str]:
    """The nodes that do not make what the interpreter makes of the same inputs; else the outputs."""
    operators = interpreter._get_ops_details()
    inputs = {name: values[:1] for name, values in random_inputs(network, rng, 1).items()}
    for detail, batch in zip(interpreter.get_input_details(), inputs.values(), strict=True):
        interpreter.set_tensor(detail["index"], batch.reshape(detail["shape"]))
    interpreter.invoke()
    if len(operators) != len(network.nodes) or len(network.inputs) > 1:
        results = run_network(network, inputs)
        details = interpreter.get_output_details()
        return [
            name
            for name, detail in zip(network.output_names, details, strict=True)
            if results[name].tobytes() != interpreter.get_tensor(detail["index"]).tobytes()
        ]

    def value(index: int, shape: tuple[int, ...]) -> Array:
        reference: Array = interpreter.get_tensor(int(index))
        return reference.reshape(1, *shape)

    def differs(node: Node, operator: Any) -> bool:
        sources = [network.tensors[name] for name in node.inputs]
        inputs = [value(i, t.shape) for i, t in zip(operator["inputs"], sources, strict=False)]
        got = run_node(node, inputs, sources[0])
        expected = value(operator["outputs"][0], node.output.shape)
        return not np.array_equal(got, expected)

    return [
        node.name for node, operator in zip(network.nodes, operators, strict=True) if differs(node, operator)
    ]


def compare(path: Path) -> str:
    """What the interpreter says about one mutant that loads: agreed, refused, or the nodes that differ."""
    from golden.importers.testing import interpreter

    network = load_tflite(path)
    try:
        reference = interpreter(str(path), preserve=True)
    except (RuntimeError, ValueError) as error:
        return f"refused: {error}"[:200]
    try:
        differing = differences(network, reference, np.random.default_rng(SEED))
    except NpuloopError as error:
        return f"refused here: {error}"
    except (RuntimeError, ValueError) as error:
        return f"refused: {error}"[:200]
    return f"differs: {differing}" if differing else "agreed"


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    """This module as a program: it may run out of memory, and the interpreter may crash."""
    return subprocess.run(
        [sys.executable, "-m", "golden.importers.tests.test_tflite_fuzz", *arguments],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NPULOOP_DATA": str(data_dir())},
    )  # fmt: skip


@pytest.mark.data
def test_every_damaged_model_loads_or_is_refused_with_one_clear_error(tmp_path: Path) -> None:
    for model in MODELS:
        require(data_dir() / "models" / f"{model}.tflite")
    done = child("load", str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert not report["wrong"], f"seed {SEED}:\n" + "\n".join(report["wrong"][:10])
    assert report["slowest"] < MAX_SECONDS
    assert report["loaded"] > MUTANTS // 20, "nearly all mutants are refused: the mutations are too crude"
    agree_with_the_interpreter(sorted(tmp_path.glob("*.loaded")))


def agree_with_the_interpreter(paths: list[Path]) -> None:
    """Compares the mutants that load, in children, as the interpreter may crash on some."""
    pytest.importorskip("ai_edge_litert.interpreter")
    verdicts: dict[Path, str] = {}
    while left := [path for path in paths if path not in verdicts]:
        done = child("compare", *map(str, left))
        lines = done.stdout.splitlines()
        told = [line.removeprefix("verdict ") for line in lines if line.startswith("verdict ")]
        verdicts |= dict(zip(left, told, strict=False))
        if len(told) < len(left):
            assert done.returncode < 0, done.stderr[-2000:]
            verdicts[left[len(told)]] = f"crashed with {done.returncode}"
    wrong = {path.name: verdict for path, verdict in verdicts.items() if verdict.startswith("differs")}
    assert not wrong, f"seed {SEED}: {wrong}"
    assert sum(verdict == "agreed" for verdict in verdicts.values()) > len(paths) // 4, verdicts


if __name__ == "__main__":
    if sys.argv[1] == "load":
        print(json.dumps(load_all(Path(sys.argv[2]))))
    else:
        for argument in sys.argv[2:]:
            print("verdict", compare(Path(argument)), flush=True)
