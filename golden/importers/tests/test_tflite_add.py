# SPDX-License-Identifier: Apache-2.0
"""add against the TensorFlow Lite interpreter, which nobody here wrote (the layer vectors have no add)."""

from typing import Any

import numpy as np
import pytest

from common.testing import data_dir, require
from golden.arithmetic import quantize_add
from golden.operators import add


@pytest.mark.data
def test_add_equals_every_add_of_resnet8_in_the_reference_interpreter() -> None:
    model = require(data_dir() / "models" / "pretrainedResnet_quant.tflite")
    images = require(data_dir() / "cifar10" / "cifar10_test_first2000.npz")
    runtime: Any = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(
        str(model),
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    adds = [op for op in interpreter._get_ops_details() if op["op_name"] == "ADD"]
    assert len(adds) == 3
    with np.load(images) as archive:
        batch = (archive["image"][:3].astype(np.int16) - 128).astype(np.int8)
    for image in batch:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        for op in adds:
            indices = [*(int(i) for i in op["inputs"]), int(op["outputs"][0])]
            first, second, expected = (interpreter.get_tensor(index) for index in indices)
            scales, zero_points = zip(*(tensors[index]["quantization"] for index in indices), strict=True)
            rescaling = quantize_add(*scales)
            for name, zero_point in zip(("input1", "input2", "output"), zero_points, strict=True):
                rescaling[f"{name}_zero_point"] = zero_point
            got = add(first, second, **rescaling, act_min=-128, act_max=127)
            np.testing.assert_array_equal(got, expected)
