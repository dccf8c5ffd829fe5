// SPDX-License-Identifier: Apache-2.0
/// npu_addition with flat ports.
module tb_addition (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic         clear_i,
  input  logic         valid_i,
  input  logic [143:0] operand_i,
  input  logic [ 30:0] multiplier_i,
  input  logic [  4:0] left_i,
  input  logic [  4:0] right_i,
  output logic         busy_o,
  output logic [511:0] sum_o
);
  npu_addition i_addition (
    .*
  );
endmodule
