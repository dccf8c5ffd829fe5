# SPDX-License-Identifier: Apache-2.0
"""Float networks of the field as PyTorch modules, to be trained, quantised and mapped.

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (ResNet); Zhang et
al., "Hello Edge: Keyword Spotting on Microcontrollers", arXiv:1711.07128 (DS-CNN); Howard et al.,
"MobileNets", arXiv:1704.04861 (MobileNetV1); the sizes of the last two, and ResNet8, are those of Banbury et
al., "MLPerf Tiny Benchmark", arXiv:2106.07597.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.network import Network
from golden.quantize.export import export

IMAGES = 16
"""Random images that normalise and calibrate a network with random weights."""

MOBILENET_V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1),
)  # fmt: skip
"""(channels, stride) of MobileNetV1's separable convolutions: Howard et al., table 1."""


class Block(nn.Module):
    """The basic block of a CIFAR ResNet, in the form of MLPerf Tiny's ResNet8.

    It differs from He et al. in two things: where the shape changes, the shortcut is a 1 x 1 convolution
    with stride (their option B; for CIFAR they take A, which fills up with zeros), and a stride of 2 pads at
    the bottom and right only (TensorFlow's "same").
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)  # left, right, top, bottom
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, inputs, H, W) into (N, outputs, H / stride, W / stride); stride is 1 or 2."""
        out = functional.relu(self.bn1(self.conv1(self.pad(x))))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return functional.relu(out)


class ResNet(nn.Module):
    """A CIFAR ResNet of 6 * blocks + 2 layers: `blocks` in each of three stages, 1 makes ResNet8, 3 ResNet20.

    Args:
        blocks: in each stage.
        width: channels of the first stage; the others have two and four times as many.
        classes: outputs.
        block_type: makes a block of (input channels, output channels, stride).
        in_channels: of the images.
    """

    def __init__(
        self,
        blocks: int = 3,
        width: int = 16,
        classes: int = 10,
        block_type: Callable[[int, int, int], nn.Module] = Block,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        channels = width
        for stage in range(3):
            for block in range(blocks):
                outputs = width * 2**stage
                stages.append(block_type(channels, outputs, 2 if stage and not block else 1))
                channels = outputs
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (N, in_channels, H, W), H = W a multiple of 4, into logits (N, classes)."""
        out = self.stages(functional.relu(self.bn1(self.conv1(x))))
        out = functional.avg_pool2d(out, out.size(3))
        return self.linear(out.view(out.size(0), -1))  # type: ignore[no-any-return]


def same_pad(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> nn.ZeroPad2d:
    """Return the zeros that TensorFlow's "same" puts around an image; an odd one is at bottom and right.

    Args:
        size, kernel, stride: (vertical, horizontal), pixels. The zeros depend on the size where the stride is
            not 1.
    """
    sides: list[int] = []
    for pixels, taps, step in zip(size, kernel, stride, strict=True):
        total = max((-(-pixels // step) - 1) * step + taps - pixels, 0)
        sides = [total // 2, total - total // 2, *sides]  # PyTorch names the horizontal sides first
    return nn.ZeroPad2d((sides[0], sides[1], sides[2], sides[3]))


def _halved(size: Sequence[int], stride: int) -> tuple[int, ...]:
    """Return the size of an image behind a layer with this stride and "same" padding."""
    return tuple(-(-pixels // stride) for pixels in size)


class Separable(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution, each with batch normalisation and ReLU.

    Args:
        inputs, outputs: channels.
        stride: of the depthwise convolution.
        size: (H, W) of the image, for `same_pad`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, size: Sequence[int]) -> None:
        super().__init__()
        self.pad = same_pad(size, (3, 3), (stride, stride))
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, inputs, H, W) into (N, outputs, H / stride, W / stride), rounded up."""
        out = functional.relu(self.bn1(self.depthwise(self.pad(x))))
        return functional.relu(self.bn2(self.pointwise(out)))


class _Separables(nn.Module):
    """A convolution, separable ones, the mean over the image and a linear layer."""

    def __init__(
        self, conv1: nn.Conv2d, blocks: Sequence[tuple[int, int]], classes: int, size: Sequence[int]
    ) -> None:
        """Make the network behind a first convolution of stride 2; blocks are (channels, stride)."""
        super().__init__()
        channels = conv1.out_channels
        self.pad = same_pad(size, conv1.kernel_size, conv1.stride)
        self.conv1 = conv1
        self.bn1 = nn.BatchNorm2d(channels)
        size = _halved(size, 2)
        separable_layers = []
        for outputs, stride in blocks:
            separable_layers.append(Separable(channels, outputs, stride, size))
            channels, size = outputs, _halved(size, stride)
        self.blocks = nn.Sequential(*separable_layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (N, C, H, W) into logits (N, classes)."""
        out = self.blocks(functional.relu(self.bn1(self.conv1(self.pad(x)))))
        return self.linear(self.flatten(self.pool(out)))  # type: ignore[no-any-return]


class DsCnn(_Separables):
    """DS-CNN, the keyword spotting network of MLPerf Tiny: a 10 x 4 convolution and separable ones.

    Args:
        classes: outputs.
        channels: of every layer.
        blocks: separable convolutions.
        input_shape: (C, H, W) of the images; the padding is made for it.
    """

    def __init__(
        self,
        classes: int = 12,
        channels: int = 64,
        blocks: int = 4,
        input_shape: tuple[int, int, int] = (1, 49, 10),
    ) -> None:
        conv1 = nn.Conv2d(input_shape[0], channels, (10, 4), 2, bias=False)
        super().__init__(conv1, [(channels, 1)] * blocks, classes, input_shape[1:])


class MobileNetV1(_Separables):
    """MobileNetV1; without arguments MLPerf Tiny's network for visual wake words.

    Args:
        width: factor on the channels of every layer, Howard et al.'s alpha; rounded down.
        classes: outputs.
        input_shape: (C, H, W) of the images; the padding is made for it.
    """

    def __init__(
        self, width: float = 0.25, classes: int = 2, input_shape: tuple[int, int, int] = (3, 96, 96)
    ) -> None:
        conv1 = nn.Conv2d(input_shape[0], int(32 * width), 3, 2, bias=False)
        blocks = [(int(channels * width), stride) for channels, stride in MOBILENET_V1]
        super().__init__(conv1, blocks, classes, input_shape[1:])


def fit_batch_norms(model: nn.Module, images: Tensor) -> nn.Module:
    """Set the statistics of all batch normalisations to those of these images; return `model` for evaluation.

    It keeps the activations of a network with random weights in range, however deep it is.

    Args:
        model: changed in place.
        images: (N, C, H, W), N > 1.
    """
    norms = [module for module in model.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches: of one batch, its own statistics
    with torch.no_grad():
        model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def resnet20_network(seed: int = 0, w_bits: int = 8) -> Network:
    """Return a quantised CIFAR ResNet20 with random weights: for measuring cycles, not for classifying.

    Batch normalisation and activation ranges fit random images, so that values spread over int8 in every
    layer.

    Args:
        seed: of weights and images.
        w_bits: width of all weights, 2 to 8.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ResNet(blocks=3)
        coarse = torch.rand(IMAGES, 3, 8, 8)
    images = functional.interpolate(coarse, (32, 32), mode="bilinear")
    fit_batch_norms(model, images)
    # the input of MLPerf Tiny's ResNet8: pixel - 128
    return export(
        model, images, weight_bits=w_bits, name="resnet20", input_scale=1 / 255, input_zero_point=-128
    )
