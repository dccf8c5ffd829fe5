"""Extracts a standard cell from its layout: transistors, contact resistances and wiring capacitances.

The layout is painted onto pixels of the drawing grid, on which all shapes are exact (they are rectilinear;
anything else is refused). Each polygon of poly and each island of diffusion is a node of its own, joined by
the resistance of its contacts to a wire (local interconnect and metal 1 joined by vias).

Capacitances are those of the usual pattern rules:

- where a conductor lies over another, or over the field, an area capacitance to the first below it;
- from each edge the field goes out sideways. Up to the next conductor of the same layer it ends below, the
  share within distance x being 2/π · atan(x / h), as a line charge at height h above a plane induces it; and
  on conductors above likewise. The neighbour itself gets the sidewall capacitance of its spacing.

Poly over diffusion is a transistor's gate, which has its own capacitances in the transistor model: only what
lies above it counts here. Cells stand alone: there is no neighbour outside, and no wire of the routing above.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import klayout.db as db
import numpy as np
import numpy.typing as npt

from common.errors import GatesError
from gates.cells import process

Pixels = npt.NDArray[np.int32]

SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Steps in y and x to the four neighbours of a pixel."""


@dataclass(frozen=True)
class Transistor:
    """A transistor, with the junctions of its two terminals. Widths and perimeters in µm, areas in µm².

    Attributes:
        left_um, right_um: from the gate to the ends of its diffusion, which decide the stress (SA and SB).
    """

    kind: str  # "n" or "p"
    gate: str
    source: str
    drain: str
    width_um: float
    length_um: float
    source_area_um2: float
    source_perimeter_um: float
    drain_area_um2: float
    drain_perimeter_um: float
    left_um: float
    right_um: float


@dataclass(frozen=True)
class Extracted:
    """A cell as a circuit. Nodes are pins by name, VNB and VPB for the wells, and internal ones.

    Attributes:
        resistors: pairs of nodes, with Ω.
        capacitors: pairs of nodes, with F.
    """

    name: str
    pins: tuple[str, ...]
    transistors: tuple[Transistor, ...]
    resistors: tuple[tuple[str, str, float], ...]
    capacitors: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class _Painted:
    """Layers as pixels: 0 where empty, else the number of the node that the polygon belongs to."""

    wells: npt.NDArray[np.bool_]
    gates: npt.NDArray[np.bool_]
    diffusion: Pixels
    conductors: dict[str, Pixels]
    names: dict[int, str]


def _region(cell: db.Cell, layer: tuple[int, int]) -> db.Region:
    """Return the merged shapes of a layer, which may be absent."""
    index = cell.layout().find_layer(*layer)
    region = db.Region() if index is None else db.Region(cell.begin_shapes_rec(index))
    return region.merged()


def _read(path: Path) -> db.Layout:
    """Read a layout file of one cell."""
    layout = db.Layout()
    try:
        layout.read(str(path))
    except RuntimeError as error:
        raise GatesError(f"cannot read the layout {path}: {error}") from None
    count = len(layout.top_cells())
    if count != 1:
        raise GatesError(f"{path} has {count} top cells where one is wanted")
    return layout


class _Canvas:
    """Paints regions onto pixels. Its margin leaves the halo of every edge inside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = _read(path)  # klayout's cells do not keep their layout alive
        self.cell = cell = self.layout.top_cell()
        self.unit = process.GRID_UM / self.layout.dbu
        self.margin = round(process.HALO_UM / process.GRID_UM) + 1
        box = cell.bbox()
        self.left, self.bottom = box.left, box.bottom
        self.shape = (
            round(box.height() / self.unit) + 2 * self.margin,
            round(box.width() / self.unit) + 2 * self.margin,
        )

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """Return row and column of the pixel at a point of the layout, in its units."""
        return (
            math.floor((y - self.bottom) / self.unit + 1e-6) + self.margin,
            math.floor((x - self.left) / self.unit + 1e-6) + self.margin,
        )

    def paint(self, region: db.Region, first: int) -> tuple[Pixels, int]:
        """Return pixels with one number for each polygon, from `first` on, and the next free number."""
        pixels = np.zeros(self.shape, np.int32)
        if region.non_rectilinear().count():
            raise GatesError(f"{self.path}: extraction does not handle its shapes that are not rectilinear")
        number = first
        for polygon in region.each():
            parts = db.Region(polygon).decompose_trapezoids_to_region()
            for part in parts.each():
                box = part.bbox()
                edges = (
                    box.left - self.left,
                    box.right - self.left,
                    box.bottom - self.bottom,
                    box.top - self.bottom,
                )
                if any(edge % self.unit for edge in edges):
                    raise GatesError(f"{self.path} has shapes off its {process.GRID_UM} µm grid")
                low, high = self.pixel(box.left, box.bottom), self.pixel(box.right, box.top)
                pixels[low[0] : high[0], low[1] : high[1]] = number
            number += 1
        return pixels, number

    def centres(self, layer: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Yield the centre pixels of the cuts of a contact or via layer."""
        for cut in _region(self.cell, layer).each():
            centre = cut.bbox().center()
            yield self.pixel(centre.x, centre.y)


def _paint(canvas: _Canvas, pins: tuple[str, ...]) -> _Painted:
    """Paint all layers, number the nodes and name them."""
    cell = canvas.cell
    poly, diffusion = _region(cell, process.POLY), _region(cell, process.DIFFUSION)
    poly_pixels, number = canvas.paint(poly, 1)
    names = {node: f"g{node}" for node in range(1, number)}
    islands, after = canvas.paint(diffusion - poly, number)
    names.update({node: f"d{node}" for node in range(number, after)})
    local, end = canvas.paint(_region(cell, process.LOCAL), after)
    metal, end = canvas.paint(_region(cell, process.METAL), end)
    wire = np.arange(end, dtype=np.int32)
    for row, column in canvas.centres(process.VIA):
        lower, upper = wire[local[row, column]], wire[metal[row, column]]
        if not lower or not upper:
            raise GatesError(f"{canvas.path} has a via that does not join local interconnect and metal")
        wire[wire == upper] = lower
    local, metal = wire[local], wire[metal]
    names.update({int(node): f"w{node}" for node in np.unique(wire[after:])})
    for layer, pixels in ((process.LOCAL, local), (process.METAL, metal)):
        index = cell.layout().find_layer(*process.LABELS[layer])
        shapes = [] if index is None else [item.shape() for item in cell.begin_shapes_rec(index)]
        for shape in shapes:
            if shape.is_text() and shape.text.string in pins:
                names[int(pixels[canvas.pixel(shape.text.x, shape.text.y)])] = shape.text.string
    absent = set(pins) - set(names.values()) - {"VNB", "VPB"}
    if absent or 0 in names:
        raise GatesError(
            f"{canvas.path} has labels beside its wires, or none for {', '.join(sorted(absent))}"
        )
    gates, _ = canvas.paint(poly & diffusion, 1)
    wells, _ = canvas.paint(_region(cell, process.NWELL), 1)
    return _Painted(
        wells=wells > 0,
        gates=gates > 0,
        diffusion=islands,
        conductors={"poly": poly_pixels, "local": local, "metal": metal},
        names=names,
    )


def _transistors(canvas: _Canvas, painted: _Painted) -> tuple[Transistor, ...]:
    """Return the transistors, in the order of their gates from the lower left.

    A junction between several gates is shared among them in proportion to their widths. Its perimeter
    includes the edge under the gate, as the transistor models (permod = 1) expect.
    """
    unit = process.GRID_UM
    gates = []
    poly, islands = painted.conductors["poly"], painted.diffusion
    gate_width: dict[int, float] = defaultdict(float)
    polygons = (_region(canvas.cell, process.POLY) & _region(canvas.cell, process.DIFFUSION)).merged()
    for polygon in polygons.each():
        box = polygon.bbox()
        (bottom, left), (top, right) = canvas.pixel(box.left, box.bottom), canvas.pixel(box.right, box.top)
        before, after = np.unique(islands[bottom:top, left - 1]), np.unique(islands[bottom:top, right])
        if not polygon.is_box() or len(before) != 1 or len(after) != 1 or not before[0] or not after[0]:
            raise GatesError(
                f"{canvas.path}: the gate at {box} is no rectangle with diffusion left and right"
            )
        width, length = (top - bottom) * unit, (right - left) * unit
        source, drain = int(before[0]), int(after[0])
        gate_width[source] += width
        gate_width[drain] += width
        kind = "p" if painted.wells[bottom, left] else "n"
        gates.append((bottom, left, kind, int(poly[bottom, left]), source, drain, width, length))

    def junction(island: int, width: float) -> tuple[float, float]:
        mask = islands == island
        edges = sum(int((mask & ~np.roll(mask, step, (0, 1))).sum()) for step in SIDES)
        share = width / gate_width[island]
        return float(mask.sum()) * unit**2 * share, width + (edges * unit - gate_width[island]) * share

    active = (islands > 0) | painted.gates

    def stress(bottom: int, left: int, width: float, length: float) -> tuple[float, float]:
        """Return SA and SB: where the diffusion has steps, the mean of its effect, 1 / (SA + L / 2)."""
        rows = active[bottom : bottom + round(width / unit)]
        before = np.argmin(rows[:, left - 1 :: -1], axis=1) * unit
        after = np.argmin(rows[:, left + round(length / unit) :], axis=1) * unit
        one, other = (float(1 / np.mean(1 / (side + length / 2)) - length / 2) for side in (before, after))
        return round(one, 4), round(other, 4)

    transistors = []
    for bottom, left, kind, gate, source, drain, width, length in sorted(gates):
        ends = stress(bottom, left, width, length)
        names = painted.names
        source_area, source_perimeter = junction(source, width)
        drain_area, drain_perimeter = junction(drain, width)
        transistors.append(
            Transistor(
                kind, names[gate], names[source], names[drain], round(width, 4), round(length, 4),
                source_area, source_perimeter, drain_area, drain_perimeter, *ends,
            )
        )  # fmt: skip
    return tuple(transistors)


def _resistors(canvas: _Canvas, painted: _Painted) -> tuple[tuple[str, str, float], ...]:
    """Return the contacts of wires with poly and diffusion; several between the same two are in parallel."""
    siemens: dict[tuple[int, int], float] = defaultdict(float)
    for row, column in canvas.centres(process.CONTACT):
        wire, poly = (int(painted.conductors[layer][row, column]) for layer in ("local", "poly"))
        island = int(painted.diffusion[row, column])
        if not wire:
            raise GatesError(f"{canvas.path} has a contact without local interconnect")
        if poly:
            siemens[wire, poly] += 1 / process.CONTACT_OHM["poly"]
        elif island:
            kind = "pdiffusion" if painted.wells[row, column] else "ndiffusion"
            siemens[wire, island] += 1 / process.CONTACT_OHM[kind]
    names = painted.names
    return tuple((names[wire], names[other], 1 / value) for (wire, other), value in sorted(siemens.items()))


class _Capacitances:
    """Sums up capacitances between pairs of nodes, in F; the field is that of the well or substrate below."""

    def __init__(self, painted: _Painted) -> None:
        self.painted = painted
        self.count = 2 + max(painted.names, default=0)
        self.matrix = np.zeros((self.count + 1) ** 2)
        self.field = np.where(painted.wells, self.count, self.count - 1).astype(np.int32)

    def add(self, one: npt.NDArray[np.int32], other: npt.NDArray[np.int32], farad: npt.ArrayLike) -> None:
        """Add a capacitance between each two nodes of two lists."""
        key = one.astype(np.int64) * (self.count + 1) + other
        weights = np.broadcast_to(np.asarray(farad, float), key.shape)
        self.matrix += np.bincount(key, weights, len(self.matrix))

    def items(self) -> Iterator[tuple[str, str, float]]:
        """Yield pairs of different nodes with what is between them."""
        names = {**self.painted.names, self.count - 1: "VNB", self.count: "VPB"}
        square = self.matrix.reshape(self.count + 1, -1)
        square = square + square.T
        for one, other in zip(*np.nonzero(np.triu(square, 1)), strict=True):
            yield names[int(one)], names[int(other)], float(square[one, other])


def _areas(painted: _Painted, capacitances: _Capacitances) -> None:
    """Add what lies straight over something else."""
    below = painted.gates.copy()  # poly over diffusion belongs to the transistor's model
    pixel = process.GRID_UM**2 * 1e-18
    for position, layer in enumerate(process.LAYERS):
        upper = painted.conductors[layer]
        open_view = upper > 0
        targets = [(name, painted.conductors[name]) for name in reversed(process.LAYERS[:position])]
        if layer != "poly":
            targets.append(("diffusion", painted.diffusion))
        for name, lower in [*targets, ("field", capacitances.field)]:
            if name == "field" and layer == "poly":
                open_view &= ~below
            hit = open_view & (lower > 0)
            capacitances.add(upper[hit], lower[hit], pixel * process.BELOW[layer, name].area_af_um2)
            open_view &= ~hit


def _share(distance: int, height_um: float) -> float:
    """Return the share of an edge's field that ends between two distances, in pixels: this and the next."""
    near, far = distance * process.GRID_UM, (distance + 1) * process.GRID_UM
    return 2 / math.pi * (math.atan(far / height_um) - math.atan(near / height_um))


def _edges(painted: _Painted, capacitances: _Capacitances, layer: str) -> None:
    """Add the fringes and sidewalls of a layer's edges."""
    own = painted.conductors[layer]
    order = process.LAYERS.index(layer)
    below = [(name, painted.conductors[name]) for name in reversed(process.LAYERS[:order])]
    if layer != "poly":
        below.append(("diffusion", painted.diffusion))
    below.append(("field", capacitances.field))
    above = [(name, painted.conductors[name]) for name in process.LAYERS[order + 1 :]]
    sidewall = process.SIDEWALL[layer]
    steps = round(process.HALO_UM / process.GRID_UM)
    for step in SIDES:
        rows, columns = np.nonzero((own > 0) & (np.roll(own, (-step[0], -step[1]), (0, 1)) == 0))
        nodes, in_gate = own[rows, columns], painted.gates[rows, columns]
        for distance in range(steps):
            rows, columns = rows + step[0], columns + step[1]
            neighbour = own[rows, columns]
            met = neighbour > 0
            if met.any():
                spacing = distance * process.GRID_UM + sidewall.offset_um
                wall = met & ~in_gate & ~painted.gates[rows, columns] & (neighbour != nodes)
                farad = sidewall.coefficient_af * 1e-18 * process.GRID_UM / spacing
                # Each of the two edges sees the other: half from each side.
                capacitances.add(nodes[wall], neighbour[wall], farad / 2)
                rows, columns, nodes, in_gate = rows[~met], columns[~met], nodes[~met], in_gate[~met]
            last = distance == steps - 1
            for targets, table in ((below, process.BELOW), (above, process.ABOVE)):
                modelled = in_gate & (table is process.BELOW)
                open_view = ~modelled
                for name, pixels in targets:
                    target = pixels[rows, columns]
                    hit = open_view & (target > 0)
                    coupling = table[layer, name]
                    share = _share(distance, coupling.height_um)
                    if last:  # the rest of the field
                        share = 1 - 2 / math.pi * math.atan(distance * process.GRID_UM / coupling.height_um)
                    farad = coupling.edge_af_um * 1e-18 * process.GRID_UM * share
                    capacitances.add(nodes[hit], target[hit], farad)
                    open_view &= ~hit


def extract(gds: Path, pins: tuple[str, ...]) -> Extracted:
    """Extract one cell.

    Args:
        gds: its layout.
        pins: names of its pins, which are labels on its wires; VNB and VPB name the substrate and the n-well.

    Raises:
        GatesError: the layout cannot be read, or has something that extraction does not handle.
    """
    canvas = _Canvas(gds)
    painted = _paint(canvas, pins)
    capacitances = _Capacitances(painted)
    _areas(painted, capacitances)
    for layer in process.LAYERS:
        _edges(painted, capacitances, layer)
    return Extracted(
        name=canvas.cell.name,
        pins=pins,
        transistors=_transistors(canvas, painted),
        resistors=_resistors(canvas, painted),
        capacitors=tuple(capacitances.items()),
    )
