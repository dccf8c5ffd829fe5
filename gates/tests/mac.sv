// SPDX-License-Identifier: Apache-2.0
/// Multiplies two signed numbers and adds the product to a sum: a small block for tests of synthesis and replay.
module mac #(
  parameter int unsigned Width = 4  // bits of each factor
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic                      valid_i,
  input  logic signed [Width-1:0]   a_i,
  input  logic signed [Width-1:0]   b_i,
  output logic signed [2*Width+3:0] sum_o
);
  logic signed [2*Width+3:0] sum_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) sum_q <= '0;
    else if (valid_i) sum_q <= sum_q + (2 * Width + 4)'(a_i * b_i);
  end

  assign sum_o = sum_q;

  // Products of nothing add nothing.
  assert property (@(posedge clk_i) disable iff (!rst_ni) valid_i && a_i == '0 |=> $stable(sum_q));
endmodule

/// Two of them, side by side.
module macs (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  valid_i,
  input  logic signed [1:0][3:0] a_i,
  input  logic signed [3:0]     b_i,
  output logic [1:0][11:0]      sum_o
);
  for (genvar i = 0; i < 2; i++) begin : gen_mac
    mac #(.Width(4)) i_mac (.clk_i, .rst_ni, .valid_i, .a_i(a_i[i]), .b_i, .sum_o(sum_o[i]));
  end
endmodule
