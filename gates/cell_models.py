# SPDX-License-Identifier: Apache-2.0
"""Cells and netlists as Verilog for their simulation, modelled from the functions of the Liberty file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gates.functions import function_names, truth_table, verilog_expression
from gates.liberty import Cell, ClockGate, Flop, Library
from gates.netlist import Bit, Instance, Netlist
from gates.timing import Timing


@dataclass
class Writer:
    """Writes a netlist as Verilog."""

    netlist: Netlist
    library: Library
    timing: Timing
    delayed: bool
    index: dict[int, int] = field(init=False)
    primitives: dict[str, str] = field(default_factory=dict)
    registers: int = 0

    def __post_init__(self) -> None:
        self.index = {bit: number for number, bit in enumerate(self.timing.bits)}

    def net(self, bit: Bit) -> str:
        """Return a bit's name; unconnected and unknown bits are 0."""
        if isinstance(bit, int):
            return f"n{self.index[bit]}"
        return "1'b1" if bit == "1" else "1'b0"

    def bits(self, bits: Iterable[Bit]) -> str:
        """Return a concatenation of bits that are given from the least significant on."""
        names = [self.net(bit) for bit in bits]
        return f"{{{', '.join(reversed(names))}}}"

    def delay(self, bit: Bit) -> str:
        """Return the delay of a net's driver."""
        if not self.delayed or not isinstance(bit, int):
            return ""
        rise, fall = self.timing.delay_ns[:, self.index[bit]]
        return f"#({max(1, round(1000 * rise))}, {max(1, round(1000 * fall))}) "

    def instance(self, instance: Instance) -> list[str]:
        """Return the lines of an instance."""
        cell = self.library.cell(instance.cell)
        outputs = [(pin, instance.pins[pin.name][0]) for pin in cell.outputs if instance.pins.get(pin.name)]
        names = {pin: self.net(bits[0]) for pin, bits in instance.pins.items() if bits}
        lines = []
        if cell.clock_gate is not None:
            return self.clock_gate(cell.clock_gate, names)
        if cell.flop is not None:
            state = f"q{self.registers}"
            self.registers += 1
            lines += _register(cell.flop, state, names)
            names |= {cell.flop.state: state, cell.flop.inverted_state: f"~{state}"}
        for pin, bit in outputs:
            function = pin.function or ""
            if cell.flop is not None or not function_names(function):
                lines.append(f"assign {self.delay(bit)}{self.net(bit)} = {_expression(function, names)};")
            else:
                primitive = self.primitive(cell, pin.name, function)
                pins = ", ".join([self.net(bit), *(names[pin.name] for pin in cell.inputs)])
                lines.append(f"{primitive} {self.delay(bit)}({pins});")
        return lines

    def clock_gate(self, gate: ClockGate, names: Mapping[str, str]) -> list[str]:
        """Return the lines of a clock gate.

        Its output has no delay: as static timing has it, trees of clocks are balanced. Flops behind it and
        others take their inputs over at the same time, before any of them shows its new value.
        """
        state = f"q{self.registers}"
        self.registers += 1
        clock, enable = names[gate.clock], names[gate.enable]
        return [
            f"reg {state} = 1'b0;",
            f"initial #1 {state} = {enable};",  # what was up from the beginning on is no event
            f"always @({clock} or {enable}) if (!{clock}) {state} = {enable};",
            f"assign {names[gate.output]} = {clock} & {state};",
        ]

    def primitive(self, cell: Cell, pin: str, function: str) -> str:
        """Return the name of the primitive of a gate's output: tables simulate faster than expressions."""
        name = f"{cell.name}__{pin}"
        if name not in self.primitives:
            inputs = [item.name for item in cell.inputs]
            values = truth_table(function, inputs)
            rows = [
                f"{' '.join(str(number >> position & 1) for position in range(len(inputs)))} : {int(value)};"
                for number, value in enumerate(values)
            ]
            pins = ", ".join(inputs)
            head = f"primitive {name} (output_, {pins}); output output_; input {pins};"
            self.primitives[name] = "\n".join([head, "table", *rows, "endtable", "endprimitive"])
        return name

    @property
    def clock_gates(self) -> list[tuple[str, str, str]]:
        """Instance of each clock gate, its enable and the clock behind it."""
        gates = [(item, self.library.cell(item.cell).clock_gate) for item in self.netlist.instances]
        return [
            (item.name, self.net(item.pins[gate.enable][0]), self.net(item.pins[gate.output][0]))
            for item, gate in gates
            if gate is not None
        ]

    def body(self) -> list[str]:
        """Return the nets and the instances."""
        lines = [f"wire n{number};" for number in range(len(self.timing.bits))]
        for instance in self.netlist.instances:
            lines += self.instance(instance)
        return lines


def _expression(function: str, names: Mapping[str, str]) -> str:
    return verilog_expression(function, names.__getitem__)


def _register(flop: Flop, state: str, names: Mapping[str, str]) -> list[str]:
    """Return a flop's register. It starts at 0; the clock has no effect before the simulation says so."""
    names = {**names, flop.state: state, flop.inverted_state: f"~{state}"}
    lines = [f"reg {state} = 1'b0;", f"wire {state}_clock = {_expression(flop.clocked_on, names)};"]
    events = [f"posedge {state}_clock"]
    choices = []
    for function, value in ((flop.clear, 0), (flop.preset, 1)):
        if function is not None and _expression(function, names) not in ("~1'b1", "1'b0"):
            wire = f"{state}_{'preset' if value else 'clear'}"
            lines.append(f"wire {wire} = {_expression(function, names)};")
            events.append(f"posedge {wire}")
            choices.append(f"if ({wire}) {state} <= 1'b{value};")
    choices.append(f"if (running) {state} <= {_expression(flop.next_state, names)};")
    lines.append(f"always @({' or '.join(events)}) {' else '.join(choices)}")
    return lines
