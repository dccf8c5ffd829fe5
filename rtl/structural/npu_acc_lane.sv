// SPDX-License-Identifier: Apache-2.0
/// One column's accumulator between two banks of memory: adds, takes the maximum, or replaces; and the drain's choice of a bank.
///
/// `sum_o` is what is written in the cycle of `add_i`; `forward_i` takes the sum of the add before instead of the memory's word.
module npu_acc_lane
  import npu_compute_pkg::*;
(
  input  logic                    clk_i,
  input  logic                    bank_i,
  input  logic                    first_i,
  input  logic                    forward_i,
  input  logic                    add_i,
  input  logic                    max_i,
  input  logic [AccBits-1:0]      value_i,
  input  logic [1:0][AccBits-1:0] rdata_i,
  output logic [AccBits-1:0]      sum_o,
  input  logic                    drain_bank_i,
  output logic [AccBits-1:0]      drain_o
);
  logic [AccBits-1:0] old, sum_q;

  always_comb begin
    old = forward_i ? sum_q : rdata_i[bank_i];
    if (first_i) sum_o = value_i;
    else if (max_i) sum_o = signed'(value_i) > signed'(old) ? value_i : old;
    else sum_o = value_i + old;
  end

  always_ff @(posedge clk_i) begin
    if (add_i) sum_q <= sum_o;
  end

  assign drain_o = rdata_i[drain_bank_i];
endmodule
