// SPDX-License-Identifier: Apache-2.0
/// npu_tokens with flat ports.
module tb_tokens #(
  parameter int unsigned CountBits = 6
) (
  input  logic       clk_i,
  input  logic       rst_ni,
  input  logic       clear_i,
  input  logic [2:0] post_valid_i,
  input  logic [8:0] post_mask_i,
  output logic [2:0] post_ready_o,
  output logic [8:0] available_o,
  input  logic [8:0] take_i
);
  npu_tokens #(.CountBits(CountBits)) i_tokens (.*);
endmodule
