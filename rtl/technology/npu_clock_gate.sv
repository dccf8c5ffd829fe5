// SPDX-License-Identifier: Apache-2.0
/// Technology cell: a clock gate, as foundries have it (latch and AND).
///
/// `enable_i` counts at the next rising edge of `clk_i`; it may change at any time while the clock is high, and must be stable
/// while it is low only as any data must be at a rising edge. A chip replaces this file by one that holds its library's cell
/// (sky130_fd_sc_hd__dlclkp, for example). With `FeedThrough` the clock passes as it is, for FPGAs: the design behind a gate works
/// the same when its clock never stops.
module npu_clock_gate #(
  parameter bit FeedThrough = 1'b0
) (
  input  logic clk_i,
  input  logic enable_i,
  output logic clk_o
);
  if (FeedThrough) begin : gen_feed_through
    logic unused;
    assign unused = enable_i;
    assign clk_o  = clk_i;
  end else begin : gen_gate
    logic enable;
    always_latch if (!clk_i) enable = enable_i;
    assign clk_o = clk_i && enable;
  end
endmodule
