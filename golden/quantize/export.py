"""The exporter: a trained PyTorch module becomes a quantised network.

    network = export(model, images, weight_bits={"conv1": 8, "conv2": 2})

It is `golden.quantize.qat` without the training: prepare, then convert.
"""

from collections.abc import Mapping

from torch import nn

from golden.network import Network
from golden.quantize.qat import Batches, convert, prepare_qat
from golden.quantize.ranges import Method
from golden.quantize.weights import Widths


def export(
    model: nn.Module,
    batches: Batches,
    *,
    weight_bits: int | Mapping[str, Widths] = 8,
    name: str = "network",
    ranges: Method = "minmax",
    input_scale: float | None = None,
    input_zero_point: int = 0,
) -> Network:
    """Quantise a trained float module after training.

    Arguments and errors: as `qat.prepare_qat`. `qat.quantize_input` makes the network's input
    from the module's.
    """
    return convert(
        prepare_qat(
            model,
            batches,
            weight_bits=weight_bits,
            name=name,
            ranges=ranges,
            input_scale=input_scale,
            input_zero_point=input_zero_point,
        )
    )
