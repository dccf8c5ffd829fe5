# SPDX-License-Identifier: Apache-2.0
"""Reads workloads from files: workload.yaml.

    npuloop_workload: 1                     # version of the format
    clock_mhz: 100                          # cycles in a microsecond, for the durations in seconds below
    duration: 50 ms                         # requests that arrive before; a plain number is in cycles
    confidence: strict                      # the upper end of an accuracy's interval counts; default: mean
    streams:
      - name: wake                          # default: the network's name
        network: kws                        # of versions.yaml, a model file, or a network that npuloop brings
        arrivals: {kind: poisson, rate_hz: 400}
        deadline: 5 ms
        accuracy_limit: 0.5                 # points
        priority: 1
        drop_late: true
      - {network: vww, arrivals: {kind: frames, sensor_hz: 60, every: 2}}
      - {network: ad, arrivals: {kind: cascade, after: wake, probability: 0.2}}

docs/reference/workload-file.md says more.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import read_text, read_yaml
from mapping.scheduling.arrivals import (
    MULTI_STREAM,
    OFFLINE,
    SCENARIOS,
    SERVER,
    SINGLE_STREAM,
    Arrivals,
    Bursts,
    Cascade,
    Loop,
    Periodic,
    Poisson,
    Trace,
)
from mapping.scheduling.durations import cycles_of, cycles_per_second, plain, some
from mapping.scheduling.versions import Version, as_imported, load_versions
from mapping.scheduling.workload import MAX_REQUESTS, MEAN, STRICT, Stream, Workload, WorkloadError, file_name

FORMAT_VERSION = 1
BUNDLED = Path(__file__).parent / "workloads" / "upscaled.yaml"
"""The workload that npuloop brings."""
KEYS = ("npuloop_workload", "clock_mhz", "duration", "confidence", "versions", "streams")
STREAM_KEYS = (
    "name", "network", "arrivals", "deadline", "accuracy_limit", "priority", "drop_late", "requests",
)  # fmt: skip
KINDS: Mapping[str, tuple[str, ...]] = {
    "periodic": ("period", "rate_hz", "jitter", "phase"),
    "frames": ("sensor_hz", "every", "jitter", "phase"),
    "poisson": ("gap", "rate_hz"),
    "bursts": ("period", "rate_hz", "size", "spacing"),
    "trace": ("file", "times"),
    "loadgen": ("scenario", "rate_hz", "samples"),
    "cascade": ("after", "probability"),
}
"""Kinds of arrivals, and the keys that each may have."""
TRACE_COLUMN = "arrival_cycle"


def load_workload(path: str | Path) -> Workload:
    """Read a workload.

    Raises:
        WorkloadError: one message that names the file, the stream, what is wrong and what to write.
    """
    path = Path(path)
    document = read_yaml(path, WorkloadError, "workload file")
    if not isinstance(document, dict) or document.get("npuloop_workload") != FORMAT_VERSION:
        raise WorkloadError(f"{path}: no workload file; it begins with `npuloop_workload: {FORMAT_VERSION}`")
    reader = _Reader(path, document)
    reader.only(document, KEYS, str(path))
    duration = reader.time(document, "duration", str(path)) if "duration" in document else None
    entries = document.get("streams")
    if not isinstance(entries, list) or not entries:
        raise WorkloadError(f"{path}: streams is {entries!r}; write a list: streams: [{{network: ...}}]")
    streams = tuple(reader.stream(number, entry, duration) for number, entry in enumerate(entries, 1))
    names = [stream.name for stream in streams]
    for name in names:
        if names.count(name) > 1:
            raise WorkloadError(f"{path}: two streams are called {name!r}; give one another name")
    confidence = document.get("confidence", MEAN)
    if confidence not in (MEAN, STRICT):
        raise WorkloadError(f"{path}: confidence is {confidence!r}; write {MEAN} or {STRICT}")
    for stream in streams:
        if isinstance(stream.arrivals, Cascade) and stream.arrivals.after not in names:
            raise WorkloadError(
                f"{path}, stream {stream.name!r}: comes after {stream.arrivals.after!r}, and there is no "
                f"such stream; there are {', '.join(names)}"
            )
    return Workload(streams, duration, confidence, reader.clock_mhz, str(path))


def versions_named(path: str | Path) -> Path | None:
    """Return the file of versions that a workload names, relative to its own folder; None: it names none.

    Raises:
        WorkloadError: see `load_workload`.
    """
    path = Path(path)
    document = read_yaml(path, WorkloadError, "workload file")
    if not isinstance(document, dict) or "versions" not in document:
        return None
    return path.parent / file_name(document, "versions", str(path))


def load_with_versions(
    workload: str | Path | None, versions: str | Path | None
) -> tuple[Workload, tuple[Version, ...], str]:
    """Read a workload and the versions of its networks.

    Args:
        workload: its file; None: the bundled one.
        versions: their file; None: the one that the workload names, else its models as they are.

    Returns:
        The workload, the versions, and the file that says which versions there are.

    Raises:
        WorkloadError: see `load_workload`, `load_versions` and `as_imported`.
    """
    file = BUNDLED if workload is None else workload
    load = load_workload(file)
    named = versions or versions_named(file)
    return load, load_versions(named, load.clock_mhz) if named else as_imported(load), str(named or file)


class _Reader:
    """Reads parts of a workload file."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.clock_mhz: float | None = None
        if "clock_mhz" in document:
            self.clock_mhz = self.number(document, "clock_mhz", str(path), above=0.0)

    def stream(self, number: int, entry: object, duration: float | None) -> Stream:
        """Return the stream of an entry of `streams`."""
        where = f"{self.path}, stream {number}"
        if not isinstance(entry, dict):
            raise WorkloadError(f"{where}: is {entry!r}; write {{network: ..., arrivals: ...}}")
        network = entry.get("network")
        if not isinstance(network, str) or not network:
            raise WorkloadError(f"{where}: network is {network!r}; write the name of a network")
        name = entry.get("name", network)
        if not isinstance(name, str) or not name:
            raise WorkloadError(f"{where}: name is {name!r}; write a name")
        where = f"{where} ({name!r})"
        self.only(entry, STREAM_KEYS, where)
        requests = self.count(entry, "requests", where) if "requests" in entry else None
        deadline = self.time(entry, "deadline", where) if "deadline" in entry else None
        limit = self.number(entry, "accuracy_limit", where) if "accuracy_limit" in entry else None
        priority = entry.get("priority", 0)
        if not isinstance(priority, int) or isinstance(priority, bool):
            raise WorkloadError(f"{where}: priority is {priority!r}; write an integer")
        drop_late = entry.get("drop_late", False)
        if not isinstance(drop_late, bool):
            raise WorkloadError(f"{where}: drop_late is {drop_late!r}; write true or false")
        if drop_late and deadline is None and _kind(entry) != "frames":
            raise WorkloadError(f"{where}: drop_late needs a deadline; give one")
        arrivals = self.arrivals(entry.get("arrivals"), where)
        if isinstance(arrivals, Loop) and requests is None:
            raise WorkloadError(f"{where}: queries that wait for each other have no rate; give requests: N")
        if not isinstance(arrivals, Trace | Cascade) and requests is None and duration is None:
            raise WorkloadError(f"{where}: has no end; give requests: N, or the workload a duration")
        if isinstance(arrivals, Periodic) and deadline is None and _kind(entry) == "frames":
            deadline = arrivals.period  # the next frame that it takes
        return Stream(name, network, arrivals, deadline, limit, priority, drop_late, requests)

    def arrivals(self, entry: object, where: str) -> Arrivals:
        """Return the arrivals that an entry describes."""
        where = f"{where}, arrivals"
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(kind, str) or kind not in KINDS:
            raise WorkloadError(f"{where}: no kind {kind!r}; write kind: {', '.join(KINDS)}, one of them")
        self.only(entry, ("kind", *KINDS[kind]), where)
        if kind == "cascade":
            after = entry.get("after")
            if not isinstance(after, str):
                raise WorkloadError(f"{where}: after is {after!r}; write the name of a stream")
            share = self.number(entry, "probability", where) if "probability" in entry else 1.0
            if share > 1:
                raise WorkloadError(f"{where}: probability is {share:g}; write 0 to 1")
            return Cascade(after, share)
        if kind == "trace":
            return Trace(self.trace(entry, where))
        if kind == "loadgen":
            return self.scenario(entry, where)
        if kind == "poisson":
            return Poisson(self.gap(entry, "gap", where))
        if kind == "bursts":
            spacing = self.time(entry, "spacing", where, zero=True) if "spacing" in entry else 0.0
            return Bursts(self.gap(entry, "period", where), self.count(entry, "size", where), spacing)
        if kind == "frames":
            every = self.count(entry, "every", where) if "every" in entry else 1
            period = every * self.rate(entry, "sensor_hz", where)
        else:
            period = self.gap(entry, "period", where)
        jitter = self.time(entry, "jitter", where, zero=True) if "jitter" in entry else 0.0
        if jitter > period / 2:
            raise WorkloadError(f"{where}: jitter is more than half a period; give less")
        phase = self.time(entry, "phase", where, zero=True) if "phase" in entry else 0.0
        return Periodic(period, jitter, phase)

    def scenario(self, entry: Mapping[str, Any], where: str) -> Arrivals:
        """Return the arrivals of one of LoadGen's scenarios."""
        name = entry.get("scenario")
        if name == SERVER:
            return Poisson(self.rate(entry, "rate_hz", where))
        if name == OFFLINE:
            return Trace((0.0,) * self.count(entry, "samples", where))
        if name == SINGLE_STREAM:
            return Loop()
        if name == MULTI_STREAM:
            return Loop(self.count(entry, "samples", where) if "samples" in entry else 8)
        raise WorkloadError(f"{where}: no scenario {name!r}; there are {', '.join(SCENARIOS)}")

    def trace(self, entry: Mapping[str, Any], where: str) -> tuple[float, ...]:
        """Return the cycles of a trace: a list, or a column of a CSV file beside the workload."""
        if ("file" in entry) == ("times" in entry):
            raise WorkloadError(f"{where}: a trace has a file or times; give one of them")
        if "times" in entry:
            values = entry["times"]
            if not isinstance(values, list):
                raise WorkloadError(f"{where}: times is {values!r}; write a list of cycles")
            times = [self.time({"times": value}, "times", where, zero=True) for value in values]
        else:
            where = str(self.path.parent / file_name(entry, "file", where))
            times = [
                self.time({"line": text}, "line", f"{where}, line {line}", zero=True)
                for line, text in _column(Path(where))
            ]
        if not times:
            raise WorkloadError(f"{where}: the trace is empty; give at least one arrival")
        if len(times) > MAX_REQUESTS:
            raise WorkloadError(f"{where}: more than {MAX_REQUESTS} arrivals; shorten the trace")
        return tuple(sorted(times))

    # ------------------------------------------------------------------------------------------- values
    def only(self, entry: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
        """Refuse keys that are not known."""
        for key in entry:
            if key not in keys:
                raise WorkloadError(f"{where}: unknown key {key!r}; there are {', '.join(keys)}")

    def number(self, entry: Mapping[str, Any], key: str, where: str, above: float | None = None) -> float:
        """Return a number that is not negative; or above a bound."""
        value = plain(entry.get(key))
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise WorkloadError(f"{where}: {key} is {value!r}; write a number")
        if value < 0 or (above is not None and value <= above):
            wanted = "0 or more" if above is None else f"a number above {above:g}"
            raise WorkloadError(f"{where}: {key} is {value!r}; write {wanted}")
        return float(value)

    def count(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        """Return a positive integer."""
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_REQUESTS:
            raise WorkloadError(f"{where}: {key} is {value!r}; write an integer, 1 to {MAX_REQUESTS}")
        return value

    def time(self, entry: Mapping[str, Any], key: str, where: str, *, zero: bool = False) -> float:
        """Return a duration in cycles: a number of cycles, or a number with s, ms or us."""
        return cycles_of(entry, key, where, self.clock_mhz, zero=zero)

    def rate(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        """Return the cycles between two events of a rate in hertz."""
        hertz = self.number(entry, key, where, above=0.0)
        return some(cycles_per_second(self.clock_mhz, where, key, entry.get(key)) / hertz, key, where)

    def gap(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        """Return the cycles between two requests, from a time or from a rate."""
        if (key in entry) == ("rate_hz" in entry):
            raise WorkloadError(f"{where}: give {key} or rate_hz, one of them")
        return self.time(entry, key, where) if key in entry else self.rate(entry, "rate_hz", where)


def _kind(entry: Mapping[str, Any]) -> object:
    arrivals = entry.get("arrivals")
    return arrivals.get("kind") if isinstance(arrivals, dict) else None


def _column(path: Path) -> list[tuple[int, str]]:
    """Return the line numbers and values of the arrivals' column of a CSV file: the only one, or by name."""
    text = read_text(path, WorkloadError, "trace of arrivals (CSV)")
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise WorkloadError(f"{path}: no CSV ({error}); write a line for each arrival") from None
    filled = [(line, row) for line, row in enumerate(rows, 1) if row]
    if not filled:
        return []
    head = filled[0][1]
    if TRACE_COLUMN in head:
        place, filled = head.index(TRACE_COLUMN), filled[1:]
    elif len(head) == 1:
        place = 0
    else:
        raise WorkloadError(f"{path}: no column {TRACE_COLUMN!r} among {', '.join(head)}; name one so")
    return [(line, row[place] if place < len(row) else "") for line, row in filled]
