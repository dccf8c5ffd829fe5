# SPDX-License-Identifier: Apache-2.0
"""Small float networks for tests of export and training: the field's usual structures, and random ones."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.network import Network, run_network
from golden.quantize.qat import quantize_input
from golden.zoo import float_networks


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Block(nn.Module):
    """The basic block of a CIFAR ResNet (He et al., 2016); a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return functional.relu(out)


class ResNet(float_networks.ResNet):
    """A CIFAR ResNet whose blocks pad as PyTorch's own do."""

    def __init__(self, blocks: int = 1, width: int = 16, classes: int = 10) -> None:
        super().__init__(blocks, width, classes, Block)


def mobilenet(width: int = 8, classes: int = 5) -> nn.Sequential:
    """Return MobileNetV1's structure, shortened: separable convolutions with ReLU6, mean, linear."""

    def separable(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [
            nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1),
            nn.Conv2d(inputs, inputs, 3, stride, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU6(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        ]

    return nn.Sequential(
        *conv_bn(3, width, stride=2),
        *separable(width, 2 * width, 1),
        *separable(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


class DsCnn(nn.Module):
    """DS-CNN's structure (Zhang et al., "Hello Edge"), shortened: one input channel, an uneven kernel."""

    def __init__(self, width: int = 8, classes: int = 12) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(1, width, (10, 4), (2, 2), padding=(5, 1)), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            *conv_bn(width, width, groups=width), *conv_bn(width, width, 1), nn.Dropout(0.2)
        )
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.first(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Flattened(nn.Module):
    """Every operator; a linear layer reads a flattened image of several pixels, and feeds another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding="same", dilation=2)
        self.depthwise = nn.Conv2d(6, 12, (3, 1), stride=(1, 2), padding=(1, 0), groups=6)
        self.branch = nn.Conv2d(6, 12, 1, stride=(1, 2))
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.average = nn.AvgPool2d(2, stride=1, padding=1, count_include_pad=False)
        self.hidden = nn.Linear(12 * 6 * 3, 16)
        self.norm = nn.BatchNorm1d(16)
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        x = functional.relu6(torch.add(self.depthwise(x), self.branch(x)))
        x = torch.flatten(self.average(self.pool(x)), 1)
        return self.out(self.norm(self.hidden(x)).relu())  # type: ignore[no-any-return]


def network_outputs(network: Network, x: Tensor) -> Tensor:
    """Return a network's real outputs in PyTorch's order of axes; a sequence is an image of height 1."""
    q = run_network(network, quantize_input(network, x))[network.output_name].astype(np.float64)
    return torch.from_numpy((q - network.output.zero_point) * network.output.scale).movedim(-1, 1)


def signal_to_noise(network: Network, model: nn.Module, x: Tensor) -> float:
    """Return how close an integer network is to its float module, in dB."""
    with torch.no_grad():
        real = model(x.clone()).double()
    noise = network_outputs(network, x).reshape(real.shape) - real
    return float(10 * torch.log10(real.square().sum() / noise.square().sum().clamp(min=1e-30)))


def settle(model: nn.Module, images: Tensor, seed: int = 0) -> nn.Module:
    """Return the model with batch statistics that fit these images and random gains, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            with torch.no_grad():
                module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
                module.weight[0] *= -1  # a gain may be negative
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.2)
    with torch.no_grad():
        for _ in range(20):
            model.train()(images)
    return model.eval()


def images_for(name: str, count: int, seed: int = 0) -> Tensor:
    """Return smooth random images with values from 0 to 1, in the shape that the model `name` reads."""
    shapes = {"resnet": (3, 16, 16), "mobilenet": (3, 16, 16), "ds_cnn": (1, 25, 10), "flattened": (2, 9, 8)}
    return smooth_images(shapes[name], count, seed)


def smooth_images(shape: tuple[int, int, int], count: int, seed: int = 0) -> Tensor:
    """Return random images (count, *shape) with values from 0 to 1 that change slowly from pixel to pixel."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator)
    return functional.interpolate(coarse, shape[1:], mode="bilinear").clamp(0, 1)


def model_for(name: str, seed: int = 0) -> nn.Module:
    """Return a settled model: "resnet", "mobilenet", "ds_cnn" or "flattened"."""
    torch.manual_seed(seed)
    makers: dict[str, Any] = {
        "resnet": lambda: ResNet(width=8),
        "mobilenet": mobilenet,
        "ds_cnn": DsCnn,
        "flattened": Flattened,
    }
    return settle(makers[name](), images_for(name, 64, seed + 1), seed)


NAMES = ("resnet", "mobilenet", "ds_cnn", "flattened")


def random_model(rng: np.random.Generator, channels: int) -> nn.Sequential:
    """Return random convolutions and what may follow them, a pool, a linear layer; for 12 x 12 images."""
    torch.manual_seed(int(rng.integers(2**31)))
    layers: list[nn.Module] = []
    image = torch.zeros(1, channels, 12, 12)
    for _ in range(int(rng.integers(2, 5))):
        depthwise = channels > 5 and bool(rng.integers(2))  # few channels could all be cut off
        outputs = channels * int(rng.integers(1, 3)) if depthwise else int(rng.integers(6, 14))
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        layers.append(
            nn.Conv2d(
                channels,
                outputs,
                kernel,
                stride=int(rng.integers(1, 3)),
                padding=(kernel[0] // 2 + int(rng.integers(2)), kernel[1] // 2),
                groups=channels if depthwise else 1,
                bias=bool(rng.integers(2)),
            )
        )
        nn.init.kaiming_normal_(layers[-1].weight)  # type: ignore[arg-type]
        if rng.integers(2):
            layers.append(nn.BatchNorm2d(outputs))
        layers.append((nn.Identity(), nn.ReLU(), nn.ReLU6())[int(rng.integers(3))])
        channels = outputs
    layers.append((nn.Identity(), nn.MaxPool2d(2, 1, 1), nn.AvgPool2d((2, 1), 1))[int(rng.integers(3))])
    layers.append(nn.Flatten())
    features = nn.Sequential(*layers).eval()(image).shape[1]
    return nn.Sequential(*layers, nn.Linear(features, 4))
