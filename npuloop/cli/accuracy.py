# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop accuracy`: how often a network is right on labelled data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import UnsupportedError
from common.files import write_json
from common.user_code import is_function
from npuloop.cli.console import console, progress
from npuloop.cli.options import SYSTEM, Setting, SystemName, Unit, system_of, unit_of, written_file

if TYPE_CHECKING:
    from golden.accuracy import Labelled


def accuracy(
    model: Annotated[
        str, typer.Argument(help="model file, or package.module:function that gives a float nn.Module")
    ],
    data: Annotated[
        str,
        typer.Option(
            help="labelled data (.npz: `image` uint8 or `input`, and `label`), or a data set: digits, "
            "cifar10, cifar10:FOLDER, package.module:function"
        ),
    ],
    mapping: Annotated[
        Path | None, typer.Option(help="MAP.yaml: units with narrow activations change the result")
    ] = None,
    system: SystemName = SYSTEM,
    unit: Unit = None,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many inputs")] = None,
    json_file: Annotated[Path | None, written_file("--json", what="file for the result")] = None,
) -> None:
    """Say how often the largest output is the label, with the 95 % interval.

    A network file is computed by the golden model, bit for bit what the units compute; a float nn.Module
    by PyTorch. Exit status: 0, 2 if the input is wrong.
    """
    from golden.accuracy import module_accuracy, network_accuracy
    from golden.importers.models import load_model
    from golden.quantize.modules import load_module
    from mapping.compiler.assignment import Assignment, load_assignment
    from mapping.run.networks import compile_network

    if mapping and unit:
        raise UnsupportedError("give --mapping or --unit, not both: the mapping's `default` names a unit")
    config = system_of(system, settings)
    labelled = _labelled(data, limit)
    with progress() as bar:
        task = bar.add_task(model, total=len(labelled.labels))

        def show(done: int, _total: int) -> None:
            bar.update(task, completed=done)

        if is_function(model):
            if mapping or unit:
                raise UnsupportedError("a float nn.Module runs on no unit: leave out --mapping and --unit")
            kind, result = "float", module_accuracy(load_module(model), labelled, model, show)
        else:
            network = load_model(model)
            assignment = (
                load_assignment(mapping) if mapping else Assignment(unit_of(config, unit), source="--unit")
            )
            widths = compile_network(network, config, assignment).a_bits if mapping or unit else None
            kind, result = "integer", network_accuracy(network, labelled, widths, show)
    low, high = result.interval_percent
    console.print(
        f"{model}: {result.percent:.2f} % of {result.images:,} ({kind}; 95 % interval "
        f"{low:.2f} to {high:.2f})",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if json_file:
        document = {
            "model": model, "data": data, "kind": kind, "accuracy_percent": result.percent,
            "correct": result.correct, "images": result.images, "interval_percent": [low, high],
        }  # fmt: skip
        write_json(json_file, document)


def _labelled(data: str, limit: int | None) -> Labelled:
    """Return the labelled inputs that --data names: of a data set its test part."""
    import numpy as np

    from golden.accuracy import Labelled, read_labelled
    from mapping.search.data import load_data

    if Path(data).suffix == ".npz":
        labelled = read_labelled(Path(data))
    else:
        source = load_data(data)
        labelled = Labelled(
            np.moveaxis(source.test_images.numpy(), 1, -1),
            source.test_labels.numpy(),
            source.input_scale,
            source.input_zero_point,
        )
    return replace(labelled, values=labelled.values[:limit], labels=labelled.labels[:limit])
