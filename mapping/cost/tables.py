# SPDX-License-Identifier: Apache-2.0
"""Cost tables: a core's calibrated coefficients, with where they come from and how good they are.

A table is a YAML file in mapping/cost_tables that is called by the parameters of its core (`CoreConfig.key`),
such as `w4a8_16x32.yaml`; whatever a unit is called, it finds the table of its parameters. Units that run at
the same time have a table called by the keys of all, in alphabetical order.
docs/reference/cost-tables.md describes the format.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from common.arrays import Floats
from common.errors import NpuloopError
from common.files import read_yaml
from common.stamp import check_stamp, stamped
from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import System
from mapping.cost.coefficients import NAMES, PHASES
from mapping.cost.shapes import Shape

SCHEMA = 1
FOLDER = Path(__file__).parents[1] / "cost_tables"
Basis = Literal["measured", "interpolated", "extrapolated"]
"""What a price stands on: whether the cores were measured, or others on all sides of them."""
FAMILY = "family"
"""What the table of all cores is called."""
SIZES = ("in_channels", "out_channels", "out_pixels", "kernel_pixels", "stride", "macs")
"""Sizes of a shape for which a table has a range."""


class TableError(NpuloopError):
    """A table that is missing, damaged, of a newer format, or of other hardware."""


@dataclass(frozen=True)
class Spread:
    """Half of a 90 % interval: the root of the sum of three squares.

    Attributes:
        absolute_cycles: of any prediction.
        relative: for each predicted cycle.
        waiting: for each predicted cycle of waiting for a bank or for another unit.
    """

    absolute_cycles: float
    relative: float
    waiting: float

    def half(self, cycles: float, waiting: float) -> float:
        """Return half of the interval, in cycles."""
        parts = (self.absolute_cycles, self.relative * cycles, self.waiting * waiting)
        return float(np.sqrt(sum(part * part for part in parts)))

    def widest(self, *others: Spread) -> Spread:
        """Return the spread of which each part is the largest of these."""
        every = (self, *others)
        return Spread(
            max(one.absolute_cycles for one in every),
            max(one.relative for one in every),
            max(one.waiting for one in every),
        )


@dataclass(frozen=True)
class Errors:
    """How far predictions were from measurements; relative errors in percent.

    Attributes:
        points: number of measurements.
        mape_percent, p95_percent, max_percent: mean, 95th percentile and maximum of the absolute error.
        bias_percent: mean error, positive where too much is predicted.
        kendall_tau: rank correlation of predicted and measured cycles.
        coverage_percent: share of the measurements inside their 90 % interval.
    """

    points: int
    mape_percent: float
    p95_percent: float
    max_percent: float
    bias_percent: float
    kendall_tau: float
    coverage_percent: float


@dataclass(frozen=True, eq=False)
class CostTable:
    """A table.

    Attributes:
        cores: key of the core, or of several together, joined with "+"; or `FAMILY`.
        date: day of the calibration, ISO 8601.
        rtl_sha256: hash of the RTL and the test bench.
        parameters: of each core, by key.
        memory: settings of the memory model.
        tools: versions.
        coefficients: (len(NAMES),) cycles.
        confidence: (len(NAMES), 2) ends of the 95 % confidence interval of each; NaN where not fitted.
        spread: of predictions.
        validity: for each operator the least and the largest of each size in the fit set.
        errors: on the fit set and on held-out sets, by name.
        learning_curve: measurements in the fit, and MAPE on the held-out random layers, percent.
        sample: shapes that `--check` measures again, and their cycles; a split names cores as
            `names_in_table` does.
    """

    cores: str
    date: str
    rtl_sha256: str
    parameters: Mapping[str, Mapping[str, int]]
    memory: Mapping[str, int]
    tools: Mapping[str, str]
    coefficients: Floats
    confidence: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    spread: Spread
    validity: Mapping[str, Mapping[str, tuple[int, int]]]
    errors: Mapping[str, Errors]
    learning_curve: Sequence[tuple[int, float]]
    sample: Sequence[tuple[Shape, int]]

    def inside(self, shape: Shape) -> bool:
        """Return whether every size of a shape lies between those of the fit set."""
        ranges = self.validity.get(shape.op)
        return ranges is not None and all(
            ranges[name][0] <= value <= ranges[name][1] for name, value in sizes(shape).items()
        )

    def basis(self, cores: Sequence[CoreConfig], config: System) -> Basis:
        """Return what prices of some cores together stand on.

        A family's are interpolated where each parameter of each core lies between those of cores that were
        measured, and extrapolated elsewhere.
        """
        if self.cores == keys_of(cores):
            return "measured"
        return between([core_parameters(core, config) for core in cores], self.parameters.values())


def between(wanted: Iterable[Mapping[str, int]], measured: Iterable[Mapping[str, int]]) -> Basis:
    """Return whether each parameter of some cores lies between those of cores that were measured."""
    every = list(measured)
    inside = all(
        min(each[name] for each in every) <= value <= max(each[name] for each in every)
        for core in wanted
        for name, value in core.items()
    )
    return "interpolated" if inside else "extrapolated"


def sizes(shape: Shape) -> dict[str, int]:
    """Return the SIZES of a shape."""
    pixels = shape.out_height * shape.out_width
    kernel = shape.kernel[0] * shape.kernel[1]
    values = (shape.in_channels, shape.out_channels, pixels, kernel, max(shape.stride), shape.macs)
    return dict(zip(SIZES, values, strict=True))


def core_parameters(core: CoreConfig, config: System) -> dict[str, int]:
    """Return a unit's parameters as a table has them."""
    registers = core.registers(config.axi_bits)
    return {name: value for fields_of in registers.values() for name, value in fields_of.items()}


def parameters_of(cores: Iterable[CoreConfig], config: System) -> dict[str, dict[str, int]]:
    """Return the parameters of some cores as a table has them, by key."""
    return {core.key: core_parameters(core, config) for core in sorted(cores, key=lambda core: core.key)}


def memory_settings(memory: MemoryModel) -> dict[str, int]:
    """Return the memory's settings as a table has them."""
    write = memory.latency if memory.write_latency is None else memory.write_latency
    return {
        "read_latency_cycles": memory.latency,
        "write_latency_cycles": write,
        "bandwidth_beats": memory.beats,
        "bandwidth_per_cycles": memory.per_cycles,
    }


def keys_of(cores: Iterable[CoreConfig]) -> str:
    """Return what a table calls some cores together: their keys, whatever their names and order."""
    return "+".join(sorted(core.key for core in cores))


def table_name(cores: Sequence[CoreConfig], axi_bits: int = System.axi_bits) -> str:
    """Return the name of the table of some cores: their keys, and the port where it is not the default."""
    return keys_of(cores) + ("" if axi_bits == System.axi_bits else f"_axi{axi_bits}")


def names_in_table(cores: Sequence[CoreConfig]) -> dict[str, str]:
    """Return what the splits of a table's sample call each unit, by its name.

    It is the core's key; of several units with the same key, with their number among them.
    """
    keys = [core.key for core in cores]
    return {
        core.name: core.key if keys.count(core.key) == 1 else f"{core.key}_{keys[:i].count(core.key)}"
        for i, core in enumerate(cores)
    }


def table_path(cores: Sequence[CoreConfig], config: System, folder: Path = FOLDER) -> Path:
    """Return the path of the table of a unit of a system, or of units together."""
    return folder / f"{table_name(cores, config.axi_bits)}.yaml"


def family_path(folder: Path = FOLDER) -> Path:
    """Return the path of the family's table."""
    return folder / f"{FAMILY}.yaml"


def path_for(cores: Sequence[CoreConfig], config: System, folder: Path = FOLDER) -> Path:
    """Return the path of the table that prices some cores: their own if it is there, or else the family's.

    Where there is neither, it is the path of their own.
    """
    own, family = table_path(cores, config, folder), family_path(folder)
    return own if own.exists() or not family.exists() else family


# --------------------------------------------------------------------------------------------- files
def table_text(table: CostTable) -> str:
    """Return a table as YAML."""
    coefficients = {}
    for i, phase in enumerate(PHASES):
        entry: dict[str, Any] = {"value": _short(table.coefficients[i])}
        if np.isfinite(table.confidence[i]).all():
            entry["confidence_95"] = [_short(value) for value in table.confidence[i]]
        coefficients[phase.name] = entry | {"counter": phase.counter, "meaning": phase.meaning}
    document = {
        "schema": SCHEMA,
        "cores": table.cores,
        "date": table.date,
        "rtl_sha256": table.rtl_sha256,
        "parameters": {key: dict(values) for key, values in table.parameters.items()},
        "memory": dict(table.memory),
        "tools": dict(table.tools),
        "coefficients": coefficients,
        "interval_90": {item.name: _short(getattr(table.spread, item.name), 4) for item in fields(Spread)},
        "validity": {
            op: {name: list(ends) for name, ends in ranges.items()} for op, ranges in table.validity.items()
        },
        "errors": {
            name: {item.name: _short(getattr(errors, item.name)) for item in fields(Errors)}
            for name, errors in table.errors.items()
        },
        "learning_curve": [
            {"measurements": count, "mape_percent": _short(error)} for count, error in table.learning_curve
        ],
        "sample": [{"cycles": cycles} | shape.entry() for shape, cycles in table.sample],
    }
    head = "# Written by `npuloop calibrate`; docs/reference/cost-tables.md says what the fields mean.\n"
    return head + yaml.safe_dump(stamped(document), sort_keys=False, width=120, default_flow_style=None)


def _short(value: float, digits: int = 3) -> float | int:
    return value if isinstance(value, int) else round(float(value), digits)


def load_table(path: Path) -> CostTable:
    """Read a table.

    Raises:
        TableError: it is missing, no table, damaged, or of a newer schema; names the file and the field.
    """
    if not path.exists():
        raise TableError(f"{path}: there is no cost table; make it with `npuloop calibrate`")
    document = read_yaml(path, TableError, "cost table, with `npuloop calibrate`")
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise TableError(
            f"{path}: has schema {schema}; this npuloop reads up to {SCHEMA}: update it, or calibrate again"
        )
    if schema != SCHEMA:
        raise TableError(f"{path}: is no cost table; its `schema` is {schema!r}; calibrate again")
    try:
        table = _table(document)
    except KeyError as error:
        raise TableError(f"{path}: the field {error} is missing; calibrate again") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, NpuloopError) as error:
        raise TableError(f"{path}: is damaged ({error}); calibrate again") from None
    check_stamp(path, document, TableError, "calibrate again")
    return table


def _table(document: Mapping[str, Any]) -> CostTable:
    entries = document["coefficients"]
    for name in entries:
        if name not in NAMES:
            raise ValueError(f"unknown coefficient {name}")
    values = np.array([float(entries[name]["value"]) for name in NAMES])
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("a coefficient is negative or no number")
    nan = [float("nan")] * 2
    confidence = np.array([entries[name].get("confidence_95", nan) for name in NAMES], float)
    samples = []
    for entry in document["sample"]:
        shape = Shape.from_entry({key: value for key, value in entry.items() if key != "cycles"})
        samples.append((shape, int(entry["cycles"])))
    spread = Spread(**{item.name: float(document["interval_90"][item.name]) for item in fields(Spread)})
    if not all(0 <= getattr(spread, item.name) < float("inf") for item in fields(Spread)):
        raise ValueError("a part of interval_90 is negative or no number")
    validity = {
        op: {name: (int(ranges[name][0]), int(ranges[name][1])) for name in SIZES}
        for op, ranges in document["validity"].items()
    }
    return CostTable(
        cores=str(document["cores"]),
        date=str(document["date"]),
        rtl_sha256=str(document["rtl_sha256"]),
        parameters={key: dict(values) for key, values in document["parameters"].items()},
        memory=dict(document["memory"]),
        tools=dict(document["tools"]),
        coefficients=values,
        confidence=confidence.reshape(len(NAMES), 2),
        spread=spread,
        validity=validity,
        errors={name: Errors(**entry) for name, entry in document["errors"].items()},
        learning_curve=[
            (int(item["measurements"]), float(item["mape_percent"])) for item in document["learning_curve"]
        ],
        sample=samples,
    )


@functools.lru_cache
def _cached(path: Path, stamp: int) -> CostTable:  # noqa: ARG001  # the stamp tells versions apart
    return load_table(path)


def table_for(cores: Sequence[CoreConfig], config: System, folder: Path = FOLDER) -> CostTable:
    """Return the table that prices a unit, or units together: their own, or else the family's.

    Raises:
        TableError: there is neither, it cannot be read, or their own was made with other parameters.
    """
    path = path_for(cores, config, folder)
    if path == family_path(folder):
        return _cached(path, path.stat().st_mtime_ns)
    return table_of(cores, config, folder)


def table_of(cores: Sequence[CoreConfig], config: System, folder: Path = FOLDER) -> CostTable:
    """Return the own table of a unit, or of units together.

    Raises:
        TableError: there is none, it cannot be read, or it was made with other parameters.
    """
    path = table_path(cores, config, folder)
    try:
        table = _cached(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        together = " of these units together" if len(cores) > 1 else ""
        command = " ".join(["npuloop calibrate", *(f"--unit {core.name}" for core in cores)])
        raise TableError(f"{path}: there is no cost table{together}; make it with `{command}`") from None
    except OSError:
        table = load_table(path)
    if (table.cores, table.parameters) != (keys_of(cores), parameters_of(cores, config)):
        raise TableError(f"{path}: was calibrated with other parameters of {table.cores}; calibrate again")
    return table
