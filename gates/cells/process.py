"""The sky130 process as parasitic extraction sees it: layers, resistances, capacitances.

Source of every number: `sky130/magic/sky130.tech` of RTimothyEdwards/open_pdks, commit
933e5f2b8e42c5ec25b83c6d242455ada6f3e926, section `extract`, nominal variant; its capacitances are those of
the foundry's document PEX/xRC/cap_models. Junctions and gates are not here: the transistor models have them.
"""

from __future__ import annotations

from dataclasses import dataclass

GRID_UM = 0.005
"""The grid on which all sky130 layouts are drawn; also the pixel of the extraction."""

HALO_UM = 1.0
"""How far an edge looks for a neighbour. Beyond, the field ends on what is below."""

# GDS layer and datatype.
NWELL = (64, 20)
DIFFUSION = (65, 20)
POLY = (66, 20)
CONTACT = (66, 44)  # licon: diffusion or poly to local interconnect
LOCAL = (67, 20)  # li1
VIA = (67, 44)  # mcon: local interconnect to metal 1
METAL = (68, 20)  # met1
LABELS = {LOCAL: (67, 5), METAL: (68, 5)}
BOUNDARY = (81, 4)

CONTACT_OHM = {"poly": 152.0, "ndiffusion": 185.0, "pdiffusion": 585.0}
"""Resistance of one contact. Vias (9.3 Ω) and wires (12.8 Ω a square and less) do not matter beside these."""

LAYERS = ("poly", "local", "metal")
"""Conductors from below to above."""


@dataclass(frozen=True)
class Coupling:
    """Capacitance between a conductor and what lies below or above it.

    Attributes:
        area_af_um2: where one lies over the other.
        edge_af_um: of an edge whose whole fringe field ends on the other.
        height_um: vertical distance between them.
    """

    area_af_um2: float
    edge_af_um: float
    height_um: float


_BOTTOM_UM = {"field": 0.0, "diffusion": 0.2062, "poly": 0.3262, "local": 0.9361, "metal": 1.3761}
_TOP_UM = {"field": 0.0, "diffusion": 0.3262, "poly": 0.5062, "local": 1.0361, "metal": 1.7361}


def _down(upper: str, lower: str, area_af_um2: float, edge_af_um: float) -> Coupling:
    return Coupling(area_af_um2, edge_af_um, _BOTTOM_UM[upper] - _TOP_UM[lower])


def _up(lower: str, upper: str, edge_af_um: float) -> Coupling:
    return Coupling(0.0, edge_af_um, _BOTTOM_UM[upper] - _TOP_UM[lower])


BELOW = {
    ("poly", "field"): _down("poly", "field", 106.13, 55.27),
    ("local", "field"): _down("local", "field", 36.99, 40.70),
    ("local", "diffusion"): _down("local", "diffusion", 55.3, 44.27),
    ("local", "poly"): _down("local", "poly", 94.16, 51.85),
    ("metal", "field"): _down("metal", "field", 25.78, 40.57),
    ("metal", "diffusion"): _down("metal", "diffusion", 33.6, 43.10),
    ("metal", "poly"): _down("metal", "poly", 44.81, 46.72),
    ("metal", "local"): _down("metal", "local", 114.20, 59.50),
}
"""Conductor over what is below it. The field oxide stands for the well or substrate under it."""

ABOVE = {
    ("poly", "local"): _up("poly", "local", 25.14),
    ("poly", "metal"): _up("poly", "metal", 16.69),
    ("local", "metal"): _up("local", "metal", 34.70),
}
"""Edge of a conductor to one above it; the area is counted from above."""


@dataclass(frozen=True)
class Sidewall:
    """Capacitance of two parallel edges of one layer: coefficient · length / (spacing + offset)."""

    coefficient_af: float
    offset_um: float


SIDEWALL = {"poly": Sidewall(16.0, 0.0), "local": Sidewall(25.5, 0.14), "metal": Sidewall(44.0, 0.25)}
