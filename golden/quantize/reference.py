# SPDX-License-Identifier: Apache-2.0
"""The page that lists what comes in from PyTorch, made from the tables that decide it.

`python -m golden.quantize.reference` writes `docs/reference/pytorch.md` again.
"""

import textwrap
from collections.abc import Mapping

from torch import nn

from common.paths import ROOT
from golden.quantize.fidelity import REFUSE_OWN_DB, WARN_OWN_DB, WARN_TOTAL_DB
from golden.quantize.trace import TOLERANCE
from golden.quantize.traced_functions import FUNCTIONS
from golden.quantize.wrappers import INSIDE

PAGE = ROOT / "docs" / "reference" / "pytorch.md"

MODULES: Mapping[type[nn.Module], str | None] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Linear: "linear",
    nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm",
    nn.ReLU: "relu",
    nn.ReLU6: "hardtanh",
    nn.Hardtanh: "hardtanh",
    nn.MaxPool1d: "max_pool1d",
    nn.MaxPool2d: "max_pool2d",
    nn.AvgPool1d: "avg_pool1d",
    nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool1d: "adaptive_avg_pool1d",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool1d: "adaptive_max_pool1d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
    nn.Flatten: "flatten",
    nn.Unflatten: "unflatten",
    nn.ConstantPad1d: "pad",
    nn.ConstantPad2d: "pad",
    nn.ZeroPad1d: "pad",
    nn.ZeroPad2d: "pad",
    nn.Softmax: "softmax",
    nn.Dropout: None,
    nn.Dropout1d: None,
    nn.Dropout2d: None,
    nn.Identity: None,
}
"""PyTorch's own modules that come in, and the function that each calls; None where it passes on its input."""


def supported() -> list[tuple[str, str]]:
    """Return (module or function, what it becomes) for everything that comes in, modules first."""
    modules = [
        (f"nn.{module.__name__}", "nothing" if name is None else FUNCTIONS[name].becomes)
        for module, name in MODULES.items()
    ]
    return modules + [(name, item.becomes) for name, item in FUNCTIONS.items()]


def page() -> str:
    """Return the page."""
    rows: dict[str, list[str]] = {}
    for name, becomes in supported():
        rows.setdefault(becomes, []).append(f"`{name}`")
    table = "\n".join(f"| {', '.join(names)} | {becomes} |" for becomes, names in rows.items())
    wrappers = ", ".join(f"`{name}`" for name in INSIDE)
    refused = textwrap.fill(
        f"Wrappers are taken off: {wrappers}. TorchScript, class objects, dictionaries of weights, modules "
        "whose lazy parameters have no shape and modules on the meta device are refused by name.",
        100,
    )
    return f"""# What comes in from PyTorch

`python -m golden.quantize.reference` writes this page from the tables that decide what comes in.

The module runs once on two inputs, and every call of PyTorch is recorded. So what counts is not the
types of modules but the functions that they call: subclasses, parametrisations, optional arguments,
loops and checks of shapes need no support. What does not depend on the input is a constant,
however it was computed. A name stands for the function, the method, the operator of Python and the
form that writes in place: `add` is `torch.add`, `x + y`, `x.add(y)`, `x.add_(y)` and `x += y`.

| module or function | becomes |
|---|---|
{table}

A function that returns its argument, or a tensor of the same memory, shape and type, needs no
support, such as `detach` and `Dropout` in evaluation.

{refused}

## Writes in place

Calls that write in place make new values, and every later reader and alias sees them, whether the
result is assigned or not. A tensor that shares memory with a written one at another place (a
slice, a flattened view) is refused where something reads it, with the line that wrote.

## Checks

* While tracing, the float graph runs on the recorded inputs, and every tensor must equal the
  module's within {TOLERANCE:.1%} of its norm. So a graph that lacks an operation is never returned.
* `export` then compares the integer network with the module on calibration data. It warns where
  the signal to quantisation noise at the output is below {WARN_TOTAL_DB:g} dB, and names the first
  tensor that falls below. It is 26 to 46 dB with weights of 8 bits, 8 to 34 dB with 4 bits and -6
  to 18 dB with 2 bits, which training must mend.
* A tensor whose ratio is low even on exact inputs and with its own weights is warned of below
  {WARN_OWN_DB:g} dB and refused below {REFUSE_OWN_DB:g} dB: its range does not fit. The lowest of 19
  networks of 8 to 2 bits was 19 dB.
"""


if __name__ == "__main__":
    PAGE.write_text(page())
