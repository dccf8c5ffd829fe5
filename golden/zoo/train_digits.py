# SPDX-License-Identifier: Apache-2.0
"""Trains the digits network and writes its files: `python -m golden.zoo.train_digits [folder]`.

One float network is trained first. The int8 variant quantises it after training (`quantize.export`), the
ternary one is trained on with all weights in {-1, 0, 1} (`quantize.qat`). Seeds are fixed and one thread is
used; on one machine the result repeats exactly.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.array_files import write_npz
from common.arrays import Bytes, Int64
from golden.network_file import save_network
from golden.quantize.export import export
from golden.quantize.qat import QatNetwork, convert, prepare_qat
from golden.zoo.digits import (
    FOLDER,
    INPUT_SCALE,
    INPUT_ZERO_POINT,
    TEST_SET,
    digits_images,
    load_digits_network,
    network_file,
    quantize_image,
)

SEED = 7
TEST_IMAGES = 450
BATCH = 64
FLOAT_EPOCHS = 40
TERNARY_EPOCHS = 60
RANGE_EPOCHS = 30  # of the ternary training; then the activations' ranges stay fixed


class DigitsNet(nn.Module):
    """The float network: (N, 1, 8, 8) images, black 0 to white 1, to (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.max_pool = nn.MaxPool2d(2)
        self.average_pool = nn.AvgPool2d(2)
        self.flatten = nn.Flatten()
        self.logits = nn.Linear(32, 10)
        for layer in (self.conv1, self.depthwise, self.conv2, self.conv3, self.logits):
            nn.init.kaiming_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see the class. The argument's name becomes that of the network's input."""
        x = functional.relu(self.conv1(image))
        x = functional.relu(self.depthwise(x))
        x = functional.relu(self.conv2(self.pad(x)))
        x = functional.relu(x + self.conv3(x))
        logits: Tensor = self.logits(self.flatten(self.average_pool(self.max_pool(x))))
        return logits


def real_images(images: Bytes) -> Tensor:
    """Turn (n, 8, 8) grey values 0 to 16 into the (n, 1, 8, 8) real values of `digits.quantize_image`."""
    quantized = torch.from_numpy(quantize_image(images)).movedim(-1, 1)
    return (quantized.float() - INPUT_ZERO_POINT) * INPUT_SCALE


def _batches(
    images: Bytes, labels: Int64, rng: np.random.Generator, real: Callable[[Bytes], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of shuffled batches, half of the images rotated by one pixel to the left or right."""
    order = rng.permutation(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        moves = rng.choice((-1, 0, 0, 1), BATCH)
        moved = [np.roll(image, move, axis=1) for image, move in zip(images[chosen], moves, strict=True)]
        yield real(np.stack(moved)), torch.from_numpy(labels[chosen])


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Bytes,
    labels: Int64,
    epochs: int,
    range_epochs: int = RANGE_EPOCHS,
    real: Callable[[Bytes], Tensor] = real_images,
) -> None:
    """Train with a cosine schedule; the ranges of a quantised network are frozen after `range_epochs`.

    Args:
        model: what is trained; left in evaluation mode.
        optimizer: of its parameters.
        images: (n, 8, 8) grey values 0 to 16.
        labels: (n,) digits.
        epochs: passes over the images.
        range_epochs: of these the first, in which activation ranges follow the batches.
        real: makes what the model reads of images.
    """
    rng = np.random.default_rng(SEED)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for epoch in range(epochs):
        if isinstance(model, QatNetwork) and epoch == range_epochs:
            model.freeze_ranges()
        for batch, target in _batches(images, labels, rng, real):
            optimizer.zero_grad()
            functional.cross_entropy(model(batch), target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    model.eval()


def train(images: Bytes, labels: Int64, epochs: int = FLOAT_EPOCHS) -> DigitsNet:
    """Train the float network on (n, 8, 8) images with grey values 0 to 16."""
    torch.manual_seed(SEED)
    model = DigitsNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    fit(model, optimizer, images, labels, epochs)
    return model


def train_ternary(start: DigitsNet, images: Bytes, labels: Int64, epochs: int = TERNARY_EPOCHS) -> QatNetwork:
    """Train on from the float network `start` with all weights in {-1, 0, 1}."""
    network = prepare_qat(
        start,
        real_images(images),
        weight_bits=2,
        name="digits_ternary",
        input_scale=INPUT_SCALE,
        input_zero_point=INPUT_ZERO_POINT,
    )
    fit(network, torch.optim.Adam(network.parameters(), lr=3e-3), images, labels, epochs)
    return network


def main(folder: Path = FOLDER) -> None:
    """Train both variants, write their files into `folder` and print the test accuracies."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = digits_images()
    order = np.random.default_rng(SEED).permutation(len(images))
    test, training = np.sort(order[:TEST_IMAGES]), np.sort(order[TEST_IMAGES:])
    model = train(images[training], labels[training])
    int8 = export(
        model,
        real_images(images[training]),
        name="digits_int8",
        input_scale=INPUT_SCALE,
        input_zero_point=INPUT_ZERO_POINT,
    )
    ternary = convert(train_ternary(model, images[training], labels[training]))
    with torch.no_grad():
        float_predictions = model(real_images(images[test])).argmax(dim=1).numpy()
    write_npz({"float_predictions": float_predictions, "test_indices": test}, folder / TEST_SET)
    for variant, network in (("int8", int8), ("ternary", ternary)):
        save_network(network, network_file(variant, folder))
        digits = load_digits_network(variant, folder)
        print(f"{variant}: {digits.correct()} of {TEST_IMAGES} test images right")
    print(f"float: {digits.float_correct()} of {TEST_IMAGES} test images right")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
