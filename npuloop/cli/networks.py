# SPDX-License-Identifier: Apache-2.0
"""The sub-commands of `npuloop` for whole networks: run, show, quantize."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from common.errors import UnsupportedError
from common.files import write_atomically, write_json
from common.user_code import first_line, is_function
from npuloop.cli.console import FAILED, console, errors, progress
from npuloop.cli.options import (
    MAX_SEED,
    SYSTEM,
    Backpressure,
    Setting,
    SystemName,
    Unit,
    checked_file,
    system_of,
    unit_of,
    written_file,
)

if TYPE_CHECKING:
    from mapping.run.networks import Check, NetworkRun

Model = Annotated[Path, typer.Argument(help="int8 .tflite model or network file (.npz)")]
CHECKS = ("layers", "output", "none")


def run(
    model: Model,
    mapping: Annotated[Path | None, typer.Option(help="MAP.yaml: which unit makes which channels")] = None,
    system: SystemName = SYSTEM,
    unit: Unit = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="inputs (.npy), (N, H, W, C), or several by name (.npz); default: one random input",
        ),
    ] = None,
    output_file: Annotated[
        Path | None, written_file("--output", what="file for the outputs (.npy; several: .npz)")
    ] = None,
    check: Annotated[
        str, typer.Option(help="compare with the golden model: layers, output, none")
    ] = "output",
    json_file: Annotated[Path | None, written_file("--json", what="file for cycles, counters, bytes")] = None,
    waves: Annotated[bool, typer.Option(help="run the first input once more with waves")] = False,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    backpressure: Backpressure = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="seed of the random input")] = 1,
) -> None:
    """Run a whole network in RTL, on one unit or shared by several, and compare it bit for bit.

    One start and one interrupt per unit and input. With `--check layers` every tensor is stored for the
    comparison, which the compiled network otherwise does not do. The first input of a .tflite file also runs
    through TFLite's reference kernels, where ai-edge-litert is installed. Where the units have energy tables,
    the energy of the first input's commands, values and cycles is printed.
    Exit status: 0 if everything is equal, 1 if anything differs, 2 if the input is wrong.
    """
    from golden.importers.inputs import batch_size, first_input, random_input, read_inputs
    from golden.importers.models import load_model
    from golden.importers.tflite_source import compare_with_source
    from mapping.compiler.assignment import Assignment, load_assignment
    from mapping.energy.statistics import network_statistics
    from mapping.report.energy_console import energy_model, energy_report, energy_table, summary
    from mapping.report.networks import engine_table, layer_table, run_report
    from mapping.run.networks import compile_network, run_inputs
    from tb.session import Session, rerun_with_waves

    if check not in CHECKS:
        raise UnsupportedError(f"--check {check!r}: choose one of {', '.join(CHECKS)}")
    if mapping and unit:
        raise UnsupportedError("give --mapping or --unit, not both: the mapping's `default` names a unit")
    config = system_of(system, settings)
    network = load_model(model)
    inputs = read_inputs(network, input_file) if input_file else random_input(network, seed)
    assignment = load_assignment(mapping) if mapping else Assignment(unit_of(config, unit), source="--unit")
    program = compile_network(network, config, assignment, observe=check == "layers")
    source = compare_with_source(network, model, first_input(inputs)) if model.suffix == ".tflite" else ""
    runs: list[NetworkRun] = []
    with Session(config) as session, progress() as bar:
        each = run_inputs(session, program, inputs, cast("Check", check), backpressure)
        runs += bar.track(each, total=batch_size(inputs), description=network.name)
    console.print(layer_table(runs))
    console.print()
    console.print(engine_table(runs[0]))
    console.print()
    document: dict[str, Any] = {}
    model_of_energy, reason = energy_model(config)
    if model_of_energy:
        ends = {(item.layer, item.unit): float(item.end) for item in runs[0].layers}
        statistics = network_statistics(program, first_input(inputs))
        energy = model_of_energy.program_energy(program.program, runs[0].cycles, ends, statistics)
        document["energy"] = energy_report(energy)
        console.print(energy_table(energy, network.name))
        console.print(f"\n{summary(model_of_energy, energy)}", markup=False, soft_wrap=True)
    else:
        console.print(reason, markup=False, soft_wrap=True)
    wrong = [i for i, item in enumerate(runs) if not item.exact]
    for i in wrong:
        layers = ", ".join(f"{name} ({count} values)" for name, count in runs[i].mismatches.items() if count)
        errors.print(f"input {i}: differs from the golden model in {layers}", markup=False)
    if waves or wrong:
        job = runs[wrong[0] if wrong else 0].job
        console.print(f"waves: {rerun_with_waves(config, job)}", markup=False, soft_wrap=True)
    if output_file:
        write_atomically(output_file, functools.partial(_save_outputs, runs=runs))
    if json_file:
        write_json(json_file, run_report(runs, str(model), check) | document)
    speed = sum(item.cycles for item in runs) / sum(item.seconds for item in runs)
    verdict = {"layers": "every tensor", "output": "every output", "none": "nothing"}[check]
    console.print(
        f"\n{len(runs) - len(wrong)} of {len(runs)} inputs equal ({verdict} compared), "
        f"{runs[0].cycles:,} cycles each, {speed:,.0f} simulated cycles per second"
    )
    if source:
        console.print(f"the imported network: {source}", markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(FAILED)


def _save_outputs(file: IO[bytes], runs: Sequence[NetworkRun]) -> None:
    """Write the outputs of runs: (N, ...) as .npy; of a network with several each by its name, as .npz."""
    import numpy as np

    outputs = {name: np.stack([item.outputs[name] for item in runs]) for name in runs[0].outputs}
    if len(outputs) == 1:
        np.save(file, next(iter(outputs.values())), allow_pickle=False)
    else:
        arrays: dict[str, Any] = outputs
        np.savez(file, **arrays)


def show(model: Model) -> None:
    """Print a network's layers: shapes, multiply-accumulates, weights and their widths, and where each runs.

    Of a .tflite file its operators come first: on a unit, on the host, or refused and why.
    Exit status: 0 if all of it can run, 2 if anything is refused.
    """
    from golden.importers.models import load_model
    from golden.importers.tflite import examine_tflite
    from mapping.compiler.legalise import legalise_network
    from mapping.report.networks import show_table
    from mapping.report.operators import operator_table

    if model.suffix == ".tflite":
        report = examine_tflite(model)
        console.print(operator_table(report, model.name))
        console.print()
        if report.error is not None:
            raise report.error
    network = load_model(model)
    console.print(show_table(network))
    legalise_network(network)


def quantize(
    model: Annotated[
        str, typer.Argument(help="model file, or package.module:function that gives a trained nn.Module")
    ],
    out: Annotated[Path, typer.Argument(help="network file to write (.npz)", callback=checked_file)],
    bits: Annotated[int | None, typer.Option(min=2, max=8, help="width of all weights")] = None,
    layers: Annotated[
        list[str], typer.Option("--layer", help="LAYER=BITS, where it is not --bits; repeatable")
    ] = [],  # noqa: B006  # typer reads it, nobody writes it
    mapping: Annotated[Path | None, typer.Option(help="MAP.yaml: a channel gets its unit's width")] = None,
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # as above
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="inputs: of an nn.Module .npy, float32, (N, C, H, W); of a model file .npy as the network "
            "reads them, or labelled data as `accuracy` reads them"
        ),
    ] = None,
) -> None:
    """Make a network with narrower weights, without training, and print what each layer's weights lost.

    Every channel gets the scale with the least squared error. With --mapping, every channel becomes as narrow
    as the weights of its unit (--set npu_lb.W_BITS=4 for another width). With --calibration the biases of a
    model file are corrected, so that the mean of each channel stays; the first 64 inputs count.
    A float nn.Module is exported: batch norm folded, activations calibrated; its losses are against the
    module, and the network is compared with it on the calibration data.
    """
    from golden.importers.models import load_model
    from golden.network_file import save_network
    from golden.quantize.bias_correction import calibration_inputs
    from golden.quantize.export import export_with_losses
    from golden.quantize.fidelity import FidelityWarning
    from golden.quantize.modules import load_module, read_calibration
    from golden.quantize.qat import convert, prepare_qat
    from golden.quantize.weights import quantize_weights
    from mapping.compiler.assignment import load_assignment
    from mapping.compiler.widths import weight_widths
    from mapping.report.networks import weight_error_table

    if (bits is not None or bool(layers)) == (mapping is not None):
        raise UnsupportedError("give --bits or --layer, or else --mapping")
    if out.suffix != ".npz":
        raise UnsupportedError(f"{out}: a network file's name ends in .npz")
    config = system_of(system, settings)
    assignment = load_assignment(mapping) if mapping else None
    asked = functools.partial(
        weight_widths, config=config, bits=bits, layers=layer_bits(layers), assignment=assignment
    )
    if is_function(model):
        if calibration is None:
            raise UnsupportedError(
                "an nn.Module needs --calibration: inputs that show its activations' ranges"
            )
        module, batches = load_module(model), read_calibration(calibration)
        name = model.partition(":")[2]
        try:
            network = convert(prepare_qat(module, batches, name=name))  # whose layers have names
        except RuntimeError as error:  # torch, on inputs that the module cannot take
            raise UnsupportedError(f"{model} on {calibration}: {first_line(error)}") from None
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", FidelityWarning)
            result = export_with_losses(module, batches, name=name, weight_bits=asked(network))
        narrowed, lost = result.network, result.weights
        notes = [f"warning: {item.message}" for item in warned]
        last = result.fidelity[-1]
        notes.append(f"{last.name}, the output: signal to noise {last.total_db:.1f} dB against the module")
    else:
        network = load_model(Path(model))
        inputs = calibration_inputs(network, calibration) if calibration else None
        narrowed, lost = quantize_weights(network, asked(network), inputs)
        notes = []
    save_network(narrowed, out)
    console.print(weight_error_table(lost, f"{network.name}: weights"))
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(f"\nwrote {out}", markup=False, soft_wrap=True)


def layer_bits(items: Iterable[str]) -> dict[str, int]:
    """Return the widths that --layer asks for, such as "conv2d_0=8", by layer.

    Raises:
        UnsupportedError: something else.
    """
    widths = {}
    for item in items:
        name, _, value = item.partition("=")
        if not value.isdecimal():
            raise UnsupportedError(f"--layer {item!r}: write LAYER=BITS, as in conv2d_0=8")
        widths[name] = int(value)
    return widths
