// SPDX-License-Identifier: Apache-2.0
/// npu_core_clock with a counter on its clock.
module tb_core_clock #(
  parameter int unsigned Tail        = 2,
  parameter bit          FeedThrough = 1'b0
) (
  input  logic       clk_i,
  input  logic       rst_ni,
  input  logic       access_i,
  input  logic       busy_i,
  output logic       clk_o,
  output logic [7:0] edges_o
);
  npu_core_clock #(
    .Tail       (Tail),
    .FeedThrough(FeedThrough)
  ) i_clock (
    .*
  );

  always_ff @(posedge clk_o or negedge rst_ni) begin
    if (!rst_ni) edges_o <= '0;
    else edges_o <= edges_o + 8'd1;
  end
endmodule
