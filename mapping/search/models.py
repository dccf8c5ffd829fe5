# SPDX-License-Identifier: Apache-2.0
"""Float networks that the search trains: those of `golden`, and the user's own."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from common.errors import NpuloopError
from common.user_code import first_line, is_function, user_function
from golden.quantize.trace import trace
from golden.zoo.float_networks import DsCnn, MobileNetV1, ResNet
from golden.zoo.train_digits import DigitsNet
from mapping.search.data import DataSet

MODELS = ("digits", "resnet8", "resnet20", "ds_cnn", "mobilenet_v1_025")
MAX_SEED = 2**63 - 1
_BATCH = 4  # images that the check runs


class ModelError(NpuloopError):
    """A model that does not exist, does not fit the data, or cannot become an integer network."""


def build_model(spec: str, data: DataSet, seed: int) -> nn.Module:
    """Return a float network for a data set, in training mode, as its constructor initialises it.

    - `digits`: `golden.zoo.train_digits.DigitsNet`, for (1, 8, 8) and 10 classes only.
    - `resnet8`, `resnet20`: `golden.zoo.float_networks.ResNet` with 1 and 3 blocks in each stage.
    - `ds_cnn`, `mobilenet_v1_025`: `golden.zoo.float_networks.DsCnn`, and `MobileNetV1` of width 0.25.
    - `package.module:function`: what the function returns, called with (input_shape, classes), as in
      ((3, 32, 32), 10); the current directory is importable.

    Args:
        spec: one of these.
        data: gives the shape of an image and the number of classes.
        seed: of the random weights, 0 to `MAX_SEED`. PyTorch's generators of the caller stay as they are.

    Raises:
        ModelError: no such model, one that does not make (N, classes) of a batch of the data, or one that
            `golden.quantize.trace.trace` refuses; naming the model, the module in it and the remedy.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ModelError(f"model {spec!r}: seed {seed}; give 0 to {MAX_SEED}")
    with _generators_kept():
        make = _maker(spec, data)  # may import the user's module, which may draw random numbers
        torch.manual_seed(seed)
        try:
            model = make()
        except ModelError:
            raise
        except Exception as error:  # PyTorch raises many types for sizes that do not fit
            raise _misfit(spec, data, first_line(error)) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} gives a {type(model).__name__}; return a torch.nn.Module")
    check_model(spec, model, data)
    return model.train()


def _generators_kept() -> AbstractContextManager[None]:
    """Give PyTorch's generators their states back afterwards."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))


def _maker(spec: str, data: DataSet) -> Callable[[], Any]:
    shape: Any = data.input_shape
    if is_function(spec):
        return functools.partial(user_function(spec, ModelError), shape, data.classes)
    makers: dict[str, Callable[[], nn.Module]] = {
        "digits": DigitsNet,
        "resnet8": lambda: ResNet(1, classes=data.classes, in_channels=shape[0]),
        "resnet20": lambda: ResNet(3, classes=data.classes, in_channels=shape[0]),
        "ds_cnn": lambda: DsCnn(data.classes, input_shape=shape),
        "mobilenet_v1_025": lambda: MobileNetV1(0.25, data.classes, shape),
    }
    if spec not in makers:
        raise ModelError(
            f"there is no model {spec!r}; give one of {', '.join(MODELS)}, or package.module:function"
        )
    return makers[spec]


def _misfit(spec: str, data: DataSet, why: str) -> ModelError:
    shape = " x ".join(str(size) for size in data.input_shape)
    return ModelError(
        f"model {spec!r} does not fit data set {data.name!r}, {shape} to {data.classes} classes: {why}; "
        f"give one of {', '.join(MODELS)} that does, or package.module:function that makes one of "
        "(input_shape, classes)"
    )


def check_model(spec: str, model: nn.Module, data: DataSet) -> None:
    """Check that a model, which stays as it is, classifies the data and that the exporter takes it.

    Args:
        spec: the model's name, for messages.
        model: float32.
        data: the model is run on its first training images.

    Raises:
        ModelError: see `build_model`.
    """
    batch = data.train_images[:_BATCH]
    with _generators_kept():
        try:
            with torch.no_grad():
                logits: Any = copy.deepcopy(model).eval()(batch)
        except Exception as error:  # the user's own code may raise anything
            raise _misfit(spec, data, first_line(error)) from error
        expected = (len(batch), data.classes)
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
            output = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise _misfit(spec, data, f"it makes {output} of {len(batch)} images, not {expected}")
        try:
            graph = trace(model, batch[:1])
        except NpuloopError as error:
            raise ModelError(
                f"model {spec!r} cannot become an integer network: {error}; change that part of the model"
            ) from error
    modules = dict(model.named_modules())
    for node in graph.nodes:
        module = modules.get(node.name)
        own = module.weight.numel() if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) else 0
        if node.weight is not None and node.weight.numel() != own:
            raise ModelError(
                f"model {spec!r}: layer {node.name!r} has weights that are shared or are not a module's own; "
                "a search trains convolutions and linear layers that are modules and are called once"
            )
