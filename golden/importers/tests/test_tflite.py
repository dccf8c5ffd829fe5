"""Imported models against the interpreter with its reference kernels, tensor by tensor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.errors import ModelFileError, NpuloopError, UnsupportedError
from common.testing import data_dir, require
from golden.arithmetic import quantize_multiplier
from golden.importers.testing import Builder, interpreter, invoke
from golden.importers.tflite import _rounded_once, load_tflite
from golden.network import Network, run_network

SEED = 20261122
MODELS = ("kws_ref_model", "pretrainedResnet_quant", "vww_96_int8", "ad01_int8")


# ------------------------------------------------------------------------------------------- real models
def model_path(name: str) -> Path:
    return require(data_dir() / "models" / f"{name}.tflite")


def keyword_inputs() -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    with np.load(require(data_dir() / "kws" / "kws01_first500.npz")) as archive:
        return archive["input"], archive["label"]


def test_images() -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    with np.load(require(data_dir() / "cifar10" / "cifar10_test_first2000.npz")) as archive:
        return (archive["image"].astype(np.int16) - 128).astype(np.int8), archive["label"]


test_images.__test__ = False  # type: ignore[attr-defined]


def some_inputs(name: str, network: Network, count: int) -> npt.NDArray[np.int8]:
    """Real inputs where there are some, else random ones."""
    if name == "kws_ref_model":
        return keyword_inputs()[0][:count]
    if name == "pretrainedResnet_quant":
        return test_images()[0][:count]
    return np.random.default_rng(SEED).integers(-128, 128, (count, *network.input.shape)).astype(np.int8)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_a_real_model_equals_the_interpreters(name: str) -> None:
    path = model_path(name)
    network = load_tflite(path)
    inputs = some_inputs(name, network, 5)
    values = run_network(network, inputs)
    made = interpreter(str(path), preserve=True)
    operators = made._get_ops_details()
    assert len(operators) == len(network.nodes)
    for index, item in enumerate(inputs):
        made.set_tensor(made.get_input_details()[0]["index"], item[None])
        made.invoke()
        for operator, node in zip(operators, network.nodes, strict=True):
            expected = made.get_tensor(int(operator["outputs"][0]))[0]
            message = f"{node.name}, input {index}"
            np.testing.assert_array_equal(values[node.name][index], expected, err_msg=message)


def predictions(name: str, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """The predicted classes, after the outputs were compared with the interpreter's."""
    path = model_path(name)
    network = load_tflite(path)
    got = run_network(network, inputs)[network.output_name]
    np.testing.assert_array_equal(got, invoke(interpreter(str(path)), inputs))
    classes: npt.NDArray[np.int64] = got.argmax(axis=1)
    return classes


def test_ds_cnn_is_exact_on_all_500_keyword_inputs_and_gets_449_right() -> None:
    inputs, labels = keyword_inputs()
    assert len(labels) == 500
    assert int((predictions("kws_ref_model", inputs) == labels).sum()) == 449


def test_resnet8_is_exact_on_2000_test_images_and_gets_1735_right() -> None:
    inputs, labels = test_images()
    assert len(labels) == 2000
    assert int((predictions("pretrainedResnet_quant", inputs) == labels).sum()) == 1735


def test_names_are_short_and_in_the_order_of_the_operators() -> None:
    network = load_tflite(model_path("pretrainedResnet_quant"))
    assert network.name == "pretrainedResnet_quant"
    assert [node.name for node in network.nodes][:4] == ["conv2d_0", "conv2d_1", "conv2d_2", "add_3"]
    assert [node.name for node in network.nodes][-4:] == [
        "average_pool_12", "reshape_13", "fully_connected_14", "softmax_15"
    ]  # fmt: skip
    assert network.node("add_3").inputs == ("conv2d_0", "conv2d_2")
    assert network.nodes[0].inputs == ("input",)


def test_weights_keep_the_scales_of_the_file() -> None:
    for name in ("ad01_int8", "kws_ref_model"):  # one scale, a scale for each channel
        path = model_path(name)
        made = interpreter(str(path))
        weights = int(made._get_ops_details()[0]["inputs"][1])
        (detail,) = (detail for detail in made.get_tensor_details() if detail["index"] == weights)
        node = load_tflite(path).nodes[0]
        assert node.weight_scales is not None
        assert node.weight_bits is not None
        assert node.weight_scales.dtype == np.float64
        expected = np.broadcast_to(detail["quantization_parameters"]["scales"], node.weight_scales.shape)
        np.testing.assert_array_equal(node.weight_scales, expected)
        assert (node.weight_bits == 8).all()


# ------------------------------------------------------------------------------------------ built models
@dataclass
class Case:
    """A model under construction with one chain of operators; `tensor` is where the next one reads."""

    rng: np.random.Generator
    builder: Builder
    input: int
    tensor: int

    @classmethod
    def start(cls, shape: Sequence[int], seed: Any = 0, quantised: bool = True) -> "Case":
        rng, builder = np.random.default_rng((SEED, seed)), Builder()
        if quantised:
            tensor = builder.tensor(shape, scale=0.1, zero_point=int(rng.integers(-128, 128)))
        else:
            tensor = builder.tensor(shape, "float32")
        return cls(rng, builder, tensor, tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.builder.tensors[self.tensor].shape)

    @property
    def quantisation(self) -> tuple[float, int]:
        quantization = self.builder.tensors[self.tensor].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def then(self, operator: str, output: int, *more: int, **options: Any) -> "Case":
        self.builder.operator(operator, [self.tensor, *more], output, **options)
        self.tensor = output
        return self

    def output(self, shape: Sequence[int], keep: bool = False) -> int:
        """A new activation, with the quantisation of the present one or a random one."""
        scale, zero_point = self.quantisation if keep else (0.05, int(self.rng.integers(-100, 100)))
        return self.builder.tensor(shape, scale=float(np.float32(scale)), zero_point=zero_point)

    def weights(self, shape: Sequence[int], axis: int, per_tensor: bool, taps: int) -> int:
        """Random weights whose accumulators spread over the outputs' int8."""
        channels = 1 if per_tensor else shape[axis]
        scale = 40 * 0.05 / (self.quantisation[0] * 74 * 74 * math.sqrt(taps))
        return self.builder.tensor(
            shape, scale=(scale * self.rng.uniform(0.5, 2, channels)).tolist(), axis=axis,
            data=self.rng.integers(-127, 128, shape),
        )  # fmt: skip

    def bias(self, channels: int, scale: float = 1.0) -> int:
        """Random biases."""
        values = self.rng.integers(-20000, 20000, channels)
        return self.builder.tensor((channels,), "int32", scale, data=values)

    def convolution(
        self,
        kernel: tuple[int, int] = (3, 3),
        outputs: int = 4,
        multiplier: int = 0,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: str = "SAME",
        activation: int = 0,
        per_tensor: bool = False,
        with_bias: bool = True,
    ) -> "Case":
        """CONV_2D, or DEPTHWISE_CONV_2D where there is a multiplier."""
        _, height, width, channels = self.shape
        outputs = multiplier * channels if multiplier else outputs
        size = [
            -(-pixels // step) if padding == "SAME" else -(-(pixels - (taps - 1) * spread) // step)
            for pixels, taps, step, spread in zip((height, width), kernel, stride, dilation, strict=True)
        ]
        shape = (1, *kernel, outputs) if multiplier else (outputs, *kernel, channels)
        taps = math.prod(kernel) * (1 if multiplier else channels)
        weights = self.weights(shape, 3 if multiplier else 0, per_tensor, taps)
        options: dict[str, Any] = {"depthMultiplier": multiplier} if multiplier else {}
        return self.then(
            "DEPTHWISE_CONV_2D" if multiplier else "CONV_2D",
            self.output((1, *size, outputs)),
            weights,
            *([self.bias(outputs)] if with_bias else []),
            strideH=stride[0], strideW=stride[1], dilationHFactor=dilation[0], dilationWFactor=dilation[1],
            padding=0 if padding == "SAME" else 1, fusedActivationFunction=activation, **options,
        )  # fmt: skip

    def fully_connected(
        self,
        outputs: int,
        per_tensor: bool = True,
        bias: str = "yes",
        activation: int = 0,
        keep: bool = False,
    ) -> "Case":
        """FULLY_CONNECTED; bias "yes", "no" (two inputs) or "none" (left out as -1)."""
        columns = self.shape[-1] if keep else math.prod(self.shape)
        weights = self.weights((outputs, columns), 0, per_tensor, columns)
        product = self.quantisation[0] * float(self.builder.tensors[weights].quantization.scale[0])
        more = {"yes": [self.bias(outputs, product)], "no": [], "none": [-1]}[bias]
        shape = (*self.shape[:-1], outputs) if keep else (1, outputs)
        return self.then(
            "FULLY_CONNECTED", self.output(shape), weights, *more,
            fusedActivationFunction=activation, keepNumDims=keep,
        )  # fmt: skip

    def pool(
        self,
        operator: str,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: str,
        activation: int = 0,
    ) -> "Case":
        """AVERAGE_POOL_2D or MAX_POOL_2D."""
        size = [
            -(-pixels // step) if padding == "SAME" else -(-(pixels - taps + 1) // step)
            for pixels, taps, step in zip(self.shape[1:3], kernel, stride, strict=True)
        ]
        return self.then(
            operator, self.output((1, *size, self.shape[3]), keep=True),
            filterHeight=kernel[0], filterWidth=kernel[1], strideH=stride[0], strideW=stride[1],
            padding=0 if padding == "SAME" else 1, fusedActivationFunction=activation,
        )  # fmt: skip

    def pad(self, top: int, bottom: int, left: int, right: int, value: int | None = None) -> "Case":
        """PAD, or PADV2 where a value is given."""
        _, height, width, channels = self.shape
        output = self.output((1, height + top + bottom, width + left + right, channels), keep=True)
        more = [self.builder.constant([[0, 0], [top, bottom], [left, right], [0, 0]])]
        if value is not None:
            scale, zero_point = self.quantisation
            more.append(self.builder.tensor((1,), "int8", scale, zero_point, np.array([value])))
        return self.then("PAD" if value is None else "PADV2", output, *more)

    def mean(
        self, keep_dims: bool, quantisation: tuple[float, int] | None, axes: Sequence[int] = (1, 2)
    ) -> "Case":
        """MEAN over height and width; None keeps the quantisation."""
        channels = self.shape[-1]
        scale, zero_point = quantisation or self.quantisation
        output = self.builder.tensor(
            (1, 1, 1, channels) if keep_dims else (1, channels), scale=scale, zero_point=zero_point
        )
        return self.then("MEAN", output, self.builder.constant(axes), keepDims=keep_dims)

    def softmax(self, beta: float = 1.0) -> "Case":
        """SOFTMAX."""
        return self.then("SOFTMAX", self.builder.tensor(self.shape, "int8", 1 / 256, -128), beta=beta)

    def build(self) -> bytes:
        """The model that ends here."""
        return self.builder.build([self.input], [self.tensor])


def imported(content: bytes, folder: Path) -> Network:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return load_tflite(path)


def check(case: Case, folder: Path, count: int = 8) -> Network:
    """The imported network makes what the interpreter makes, on random inputs of full and of small range."""
    content = case.build()
    network = imported(content, folder)
    rng = case.rng
    if network.input.dtype == "int8":
        wide = rng.integers(-128, 128, (count, *network.input.shape))
        near = network.input.zero_point + rng.integers(-2, 3, wide.shape)
        inputs = np.concatenate([wide, near]).clip(-128, 127).astype(np.int8)
    else:
        inputs = rng.normal(0, 5, (2 * count, *network.input.shape)).astype(np.float32)
    got = run_network(network, inputs)[network.output_name]
    expected = invoke(interpreter(content), inputs)
    assert expected.shape[1:] == got.shape[1:]
    np.testing.assert_array_equal(got, expected)
    return network


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "same": {},
    "valid": {"padding": "VALID"},
    "even kernel": {"kernel": (2, 4)},
    "one pixel": {"kernel": (1, 1)},
    "stride": {"stride": (2, 3)},
    "stride, valid": {"stride": (3, 2), "padding": "VALID"},
    "stride over a kernel": {"kernel": (1, 1), "stride": (2, 2)},
    "dilation": {"dilation": (2, 3)},
    "dilation, valid": {"dilation": (2, 1), "padding": "VALID"},
    "relu": {"activation": 1},
    "relu from -1 to 1": {"activation": 2},
    "relu6": {"activation": 3},
    "one scale": {"per_tensor": True},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("multiplier", [0, 1, 2, 3])
def test_convolution_equals_the_interpreter(name: str, multiplier: int, tmp_path: Path) -> None:
    for seed, shape in enumerate([(1, 9, 8, 3), (1, 8, 11, 1), (1, 5, 5, 5)]):
        case = Case.start(shape, (seed, multiplier)).convolution(multiplier=multiplier, **CONVOLUTIONS[name])
        network = check(case, tmp_path)
        assert network.nodes[-1].name == ("depthwise_conv2d_0" if multiplier else "conv2d_0")


def test_missing_bias_is_zero(tmp_path: Path) -> None:
    check(Case.start((1, 9, 8, 3)).convolution(multiplier=2, with_bias=False), tmp_path)
    network = imported(conv(with_bias=False).build(), tmp_path)  # which the interpreter refuses
    assert network.nodes[0].layer is not None
    assert not network.nodes[0].layer.bias.any()


@pytest.mark.parametrize("per_tensor", [True, False])
@pytest.mark.parametrize("bias", ["yes", "no", "none"])
@pytest.mark.parametrize("activation", [0, 1, 2, 3])
def test_fully_connected_equals_the_interpreter(
    per_tensor: bool, bias: str, activation: int, tmp_path: Path
) -> None:
    network = check(Case.start((1, 33)).fully_connected(60, per_tensor, bias, activation), tmp_path, 200)
    assert network.nodes[0].layer is not None
    assert network.nodes[0].layer.single_rounding


def at_every_step(weight_scale: float, output_scale: float) -> Case:
    """FULLY_CONNECTED without weights to speak of, whose biases lie around every step of its rescaling."""
    case = Case.start((1, 1))
    factor = case.quantisation[0] * weight_scale / output_scale
    steps = np.floor((np.arange(-256, 257) - 0.5) / factor)
    biases = (steps[:, None] + np.arange(-3, 5)).flatten().astype(np.int32)
    weights = case.builder.tensor((biases.size, 1), scale=weight_scale, data=np.zeros((biases.size, 1)))
    bias = case.builder.tensor(biases.shape, "int32", case.quantisation[0] * weight_scale, data=biases)
    zero_point = int(case.rng.integers(-99, 99))
    output = case.builder.tensor((1, biases.size), scale=output_scale, zero_point=zero_point)
    return case.then("FULLY_CONNECTED", output, weights, bias)


def test_fully_connected_equals_the_interpreter_at_every_step_of_its_rescaling(tmp_path: Path) -> None:
    for exponent in (-2, -6, -9, -12):
        for fraction in (0.125, 0.13, 0.17):
            scale = float(np.float32(fraction * 2.0**exponent))
            check(at_every_step(scale, 0.1), tmp_path, 1)  # the scale of the input: 0.125 makes ties
            check(at_every_step(scale, 0.07), tmp_path, 1)


def test_fully_connected_is_exact_where_the_nearest_multiplier_is_not(tmp_path: Path) -> None:
    found = 0
    for seed in range(20_000):
        scale = float(np.float32(np.random.default_rng((SEED, seed)).uniform(1, 2) * 2.0**-12))
        factor = np.float64(np.float32(0.1)) * scale / float(np.float32(0.07))
        if _rounded_once(factor, np.int64(2**21))[0] != quantize_multiplier(float(factor))[0]:
            network = check(at_every_step(scale, float(np.float32(0.07))), tmp_path, 1)
            assert network.nodes[0].layer is not None
            assert network.nodes[0].layer.multiplier[0] != quantize_multiplier(float(factor))[0]
            found += 1
            if found == 3:
                return
    pytest.fail("no such factor")


def test_fully_connected_whose_rescaling_cannot_be_exact_is_refused() -> None:
    for seed in range(1000):
        factor = np.float64(np.random.default_rng((SEED, seed)).uniform(1, 2) * 2.0**-20)
        try:
            _rounded_once(factor, np.int64(2**30))
        except UnsupportedError as error:
            assert "no multiplier gives exactly" in str(error)  # noqa: PT017 (not every factor is refused)
            return
    pytest.fail("no such factor")


def test_fully_connected_of_an_image_is_flattened(tmp_path: Path) -> None:
    check(Case.start((1, 3, 4, 2)).fully_connected(5), tmp_path)
    network = imported(Case.start((1, 3, 4, 2)).fully_connected(5).build(), tmp_path)
    assert [node.name for node in network.nodes] == ["reshape_0_in", "fully_connected_0"]
    network = imported(Case.start((1, 1, 1, 6)).fully_connected(5, keep=True).build(), tmp_path)
    assert [node.name for node in network.nodes] == ["reshape_0_in", "fully_connected_0", "reshape_0_out"]
    assert network.output.shape == (1, 1, 5)


@pytest.mark.parametrize("activation", [0, 1, 2, 3])
def test_add_equals_the_interpreter(activation: int, tmp_path: Path) -> None:
    case = Case.start((1, 6, 5, 7))
    first = case.tensor
    case.convolution(kernel=(1, 1), outputs=7)
    case.then("ADD", case.output((1, 6, 5, 7)), first, fusedActivationFunction=activation)
    assert check(case, tmp_path).nodes[-1].inputs == ("conv2d_0", "input")
    twice = Case.start((1, 10))
    twice.then("ADD", twice.output((1, 10)), twice.tensor, fusedActivationFunction=activation)
    check(twice, tmp_path)


@pytest.mark.parametrize("operator", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 3)), ((5, 4), (5, 4))])
@pytest.mark.parametrize("activation", [0, 1, 3])
def test_pool_equals_the_interpreter(
    operator: str,
    padding: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    activation: int,
    tmp_path: Path,
) -> None:
    for seed, shape in enumerate([(1, 7, 9, 3), (1, 5, 4, 2), (1, 8, 6, 1)]):
        check(Case.start(shape, seed).pool(operator, kernel, stride, padding, activation), tmp_path)


@pytest.mark.parametrize("amounts", [(1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 1, 3)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("multiplier", [0, 2])
def test_pad_is_folded_into_the_convolution(
    amounts: tuple[int, int, int, int], padding: str, multiplier: int, tmp_path: Path
) -> None:
    for explicit in (False, True):
        case = Case.start((1, 7, 6, 3))
        case.pad(*amounts, value=case.quantisation[1] if explicit else None)
        case.convolution(stride=(2, 2), padding=padding, multiplier=multiplier)
        network = check(case, tmp_path)
        assert len(network.nodes) == 1
        assert network.nodes[0].inputs == ("input",)
    assert network.nodes[0].layer is not None
    if padding == "VALID":
        assert network.nodes[0].layer.padding == amounts


def test_two_pads_and_two_readers_of_a_pad_are_folded(tmp_path: Path) -> None:
    case = Case.start((1, 6, 6, 3)).pad(1, 0, 0, 2).pad(0, 1, 3, 0)
    padded = case.tensor
    case.convolution(kernel=(4, 4), padding="VALID")
    first = case.tensor
    case.tensor = padded
    case.convolution(kernel=(4, 4), padding="VALID")
    case.then("ADD", case.output(case.shape), first)
    assert [node.op for node in check(case, tmp_path).nodes] == ["conv2d", "conv2d", "add"]


def every_sum(size: tuple[int, int]) -> npt.NDArray[np.int8]:
    """Images (N, *size, C) whose channels have every possible sum, their pixels as equal as they can be."""
    pixels, channels = math.prod(size), 1024
    sums = np.resize(np.arange(255 * pixels + 1), (-(-(255 * pixels + 1) // channels), 1, channels))
    images = sums // pixels + (np.arange(pixels)[:, None] < sums % pixels) - 128
    return images.reshape(-1, *size, channels).astype(np.int8)


MEAN_SIZES = [(1, 1), (1, 2), (1, 3), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (7, 7), (8, 8), (25, 5)]


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("size", MEAN_SIZES)
def test_mean_of_every_sum_equals_the_interpreter(
    size: tuple[int, int], keep_dims: bool, tmp_path: Path
) -> None:
    images = every_sum(size)
    total = (images.astype(np.int64) + 128).sum(axis=(1, 2))
    assert set(total.flatten().tolist()) == set(range(255 * math.prod(size) + 1))
    for seed, factor in enumerate([None, 1.0, 0.5, 2.0, 1e-4, 9.5, 0.0, 0.0]):  # 0 is any
        case = Case.start((1, *images.shape[1:]), (seed, *size, keep_dims))
        if factor is None:  # the quantisation stays
            quantisation = None
        else:
            factor = factor or 2 ** case.rng.uniform(-3, 3)
            scale = float(np.float32(case.quantisation[0] / factor))
            quantisation = scale, int(case.rng.integers(-150, 150).clip(-128, 127))
        content = case.mean(keep_dims, quantisation, (1, 2) if seed % 2 else (2, -3)).build()
        network = imported(content, tmp_path)
        assert network.nodes[0].name == "depthwise_conv2d_0"
        got = run_network(network, images)[network.output_name]
        np.testing.assert_array_equal(got, invoke(interpreter(content), images), err_msg=f"{factor} {size}")


def test_mean_has_the_multiplier_of_the_reference_kernel(tmp_path: Path) -> None:
    expected = {(3, 3): (2**30 * 8 // 9, -2), (8, 8): (2**30, -5), (25, 5): (2**30 * 64 // 125, -5)}
    for size, pair in expected.items():
        layer = imported(Case.start((1, *size, 4)).mean(True, None).build(), tmp_path).nodes[0].layer
        assert layer is not None
        assert (int(layer.multiplier[0]), int(layer.shift[0])) == pair


def test_reshapes_equal_the_interpreter(tmp_path: Path) -> None:
    case = Case.start((1, 3, 4, 2))
    case.then("RESHAPE", case.output((1, 24), keep=True), case.builder.constant([-1, 24]))
    case.then("RESHAPE", case.output((1, 1, 24, 1), keep=True), newShape=[1, 1, 24, 1])
    case.then("SQUEEZE", case.output((1, 24), keep=True), squeezeDims=[1, -1])
    case.then("EXPAND_DIMS", case.output((1, 24, 1), keep=True), case.builder.constant(-1))
    case.then("EXPAND_DIMS", case.output((1, 1, 24, 1), keep=True), case.builder.constant([1]))
    assert [node.output.shape for node in check(case, tmp_path).nodes] == [
        (24,), (1, 24, 1), (24,), (24, 1), (1, 24, 1)
    ]  # fmt: skip
    squeezed = Case.start((1, 6, 1, 1))
    network = imported(squeezed.then("SQUEEZE", squeezed.output((6,), keep=True)).build(), tmp_path)
    assert network.output.shape == (6,)


def test_quantise_and_dequantise_at_the_edges_equal_the_interpreter(tmp_path: Path) -> None:
    case = Case.start((1, 6, 6, 2), quantised=False)
    case.then("QUANTIZE", case.builder.tensor((1, 6, 6, 2), scale=0.1, zero_point=-7))
    case.convolution().then("QUANTIZE", case.output(case.shape)).softmax(0.5)
    case.then("DEQUANTIZE", case.builder.tensor(case.shape, "float32"))
    network = check(case, tmp_path)
    assert (network.input.dtype, network.output.dtype) == ("float32", "float32")
    assert [node.op for node in network.nodes] == ["quantize", "conv2d", "quantize", "softmax", "dequantize"]


def test_a_network_of_everything_equals_the_interpreter(tmp_path: Path) -> None:
    case = Case.start((1, 13, 11, 3)).convolution(stride=(2, 2), activation=3, outputs=6)
    skip = case.tensor
    case.convolution(multiplier=1, activation=1).convolution(kernel=(1, 1), outputs=6)
    case.then("ADD", case.output(case.shape), skip, fusedActivationFunction=1)
    case.pad(1, 1, 1, 1).convolution(multiplier=2, padding="VALID", stride=(2, 2))
    case.pool("MAX_POOL_2D", (2, 2), (1, 1), "SAME").pool("AVERAGE_POOL_2D", (4, 3), (4, 3), "VALID")
    case.then("RESHAPE", case.output((1, 12), keep=True), case.builder.constant([1, 12]))
    check(case.fully_connected(10).softmax(), tmp_path, 30)


# ---------------------------------------------------------------------------------------------- refusals
def two_inputs(case: Case) -> bytes:
    other = case.builder.tensor((1, 4), scale=0.1)
    return case.builder.build([case.input, other], [case.tensor])


def conv(**options: Any) -> Case:
    return Case.start((1, 8, 8, 4)).convolution(**options)


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
        case = Case.start((1, 512, 513, 16))
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
        "uint8": (uint8, "is UINT8; activations are int8 or float32"),
        "batch": (batch_of_two, "its first axis is no batch of 1"),
        "rows": (two_rows, r"operator 0 \(FULLY_CONNECTED\): an input \(3, 4\) .* supported is one row"),
        "weights": (weights_from_outside, "is not constant; it must be part of the file"),
        "activation": (tanh, "fused activation number 4; supported are NONE, RELU, RELU6 and RELU_N1_TO_1"),
        "constant operand": (constant_to_add, "is constant where an activation is expected"),
        "mean": (mean_over_channels, r"operator 1 \(MEAN\): a mean of .* supported are axes 1 and 2"),
        "large mean": (large_mean, r"operator 0 \(MEAN\): a mean over .*; supported are 4194304 values"),
        "steep mean": (steep_mean, r"operator 0 \(MEAN\): a mean of .* from scale .* leaves int32"),
        "rescaling pool": (pool_that_rescales, "input and output of a pool must share scale and zero point"),
        "weight zero point": (weights_with_a_zero_point, "with a zero point; supported is 0"),
        "softmax output": (other_softmax, r"operator 0 \(SOFTMAX\): output scale .*; supported are 1/256"),
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


def test_two_inputs_and_custom_operators_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="2 inputs and 1 outputs; supported is one of each"):
        imported(two_inputs(conv()), tmp_path)
    case = conv()
    case.builder.codes[0].builtinCode = case.builder.codes[0].deprecatedBuiltinCode = 32
    case.builder.codes[0].customCode = "MyOperator"
    with pytest.raises(UnsupportedError, match=r"operator 0 \(CUSTOM \(MyOperator\)\) is not supported"):
        imported(case.build(), tmp_path)


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
        "many inputs": (operator(inputs=[0] * 9), "a list of 9 entries"),
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


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", bytes(100), b"\x08\0\0\0TFL3", b"\xff" * 64, b"PK\3\4" + bytes(64)]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.tflite: (not a \.tflite file|damaged)"):
        imported(content, tmp_path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ModelFileError, match="no such file"):
            load_tflite(path)


def test_shared_constants_cannot_multiply_the_work(tmp_path: Path) -> None:
    case = Case.start((1, 2, 2, 64))
    weights = case.weights((64, 1, 1, 64), 0, True, 64)
    for _ in range(40):
        case.then("CONV_2D", case.output((1, 2, 2, 64)), weights)
    with pytest.raises(UnsupportedError, match="read more than 4 times"):
        imported(case.build(), tmp_path)
