# SPDX-License-Identifier: Apache-2.0
"""The page of what comes in from PyTorch says what the code does."""

from typing import Any

import pytest
import torch
from torch import nn

from golden.quantize import reference
from golden.quantize.recorder import record
from golden.quantize.traced_functions import FUNCTIONS

ARGUMENTS: dict[type[nn.Module], tuple[Any, ...]] = {
    nn.Conv1d: (4, 4, 1),
    nn.Conv2d: (4, 4, 1),
    nn.Linear: (4, 4),
    nn.BatchNorm1d: (4,),
    nn.BatchNorm2d: (4,),
    nn.Unflatten: (1, (2, 2)),
    nn.ConstantPad1d: (1, 0.0),
    nn.ConstantPad2d: (1, 0.0),
    nn.Softmax: (1,),
    nn.Hardtanh: (0.0, 6.0),
}
VECTORS = (nn.Linear, nn.Softmax)


def test_the_page_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run python -m golden.quantize.reference"


@pytest.mark.parametrize("module", reference.MODULES)
def test_a_module_calls_the_function_that_the_page_names(module: type[nn.Module]) -> None:
    takes_size = "Pool" in module.__name__ or module.__name__.startswith("ZeroPad")
    model = nn.Sequential(module(*ARGUMENTS.get(module, (1,) if takes_size else ()))).eval()
    shape = (2, 4) if module in VECTORS else (2, 4, 6) if module.__name__.endswith("1d") else (2, 4, 6, 6)
    x = torch.randn(shape)
    if reference.MODULES[module] is None:
        assert not record(model, x).calls
    else:
        (call,) = record(model, x).calls
        assert call.name == reference.MODULES[module]
        assert call.where == "module '0'"


def test_the_list_holds_every_function_and_module_once() -> None:
    names = [name for name, _ in reference.supported()]
    assert len(set(names)) == len(names) == len(FUNCTIONS) + len(reference.MODULES)
    text = reference.PAGE.read_text()
    assert all(f"`{name}`" in text for name in names)


def test_a_page_of_other_tables_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reference, "FUNCTIONS", {name: FUNCTIONS[name] for name in FUNCTIONS if name != "select"}
    )
    assert reference.PAGE.read_text() != reference.page()
