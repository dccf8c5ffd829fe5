# SPDX-License-Identifier: Apache-2.0
"""What `npuloop run`, `show` and `quantize` print and write: tables and plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from golden.network import Network, Tensor
from golden.node import QUANTISED
from golden.quantize.weights import WeightError
from hw.interface import ENGINES
from mapping.compiler.program import PartReport
from mapping.report.console import console_table
from mapping.report.operators import places_of
from mapping.run.networks import LayerCycles, NetworkProgram, NetworkRun


@dataclass(frozen=True)
class Row:
    """One unit's part of one layer: what the compiler knows and what the hardware's time stamps say."""

    part: PartReport
    measured: LayerCycles
    op: str
    multipliers: int

    @property
    def utilisation(self) -> float:
        """Useful MACs over multipliers times cycles."""
        return self.part.macs / (self.multipliers * self.measured.cycles) if self.measured.cycles else 0.0


def rows_of(run: NetworkRun) -> list[Row]:
    """Return the rows of a run, in order."""
    program = run.program
    multipliers = {core.name: core.rows * core.columns for core in program.config.cores}
    ops = {op.name: program.network.node(op.name).op for op in program.program.graph.ops}
    return [
        Row(part, measured, ops[part.layer], multipliers[part.unit])
        for part, measured in zip(program.program.parts, run.layers, strict=True)
    ]


def bound_cycles(program: NetworkProgram) -> int:
    """Return the sum over layers of the larger of cycle law and port time, on the slower unit."""
    worst: dict[str, int] = {}
    for part in program.program.parts:
        worst[part.layer] = max(worst.get(part.layer, 0), part.bound_cycles)
    return sum(worst.values())


def layer_table(runs: Sequence[NetworkRun]) -> Table:
    """Return the table of `npuloop run`: cycles of the first input, mismatches of all."""
    run = runs[0]
    title = f"{run.program.network.name}, {len(runs)} input{'s' if len(runs) > 1 else ''}"
    table = console_table(
        title, ("layer", "unit"),
        ("channels", "MACs", "cycles", "bound", "cycles / bound", "array busy", "KiB moved", "mismatches"),
    )  # fmt: skip
    for row in rows_of(run):
        part, cycles = row.part, row.measured.cycles
        compared = [item.mismatches[part.layer] for item in runs if part.layer in item.mismatches]
        wrong = sum(compared)
        table.add_row(
            part.layer, part.unit, str(part.channels), f"{part.macs:,}" if part.macs else "-", f"{cycles:,}",
            f"{part.bound_cycles:,}", f"{cycles / part.bound_cycles:.2f}",
            f"{row.utilisation:.1%}" if part.macs else "-",
            f"{(part.load_bytes + part.store_bytes) / 1024:.1f}",
            (Text(str(wrong), style="red") if wrong else "0") if compared else "-",
        )  # fmt: skip
    table.add_section()
    bound, moved = bound_cycles(run.program), bytes_moved(run.program)
    wrong = sum(sum(item.mismatches.values()) for item in runs)
    multipliers = sum({row.part.unit: row.multipliers for row in rows_of(run)}.values())
    table.add_row(
        "all", "", "", f"{run.program.network.macs:,}", f"{run.cycles:,}", f"{bound:,}",
        f"{run.cycles / bound:.2f}",
        f"{run.program.network.macs / (multipliers * run.cycles):.1%}", f"{sum(moved) / 1024:.1f}",
        str(wrong) if any(item.mismatches for item in runs) else "-", style="bold",
    )  # fmt: skip
    return table


def bytes_moved(program: NetworkProgram) -> tuple[int, int]:
    """Return the bytes that an inference loads and stores, commands and time stamps not counted."""
    parts = program.program.parts
    return sum(part.load_bytes for part in parts), sum(part.store_bytes for part in parts)


STATES = ("run", "wait_token", "wait_memory", "wait_drain", "idle")


def engine_table(run: NetworkRun) -> Table:
    """Return the table of what each engine did: share of cycles by state."""
    table = console_table("engines", ("unit", "engine"), [state.replace("_", " ") for state in STATES])
    for unit, counters in run.counters.items():
        for engine in ENGINES:
            shares = [counters.get(f"{engine}_{state}") for state in STATES]
            table.add_row(
                unit, engine, *("-" if n is None else f"{n / max(1, counters['cycles']):.1%}" for n in shares)
            )
    return table


def run_report(runs: Sequence[NetworkRun], model: str, check: str) -> dict[str, Any]:
    """Return what `npuloop run --json` writes."""
    run = runs[0]
    program = run.program
    load, store = bytes_moved(program)
    wrong: dict[str, int] = {}
    for item in runs:
        for name, count in item.mismatches.items():
            wrong[name] = wrong.get(name, 0) + count
    return {
        "model": model,
        "network": program.network.name,
        "inputs": len(runs),
        "check": check,
        "exact": None if check == "none" else all(item.exact for item in runs),
        "mismatches": wrong,
        "memory": {
            "latency_cycles": run.job.memory.latency,
            "beats_per_cycle": run.job.memory.beats / run.job.memory.per_cycles,
            "port_bytes": program.config.axi_bits // 8,
        },
        "total_cycles": run.cycles,
        "total_cycles_by_input": [item.cycles for item in runs],
        "bound_cycles": bound_cycles(program),
        "macs": program.network.macs,
        "load_bytes": load,
        "store_bytes": store,
        "units": {
            core.name: {
                "parameters": {
                    key: value
                    for part in core.registers(program.config.axi_bits).values()
                    for key, value in part.items()
                },
                "counters": dict(run.counters[core.name]),
            }
            for core in program.config.cores
            if core.name in run.counters
        },
        "layers": [
            {
                "layer": row.part.layer,
                "op": row.op,
                "unit": row.part.unit,
                "channels": row.part.channels,
                "macs": row.part.macs,
                "cycles": row.measured.cycles,
                "end_cycle": row.measured.end,
                "law_cycles": row.part.law_cycles,
                "bound_cycles": row.part.bound_cycles,
                "utilisation": row.utilisation,
                "load_bytes": row.part.load_bytes,
                "store_bytes": row.part.store_bytes,
                "commands": row.part.commands,
            }
            for row in rows_of(run)
        ],
        "simulated_cycles_per_second": sum(item.cycles for item in runs) / sum(item.seconds for item in runs),
    }


def show_table(network: Network) -> Table:
    """Return the table of `npuloop show`: layers, shapes, MACs, weights."""
    table = console_table(
        network.name, ("layer", "reads", "on", "output", "kernel", "stride"),
        ("MACs", "weights", "bits", "scale"),
    )  # fmt: skip
    places = places_of(network)
    for name, tensor in network.inputs.items():
        table.add_row(name, "", "", _shape(tensor.shape), "", "", "", "", "", _scale(tensor))
    for node in network.nodes:
        layer = node.layer
        window = layer is not None and layer.op not in ("add", "fully_connected")
        kernel = ""
        if layer is not None and window:
            size = layer.weights.shape[1:3] if layer.weights.size else layer.kernel
            kernel = f"{size[0]} x {size[1]}"
        table.add_row(
            node.name, ", ".join(node.inputs), places[node.name], _shape(node.output.shape), kernel,
            f"{layer.stride[0]} x {layer.stride[1]}" if layer is not None and window else "",
            f"{node.macs:,}" if node.macs else "-",
            f"{layer.weights.size:,}" if layer is not None and layer.weights.size else "-",
            ", ".join(_widths(node.weight_bits)) or "-", _scale(node.output),
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "all", "", "", "", "", "", f"{network.macs:,}", f"{network.weights:,}", "", "", style="bold"
    )
    return table


def _scale(tensor: Tensor) -> str:
    return f"{tensor.scale:.4g}" if tensor.dtype in QUANTISED else tensor.dtype


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _widths(bits: Any) -> Iterator[str]:
    if bits is None:
        return
    values = sorted(set(bits.tolist()))
    for value in values:
        count = int((bits == value).sum())
        yield str(value) if len(values) == 1 else f"{count} x {value}"


def weight_error_table(errors: Sequence[WeightError], title: str) -> Table:
    """Return the table of `npuloop quantize`: what each layer's weights lost."""
    table = console_table(
        title, ("layer", "channels by width"), ("relative RMS error", "largest error", "SQNR, dB")
    )
    for error in errors:
        widths = ", ".join(f"{count} x {width} bits" for width, count in sorted(error.channels.items()))
        table.add_row(
            error.node, widths, f"{error.relative_rms:.2%}", f"{error.largest:.4g}",
            f"{error.sqnr_db:.1f}" if error.relative_rms else "exact",
        )  # fmt: skip
    return table
