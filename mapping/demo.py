"""The embedded real input: a trained digits network, layer by layer, on both units in RTL.

The int8 variant runs on the 8-bit unit, the ternary one on the low-bit unit. Every layer reads what the
hardware computed for the layers before it, so the accuracy is the hardware's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from golden.digits import IMAGE, DigitsNetwork, load_digits_network, quantize_image
from mapping.compiler import compile_layer
from mapping.runner import LayerRun, core_of, job_of, run_program
from tb.build import build, build_root
from tb.config import SocConfig
from tb.session import Session, rerun_with_waves

PLACES = (("npu8", "int8"), ("npu_lb", "ternary"))
DEFAULT_IMAGES = 100
"""Test images that `npuloop sim` runs; there are 450."""


@dataclass(frozen=True)
class VariantReport:
    """One variant on one unit.

    `layers` are the first image's runs (cycles do not depend on the data, which is checked); `mismatches`
    counts values that differ from the golden model, per layer, over all images.
    """

    unit: str
    network: DigitsNetwork
    layers: tuple[LayerRun, ...]
    mismatches_by_layer: tuple[int, ...]
    images: int
    correct: int

    @property
    def mismatches(self) -> int:
        """Values that differ, over all layers and images."""
        return sum(self.mismatches_by_layer)

    @property
    def accuracy(self) -> float:
        """Share of the images whose digit the hardware found."""
        return self.correct / self.images


def run_image(session: Session, unit: str, network: DigitsNetwork, image: npt.NDArray[Any]) -> list[LayerRun]:
    """Run one image through all layers on a unit; each layer reads the hardware's outputs."""
    tensors = {IMAGE: quantize_image(image)}
    runs = []
    for node in network.nodes:
        layer = replace(node.layer, input=tensors[node.inputs[0]].reshape(node.layer.input.shape))
        if layer.op == "add":
            layer = replace(layer, input2=tensors[node.inputs[1]])
        run = run_program(session, compile_layer(layer, core_of(session.config, unit)))
        tensors[node.name] = run.output
        runs.append(run)
    return runs


def run_digits(
    images: int = DEFAULT_IMAGES, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> list[VariantReport]:
    """Run the first `images` test digits through both variants; see `VariantReport`.

    Raises:
        RunError: the hardware reports an error, or a layer's cycles depend on its data.
        TestbenchError: the simulator cannot be built or dies.
    """
    reports = []
    with Session(SocConfig()) as session:
        for place, (unit, variant) in enumerate(PLACES):
            network = load_digits_network(variant)
            data, labels = network.test_set()
            count = min(images, len(data))
            first: list[LayerRun] = []
            mismatches = np.zeros(len(network.nodes), np.int64)
            correct = 0
            for i in range(count):
                runs = run_image(session, unit, network, data[i])
                first = first or runs
                mismatches += [run.mismatches for run in runs]
                correct += int(runs[-1].output.argmax() == labels[i])
                on_progress(place * count + i + 1, len(PLACES) * count)
            reports.append(
                VariantReport(unit, network, tuple(first), tuple(int(m) for m in mismatches), count, correct)
            )
    return reports


def trace_digit() -> list[Path]:
    """Run one digit's layers with waves and return the trace files."""
    config = SocConfig()
    suffix = build(config, "wave").trace_suffix
    paths = []
    for unit, variant in PLACES:
        network = load_digits_network(variant)
        image = network.test_set()[0][0]
        for layer in network.layers_for(image):
            job = job_of(compile_layer(layer, core_of(config, unit)))
            path = build_root() / "waves" / f"{unit}-{layer.name}{suffix}"
            paths.append(rerun_with_waves(config, job, path))
    return paths


def table(report: VariantReport) -> Table:
    """Return the table of a variant: layer, unit, cycles, utilisation, mismatches."""
    title = f"{report.network.variant} digits network on {report.unit}, {report.images} images"
    result = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("layer", "operator", "unit"):
        result.add_column(name, no_wrap=True)
    for name in ("cycles", "MACs", "utilisation", "mismatches"):
        result.add_column(name, justify="right")
    for run, mismatches in zip(report.layers, report.mismatches_by_layer, strict=True):
        has_macs = run.offered_macs > 0
        result.add_row(
            run.layer.name, run.layer.op, run.unit, f"{run.cycles:,}",
            f"{run.useful_macs:,}" if has_macs else "-", f"{run.utilisation:.1%}" if has_macs else "-",
            str(mismatches) if not mismatches else f"[red]{mismatches}[/]",
        )  # fmt: skip
    result.add_section()
    result.add_row(
        "all", "", "", f"{sum(run.cycles for run in report.layers):,}",
        f"{sum(run.useful_macs for run in report.layers):,}",
        "", str(report.mismatches), style="bold",
    )  # fmt: skip
    return result


def verdict(report: VariantReport) -> str:
    """Return the sentence about accuracy."""
    return (
        f"{report.unit} got {report.correct} of {report.images} digits right ({report.accuracy:.1%}); "
        f"the float network {report.network.float_correct(report.images)}"
    )


def as_json(report: VariantReport) -> dict[str, Any]:
    """Return the table as plain data."""
    return {
        "unit": report.unit,
        "variant": report.network.variant,
        "images": report.images,
        "correct": report.correct,
        "accuracy": report.accuracy,
        "float_correct": report.network.float_correct(report.images),
        "mismatches": report.mismatches,
        "layers": [
            {
                "name": run.layer.name,
                "op": run.layer.op,
                "cycles": run.cycles,
                "useful_macs": run.useful_macs,
                "offered_macs": run.offered_macs,
                "utilisation": run.utilisation,
                "mismatches": mismatches,
            }
            for run, mismatches in zip(report.layers, report.mismatches_by_layer, strict=True)
        ],
    }
