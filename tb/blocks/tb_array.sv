// SPDX-License-Identifier: Apache-2.0
/// npu_array with flat ports.
module tb_array #(
  parameter bit          Structural = 1'b0,
  parameter int unsigned ABits      = 8,
  parameter int unsigned WBits      = 8,
  parameter int unsigned Rows       = 16,
  parameter int unsigned Cols       = 16,
  parameter int unsigned DwTaps     = 5
) (
  input  logic               clk_i,
  input  logic               rst_ni,        // the array has no reset
  input  logic               word_valid_i,
  input  logic [        7:0] word_index_i,
  input  logic [      255:0] word_i,
  input  logic [Cols/16-1:0] swap_i,
  input  logic               shift_i,
  input  logic               pad_i,
  input  logic [ Rows*8-1:0] act_i,
  input  logic [        7:0] pad_value_i,
  input  logic               mac_i,
  input  logic [Cols/16-1:0] slice_i,
  input  logic               depthwise_i,
  input  logic [ DwTaps-1:0] tap_mask_i,
  input  logic [ DwTaps-1:0] tap_pad_i,
  output logic [Cols*32-1:0] sum_o
);
  npu_array #(
    .Structural(Structural),
    .ABits     (ABits),
    .WBits     (WBits),
    .Rows      (Rows),
    .Cols      (Cols),
    .DwTaps    (DwTaps)
  ) i_array (
    .*
  );
endmodule
