# SPDX-License-Identifier: Apache-2.0
"""Models that are not supported, contradict themselves or are damaged: one clear error each."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from common.errors import ModelFileError, NpuloopError, UnsupportedError
from golden.importers.testing import Builder, Case, conv, imported, schema, written
from golden.importers.tflite import examine_tflite, load_tflite
from golden.importers.tflite_operators import CONVERTERS


def edited(case: Case, edit: Callable[[Builder], object]) -> Case:
    edit(case.builder)
    return case


def tensor_of(case: Case, operator: int, position: int) -> Any:
    return case.builder.tensors[case.builder.operators[operator].inputs[position]]


def with_attribute(case: Case, target: Any, **values: Any) -> Case:
    for key, value in values.items():
        assert hasattr(target, key)
        setattr(target, key, value)
    return case


def unsupported() -> dict[str, tuple[Callable[[], Case], str]]:
    """Models that are valid, but not supported: how to make them, and what the message says."""

    def multiplied() -> Case:
        case = conv()
        return case.then("MUL", case.output(case.shape), case.tensor)

    def broadcast() -> Case:
        case = conv()
        image = case.tensor
        case.pool("MAX_POOL_2D", (8, 8), (1, 1), "VALID")
        return case.then("ADD", case.output((1, 8, 8, 4)), image)

    def pad_before_pool() -> Case:
        return conv().pad(1, 1, 1, 1).pool("MAX_POOL_2D", (2, 2), (1, 1), "VALID")

    def channel_pad() -> Case:
        case = Case.start((1, 8, 8, 4))
        amounts = case.builder.constant([[0, 0], [0, 0], [0, 0], [0, 1]])
        return case.then("PAD", case.output((1, 8, 8, 5), keep=True), amounts).convolution()

    def other_pad_value() -> Case:
        case = Case.start((1, 8, 8, 4))
        return case.pad(1, 1, 1, 1, value=(case.quantisation[1] + 200) % 100).convolution()

    def dead_end() -> Case:
        case = conv()
        output = case.tensor
        case.convolution()
        case.tensor = output
        return case

    def uint8() -> Case:
        case = Case.start((1, 8, 8, 4))
        case.builder.tensors[case.input].type = 3
        case.builder.tensors[case.input].quantization.zeroPoint = [130]
        return case.convolution()

    def int16() -> Case:
        case = Case.start((1, 8, 8, 4))
        case.builder.tensors[case.input].type = 7
        return case.convolution()

    def batch_of_two() -> Case:
        case = Case.start((2, 10))
        return case.then("SOFTMAX", case.builder.tensor((2, 10), "int8", 1 / 256, -128))

    def two_rows() -> Case:
        return Case.start((1, 3, 4)).fully_connected(5, keep=True)

    def weights_from_outside() -> Case:
        case = Case.start((1, 5, 5, 5))
        return case.then("CONV_2D", case.output((1, 5, 5, 1)), case.tensor)

    def tanh() -> Case:
        return conv(activation=4)

    def constant_to_add() -> Case:
        case = conv()
        data = case.rng.integers(-128, 128, case.shape)
        constant = case.builder.tensor(case.shape, scale=0.1, data=data)
        return case.then("ADD", case.output(case.shape), constant)

    def mean_over_channels() -> Case:
        case = conv()
        return case.then("MEAN", case.output((1, 8, 8, 1)), case.builder.constant([3]), keepDims=True)

    def large_mean() -> Case:
        case = Case.start((1, 512, 1025, 16))
        return case.mean(True, None)

    def steep_mean() -> Case:
        case = Case.start((1, 3, 3, 4))
        return case.mean(True, (1e-9, 0))

    def pool_that_rescales() -> Case:
        case = conv()
        return case.then("MAX_POOL_2D", case.output((1, 8, 8, 4)))

    def weights_with_a_zero_point() -> Case:
        case = conv(per_tensor=True)
        return with_attribute(case, tensor_of(case, 0, 1).quantization, zeroPoint=[1])

    def other_softmax() -> Case:
        case = Case.start((1, 10))
        return case.then("SOFTMAX", case.builder.tensor((1, 10), "int8", 1 / 255, -128))

    def tiny_softmax() -> Case:
        case = Case.start((1, 10))
        case.builder.tensors[0].quantization.scale = [1e-8]
        return case.softmax()

    def far_quantize() -> Case:
        case = Case.start((1, 10))
        return case.then("QUANTIZE", case.builder.tensor((1, 10), scale=1e-11))

    def long_sum() -> Case:
        case = Case.start((1, 140_000))
        weights = case.builder.tensor((1, 140_000), scale=0.1, data=np.full(140_000, 127))
        return case.then("FULLY_CONNECTED", case.output((1, 1)), weights)

    def grouped() -> Case:
        case = Case.start((1, 8, 8, 4))
        return case.then("CONV_2D", case.output((1, 8, 8, 4)), case.weights((4, 3, 3, 2), 0, False, 18))

    return {
        "operator": (multiplied, r"operator 1 \(MUL\) is not supported; supported are CONV_2D, DEPTHWISE_"),
        "broadcasting": (broadcast, r"operator 2 \(ADD\): broadcasting"),
        "pad of a pool": (pad_before_pool, r"operator 2 \(MAX_POOL_2D\): reads the output of a PAD"),
        "pad at the end": (lambda: conv().pad(1, 1, 1, 1), "the network's output is padded"),
        "pad of channels": (channel_pad, r"operator 0 \(PAD\): .*only height and width"),
        "pad value": (other_pad_value, r"operator 0 \(PADV2\): padding with another value than the zero"),
        "dead end": (dead_end, r"operator 1 \(CONV_2D\) makes tensor \d+, which nothing reads"),
        "uint8": (uint8, r"operator 0 \(CONV_2D\): reads or makes uint8; .* convert the model to int8"),
        "int16": (int16, "tensor 0 is INT16; activations are int8, .* convert the model to int8"),
        "batch": (batch_of_two, "its first axis is no batch of 1"),
        "rows": (two_rows, r"operator 0 \(FULLY_CONNECTED\): an input \(3, 4\) .* supported is one row"),
        "weights": (weights_from_outside, "is not constant; it must be part of the file"),
        "activation": (tanh, "fused activation number 4; supported are NONE, RELU, RELU6 and RELU_N1_TO_1"),
        "constant operand": (constant_to_add, "is constant where an activation is expected"),
        "mean": (
            mean_over_channels,
            r"operator 1 \(MEAN\): a mean of .* supported are rows, columns or both",
        ),
        "large mean": (large_mean, r"operator 0 \(MEAN\): a mean over .*; supported are 8388608 values"),
        "steep mean": (steep_mean, r"operator 0 \(MEAN\): a mean of .* from scale .* leaves int32"),
        "rescaling pool": (pool_that_rescales, "input and output of a pool must share scale and zero point"),
        "weight zero point": (weights_with_a_zero_point, "with a zero point; supported is 0"),
        "softmax output": (other_softmax, r"operator 0 \(SOFTMAX\): .* has the output scale 1/256 and zero"),
        "softmax input": (tiny_softmax, r"operator 0 \(SOFTMAX\): .* must be above 2\^-26"),
        "far scales": (far_quantize, r"operator 0 \(QUANTIZE\): the rescaling factor .* needs a shift of 34"),
        "accumulator": (long_sum, r"operator 0 \(FULLY_CONNECTED\): the accumulator of output channel 0"),
        "groups": (grouped, "a grouped convolution"),
    }


@pytest.mark.parametrize("name", unsupported())
def test_what_is_not_supported_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, message = unsupported()[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        imported(make().build(), tmp_path)
    assert str(tmp_path / "model.tflite") in str(caught.value)


def test_custom_operators_are_refused_by_their_own_names(tmp_path: Path) -> None:
    for name, why in {
        "MyOperator": "; supported are CONV_2D",
        "ethos-u": ": compiled by Vela for an Ethos-U; import the .tflite file that Vela was given",
        "edgetpu-custom-op": ": compiled for an Edge TPU",
        "FlexErf": r": TensorFlow's own \(a Flex operator\)",
    }.items():
        case = conv()
        case.builder.codes[0].builtinCode = case.builder.codes[0].deprecatedBuiltinCode = 32
        case.builder.codes[0].customCode = name
        with pytest.raises(
            UnsupportedError, match=rf"operator 0 \(CUSTOM \({name}\)\) is not supported{why}"
        ):
            imported(case.build(), tmp_path)


def test_all_reasons_come_in_one_message_and_the_same_ones_together(tmp_path: Path) -> None:
    case = conv(activation=4)
    case.then("TANH", case.output(case.shape)).then("TANH", case.output(case.shape))
    case.convolution(activation=4).pool("MAX_POOL_2D", (2, 2), (2, 2), "VALID")
    case.then("READ_VARIABLE", case.output(case.shape))
    report = examine_tflite(written(case.build(), tmp_path))
    assert report.network is None
    first, *lines = str(report.error).split("\n  - ")
    assert first == f"{tmp_path / 'model.tflite'}: cannot be imported: 4 reasons"
    activation, tanh, state, supported = lines
    assert activation.startswith(
        "operators 0 (CONV_2D), 3 (CONV_2D): fused activation number 4; supported are"
    )
    assert tanh == "operators 1, 2 (TANH) are not supported"
    assert state.startswith(
        "operator 5 (READ_VARIABLE) is not supported: keeps state from one input to the next"
    )
    assert supported == f"supported are {', '.join(CONVERTERS)}"
    assert [item.runs for item in report.operators] == ["", "", "", "", "unit", ""]


def test_an_operator_that_is_not_supported_is_named_before_its_lists_are_judged(tmp_path: Path) -> None:
    case = conv()
    case.then("CONCATENATION", case.output((1, 8, 8, 36)), *[case.tensor] * 8)
    with pytest.raises(UnsupportedError, match=r"operator 1 \(CONCATENATION\) is not supported"):
        imported(case.build(), tmp_path)


def test_a_second_graph_is_refused_beside_what_calls_it(tmp_path: Path) -> None:
    case = conv()
    case.then("CALL_ONCE", case.output(case.shape))
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(case.build(), 0))
    model.subgraphs.append(model.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(UnsupportedError, match="2 subgraphs") as caught:
        imported(bytes(builder.Output()), tmp_path)
    assert "operator 1 (CALL_ONCE) is not supported: initialises state" in str(caught.value)


def contradictions() -> dict[str, tuple[Callable[[], Case], str]]:
    """Models that contradict themselves or ask for too much."""

    def quantization(position: int, **values: Any) -> Callable[[], Case]:
        def make() -> Case:
            case = conv(per_tensor=True)
            return with_attribute(case, tensor_of(case, 0, position).quantization, **values)

        return make

    def shape(position: int, *sizes: int) -> Callable[[], Case]:
        def make() -> Case:
            case = conv()
            return with_attribute(case, tensor_of(case, 0, position), shape=list(sizes))

        return make

    def option(**values: Any) -> Callable[[], Case]:
        def make() -> Case:
            case = conv(multiplier=1)
            return with_attribute(case, case.builder.operators[0].builtinOptions, **values)

        return make

    def operator(**values: Any) -> Callable[[], Case]:
        def make() -> Case:
            case = conv().convolution()
            return with_attribute(case, case.builder.operators[0], **values)

        return make

    def output(*sizes: int) -> Callable[[], Case]:
        def make() -> Case:
            case = conv()
            return with_attribute(case, case.builder.tensors[case.tensor], shape=list(sizes))

        return make

    def wrong_order() -> Case:
        case = conv().convolution()
        case.builder.operators.reverse()
        return case

    def twice() -> Case:
        case = conv()
        return edited(case, lambda builder: builder.operators.append(builder.operators[0]))

    return {
        "NaN scale": (quantization(0, scale=[math.nan]), "a scale that is not finite and positive"),
        "zero scale": (quantization(1, scale=[0.0]), "a scale that is not finite and positive"),
        "huge scale": (quantization(1, scale=[1e30]), "rescaling factor"),
        "no scale": (quantization(0, scale=[], zeroPoint=[]), "has 0 scales; an activation has one"),
        "scales": (quantization(1, scale=[0.1, 0.2], zeroPoint=[0, 0]), "2 scales along axis 0"),
        "zero points": (quantization(1, zeroPoint=[0, 0]), "1 scales and 2 zero points"),
        "zero point": (quantization(0, zeroPoint=[128]), "zero_point = 128 is no int8 value"),
        "huge shape": (shape(0, 1, 2**30, 2**30, 4), "up to 67108864 values"),
        "negative axis": (shape(0, 1, 8, -8, 4), "supported are axes of 1 or more"),
        "zero axis": (shape(0, 1, 8, 0, 4), "supported are axes of 1 or more"),
        "weights size": (shape(1, 4, 3, 3, 8), "has a buffer of 144 bytes"),
        "bias size": (shape(2, 5), "has a buffer of 16 bytes"),
        "weights rank": (shape(1, 144), r"expected \(H, W, C\) and 4 axes"),
        "input rank": (shape(0, 1, 64, 4), r"expected \(H, W, C\) and 4 axes"),
        "stride": (option(strideH=0), r"stride \(0, 1\) must be positive"),
        "negative stride": (option(strideW=-1), r"stride \(1, -1\) must be positive"),
        "dilation": (option(dilationHFactor=0), r"dilation \(0, 1\) must be positive"),
        "huge stride": (option(strideH=2**31 - 1), "stride = 2147483647 must lie in"),
        "padding scheme": (option(padding=7), "padding scheme number 7"),
        "depth multiplier": (option(depthMultiplier=2), "depth multiplier 2"),
        "output shape": (output(1, 7, 8, 4), r"conv2d makes \(8, 8, 4\), not \(7, 8, 4\)"),
        "tensor index": (operator(inputs=[1000, 1, 3]), "tensor 1000 does not exist"),
        "negative index": (operator(inputs=[-5, 1, 3]), "tensor -5 does not exist"),
        "missing input": (operator(inputs=[]), "has 0 inputs; input 0 is missing"),
        "left out input": (operator(inputs=[-1, 1, 3]), "tensor -1 does not exist"),
        "no weights": (operator(inputs=[0]), "has no weights"),
        "many inputs": (operator(inputs=[0] * 9), "a list of 9 entries where at most 8"),
        "options": (operator(builtinOptionsType=0, builtinOptions=None), "its options are not Conv2DOptions"),
        "operator code": (operator(opcodeIndex=99), "operator 0 has the code 99"),
        "order": (wrong_order, "before an operator has made it"),
        "twice": (twice, "a second time"),
        "cycle": (operator(inputs=[5, 1, 3]), "before an operator has made it"),
    }


@pytest.mark.parametrize("name", contradictions())
def test_a_file_that_contradicts_itself_is_refused_with_one_clear_error(name: str, tmp_path: Path) -> None:
    make, message = contradictions()[name]
    with pytest.raises(NpuloopError, match=message) as caught:
        imported(make().build(), tmp_path)
    assert isinstance(caught.value, ModelFileError | UnsupportedError)
    assert str(tmp_path / "model.tflite") in str(caught.value)


OTHER_FILES = {
    b"": ", but empty",
    b"TFL3": ", or cut off",
    b"\xff" * 64: ", or cut off",
    b"PK\3\4" + bytes(64): ": an archive",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00": ": a Git LFS pointer; .* `git lfs pull`",
    b"\x89HDF\r\n\x1a\n": ": an HDF5 file",
    b"\x1f\x8b\x08": ": compressed",
    b"\n<!DOCTYPE html>": ": a web page",
}


@pytest.mark.parametrize("content", OTHER_FILES)
def test_other_files_are_recognised(content: bytes, tmp_path: Path) -> None:
    message = rf"model\.tflite: not a \.tflite file \(no TFL3 in its header\){OTHER_FILES[content]}"
    with pytest.raises(ModelFileError, match=message):
        imported(content, tmp_path)


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.tflite: damaged"):
        imported(b"\x08\0\0\0TFL3", tmp_path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ModelFileError, match=r"no such file|\(a folder\); give a file"):
            load_tflite(path)


def test_shared_constants_cannot_multiply_the_work(tmp_path: Path) -> None:
    case = Case.start((1, 2, 2, 64))
    weights = case.weights((64, 1, 1, 64), 0, True, 64)
    for _ in range(40):
        case.then("CONV_2D", case.output((1, 2, 2, 64)), weights)
    with pytest.raises(UnsupportedError, match="read more than 4 times"):
        imported(case.build(), tmp_path)
