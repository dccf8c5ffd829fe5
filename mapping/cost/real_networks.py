# SPDX-License-Identifier: Apache-2.0
"""The layers of six networks from the field.

| network      | input      | where the layers come from |
|--------------|------------|----------------------------|
| resnet8      | 32x32x3    | MLPerf Tiny, image classification |
| ds_cnn       | 49x10x1    | MLPerf Tiny, keyword spotting |
| mobilenet_v1 | 96x96x3    | MLPerf Tiny, visual wake words: width 0.25 |
| autoencoder  | 640        | MLPerf Tiny, anomaly detection |
| resnet20     | 32x32x3    | He et al., CVPR 2016, section 4.2, in ResNet8's form: float_networks |
| resnet18     | 224x224x3  | He et al., CVPR 2016, table 1, option B; names of torchvision |

Each list is a file of shapes, `networks/<network>.yaml`. Padding "same" is TensorFlow's; ResNet18's own pads
an equal number of pixels on both sides, which changes no size.
"""

from __future__ import annotations

from pathlib import Path

from mapping.cost.shapes import Shape, load_shapes

NETWORKS = ("resnet8", "ds_cnn", "mobilenet_v1", "autoencoder", "resnet20", "resnet18")
"""Names of the networks."""


def shapes_path(network: str) -> Path:
    """Return the file of a network's shapes."""
    return Path(__file__).with_name("networks") / f"{network}.yaml"


def real_networks() -> dict[str, tuple[Shape, ...]]:
    """Return the layers of each network that run on a unit, in their order, repetitions included."""
    return {name: tuple(load_shapes(shapes_path(name))) for name in NETWORKS}
