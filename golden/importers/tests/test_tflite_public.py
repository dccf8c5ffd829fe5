# SPDX-License-Identifier: Apache-2.0
"""Models that users bring: they run exactly as in the interpreter, or are refused with the reason."""

from pathlib import Path

import flatbuffers
import pytest

from common.errors import UnsupportedError
from common.testing import data_dir, require
from golden.importers.testing import agree, schema
from golden.importers.tflite import examine_tflite
from mapping.compiler.legalise import legalise_network

RUNS = {
    "fingerprint_signature_generator": 6,
    "keyword_spotting_on_off_v3": 6,
    "mcunet_vww": 2,
    "micro_speech_quantized": 6,
    "mltk_anomaly_detection": 6,
    "mobilenet_v2_quantized_1x3x224x224": 1,
    "person_detect": 2,
    "ptq_mnist_lenet-300-100": 6,
    "tf2_mobilenet_v2_1.0_224_ptq": 1,
}
"""Models that run, with half the number of inputs that are compared."""
REFUSED = {
    "keras_lstm_mnist_ptq": r"operator 1 \(UNIDIRECTIONAL_SEQUENCE_LSTM\) is not supported: a recurrent",
    "trained_lstm_int8": r"operator 0 \(UNIDIRECTIONAL_SEQUENCE_LSTM\) is not supported: a recurrent",
    "mobilenet_v1_0.25_128_quant": r"and 23 more: reads or makes uint8; .* convert the model to int8",
    "person_detect_vela": r"operator 0 \(CUSTOM \(ethos-u\)\) is not supported: compiled by Vela",
    "split_concat": r"operators 0, 2 \(CONCATENATION\) are not supported",
    "wake_word_okay_nabu": r"operators 8, .* \(READ_VARIABLE\) are not supported: keeps state",
    "wake_word_vad": r"operators 6, .* \(READ_VARIABLE\) are not supported: keeps state",
}


def model(name: str) -> Path:
    return require(data_dir() / "models" / "public" / f"{name}.tflite")


def mended(content: bytes) -> bytes:
    """A model whose biases name an axis that they do not have, which the interpreter refuses."""
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for tensor in tree.subgraphs[0].tensors:
        if tensor.quantization is not None and tensor.quantization.quantizedDimension >= len(tensor.shape):
            tensor.quantization.quantizedDimension = 0
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.data
@pytest.mark.parametrize("name", RUNS)
def test_a_public_model_is_exact(name: str, tmp_path: Path) -> None:
    content = model(name).read_bytes()
    network = agree(mended(content) if name == "person_detect" else content, tmp_path, RUNS[name])
    graph = legalise_network(network)
    assert graph.ops


@pytest.mark.data
@pytest.mark.parametrize("name", REFUSED)
def test_another_public_model_is_refused_with_the_reason(name: str) -> None:
    report = examine_tflite(model(name))
    assert isinstance(report.error, UnsupportedError)
    assert str(model(name)) in str(report.error)
    with pytest.raises(UnsupportedError, match=REFUSED[name]):
        raise report.error
    assert any(item.reason for item in report.operators)
