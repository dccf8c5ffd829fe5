# SPDX-License-Identifier: Apache-2.0
"""Energy and area on the page of `npuloop report`, beside published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common.arrays import Floats
from mapping.energy.model import NetworkEnergy
from mapping.energy.tables import GROUPS, EnergyTable
from mapping.report import energy_plots as plots, html
from mapping.report.energy_console import scale_of
from mapping.report.energy_numbers import NETWORK_TITLE, EnergyReport, UnitEnergy, mac_energy
from mapping.report.energy_plots import VALUE, MacEnergy, NetworkBars
from mapping.report.style import svg


# --------------------------------------------------------------------------------------- published figures
@dataclass(frozen=True)
class Published:
    """A published energy.

    Attributes:
        what: it is of.
        pj: from and to.
        logic: whether it goes with the feature size and the square of the supply.
    """

    what: str
    pj: tuple[float, float]
    logic: bool


SOURCE = "Horowitz, ISSCC 2014"
SOURCE_NODE = (45.0, 0.9)
"""Feature size, nm, and supply, V, of the published energies."""
NODES: Mapping[str, tuple[float, float]] = {"sky130": (130.0, 1.8), "osu018": (180.0, 1.8)}
"""The same of the cell libraries."""
MULTIPLY_ADD = Published("8-bit multiply 0.2 pJ and 32-bit add 0.1 pJ", (0.3, 0.3), logic=True)
SRAM_BYTE = Published("byte read from SRAM; 64 bits of 8 KiB 10 pJ, of 32 KiB 20 pJ", (1.25, 2.5), logic=True)
DRAM_BYTE = Published("byte of DRAM; 64 bits 1.3 to 2.6 nJ", (162.5, 325.0), logic=False)


def scaling(library: str) -> float | None:
    """Return how much more logic takes in a library than at the published node; None if it is unknown.

    To first order: capacitance goes with the feature size, energy with the square of the supply.
    """
    if library not in NODES:
        return None
    (size, supply), (published_size, published_supply) = NODES[library], SOURCE_NODE
    return size / published_size * (supply / published_supply) ** 2


def _published(units: Sequence[UnitEnergy]) -> str:
    """Return the published energies beside the tables', as HTML."""
    library = units[0].table.library["name"]
    factor = scaling(library)
    ours = {
        MULTIPLY_ADD: ("a MAC in the array, with the measured streams", _usual_mac),
        SRAM_BYTE: ("byte read from the activation scratchpad", _scratchpad_byte),
        DRAM_BYTE: ("byte of external memory", lambda table: table.energies["external_byte"].value),
    }
    rows = []
    for item, (what, value) in ours.items():
        scaled = "not scaled"
        if item.logic and factor:
            scaled = _span([factor * pj for pj in item.pj])
        ours_pj = [f"{value(unit.table):.3g}" for unit in units]
        rows.append([escape(item.what), _span(item.pj), scaled, *ours_pj, escape(what)])
    nm, volt = SOURCE_NODE
    here = f"{NODES[library][0]:g} nm, {NODES[library][1]:g} V" if factor else library
    head = [
        f"published, {nm:g} nm, {volt:g} V, pJ",
        "there",
        f"scaled to {escape(here)}",
        *(escape(unit.title) for unit in units),
        f"ours, {escape(library)}",
    ]
    note = (
        f"{SOURCE}: rounded energies of bare operations. Ours have the registers, the clock and the glitches "
        "of an array. Values of different nodes cannot be compared as they stand. "
    )
    if factor:
        note += (
            f"Scaled is {factor:.1f} times as much, the feature size times the square of the supply: a first "
            "order, no more. "
        )
    note += "Our SRAM is modelled with CACTI 7, our external memory is taken from the same publication."
    return html.table(head, rows, 2 + len(units)) + f'<p class="note">{escape(note)}</p>\n'


def _span(pj: Sequence[float]) -> str:
    low, high = (f"{value:.3g}" for value in pj)
    return low if low == high else f"{low} to {high}"


def _usual_mac(table: EnergyTable) -> float:
    return float(mac_energy(table, "").at(table.statistics.zero_share)[VALUE])


def _scratchpad_byte(table: EnergyTable) -> float:
    return table.energies["activation_read"].value / table.parameters["rows"]


# ---------------------------------------------------------------------------------------------------- page
CAPTIONS: Mapping[str, str] = {
    "area": (
        "<b>Area.</b> Left: what is made of cells; right: with the memories. Beside each bar its sum and the "
        "array's share of it. W is the width of the weights, behind it rows x columns of the array. "
        "Synthesised block by block, without wires, clock tree and placement; memories are modelled with "
        "CACTI 7."
    ),
    "per_mac": (
        "<b>Energy of a MAC in the array</b>: multiplier, adder tree and clock of a column, without "
        "accumulators, memories and idle cycles. Lines are the fit's, with the toggles of the streams that "
        "were measured; a dot marks their own share of zeros. Dashed lines and hollow dots are extrapolated "
        "beyond the shares of zeros of the validation windows. Bands and bars reach from no glitches to the "
        "load of wires; grey are the other units."
    ),
    "validation": (
        "<b>Gates against the model</b>, on windows that the fit did not see: a column with its accumulator "
        "and its lane of the requantiser, clock included, so more than the array above. Dots are replays of "
        "the netlist with the delays of its cells, their lines reach from no glitches to the load of wires. "
        "Below: modelled / measured - 1."
    ),
    "breakdown": (
        f"<b>{NETWORK_TITLE}, layer by layer</b>, each unit alone in its system, weights as narrow as the "
        "unit's, in the cycles that the cost model predicts. Idle is the clock and the leakage of the whole "
        "unit in these cycles: there is no clock gating. External memory is taken from the literature, "
        "scratchpads are modelled."
    ),
}
"""What the figures say, in HTML, by name and in the page's order."""


def figures(report: EnergyReport) -> dict[str, Figure]:
    """Return the figures that there are numbers for, by name as in `CAPTIONS`."""
    drawn = {}
    if report.area:
        drawn["area"] = plots.area(report.area)
    if report.units:
        drawn["per_mac"] = plots.per_mac([unit.mac for unit in report.units])
    sets = [unit.validation for unit in report.units if unit.validation]
    if sets:
        drawn["validation"] = plots.validation(sets)
    networks = [(unit.title, unit.network) for unit in report.units if unit.network]
    if networks:
        scale = scale_of(max(network.value_pj for _, network in networks))
        drawn["breakdown"] = plots.breakdown([_network_bars(*item) for item in networks], scale)
    return drawn


def _network_bars(title: str, network: NetworkEnergy) -> NetworkBars:
    parts = network.layers.values()
    return NetworkBars(
        label=title,
        layers=tuple(network.layers),
        parts_pj={group: np.array([item.groups[group][VALUE] for item in parts]) for group in GROUPS},
        bounds_pj=(network.total.lower_pj, network.value_pj, network.total.upper_pj),
    )


def section(report: EnergyReport, anchor: str) -> str:
    """Return the section as HTML.

    Args:
        report: what it shows.
        anchor: name of its heading.
    """
    parts = [f'<h2 id="{escape(anchor)}">Energy and area</h2>\n']
    if report.area or report.units:
        parts.append(
            '<p class="note">From netlists of gates without placement, clock tree and clock gating: absolute '
            "values are good to about ± 50 %, ratios are far better.</p>\n"
        )
    parts += [f'<p class="note">{escape(line)}</p>\n' for line in report.missing]
    drawn = {
        name: html.figure(name, f"energy and area: {name}", svg(drawing), CAPTIONS[name])
        for name, drawing in figures(report).items()
    }
    parts.append(drawn.pop("area", ""))
    if report.area_table:
        parts += ["<h3>Area</h3>\n", _areas(report)]
    parts += drawn.values()
    if report.units:
        parts += ["<h3>Energy of a MAC</h3>\n", _macs(report.units)]
        parts += ["<h3>Beside published figures</h3>\n", _published(report.units)]
    if report.area_table or report.units:
        parts += ["<h3>Where energy and area come from</h3>\n", _provenance(report)]
    return "".join(parts)


def _areas(report: EnergyReport) -> str:
    sums = ("array, mm²", "other cells, mm²", "memories, mm²", "all, mm²")
    first_label = next(iter(report.area.values()))[0].label
    head = [
        "unit", *sums, "all with open macros, mm²", "array of all", f"array / that of {escape(first_label)}"
    ]  # fmt: skip
    rows = []
    for library, bars in report.area.items():
        first = bars[0].cells_um2[plots.ARRAY]
        for bar in bars:
            array, cells = bar.cells_um2[plots.ARRAY], sum(bar.cells_um2.values())
            sizes = (array, cells - array, sum(bar.memories_um2.values()), bar.total_um2)
            numbers = [f"{um2 / plots.UM2_PER_MM2:.3f}" for um2 in sizes]
            opened = "-" if bar.open_um2 is None else f"{bar.open_um2 / plots.UM2_PER_MM2:.3f}"
            ratios = (f"{100 * array / bar.total_um2:.1f} %", f"{array / first:.2f}")
            rows.append([escape(f"{bar.label} in {library}"), *numbers, opened, *ratios])
    return html.table(head, rows, len(head) - 1)


def _macs(units: Sequence[UnitEnergy]) -> str:
    head = [
        "unit",
        "measured streams, pJ",
        *(f"{100 * share:.0f} % zeros, pJ" for share in plots.SHARES),
        "validation windows",
        "mean error",
        "largest error",
        "methods of the table",
    ]
    rows = []
    for unit in units:
        mac = unit.mac
        values = [f"{_bounded(mac, mac.usual)}, {100 * mac.usual:.0f} % zeros"]
        values += [_bounded(mac, share) for share in plots.SHARES]
        errors: tuple[str, ...] = ("none", "", "")
        if unit.validation:
            sizes: Floats = np.abs(unit.validation.errors)
            errors = (str(len(sizes)), f"{sizes.mean():.1f} %", f"{sizes.max():.1f} %")
        methods = dict.fromkeys(energy.method for energy in unit.table.energies.values())
        rows.append([escape(unit.title), *values, *errors, escape(", ".join(methods))])
    note = "Lower and upper bounds in brackets; none where a value is extrapolated beyond what was measured."
    return html.table(head, rows, len(plots.SHARES) + 4) + f'<p class="note">{note}</p>\n'


def _bounded(mac: MacEnergy, share: float) -> str:
    low, value, high = mac.at(share).tolist()
    return f"{value:.2f} ({low:.2f} to {high:.2f})" if mac.knows(share) else f"{value:.2f}"


def _provenance(report: EnergyReport) -> str:
    rows = []
    if report.area_table:
        rows.append(["area", _row(report.area_table, ", ".join(report.area), report.area_current, "synth")])
    for unit in report.units:
        library = unit.table.library["name"]
        document = {"date": unit.table.date, "rtl_sha256": unit.table.rtl_sha256, "tools": unit.table.tools}
        text = _row(document, library, unit.current, "characterize-energy")
        rows.append([escape(unit.title), f"{text}; period {unit.table.period_ns:g} ns"])
    return html.table(["table", "made"], rows, 0)


def _row(document: Mapping[str, Any], library: str, current: bool, command: str) -> str:
    state = "which is the present RTL"
    if not current:
        state = f'<span class="over">which is not the present RTL: run npuloop {escape(command)}</span>'
    tools = ", ".join(f"{name} {version}" for name, version in document["tools"].items())
    return (
        f"{escape(str(document.get('date')))}, cells of {escape(library)}; RTL <code>"
        f"{escape(str(document['rtl_sha256'])[:16])}</code>, {state}; {escape(tools)}"
    )
