# SPDX-License-Identifier: Apache-2.0
"""What stands around a float module, or is given in its place: unwrapped, or refused with the way out."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from common.errors import ArithmeticRangeError, NetworkError, UnsupportedError

INSIDE = {
    "OptimizedModule": "_orig_mod",  # torch.compile
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "AveragedModel": "module",  # torch.optim.swa_utils
}
"""PyTorch's wrappers, and the attribute that holds the module inside."""


def plain_module(model: Any) -> nn.Module:
    """Return a copy of the module inside whatever wraps it: float32, in evaluation mode, on the CPU.

    Raises:
        UnsupportedError: it is no module, or one that cannot be looked into; naming the way out.
        ArithmeticRangeError: a parameter has values that are not finite.
        NetworkError: it cannot be copied.
    """
    _check_type(model)
    module = _unwrapped(model)
    _check_parts(module)
    try:
        module = copy.deepcopy(module)
    except Exception as error:  # whatever the model's own code raises
        raise NetworkError(f"{type(module).__name__} cannot be copied: {error}") from error
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if _unwrapped(child) is not child:
                setattr(parent, name, _unwrapped(child))
    module = module.eval().cpu().float()
    if type(module).__module__.startswith("torch.nn.") and not any(True for _ in module.children()):
        return nn.Sequential(module)  # so that it has a path
    return module


def _unwrapped(model: nn.Module) -> nn.Module:
    while type(model).__module__.startswith("torch.") and type(model).__name__ in INSIDE:
        inside = getattr(model, INSIDE[type(model).__name__])
        assert isinstance(inside, nn.Module)
        model = inside
    return model


def _check_type(model: Any) -> None:
    if isinstance(model, nn.Module):
        return
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise UnsupportedError(
            f"the model is the class {model.__name__}; give a module, {model.__name__}(...)"
        )
    state = (
        "a dictionary, as state_dict() gives; make the module, load it with load_state_dict, and give that"
    )
    ways = {
        "dict": state,
        "OrderedDict": state,
        "ExportedProgram": "an ExportedProgram; give the module that it was made from, or program.module()",
    }
    what = ways.get(type(model).__name__, f"a {type(model).__name__}; give a torch.nn.Module")
    raise UnsupportedError(f"the model is {what}")


def _check_parts(model: nn.Module) -> None:
    for path, module in model.named_modules():
        where = f"module {path!r}" if path else "the model"
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedError(
                f"{where} is TorchScript ({type(module).__name__}), whose calls cannot be seen; "
                "give the module that it was made from"
            )
        parts = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in parts:
            if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
                raise UnsupportedError(
                    f"{where} ({type(module).__name__}) has no {name} yet; run it once on data, and train it"
                )
            if tensor.is_meta:
                raise UnsupportedError(
                    f"{where}: its {name} is on the meta device and has no values; load them"
                )
            if isinstance(tensor, nn.Parameter) and not bool(tensor.isfinite().all()):
                raise ArithmeticRangeError(
                    f"{where}: its {name} has values that are not finite; train it again"
                )
