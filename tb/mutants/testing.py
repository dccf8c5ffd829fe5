# SPDX-License-Identifier: Apache-2.0
"""A tiny design that has every operator, and every constant that must be left alone."""

from __future__ import annotations

from tb.mutants.source import Source, read_texts

PACKAGE = """\
package npu_pkg;
  localparam int unsigned Limit = 9;
  typedef enum logic [1:0] {IDLE, WORK, LAST} state_e;
endpackage
"""

LEAF = """\
module leaf (
  input  logic       clk_i,
  input  logic       rst_ni,
  input  logic       we_i,
  input  logic [3:0] data_i,
  output logic [3:0] data_o
);
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) data_o <= 4'd5;
    else if (we_i) data_o <= data_i;
  end
endmodule
"""

TOP = """\
module top
  import npu_pkg::*;
#(
  parameter int unsigned Width = 4,
  localparam int unsigned Twice = Width * 2
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic [Width-1:0] a_i,
  input  logic [Width-1:0] b_i,
  output logic [Twice-1:0] sum_o,
  output logic             flag_o,
  output state_e           state_o
);
  logic [Width-1:0] kept, masked;
  logic signed [3:0] low;
  logic [7:0] wide;
  assign sum_o  = Twice'(a_i) + Twice'(b_i);  // a sum
  assign masked = a_i & ~{Width{b_i[0]}};
  assign low    = signed'(a_i) >>> 1;
  assign wide   = {a_i, b_i};
  assign flag_o = (a_i < b_i && kept == 4'd3) || !rst_ni;

  leaf i_leaf (
    .clk_i,
    .rst_ni,
    .we_i  (flag_o),
    .data_i(a_i - b_i),
    .data_o(kept)
  );

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) state_o <= IDLE;
    else begin
      unique case (state_o)
        IDLE: if (flag_o) state_o <= WORK;
        WORK: state_o <= 32'(a_i) > Limit ? LAST : IDLE;
        default: state_o <= IDLE;
      endcase
    end
  end

  for (genvar i = 0; i < Width - 1; i++) begin : gen_bit
    logic bit_q;
    always_comb begin
      bit_q = 1'b0;
      for (int unsigned k = 0; k < 3; k++) bit_q = bit_q ^ masked[i];
    end
  end
  if (Width < 1) begin : gen_WidthIsPositive
    $fatal(1, "Width must be at least 1");
  end
  Holds : assert property (@(posedge clk_i) disable iff (!rst_ni) kept + 4'd1 != 4'd0 || flag_o);
endmodule
"""

TEXTS = {"npu_pkg.sv": PACKAGE, "leaf.sv": LEAF, "top.sv": TOP}


def made_up() -> list[Source]:
    """Return the design."""
    return read_texts(TEXTS)
