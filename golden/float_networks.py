"""Float networks of the field as PyTorch modules, to be trained, quantised and mapped.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.export import export
from golden.network import Network

IMAGES = 16
"""Random images that normalise and calibrate a network with random weights."""


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
        """(N, inputs, H, W) becomes (N, outputs, H / stride, W / stride); stride is 1 or 2."""
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
    """

    def __init__(
        self,
        blocks: int = 3,
        width: int = 16,
        classes: int = 10,
        block_type: Callable[[int, int, int], nn.Module] = Block,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
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
        """Images (N, 3, H, W), H = W a multiple of 4, become logits (N, classes)."""
        out = self.stages(functional.relu(self.bn1(self.conv1(x))))
        out = functional.avg_pool2d(out, out.size(3))
        return self.linear(out.view(out.size(0), -1))  # type: ignore[no-any-return]


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
