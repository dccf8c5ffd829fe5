# SPDX-License-Identifier: Apache-2.0
"""What PyTorch users write and a network has: it comes in, and computes what the module computes."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from common.errors import ArithmeticRangeError, NetworkError, NpuloopError, UnsupportedError
from golden.network import run_network
from golden.quantize.export import export
from golden.quantize.qat import prepare_qat, quantize_input
from golden.quantize.testing import signal_to_noise, smooth_images
from golden.quantize.trace import trace

ENOUGH_DB = 28


class Parts(nn.Module):
    """Layers and constants, and what a test does with them."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc, self.wide = nn.Linear(8, 5), nn.Linear(8 * 144, 5)
        self.norm = nn.BatchNorm2d(8)
        self.batch3 = nn.BatchNorm2d(3)
        self.c = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.vector = nn.Parameter(torch.randn(5))
        self.w = nn.Parameter(torch.randn(8, 8, 1, 1) * 0.3)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def pooled(net: Any, x: Tensor) -> Any:
    return functional.adaptive_avg_pool2d(net.a(x), 1)


Function = Callable[[Any, Tensor], Any]
IDIOMS: dict[str, Function] = {
    # axes
    "squeeze by squeeze": lambda s, x: s.fc(pooled(s, x).squeeze(3).squeeze(2)),
    "squeeze of two": lambda s, x: s.fc(pooled(s, x).squeeze((2, 3))),
    "there and back": lambda s, x: s.b(s.a(x).unsqueeze(2).squeeze(2)),
    "mean by mean": lambda s, x: s.fc(s.a(x).mean(3).mean(2)),
    "mean by mean, other order": lambda s, x: s.fc(s.a(x).mean(2).mean(-1)),
    "mean of one axis kept": lambda s, x: s.fc(s.a(x).mean(-1, keepdim=True).mean(2).squeeze(2)),
    "first pixel of one": lambda s, x: s.fc(pooled(s, x)[:, :, 0, 0]),
    "first pixel, ellipsis": lambda s, x: s.fc(pooled(s, x)[..., 0].select(2, 0)),
    "channels last flattened": lambda s, x: s.wide(s.a(x).permute(0, 2, 3, 1).flatten(1)),
    "transposed flattened": lambda s, x: s.wide(s.a(x).transpose(2, 3).reshape(len(x), -1)),
    "permuted and back": lambda s, x: s.b(s.a(x).permute(0, 2, 3, 1).permute(0, 3, 1, 2).contiguous()),
    "flattened and unflattened": lambda s, x: s.b(s.a(x).flatten(1).view(-1, 8, 12, 12)),
    "vector as an image": lambda s, x: s.b(pooled(s, x).flatten(1).reshape(-1, 8, 1, 1)),
    "clamp on permuted axes": lambda s, x: s.b(s.a(x).permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)),
    "constant on permuted axes": lambda s, x: s.b(
        (s.a(x).permute(0, 2, 3, 1) * s.c.flatten()).movedim(-1, 1)
    ),
    "view of its size": lambda s, x: s.fc(pooled(s, x).view(x.size(0), -1)),
    "every second pixel": lambda s, x: s.b(s.a(x)[:, :, ::2, ::2]),
    "every third row": lambda s, x: s.b(s.a(x)[:, :, ::3]),
    "top left pixel": lambda s, x: s.fc(s.a(x)[:, :, :1, :1].flatten(1)),
    "shortcut of zeros": lambda s, x: s.b(functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3))),
    # clamps
    "clamp": lambda s, x: s.b(torch.clamp(s.a(x), 0, 6)),
    "clamp of one side": lambda s, x: s.b(s.a(x).clamp(max=0.1)),
    "clamp_min": lambda s, x: s.b(torch.clamp_min(s.a(x), -0.1)),
    "clip": lambda s, x: s.b(s.a(x).clip(-0.2, 0.2)),
    "clamp of a clamp": lambda s, x: s.b(torch.clamp(torch.clamp(s.a(x), -0.5, 0.1), -0.1, 0.5)),
    "hard tanh": lambda s, x: s.b(functional.hardtanh(s.a(x), -0.2, 0.3)),
    "hard tanh of its defaults": lambda s, x: s.b(functional.hardtanh(s.a(x))),
    "relu behind flatten": lambda s, x: s.fc(functional.relu(torch.flatten(pooled(s, x), 1))),
    "relu of the input": lambda s, x: s.a(functional.relu(x)),
    "relu beside another reader": lambda s, x: s.b(functional.relu(y := s.a(x))) + y,
    "relu of a vector beside another": lambda s, x: functional.relu(y := s.fc(pooled(s, x).flatten(1))) + y,
    "relu of a flattened image beside another": lambda s, x: s.wide(
        functional.relu(y := s.a(x).flatten(1)) + y
    ),
    "relu behind zeros": lambda s, x: s.b(functional.relu(functional.pad(s.a(x), (1, 1)))),
    "twice": lambda s, x: s.b(s.b(s.a(x)).relu()),
    # constants
    "per-channel parameter": lambda s, x: functional.relu(s.a(x) + s.c),
    "scale and shift": lambda s, x: s.b(s.a(x) * s.c + s.c),
    "scale behind a relu": lambda s, x: s.b(functional.relu(s.a(x)) * s.c),
    "normalised input": lambda s, x: s.a((x - 0.45) / torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)),
    "normalisation of the input": lambda s, x: s.a(s.batch3(x)),
    "normalisation behind a relu": lambda s, x: s.b(s.norm(functional.relu(s.a(x)))),
    "normalisation of a sum": lambda s, x: s.b(s.norm((y := s.a(x)) + s.b(y))),
    "normalisation read twice": lambda s, x: s.norm(y := s.a(x)) + y,
    "constant on a vector": lambda s, x: s.fc(pooled(s, x).flatten(1)) * s.vector + 1,
    "number and product": lambda s, x: s.b(1 - 2 * s.a(x)),
    "negative": lambda s, x: s.b(-s.a(x)),
    "difference": lambda s, x: s.b(y := s.a(x)) - y,
    "difference of the same": lambda s, x: s.b((y := s.a(x)) * 2 - y),
    "weighted sum": lambda s, x: torch.add(y := s.a(x), s.b(y), alpha=2),
    "one plus": lambda s, x: s.b(s.a(x).relu() + 1),
    "sum of a list": lambda s, x: sum([y := s.a(x), s.b(y), y]),
    # weights
    "parameters as weights": lambda s, x: functional.conv2d(s.a(x), s.w),
    "computed weights": lambda s, x: functional.conv2d(
        s.a(x), s.w - s.w.mean((1, 2, 3), keepdim=True), s.c.flatten()
    ),
    "linear without a module": lambda s, x: functional.linear(
        pooled(s, x).flatten(1), s.fc.weight, s.fc.bias
    ),
    "matrix product": lambda s, x: pooled(s, x).flatten(1) @ s.fc.weight.t() + s.fc.bias,
    # nothing
    "casts": lambda s, x: s.b(s.a(x).float().to(torch.float64).float()),
    "copies": lambda s, x: s.b(s.a(x).clone().contiguous().detach()),
    "to channels last": lambda s, x: s.b(s.a(x).to(memory_format=torch.channels_last)),
    "dropout in evaluation": lambda s, x: s.b(
        functional.dropout2d(functional.dropout(s.a(x), 0.5, s.training), training=False)
    ),
    "no padding": lambda s, x: s.b(functional.pad(s.a(x), (0, 0, 0, 0), mode="reflect")),
    "what is not used": lambda s, x: (s.a(x).sigmoid().sum(), s.b(s.a(x)))[1],
    "one tensor in a dictionary": lambda s, x: {"out": s.b(s.a(x))}["out"],
    "decided by shape": lambda s, x: s.b(s.a(x)) if x.shape[1] == 3 and x.ndim == 4 else x,
    "largest of an adaptive pool": lambda s, x: s.fc(functional.adaptive_max_pool2d(s.a(x), 1).flatten(1)),
    "adaptive pool of thirds": lambda s, x: s.b(functional.adaptive_avg_pool2d(s.a(x), (4, 3))),
    "softmax at the end": lambda s, x: functional.softmax(s.fc(pooled(s, x).flatten(1)), 1),
}


def settled(function: Function) -> Parts:
    torch.manual_seed(11)
    model = Parts(function)
    for norm in (model.norm, model.batch3):
        norm.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.3, 2)  # type: ignore[union-attr]
        nn.init.normal_(norm.weight)
    return model.eval()


@pytest.mark.parametrize("name", IDIOMS)
def test_an_idiom_comes_in_and_computes_what_the_module_computes(name: str) -> None:
    model, x = settled(IDIOMS[name]), smooth_images((3, 12, 12), 8, 4) - 0.4
    network = export(model, x, name="net")
    assert signal_to_noise(network, model, x) > ENOUGH_DB
    training = prepare_qat(model, x, name="net").eval()
    expected = run_network(network, quantize_input(network, x))
    for tensor, value in training.integers(x).items():
        np.testing.assert_array_equal(value, expected[tensor], err_msg=tensor)


def test_a_constant_costs_nothing_where_the_layer_before_takes_it_in() -> None:
    x = smooth_images((3, 12, 12), 4)
    names = {key: [node.name for node in trace(settled(IDIOMS[key]), x).nodes] for key in IDIOMS}
    assert names["scale and shift"] == names["casts"] == names["clamp of a clamp"] == ["a", "b"]
    assert names["relu behind flatten"] == ["a", "adaptive_avg_pool2d", "flatten", "fc"]
    assert names["relu beside another reader"] == ["a", "relu", "b", "add"]
    assert names["normalisation behind a relu"] == ["a", "norm", "b"]
    assert names["twice"] == ["a", "b", "b_1"]


def test_a_clamp_of_clamps_is_their_composition() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh(-1, 2), nn.ReLU6(), nn.Hardtanh(-3, 1.5))
    (node,) = trace(model, smooth_images((3, 4, 4), 2)).nodes
    assert (node.low, node.high) == (0, 1.5)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh(-2, -1), nn.ReLU())
    (node,) = trace(model, smooth_images((3, 4, 4), 2)).nodes
    assert (node.low, node.high) == (0, 0)


# ---------------------------------------------------------------------------------------------- one dimension
SEQUENCES: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv1d(4, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 6, 3, dilation=2)
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv1d(4, 8, 3, padding="same", groups=4), nn.ReLU6(), nn.Conv1d(8, 4, 1)
    ),
    "pools": lambda: nn.Sequential(
        nn.ConstantPad1d((1, 2), 0.0),
        nn.Conv1d(4, 6, 3),
        nn.MaxPool1d(2),
        nn.AvgPool1d(3, 1),
        nn.AdaptiveAvgPool1d(4),
    ),
    "classifier": lambda: nn.Sequential(
        nn.Conv1d(4, 8, 3), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 5), nn.BatchNorm1d(5)
    ),
    "flattened": lambda: nn.Sequential(
        nn.Conv1d(4, 3, 3), nn.Dropout1d(0.3), nn.Flatten(), nn.Linear(3 * 18, 5)
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_are_images_of_height_one(name: str) -> None:
    torch.manual_seed(3)
    model = SEQUENCES[name]().eval()
    x = smooth_images((4, 1, 20), 8, 6)[:, :, 0] - 0.3
    network = export(model, x)
    assert network.input.shape == (1, 20, 4)
    assert signal_to_noise(network, model, x) > ENOUGH_DB
    np.testing.assert_array_equal(quantize_input(network, x), quantize_input(network, x[:, :, None]))


# --------------------------------------------------------------------------------------------------- wrappers
def plain() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


class Inside(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        lambda model: torch.compile(nn.DataParallel(model)),
        torch.optim.swa_utils.AveragedModel,
        lambda model: nn.DataParallel(nn.DataParallel(model)),
    ],
)
def test_wrappers_are_taken_off_and_layers_keep_their_names(wrap: Callable[[nn.Module], nn.Module]) -> None:
    x, model = smooth_images((3, 8, 8), 4), plain()
    assert [node.name for node in trace(wrap(model), x).nodes] == ["0", "2"]
    assert [node.name for node in trace(Inside(wrap(model)), x).nodes] == ["part.0", "part.2"]
    assert type(model) is nn.Sequential


def test_parametrised_and_subclassed_layers_come_in() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # PyTorch's name
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return functional.conv2d(functional.pad(input, (1, 1, 1, 1)), weight, self.bias)

    torch.manual_seed(4)
    x = smooth_images((3, 8, 8), 8, 1)
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), Standardised(8, 4, 3)
    ).eval()
    assert signal_to_noise(export(model, x), model, x) > ENOUGH_DB


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 2.0) -> Tensor:
        assert x.shape[1] == 3, "colours"
        y = self.conv(x)
        if mask is not None:
            y = y * mask
        for _ in range(y.dim() - 3):
            y = y * scale
        return y  # type: ignore[no-any-return]


def test_optional_arguments_assertions_and_loops_are_pythons_business() -> None:
    x, model = smooth_images((3, 8, 8), 4), Optional().eval()
    network = export(model, x)
    assert [node.name for node in network.nodes] == ["conv"]
    assert network.input_name == "x"
    assert signal_to_noise(network, model, x) > ENOUGH_DB


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        return self.conv(image) + self.conv(depth)  # type: ignore[no-any-return]


WRONG: list[tuple[str, Callable[[], Any], str]] = [
    ("a class", lambda: nn.Conv2d, r"the class Conv2d; give a module, Conv2d\(...\)"),
    ("a state", lambda: plain().state_dict(), "a dictionary, as state_dict.*load_state_dict"),
    ("a dictionary", lambda: {"model": plain()}, "a dictionary"),
    ("a tensor", lambda: torch.zeros(2), "a Tensor; give a torch.nn.Module"),
    ("a path", lambda: "model.pt", "a str; give"),
    ("nothing", lambda: None, "a NoneType; give"),
    ("a function", lambda: plain().forward, "a method; give"),
    (
        "lazy",
        lambda: nn.Sequential(nn.LazyConv2d(8, 3)),
        r"module '0' \(LazyConv2d\) has no weight yet; run it once",
    ),
    (
        "lazy norm",
        lambda: nn.Sequential(nn.LazyBatchNorm2d()),
        r"module '0' \(LazyBatchNorm2d\) has no weight yet",
    ),
    (
        "meta",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, device="meta")),
        "module '0': its weight is on the meta device",
    ),
    ("script", lambda: Inside(torch.jit.script(nn.Conv2d(3, 4, 3))), "module 'part' is TorchScript"),
    ("two inputs", TwoInputs, "takes a second input 'depth'; one is supported"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*Lazy modules.*:UserWarning")
@pytest.mark.parametrize(("name", "make", "message"), WRONG, ids=[item[0] for item in WRONG])
def test_what_is_no_usable_module_is_named(name: str, make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        export(make(), smooth_images((3, 8, 8), 2))


@pytest.mark.parametrize(
    "data", [None, 3, np.zeros((2, 3, 8, 8)), ["image"], [{"image": 1}], torch.zeros(())]
)
def test_calibration_data_of_a_wrong_type_are_named(data: Any) -> None:
    with pytest.raises(NpuloopError, match=r"calibration (data|batch)"):
        export(plain(), data)


def test_values_that_are_not_finite_are_named() -> None:
    x, model = smooth_images((3, 8, 8), 4), plain()
    with pytest.raises(ArithmeticRangeError, match="calibration data have values that are not finite"):
        export(model, torch.cat([x, x / 0]))
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan  # type: ignore[operator]
    with pytest.raises(ArithmeticRangeError, match="module '2': its weight has values that are not finite"):
        export(model, x)
    with torch.no_grad():
        model[2].weight.fill_(1e38)  # type: ignore[operator]
        model[0].bias.fill_(1e30)  # type: ignore[operator]
    with pytest.raises(
        ArithmeticRangeError, match="layer '2' of the module makes values that are not finite"
    ):
        export(model, x)


UNSUPPORTED: dict[str, tuple[Function, str]] = {
    "part": (lambda s, x: s.b(s.a(x)[:, :, 1:]), r"takes a part of \(8, 12, 12\).*line \d+"),
    "one channel": (lambda s, x: s.a(x)[:, 3], "takes a part of"),
    "one input": (lambda s, x: s.a(x)[0], "of each input"),
    "batch as channels": (lambda s, x: s.a(x).transpose(0, 1), "of each input"),
    "repeated": (lambda s, x: s.a(x).expand(-1, 8, 12, 12).repeat(1, 1, 2, 2), "repeat is not supported"),
    "wrong order": (lambda s, x: s.b(s.a(x).permute(0, 1, 3, 2)), "another order of axes"),
    "linear on pixels": (lambda s, x: s.fc(s.a(x).permute(0, 2, 3, 1)), "flatten the image"),
    "constant image": (lambda s, x: s.a(x) + torch.rand(8, 12, 12), "differs within a channel"),
    "product": (lambda s, x: (y := s.a(x)) * y, "mul of two computed tensors"),
    "inverse": (lambda s, x: 1 / s.a(x), "reciprocal is not supported"),
    "integer type": (lambda s, x: s.b(s.a(x).to(torch.int32).float()), r"makes torch\.int32"),
    "integers": (lambda s, x: s.b(s.a(x).int().float()), "int is not supported"),
    "sum": (lambda s, x: s.a(x).sum((2, 3)), "sum is not supported"),
    "item": (lambda s, x: s.a(x) * float(x.mean()), "makes a Python value of the data"),
    "numpy": (lambda s, x: torch.from_numpy(s.a(x).numpy() * 2), "'numpy' makes a Python value of the data"),
    "several": (lambda s, x: s.b(torch.cat(s.a(x).chunk(2, 1), 1)), "'chunk': it makes 2 tensors"),
    "softmax inside": (lambda s, x: s.b(functional.softmax(s.a(x), 1)), "a softmax inside the network"),
    "softmax over pixels": (lambda s, x: functional.softmax(s.a(x), 3), "softmax over axis 3"),
    "computed weights": (lambda s, x: functional.conv2d(s.a(x), s.a(x)[:, :, :3, :3]), "depend on the input"),
    "shift around zeros": (lambda s, x: s.b(functional.pad(s.a(x), (1, 1)) + 1), "reads padded data"),
    "padded channels": (
        lambda s, x: functional.pad(s.a(x), (0, 1, 0, 0, 0, 2)),
        "either of pixels or of channels",
    ),
    "other pixels": (lambda s, x: s.b(s.a(x)[:, :, 1::2, 1::2]), "takes a part of"),
    "limits of channels": (lambda s, x: s.a(x).clamp(min=s.c), "limits that are numbers"),
    "limits by a tensor": (
        lambda s, x: torch.clamp(y := s.a(x), max=y.mean()),
        "limits that are numbers|mean over",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_a_network_does_not_have_is_refused_with_its_line(name: str) -> None:
    function, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        trace(settled(function), smooth_images((3, 12, 12), 4))
    assert "test_idioms.py, line" in str(caught.value)


def test_shapes_that_fit_one_batch_size_alone_are_refused() -> None:
    with pytest.raises((UnsupportedError, NetworkError), match=r"of each input|cannot run"):
        trace(settled(lambda s, x: s.a(x).reshape(1, -1)), smooth_images((3, 12, 12), 4))


def test_an_ordered_dictionary_of_one_output_is_that_output() -> None:
    model = settled(lambda s, x: OrderedDict(out=s.b(s.a(x))))
    assert [node.name for node in trace(model, smooth_images((3, 12, 12), 2)).nodes] == ["a", "b"]
    assert math.isfinite(float(trace(model, smooth_images((3, 12, 12), 2)).nodes[0].weight.sum()))  # type: ignore[union-attr]
