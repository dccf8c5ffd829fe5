# SPDX-License-Identifier: Apache-2.0
"""Trained modules of the user's own Python, and the inputs that calibrate their activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.array_files import read_array
from common.errors import UnsupportedError
from common.user_code import user_function


def load_module(model: str) -> nn.Module:
    """Return the trained module that a function of the user's gives.

    Args:
        model: package.module:function.

    Raises:
        UnsupportedError: no such function, it fails, or it gives something else.
    """
    module = user_function(model, UnsupportedError)()
    if not isinstance(module, nn.Module):
        raise UnsupportedError(f"{model} gives a {type(module).__name__}, not an nn.Module")
    return module


def read_calibration(path: Path) -> torch.Tensor:
    """Return the calibration inputs of a .npy file, (N, ...) float32.

    Raises:
        NpuloopError: a missing or damaged file, or other inputs than finite float32; naming the file.
    """
    array = read_array(path)
    if array.dtype != np.float32 or array.ndim < 2 or not np.isfinite(array).all():
        raise UnsupportedError(
            f"{path}: calibration inputs are finite float32 (N, ...), not {array.dtype} {array.shape}"
        )
    return torch.from_numpy(np.array(array))
