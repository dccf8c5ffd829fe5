// SPDX-License-Identifier: Apache-2.0
/// npu_requant with flat ports.
module tb_requant #(
  parameter bit          Structural = 1'b0,
  parameter int unsigned Lanes      = 16
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  input  logic                clear_i,
  input  logic                valid_i,
  input  logic [        15:0] tag_i,
  input  logic [Lanes*32-1:0] sum_i,
  input  logic [Lanes*32-1:0] bias_i,
  input  logic [Lanes*32-1:0] multiplier_i,
  input  logic [ Lanes*8-1:0] shift_i,
  input  logic                single_i,
  input  logic [         7:0] zero_point_i,
  input  logic [         7:0] act_min_i,
  input  logic [         7:0] act_max_i,
  output logic                valid_o,
  output logic [        15:0] tag_o,
  output logic [ Lanes*8-1:0] data_o
);
  npu_requant #(
    .Structural(Structural),
    .Lanes     (Lanes),
    .TagBits   (16)
  ) i_requant (
    .*
  );
endmodule
