# SPDX-License-Identifier: Apache-2.0
"""How close an integer network is to its source, tensor by tensor: warned of when low, refused when broken.

Two signal-to-noise ratios are looked at, 20 log10(||real|| / ||real - network||) on calibration data.

* A tensor's *own* ratio: its operator in floating point, on the integers that it read and with the weights
  that it has, against what it made. It does not know the layers before, nor the width of the weights, so it
  is low only where a range does not fit or something else was computed.
* The *total* ratio: against the source's tensor. It falls with narrow weights and with depth.

Measured on 19 networks, trained and random, with 8 to 2 bits and every way to choose ranges: the lowest own
ratio of a network is 30 to 48 dB, and 19 dB where a large bias hides the signal. The total ratio at the
output is 26 to 46 dB with 8 bits, 8 to 34 dB with 4 and -6 to 18 dB with 2, which training must mend; a deep
network of random weights, whose noise grows from layer to layer, has -1 dB with 8. So own ratios below
`WARN_OWN_DB` and total ones below `WARN_TOTAL_DB` are warned of, and own ones below `REFUSE_OWN_DB` are
refused.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.arrays import Array
from common.errors import NetworkError
from golden.network import Network, Tensor as Quantization, run_network
from golden.quantize.float_graph import FloatGraph, as_image, run_float
from golden.quantize.qat import QatNetwork, quantize_input

WARN_TOTAL_DB = 10.0
WARN_OWN_DB = 15.0
REFUSE_OWN_DB = 6.0

CHECKED_IMAGES = 8
"""The most inputs that a network is compared on."""

CHECKED_MACS = 5e8
"""About how many multiply-accumulates a comparison may take; at least one input is compared."""


class FidelityWarning(UserWarning):
    """An integer network is far from its source."""


@dataclass(frozen=True, kw_only=True)
class TensorFidelity:
    """How close one tensor of a network is to its source.

    Attributes:
        name: of the tensor: the network's input or a layer.
        total_db: against the source's tensor; infinite where nothing differs.
        own_db: against its own operator in floating point; NaN where that was not measured.
        steps: the root mean square of its own noise, in steps of its scale; NaN as above.
        bits: the narrowest weights of the layer; 0 without weights.
    """

    name: str
    total_db: float
    own_db: float = math.nan
    steps: float = math.nan
    bits: int = 0


def ratio_db(real: Tensor, values: Tensor) -> float:
    """Return the signal to noise of `values` in dB: infinite without noise, -infinite without signal."""
    signal = float(real.double().square().sum())
    noise = float((values.double() - real.double()).square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def compare(
    values: Mapping[str, Tensor], reference: Mapping[str, Tensor], bits: Mapping[str, int] | None = None
) -> tuple[TensorFidelity, ...]:
    """Return the total ratios of the tensors that both have, in the reference's order.

    Importers call it with what their source computed.

    Args:
        values: the network's real values, scale * (q - zero_point), by name.
        reference: the source's, in the same shapes.
        bits: the narrowest weights of layers, by name.
    """
    return tuple(
        TensorFidelity(name=name, total_db=ratio_db(real, values[name]), bits=(bits or {}).get(name, 0))
        for name, real in reference.items()
        if name in values
    )


def measure(network: Network, qat: QatNetwork, graph: FloatGraph, x: Tensor) -> tuple[TensorFidelity, ...]:
    """Return how close every tensor of a network is to the float network that it was made from.

    Args:
        network: the network.
        qat: what was converted to it.
        graph: the float network.
        x: real inputs, (N, C, H, W), (N, C, L) or (N, C).
    """
    tensors = network.tensors
    values = {
        name: real_values(integers, tensors[name])
        for name, integers in run_network(network, quantize_input(network, x)).items()
    }
    own = {network.input_name: as_image(x)}
    with torch.no_grad():
        for operator in qat:
            inputs = operator.spec.inputs
            own[operator.spec.name] = operator.surrogate(
                [values[name] for name in inputs], tensors[inputs[0]]
            )
    bits = {node.name: int(node.weight_bits.min()) for node in network.nodes if node.weight_bits is not None}
    return tuple(
        replace(
            item,
            own_db=ratio_db(own[item.name], values[item.name]),
            steps=float((values[item.name] - own[item.name]).square().mean().sqrt())
            / tensors[item.name].scale,
        )
        for item in compare(values, run_float(graph, x), bits)
    )


def real_values(integers: Array, tensor: Quantization) -> Tensor:
    """Return what integers stand for, float32, channels first."""
    real = (torch.from_numpy(integers).float() - tensor.zero_point) * tensor.scale
    return real.movedim(-1, 1)


def images_to_compare(x: Tensor, macs: int) -> Tensor:
    """Return as many of the inputs as a comparison may take, for a network of so many MACs for each."""
    return x[: max(1, min(CHECKED_IMAGES, int(CHECKED_MACS // max(macs, 1))))]


def judge(name: str, fidelity: Sequence[TensorFidelity], stacklevel: int = 2) -> None:
    """Warn of a network that is far from its source, and refuse one with a broken tensor.

    Args:
        name: of the network.
        fidelity: its tensors in the order in which they run; the last is the output.
        stacklevel: of the warning, see `warnings.warn`.

    Raises:
        NetworkError: a tensor's own ratio is below `REFUSE_OWN_DB`, by more than rounding.
    """
    for item in fidelity:
        if item.own_db < REFUSE_OWN_DB and item.steps > 1:
            raise NetworkError(
                f"network {name!r}, tensor {item.name!r}: its signal to quantisation noise is "
                f"{item.own_db:.1f} dB, below {REFUSE_OWN_DB:g} dB, on exact inputs; its scale does not fit "
                "its values: calibrate on typical data, or give another range method or input scale"
            )
    begins = [item for item in fidelity if item.own_db < WARN_OWN_DB]
    if begins:
        _warn(name, begins[0], begins[0].own_db, WARN_OWN_DB, "on exact inputs", stacklevel)
    elif fidelity and fidelity[-1].total_db < WARN_TOTAL_DB:
        first = next(item for item in fidelity if item.total_db < WARN_TOTAL_DB)
        what = f"{fidelity[-1].total_db:.1f} dB at the output"
        _warn(name, first, first.total_db, WARN_TOTAL_DB, what, stacklevel)


def _warn(name: str, item: TensorFidelity, ratio: float, limit: float, what: str, stacklevel: int) -> None:
    narrow = f", whose narrowest weights have {item.bits} bits" if item.bits else ""
    warnings.warn(
        f"network {name!r}: the signal to quantisation noise falls below {limit:g} dB at {item.name!r}"
        f"{narrow}: {ratio:.1f} dB ({what}); wider weights, another range method, or training can mend it",
        FidelityWarning,
        stacklevel=stacklevel + 1,
    )
