"""Trains the digits network and writes `digits_cnn.npz`: `python -m golden.train_digits [file]`.

One float network is trained first. The int8 variant quantises it after training, TensorFlow Lite style:
symmetric weights with one scale per output channel, asymmetric activations with one scale per tensor. The
ternary variant starts from it and is trained on with quantisation in the loop: in the forward pass each
tensor is the exact result of golden.operators, so training sees bit for bit what the hardware computes;
gradients go through a float twin of each operator (straight-through estimator). Seeds are fixed and one
thread is used; on one machine the result repeats exactly.

Source of the ternary weights: Li, Zhang, Liu, "Ternary Weight Networks", 2016 (threshold 0.7 * mean |w|).
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from golden import operators
from golden.arithmetic import quantize_add, quantize_multiplier
from golden.digits import FILE, IMAGE, INPUT_SCALE, INPUT_ZERO_POINT, VARIANTS, digits_images, quantize_image
from golden.layer import WEIGHTED_OPS, Layer, layer_to_arrays, write_npz

SEED = 7
TEST_IMAGES = 450
BATCH = 64
FLOAT_EPOCHS = 40
TERNARY_EPOCHS = 60
RANGE_EPOCHS = 30  # of the ternary training; then the activations' ranges stay fixed
RANGE_MOMENTUM = 0.05


@dataclass(frozen=True)
class Spec:
    """One node before training; fields as in golden.layer.Layer, `shape` is that of the weights."""

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...] = ()
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    kernel: tuple[int, int] = (1, 1)
    relu: bool = False


SAME = (1, 1, 1, 1)
STRUCTURE = (
    Spec("conv1", "conv2d", (IMAGE,), (16, 3, 3, 1), padding=SAME, relu=True),
    Spec("depthwise", "depthwise_conv2d", ("conv1",), (1, 3, 3, 16), padding=SAME, relu=True),
    Spec("conv2", "conv2d", ("depthwise",), (32, 3, 3, 16), stride=(2, 2), padding=(0, 1, 0, 1), relu=True),
    Spec("conv3", "conv2d", ("conv2",), (32, 3, 3, 32), padding=SAME),
    Spec("residual", "add", ("conv2", "conv3"), relu=True),
    Spec("max_pool", "max_pool", ("residual",), stride=(2, 2), kernel=(2, 2)),
    Spec("average_pool", "average_pool", ("max_pool",), stride=(2, 2), kernel=(2, 2)),
    Spec("logits", "fully_connected", ("average_pool",), (10, 32)),
)

Params = dict[str, tuple[Tensor, Tensor]]
Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """real = scale * (q - zero_point)."""

    scale: float
    zero_point: int


def activation_scales(ranges: Mapping[str, tuple[float, float]]) -> dict[str, Scale]:
    """The int8 scale of every tensor from its (smallest, largest) real value; pools keep their input's."""
    scales = {IMAGE: Scale(INPUT_SCALE, INPUT_ZERO_POINT)}
    for spec in STRUCTURE:
        if spec.op in ("max_pool", "average_pool"):
            scales[spec.name] = scales[spec.inputs[0]]
            continue
        low, high = min(ranges[spec.name][0], 0.0), max(ranges[spec.name][1], 0.0)
        scale = max(high - low, 1e-6) / 255
        scales[spec.name] = Scale(scale, min(max(round(-128 - low / scale), -128), 127))
    return scales


def _channels_first(spec: Spec, values: Tensor) -> Tensor:
    """(K, weights of one output channel), where K is last for depthwise and first otherwise."""
    return (values.movedim(-1, 0) if spec.op == "depthwise_conv2d" else values).flatten(start_dim=1)


def _like_weights(spec: Spec, per_channel: Tensor) -> Tensor:
    """(K,) -> a shape that broadcasts against the weights."""
    return (
        per_channel
        if spec.op == "depthwise_conv2d"
        else per_channel.reshape(-1, *[1] * (len(spec.shape) - 1))
    )


def quantize_weights(spec: Spec, weights: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """(integer weights as floats, in their own shape; scale of each output channel, (K,))."""
    weights = weights.detach().double()
    rows = _channels_first(spec, weights).abs()
    if variant == "int8":
        scale = rows.amax(dim=1).clamp(min=1e-8) / 127
        return (weights / _like_weights(spec, scale)).round().clamp(-127, 127), scale
    large = rows > 0.7 * rows.mean(dim=1, keepdim=True)
    scale = ((rows * large).sum(dim=1) / large.sum(dim=1).clamp(min=1)).clamp(min=1e-8)
    threshold = _like_weights(spec, 0.7 * rows.mean(dim=1))
    return weights.sign() * (weights.abs() > threshold), scale


def operator_arguments(
    spec: Spec, params: Params, scales: Mapping[str, Scale], variant: str
) -> dict[str, Any]:
    """All integer constants of one node, as golden.operators and golden.layer.Layer name them."""
    inputs, output = [scales[name] for name in spec.inputs], scales[spec.name]
    arguments: dict[str, Any] = {"act_min": output.zero_point if spec.relu else -128, "act_max": 127}
    if spec.op in ("max_pool", "average_pool"):
        return arguments | {"kernel": spec.kernel, "stride": spec.stride, "padding": spec.padding}
    if spec.op == "add":
        arguments |= quantize_add(inputs[0].scale, inputs[1].scale, output.scale)
        for part, scale in zip(("input1", "input2", "output"), (*inputs, output), strict=True):
            arguments[f"{part}_zero_point"] = scale.zero_point
        return arguments
    weights, bias = params[spec.name]
    integers, weight_scale = quantize_weights(spec, weights, variant)
    acc_scale = inputs[0].scale * weight_scale
    rescale = [quantize_multiplier(float(factor)) for factor in acc_scale / output.scale]
    arguments |= {
        "weights": integers.numpy().astype(np.int8),
        "bias": (bias.detach().double() / acc_scale).round().numpy().astype(np.int32),
        "multiplier": np.array([multiplier for multiplier, _ in rescale], np.int32),
        "shift": np.array([shift for _, shift in rescale], np.int32),
        "input_zero_point": inputs[0].zero_point,
        "output_zero_point": output.zero_point,
    }
    if spec.op != "fully_connected":
        arguments |= {"stride": spec.stride, "padding": spec.padding, "dilation": (1, 1)}
    return arguments


def float_operator(spec: Spec, inputs: list[Tensor], weights: Tensor | None, bias: Tensor | None) -> Tensor:
    """One node in floating point, channels last with a batch axis."""
    x = inputs[0]
    if spec.op == "fully_connected":
        assert weights is not None
        return functional.linear(x.flatten(start_dim=1), weights, bias)
    if spec.op == "add":
        out = inputs[0] + inputs[1]
        return out.relu() if spec.relu else out
    top, bottom, left, right = spec.padding
    x = functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    if spec.op == "max_pool":
        out = functional.max_pool2d(x, spec.kernel, spec.stride)
    elif spec.op == "average_pool":
        out = functional.avg_pool2d(x, spec.kernel, spec.stride)
    else:
        assert weights is not None
        depthwise = spec.op == "depthwise_conv2d"
        kernel = weights.permute(3, 0, 1, 2) if depthwise else weights.permute(0, 3, 1, 2)
        groups = x.shape[1] if depthwise else 1
        out = functional.conv2d(x, kernel, bias, stride=spec.stride, groups=groups)
    return (out.relu() if spec.relu else out).permute(0, 2, 3, 1)


def float_forward(params: Params, images: npt.NDArray[np.int8]) -> dict[str, Tensor]:
    """All tensors of the float network, by name; `images` is (N, 8, 8, 1) int8."""
    tensors = {
        IMAGE: torch.from_numpy((images.astype(np.float32) - INPUT_ZERO_POINT) * np.float32(INPUT_SCALE))
    }
    for spec in STRUCTURE:
        weights, bias = params.get(spec.name, (None, None))
        tensors[spec.name] = float_operator(spec, [tensors[name] for name in spec.inputs], weights, bias)
    return tensors


def quantized_forward(
    params: Params, images: npt.NDArray[np.int8], ranges: Ranges, variant: str, update_ranges: bool = False
) -> tuple[dict[str, Tensor], dict[str, npt.NDArray[np.int8]]]:
    """All tensors of the quantised network: real values that carry gradients, and the exact int8 values.

    The real values are the int8 ones times their scale, to float32 precision. `update_ranges` lets `ranges`
    follow the batch.
    """
    real = {IMAGE: torch.from_numpy((images.astype(np.float32) - INPUT_ZERO_POINT) * np.float32(INPUT_SCALE))}
    exact: dict[str, npt.NDArray[np.int8]] = {IMAGE: images}
    for spec in STRUCTURE:
        weights, bias = params.get(spec.name, (None, None))
        if weights is not None:
            integers, scale = quantize_weights(spec, weights, variant)
            quantized = (integers * _like_weights(spec, scale)).float()
            weights = weights + (quantized - weights).detach()
        twin = float_operator(spec, [real[name] for name in spec.inputs], weights, bias)
        if update_ranges:
            low, high = ranges[spec.name]
            low += RANGE_MOMENTUM * (twin.min().item() - low)
            high += RANGE_MOMENTUM * (twin.max().item() - high)
            ranges[spec.name] = (low, high)
        scales = activation_scales(ranges)
        arguments = operator_arguments(spec, params, scales, variant)
        sources = [exact[name] for name in spec.inputs]
        if spec.op == "fully_connected":
            sources = [sources[0].reshape(len(images), -1)]
        exact[spec.name] = getattr(operators, spec.op)(*sources, **arguments)
        own = scales[spec.name]
        value = torch.from_numpy(
            ((exact[spec.name].astype(np.float64) - own.zero_point) * own.scale).astype(np.float32)
        )
        limits = [(limit - own.zero_point) * own.scale for limit in (-128, 127)]
        twin = twin.clamp(*limits)
        real[spec.name] = twin + (value - twin).detach()
    return real, exact


def initial_params(generator: torch.Generator) -> Params:
    """He-initialised weights and zero biases."""
    params: Params = {}
    for spec in STRUCTURE:
        if spec.op in WEIGHTED_OPS:
            weights = torch.randn(spec.shape, generator=generator)
            rows = _channels_first(spec, weights)
            weights = weights * (2 / rows.shape[1]) ** 0.5
            params[spec.name] = (weights.requires_grad_(), torch.zeros(rows.shape[0]).requires_grad_())
    return params


def _batches(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.int8], Tensor]]:
    """One epoch of shuffled batches, half of the images rotated by one pixel to the left or right."""
    order = rng.permutation(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        batch = images[chosen].copy()
        moves = rng.choice((-1, 0, 0, 1), BATCH)
        for index, move in enumerate(moves):
            batch[index] = np.roll(batch[index], move, axis=1)
        yield quantize_image(batch), torch.from_numpy(labels[chosen])


def train(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], epochs: int = FLOAT_EPOCHS) -> Params:
    """Trains the float network on (n, 8, 8) images with grey values 0 to 16."""
    params = initial_params(torch.Generator().manual_seed(SEED))
    rng = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW([t for pair in params.values() for t in pair], lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch, target in _batches(images, labels, rng):
            optimizer.zero_grad()
            functional.cross_entropy(float_forward(params, batch)["logits"], target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return params


def calibrate(params: Params, images: npt.NDArray[np.uint8]) -> Ranges:
    """The smallest and largest value of every tensor of the float network on these images."""
    with torch.no_grad():
        tensors = float_forward(params, quantize_image(images))
    return {
        spec.name: (float(tensors[spec.name].min()), float(tensors[spec.name].max())) for spec in STRUCTURE
    }


def train_ternary(
    start: Params,
    ranges: Ranges,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    epochs: int = TERNARY_EPOCHS,
) -> tuple[Params, Ranges]:
    """Trains on from the float network `start` with exact ternary arithmetic in the forward pass."""
    params = {
        name: (w.detach().clone().requires_grad_(), b.detach().clone().requires_grad_())
        for name, (w, b) in start.items()
    }
    ranges = dict(ranges)
    rng = np.random.default_rng(SEED)
    optimizer = torch.optim.Adam([t for pair in params.values() for t in pair], lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for batch, target in _batches(images, labels, rng):
            optimizer.zero_grad()
            real, _ = quantized_forward(params, batch, ranges, "ternary", update_ranges=epoch < RANGE_EPOCHS)
            functional.cross_entropy(real["logits"], target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return params, ranges


def export_layers(params: Params, ranges: Ranges, variant: str) -> dict[str, Layer]:
    """The integer network: one layer of constants for each node, with zeros for the inputs."""
    scales = activation_scales(ranges)
    with torch.no_grad():
        tensors = float_forward(params, np.zeros((1, 8, 8, 1), np.int8))
    layers = {}
    for spec in STRUCTURE:
        blank = [np.zeros(tensors[name].shape[1:], np.int8) for name in spec.inputs]
        if spec.op == "fully_connected":
            blank[0] = blank[0].reshape(-1)
        inputs: dict[str, Any] = dict(zip(("input", "input2"), blank, strict=False))
        arguments = operator_arguments(spec, params, scales, variant)
        layers[spec.name] = Layer(name=spec.name, op=spec.op, **inputs, **arguments)
    return layers


def main(path: Path = FILE) -> None:
    """Trains both variants, writes them to `path` and prints the test accuracies."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = digits_images()
    order = np.random.default_rng(SEED).permutation(len(images))
    test, training = np.sort(order[:TEST_IMAGES]), np.sort(order[TEST_IMAGES:])
    params = train(images[training], labels[training])
    ranges = calibrate(params, images[training])
    trained = {"int8": (params, ranges)}
    trained["ternary"] = train_ternary(params, ranges, images[training], labels[training])

    def correct(logits: npt.NDArray[Any]) -> int:
        return int((logits.argmax(axis=1) == labels[test]).sum())

    inputs = quantize_image(images[test])
    with torch.no_grad():
        float_logits = float_forward(params, inputs)["logits"].numpy()
        print(f"float: {correct(float_logits)} of {TEST_IMAGES} test images right")
        for variant, (weights, tensor_ranges) in trained.items():
            exact = quantized_forward(weights, inputs, tensor_ranges, variant)[1]
            print(f"{variant}: {correct(exact['logits'])} of {TEST_IMAGES} test images right")
    arrays: dict[str, npt.NDArray[Any]] = {
        "nodes": np.array([spec.name for spec in STRUCTURE]),
        "float_predictions": float_logits.argmax(axis=1).astype(np.int64),
        "test_indices": test,
    }
    arrays |= {f"inputs/{spec.name}": np.array(spec.inputs) for spec in STRUCTURE}
    for variant in VARIANTS:
        for name, layer in export_layers(*trained[variant], variant).items():
            arrays |= {f"{variant}/{name}/{key}": value for key, value in layer_to_arrays(layer).items()}
    write_npz(arrays, path)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
