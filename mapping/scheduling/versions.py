# SPDX-License-Identifier: Apache-2.0
"""Versions of networks: the same task with other weights or another mapping, each with its accuracy.

    npuloop_versions: 1                   # version of the format
    versions:
      - name: kws_w8                      # the version
        network: kws                      # what streams ask for
        file: kws_ref_model.tflite        # beside this file; or a network that npuloop brings
        unit: npu8                        # a unit, all units of a name with count, or a core as in w8a8_16x16
        accuracy_drop: 0.0                # points below the reference; default 0
        interval: [0.0, 0.0]              # 95 % interval of the drop; default: the drop itself
      - {name: kws_cut, network: kws, file: kws_ref_model.tflite, longest_section: 5000}
      - {name: kws_split, network: kws, file: kws_ref_model.tflite, mapping: kws_split.yaml}

docs/reference/workload-file.md says more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import read_yaml
from golden.importers.models import BUNDLED
from hw.system import System
from mapping.scheduling.durations import cycles_of
from mapping.scheduling.workload import STRICT, Stream, Workload, WorkloadError, file_name

FORMAT_VERSION = 1
KEYS = ("name", "network", "file", "unit", "mapping", "accuracy_drop", "interval", "longest_section")


@dataclass(frozen=True)
class Version:
    """A version of a network.

    Attributes:
        name: the version.
        network: the network that it is a version of.
        file: its model, or the name of a network that npuloop brings.
        unit: a unit or a core's key, on which it runs; None: every unit that can, or as `mapping` says.
        mapping: file that says which unit makes which channels; None: all on one unit.
        drop: points of accuracy below the reference.
        interval: ends of the 95 % interval of the drop.
        longest_section: cycles that a section of it takes at most, see `mapping.cost.sections`; None: it is
            not cut.
    """

    name: str
    network: str
    file: str
    unit: str | None = None
    mapping: Path | None = None
    drop: float = 0.0
    interval: tuple[float, float] = (0.0, 0.0)
    longest_section: float | None = None

    def allowed(self, stream: Stream, workload: Workload) -> bool:
        """Return whether its accuracy is enough for a stream."""
        drop = self.interval[1] if workload.confidence == STRICT else self.drop
        return stream.accuracy_limit is None or drop <= stream.accuracy_limit

    def units(self, system: System) -> tuple[str, ...]:
        """Return the units of a system on each of which it can run alone.

        A core's key that the system lacks gives none; a version for all units gives all.

        Raises:
            WorkloadError: it names a unit that the system does not have.
        """
        if self.unit is None:
            return system.units
        named = re.compile(rf"{re.escape(self.unit)}(_\d+)?")
        units = tuple(
            core.name for core in system.cores if self.unit == core.key or named.fullmatch(core.name)
        )
        if self.unit in system.units:
            units = (self.unit,)
        if not units and not re.fullmatch(r"w\d+a\d+_\d+x\d+\w*", self.unit):
            raise WorkloadError(
                f"version {self.name!r}: no unit {self.unit!r} in this system; it has "
                f"{', '.join(system.units)}, and a core can be named by its key, as in {system.cores[0].key}"
            )
        return units


def load_versions(path: str | Path, clock_mhz: float | None = None) -> tuple[Version, ...]:
    """Read versions.

    Args:
        path: the file.
        clock_mhz: cycles in a microsecond, for times in seconds; a workload's.

    Raises:
        WorkloadError: one message that names the file, the version, what is wrong and what to write.
    """
    path = Path(path)
    document = read_yaml(path, WorkloadError, "versions file")
    if not isinstance(document, dict) or document.get("npuloop_versions") != FORMAT_VERSION:
        raise WorkloadError(f"{path}: no versions file; it begins with `npuloop_versions: {FORMAT_VERSION}`")
    for key in document:
        if key not in ("npuloop_versions", "versions"):
            raise WorkloadError(f"{path}: unknown key {key!r}; there are npuloop_versions, versions")
    entries = document.get("versions")
    if not isinstance(entries, list) or not entries:
        raise WorkloadError(f"{path}: versions is {entries!r}; write a list: versions: [{{name: ...}}]")
    versions = tuple(_version(path, number, entry, clock_mhz) for number, entry in enumerate(entries, 1))
    names = [version.name for version in versions]
    for name in names:
        if names.count(name) > 1:
            raise WorkloadError(f"{path}: two versions are called {name!r}; give one another name")
    return versions


def _version(path: Path, number: int, entry: object, clock_mhz: float | None) -> Version:
    where = f"{path}, version {number}"
    if not isinstance(entry, dict):
        raise WorkloadError(f"{where}: is {entry!r}; write {{name: ..., network: ..., file: ...}}")
    if isinstance(entry.get("name"), str):
        where = f"{where} ({entry['name']!r})"
    for key in entry:
        if key not in KEYS:
            raise WorkloadError(f"{where}: unknown key {key!r}; there are {', '.join(KEYS)}")
    for key in ("name", "network"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise WorkloadError(f"{where}: {key} is {entry.get(key)!r}; write a name")
    file = file_name(entry, "file", where)
    if "unit" in entry and not isinstance(entry["unit"], str):
        raise WorkloadError(f"{where}: unit is {entry['unit']!r}; write the name of a unit")
    if "unit" in entry and "mapping" in entry:
        raise WorkloadError(f"{where}: a mapping says which units it needs; leave out unit")
    drop = _points(where, entry, "accuracy_drop", entry.get("accuracy_drop", 0.0))
    interval = entry.get("interval", [drop, drop])
    if not isinstance(interval, list) or len(interval) != 2:
        raise WorkloadError(f"{where}: interval is {interval!r}; write its two ends, as in [-0.1, 0.4]")
    low, high = (_points(where, entry, "interval", value) for value in interval)
    if not low <= drop <= high:
        raise WorkloadError(f"{where}: accuracy_drop {drop:g} is outside its interval; correct one of them")
    return Version(
        name=entry["name"],
        network=entry["network"],
        file=file if file in BUNDLED else str(path.parent / file),
        unit=entry.get("unit"),
        mapping=path.parent / file_name(entry, "mapping", where) if "mapping" in entry else None,
        drop=drop,
        interval=(low, high),
        longest_section=(
            cycles_of(entry, "longest_section", where, clock_mhz) if "longest_section" in entry else None
        ),
    )


def _points(where: str, entry: Mapping[str, Any], key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WorkloadError(f"{where}: {key} is {entry.get(key)!r}; write points of accuracy")
    return float(value)


def as_imported(workload: Workload) -> tuple[Version, ...]:
    """Return each network of a workload as its one version, on every unit that can run it.

    Its streams name model files, relative to the workload's folder, or networks that npuloop brings.

    Raises:
        WorkloadError: a network that is neither.
    """
    versions = []
    for network in dict.fromkeys(stream.network for stream in workload.streams):
        file = network if network in BUNDLED else str(Path(workload.source).parent / network)
        if "\0" in network or (network not in BUNDLED and not Path(file).is_file()):
            raise WorkloadError(
                f"{workload.source}: no network {network!r}; npuloop brings {', '.join(BUNDLED)}; name a "
                "model file, or give the versions of the network in a versions file"
            )
        versions.append(Version(network, network, file))
    return tuple(versions)


def check_networks(workload: Workload, versions: Iterable[Version], source: str) -> None:
    """Refuse streams of networks of which there is no version.

    Raises:
        WorkloadError: naming the stream.
    """
    known = dict.fromkeys(version.network for version in versions)
    for stream in workload.streams:
        if stream.network not in known:
            raise WorkloadError(
                f"{workload.source}, stream {stream.name!r}: no network {stream.network!r} in {source}; it "
                f"has {', '.join(known)}"
            )
