"""Measures one cell with ngspice: delays, slews, energies, capacitances, leakage, set-up and hold times.

Conventions, which are those of the published sky130 libraries:

- An input is a linear ramp. Slew is the time from 20 % to 80 % of the supply, delay is from 50 % to 50 %.
- Energy is what VPWR delivers. Of a rise and a fall of an output, ½·C·V² of its load each are subtracted:
  whoever adds up energies adds ½·C·V² of the net for each of its edges. What an input takes comes from its
  driver, in that net's ½·C·V².
- An input has a hidden energy: that of its edges when no output moves. It is due at every edge of the input,
  so an output's energy is that of the whole event less the hidden energy of the input that caused it.
- Where an input moves the output in several states of the others, delays and slews are the worst of them and
  energies their mean.
"""

from __future__ import annotations

from gates.cells.bench import Bench
from gates.cells.measure_clock_gate import measure_clock_gate
from gates.cells.measure_flop import measure_flop
from gates.cells.measure_gate import measure_gate
from gates.cells.measured import Measured
from gates.cells.selection import ClockGate, Gate


def measure(bench_: Bench) -> Measured:
    """Measure a cell.

    Raises:
        GatesError: ngspice fails, or the cell does not do what it should.
    """
    if isinstance(bench_.cell, ClockGate):
        return measure_clock_gate(bench_)
    return measure_gate(bench_) if isinstance(bench_.cell, Gate) else measure_flop(bench_)
