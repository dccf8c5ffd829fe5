# SPDX-License-Identifier: Apache-2.0
"""Trains ResNet8 and DS-CNN on upscaled digits: `python -m golden.zoo.train_upscaled [folder]`.

Each float network is trained first. Its int8 variant quantises it after training (`quantize.export`), the
2-bit one is trained on with all weights in {-1, 0, 1} (`quantize.qat`). The test images are those of
`train_digits`. Seeds are fixed and one thread is used; on one machine the result repeats exactly.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.array_files import read_npz, write_npz
from common.arrays import Bytes, Int64
from golden.network_file import save_network
from golden.quantize.export import export
from golden.quantize.qat import convert, prepare_qat
from golden.zoo.digits import FOLDER, INPUT_SCALE, INPUT_ZERO_POINT, TEST_SET, digits_images
from golden.zoo.float_networks import DsCnn, ResNet
from golden.zoo.train_digits import SEED, fit
from golden.zoo.upscaled import (
    NETWORKS,
    SIZE,
    UPSCALED_TEST_SET,
    measured_drop,
    names,
    upscale,
    upscaled_file,
)

FLOAT_EPOCHS = 16
TRAINED_EPOCHS = 12
RANGE_EPOCHS = 6  # of the training at 2 bits; then the activations' ranges stay fixed


def real_upscaled(images: Bytes) -> Tensor:
    """Turn (n, 8, 8) grey values 0 to 16 into (n, 1, 32, 32) real values from 0 to 1."""
    return (torch.from_numpy(upscale(images)).movedim(-1, 1).float() - INPUT_ZERO_POINT) * INPUT_SCALE


def make(network: str) -> nn.Module:
    """Return a float network with random weights, for (N, 1, 32, 32) images."""
    if network == "resnet8":
        return ResNet(blocks=1, in_channels=1)
    return DsCnn(classes=10, input_shape=(1, SIZE, SIZE))


def train(network: str, images: Bytes, labels: Int64, epochs: int = FLOAT_EPOCHS) -> nn.Module:
    """Train a float network on (n, 8, 8) images with grey values 0 to 16."""
    torch.manual_seed(SEED)
    model = make(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    fit(model, optimizer, images, labels, epochs, real=real_upscaled)
    return model


def train_variants(
    network: str, images: Bytes, labels: Int64, folder: Path, epochs: int = TRAINED_EPOCHS
) -> nn.Module:
    """Train a float network and write its variants into a folder; return the float network."""
    model = train(network, images, labels)
    calibration = real_upscaled(images)
    quantization = {"input_scale": INPUT_SCALE, "input_zero_point": INPUT_ZERO_POINT}
    int8 = export(model, calibration, name=f"digits_{network}_int8", **quantization)  # type: ignore[arg-type]
    save_network(int8, upscaled_file(network, "int8", folder))
    trained = prepare_qat(
        model, calibration, weight_bits=2, name=f"digits_{network}_2bit", **quantization  # type: ignore[arg-type]
    )  # fmt: skip
    optimizer = torch.optim.Adam(trained.parameters(), lr=3e-3)
    fit(trained, optimizer, images, labels, epochs, RANGE_EPOCHS, real_upscaled)
    save_network(convert(trained), upscaled_file(network, "2bit", folder))
    return model


def main(folder: Path = FOLDER) -> None:
    """Train everything, write the files into `folder` and print what each variant loses."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = digits_images()
    test = read_npz(FOLDER / TEST_SET)["test_indices"]
    training = np.setdiff1d(np.arange(len(images)), test)
    said = {}
    for network in NETWORKS:
        model = train_variants(network, images[training], labels[training], folder)
        with torch.no_grad():
            said[network] = model(real_upscaled(images[test])).argmax(dim=1).numpy()
        print(f"{network} float: {(said[network] == labels[test]).sum()} of {len(test)} test images right")
    write_npz(said, folder / UPSCALED_TEST_SET)
    for network, variant in names():
        drop = measured_drop(network, variant, folder)
        low, high = drop.interval
        print(f"{network} {variant}: accuracy_drop {drop.points:.2f}, interval [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
