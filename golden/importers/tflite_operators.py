# SPDX-License-Identifier: Apache-2.0
"""The table of TensorFlow Lite's operators that come in, and what happens to each.

`python -m golden.importers.tflite_operators` prints it as the documentation has it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from golden.importers import tflite_host, tflite_layers
from golden.importers.tflite_file import FileOperator
from golden.importers.tflite_graph import TfliteGraph

UNIT, HOST, VIEW, NOTHING = "unit", "host", "view", "none"


@dataclass(frozen=True)
class Converter:
    """How an operator comes in.

    Attributes:
        convert: appends to the network what the operator does.
        runs: where: UNIT; HOST, before the first or behind the last operator on a unit; VIEW, nowhere on the
            units, which read the same bytes in another shape, or else on the host; NOTHING, as other
            operators absorb it.
        meaning: what it becomes, for people.
    """

    convert: Callable[[TfliteGraph, FileOperator], None]
    runs: str
    meaning: str


_WEIGHTS = "weights constant, int8, int4 or int2, zero point 0, one scale or one for each output channel"

CONVERTERS: dict[str, Converter] = {
    "CONV_2D": Converter(
        tflite_layers.convolution, UNIT, f"`conv2d`; {_WEIGHTS}; stride, dilation; no groups"
    ),
    "DEPTHWISE_CONV_2D": Converter(
        tflite_layers.convolution, UNIT, f"`depthwise_conv2d`; {_WEIGHTS}; any multiplier of channels"
    ),
    "FULLY_CONNECTED": Converter(
        tflite_layers.fully_connected, UNIT, f"`fully_connected` of one row, rounded once; {_WEIGHTS}"
    ),
    "ADD": Converter(tflite_layers.add, UNIT, "`add` of two activations of one shape"),
    "AVERAGE_POOL_2D": Converter(tflite_layers.pool, UNIT, "`average_pool`, one scale on both sides"),
    "MAX_POOL_2D": Converter(tflite_layers.pool, UNIT, "`max_pool`, one scale on both sides"),
    "MEAN": Converter(
        tflite_layers.mean, UNIT, "over rows, columns or both: `depthwise_conv2d` with weights of 1"
    ),
    "PAD": Converter(tflite_layers.pad, NOTHING, "padding of the convolution that reads it"),
    "PADV2": Converter(tflite_layers.pad, NOTHING, "the same, if it pads with the zero point"),
    "RESHAPE": Converter(tflite_host.reshape, VIEW, "`reshape`"),
    "SQUEEZE": Converter(tflite_host.squeeze, VIEW, "`reshape`"),
    "EXPAND_DIMS": Converter(tflite_host.expand_dims, VIEW, "`reshape`"),
    "TRANSPOSE": Converter(
        tflite_host.transpose,
        HOST,
        "`transpose`; nothing where a mean, FULLY_CONNECTED or another TRANSPOSE absorbs it",
    ),
    "SHAPE": Converter(tflite_host.shape_of, NOTHING, "a constant, as shapes are fixed"),
    "STRIDED_SLICE": Converter(tflite_host.strided_slice, NOTHING, "a constant; of shapes only"),
    "PACK": Converter(tflite_host.pack, NOTHING, "a constant; of shapes only"),
    "QUANTIZE": Converter(tflite_host.quantize, HOST, "`quantize`: float32, int8 or uint8 to int8 or uint8"),
    "DEQUANTIZE": Converter(tflite_host.dequantize, HOST, "`dequantize`: int8 or uint8 to float32"),
    "SOFTMAX": Converter(tflite_host.softmax, HOST, "`softmax` of int8 or float32"),
    "LOG_SOFTMAX": Converter(tflite_host.log_softmax, HOST, "`log_softmax` of int8 or float32"),
    "LOGISTIC": Converter(tflite_host.logistic, HOST, "`logistic` of int8 or float32"),
    "ARG_MAX": Converter(tflite_host.arg_max, HOST, "`arg_max` of int8, uint8 or float32 to int32 or int64"),
}

_STATE = "keeps state from one input to the next (a streaming model); networks here have none"
_RECURRENT = "a recurrent layer; networks here are of convolutions, fully connected layers, additions, pools"
REASONS: dict[str, str] = {
    "VAR_HANDLE": _STATE,
    "READ_VARIABLE": _STATE,
    "ASSIGN_VARIABLE": _STATE,
    "CALL_ONCE": f"initialises state: the model {_STATE}",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _RECURRENT,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _RECURRENT,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _RECURRENT,
    "BIDIRECTIONAL_SEQUENCE_RNN": _RECURRENT,
    "LSTM": _RECURRENT,
    "RNN": _RECURRENT,
    "SVDF": _STATE,
    "CUSTOM (ethos-u)": "compiled by Vela for an Ethos-U; import the .tflite file that Vela was given",
    "CUSTOM (edgetpu-custom-op)": "compiled for an Edge TPU; import the .tflite file that was compiled",
}
"""Why some operators that users meet are not supported, beyond their names."""


def refusal(name: str) -> str:
    """Return why an operator that has no converter is refused, beyond its name; "" where there is no more."""
    if name.startswith("CUSTOM (Flex"):
        return "TensorFlow's own (a Flex operator); convert the model with TensorFlow Lite's operators only"
    return REASONS.get(name, "")


_WHERE = {
    UNIT: "unit",
    HOST: "host, at the ends",
    VIEW: "nowhere (a view), else host, at the ends",
    NOTHING: "nowhere",
}


def operator_table() -> str:
    """Return the table of all operators that come in, in Markdown."""
    lines = ["| operator | runs on | becomes |", "|---|---|---|"]
    lines += [f"| {name} | {_WHERE[item.runs]} | {item.meaning} |" for name, item in CONVERTERS.items()]
    lines += ["", "These are refused with more than their name:", "", "| operator | why |", "|---|---|"]
    lines += [f"| {name} | {reason} |" for name, reason in REASONS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(operator_table())
