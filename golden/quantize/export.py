# SPDX-License-Identifier: Apache-2.0
"""The exporter: a trained PyTorch module becomes a quantised network.

    network = export(model, images, weight_bits={"conv1": 8, "conv2": 2})

It is `golden.quantize.qat` without the training: prepare, then convert. The network is then compared with the
module on calibration data; see `golden.quantize.fidelity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.errors import NetworkError
from golden.network import Network
from golden.quantize.fidelity import TensorFidelity, images_to_compare, judge, measure
from golden.quantize.float_graph import FloatGraph, as_image, run_float
from golden.quantize.qat import Batches, convert, prepare
from golden.quantize.ranges import Method
from golden.quantize.trace import TOLERANCE
from golden.quantize.weights import WeightError, Widths, weight_error
from golden.quantize.wrappers import plain_module


@dataclass(frozen=True, kw_only=True, eq=False)
class Export:
    """A network made from a float module, and what was lost.

    Attributes:
        network: the integer network.
        weights: what each layer's weights lost against the module's, batch normalisation folded in.
        fidelity: how close each tensor is to the module's, on calibration data.
    """

    network: Network
    weights: tuple[WeightError, ...]
    fidelity: tuple[TensorFidelity, ...]


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

    Raises:
        NetworkError: also where the network is broken; see `fidelity.judge`, which also warns.
    """
    return _export(
        model, batches, weight_bits, name, ranges, input_scale, input_zero_point, stacklevel=4
    ).network


def export_with_losses(
    model: nn.Module,
    batches: Batches,
    *,
    weight_bits: int | Mapping[str, Widths] = 8,
    name: str = "network",
    ranges: Method = "minmax",
    input_scale: float | None = None,
    input_zero_point: int = 0,
) -> Export:
    """Do as `export`, and say what was lost against the float module."""
    return _export(model, batches, weight_bits, name, ranges, input_scale, input_zero_point, stacklevel=4)


def _export(
    model: nn.Module,
    batches: Batches,
    weight_bits: int | Mapping[str, Widths],
    name: str,
    ranges: Method,
    input_scale: float | None,
    input_zero_point: int,
    stacklevel: int,
) -> Export:
    prepared = prepare(
        model,
        batches,
        weight_bits=weight_bits,
        name=name,
        ranges=ranges,
        input_scale=input_scale,
        input_zero_point=input_zero_point,
    )
    network = convert(prepared.qat)
    images = images_to_compare(prepared.images, network.macs)
    _check_module(name, model, prepared.graph, images)
    fidelity = measure(network, prepared.qat, prepared.graph, images)
    judge(name, fidelity, stacklevel)
    weights = [
        weight_error(network.node(node.name), node.weight)
        for node in prepared.graph.nodes
        if node.weight is not None
    ]
    return Export(network=network, weights=tuple(weights), fidelity=fidelity)


def _check_module(name: str, model: nn.Module, graph: FloatGraph, images: Tensor) -> None:
    """Check that the float network computes what the module computes on other inputs than it was traced on.

    Raises:
        NetworkError: it does not.
    """
    with torch.no_grad():
        result = plain_module(model)(images.clone())
    (real,) = torch.utils._pytree.tree_leaves(result)
    output = list(run_float(graph, images).values())[-1]
    error = float((as_image(real.float()) - output).norm())
    if not error <= TOLERANCE * float(real.norm()) + 1e-6:
        share = error / max(float(real.norm()), 1e-30)
        raise NetworkError(
            f"network {name!r}: the module computes something else than when it was recorded, by {share:.2g} "
            "of it; it is random, changes itself, or decides by values"
        )
