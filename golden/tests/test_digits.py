"""The digits network: its documented accuracy, and that training saw exactly what golden computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from golden import train_digits
from golden.digits import FILE, IMAGE, VARIANTS, digits_images, load_digits_network, quantize_image
from golden.errors import LayerFileError, ShapeError, UnsupportedError
from golden.layer import OPS, WEIGHTED_OPS, read_npz, run_layer, write_npz

CORRECT = {"int8": 441, "ternary": 441}
FLOAT_CORRECT = 442
TEST_IMAGES = 450


@pytest.mark.parametrize("variant", VARIANTS)
def test_committed_network_predicts_exactly_the_documented_number_of_test_images(variant: str) -> None:
    network = load_digits_network(variant)
    assert len(network.test_indices) == TEST_IMAGES
    assert network.correct() == CORRECT[variant]
    assert network.float_correct() == FLOAT_CORRECT
    assert network.float_correct(0) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_network_uses_every_operator(variant: str) -> None:
    assert {node.layer.op for node in load_digits_network(variant).nodes} == set(OPS)


def test_all_weights_of_the_ternary_variant_are_ternary() -> None:
    for node in load_digits_network("ternary").nodes:
        if node.layer.op in WEIGHTED_OPS:
            assert set(np.unique(node.layer.weights)) <= {-1, 0, 1}, node.name
            assert len(np.unique(node.layer.weights)) == 3, node.name


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_for_an_image_chain_real_inputs_and_golden_outputs(variant: str) -> None:
    network = load_digits_network(variant)
    images, _ = network.test_set()
    layers = network.layers_for(images[0])
    outputs = {IMAGE: quantize_image(images[0])}
    for node, layer in zip(network.nodes, layers, strict=True):
        np.testing.assert_array_equal(layer.input.reshape(-1), outputs[node.inputs[0]].reshape(-1))
        if layer.op == "add":
            np.testing.assert_array_equal(layer.input2, outputs[node.inputs[1]])
        assert layer.expected is not None
        np.testing.assert_array_equal(layer.expected, run_layer(layer))
        assert len(np.unique(layer.expected)) > 1, f"{node.name} is constant: a test with it would be blind"
        outputs[node.name] = layer.expected
    assert network.predict(images[0]) == outputs["logits"].argmax()


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_pass_of_training_equals_the_exported_integer_network(variant: str) -> None:
    torch.set_num_threads(1)
    images, _ = digits_images()
    params = train_digits.initial_params(torch.Generator().manual_seed(3))
    ranges = train_digits.calibrate(params, images[:50])
    real, exact = train_digits.quantized_forward(params, quantize_image(images[:20]), ranges, variant)
    layers = train_digits.export_layers(params, ranges, variant)
    scales = train_digits.activation_scales(ranges)
    outputs = {IMAGE: quantize_image(images[:20])}
    for spec in train_digits.STRUCTURE:
        results = []
        for index in range(20):
            sources = [outputs[name][index] for name in spec.inputs]
            template = layers[spec.name]
            inputs: dict[str, Any] = dict(zip(("input", "input2"), sources, strict=False))
            inputs["input"] = inputs["input"].reshape(template.input.shape)
            results.append(run_layer(replace(template, **inputs)))
        outputs[spec.name] = np.stack(results)
        np.testing.assert_array_equal(exact[spec.name], outputs[spec.name], err_msg=spec.name)
        scale = scales[spec.name]
        back = real[spec.name].detach().double() / scale.scale + scale.zero_point
        np.testing.assert_array_equal(back.round().numpy(), outputs[spec.name], err_msg=spec.name)


def test_float_twin_stays_within_a_few_steps_of_the_exact_result_and_carries_gradients() -> None:
    torch.set_num_threads(1)
    images, _ = digits_images()
    params = train_digits.initial_params(torch.Generator().manual_seed(3))
    ranges = train_digits.calibrate(params, images[:50])
    batch = quantize_image(images[:20])
    real, exact = train_digits.quantized_forward(params, batch, ranges, "int8")
    reference = train_digits.float_forward(params, batch)["logits"].detach().numpy()
    scale = train_digits.activation_scales(ranges)["logits"]
    got = (exact["logits"].astype(np.float64) - scale.zero_point) * scale.scale
    assert np.abs(got - reference).max() < 16 * scale.scale
    real["logits"].square().sum().backward()  # type: ignore[no-untyped-call]
    for name, tensors in params.items():
        assert all(t.grad is not None and float(t.grad.abs().sum()) > 0 for t in tensors), name


def test_training_is_repeatable() -> None:
    torch.set_num_threads(1)
    images, labels = digits_images()
    first, second = (train_digits.train(images[:128], labels[:128], epochs=2) for _ in range(2))
    for name in first:
        assert all(torch.equal(a, b) for a, b in zip(first[name], second[name], strict=True))


def test_a_missing_or_incomplete_network_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LayerFileError, match="no such file"):
        load_digits_network("int8", tmp_path / "none.npz")
    arrays = read_npz(FILE)
    del arrays["int8/conv1/bias"]
    write_npz(arrays, tmp_path / "part.npz")
    with pytest.raises(LayerFileError, match=r"part\.npz.*'bias' is missing.*train_digits"):
        load_digits_network("int8", tmp_path / "part.npz")
    with pytest.raises(UnsupportedError, match="int8, ternary"):
        load_digits_network("int4")


@pytest.mark.parametrize(
    "image", [np.zeros((8, 7)), np.full((8, 8), 17), np.full((8, 8), 0.5), np.full((8, 8), -1)]
)
def test_an_image_that_is_no_digit_is_refused(image: npt.NDArray[Any]) -> None:
    with pytest.raises(ShapeError, match="8 x 8"):
        quantize_image(image)
