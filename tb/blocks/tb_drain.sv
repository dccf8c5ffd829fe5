// SPDX-License-Identifier: Apache-2.0
/// npu_drain with flat ports; a stripe is one vector.
module tb_drain
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned Rows       = 16,
  parameter  int unsigned Cols       = 16,
  parameter  int unsigned Lanes      = 16,
  parameter  int unsigned ActWords   = 1000,
  parameter  int unsigned ParamWords = 192,
  localparam int unsigned Parts      = Rows / ChannelBlock,
  localparam int unsigned PartBits   = Parts > 1 ? $clog2(Parts) : 1,
  localparam int unsigned Groups     = Cols / ChannelBlock,
  localparam int unsigned GroupBits  = Groups > 1 ? $clog2(Groups) : 1,
  localparam int unsigned StripeBits = $bits(stripe_t)
) (
  input  logic                          clk_i,
  input  logic                          rst_ni,
  input  logic                          clear_i,
  input  logic                          stop_i,
  input  logic                          stripe_valid_i,
  output logic                          stripe_ready_o,
  input  logic [        StripeBits-1:0] stripe_i,
  input  logic [                   1:0] bank_full_i,
  output logic [                   1:0] bank_free_o,
  output logic                          done_o,
  output logic                          error_o,
  output logic                          param_re_o,
  output logic [$clog2(ParamWords)-1:0] param_addr_o,
  input  logic [                 127:0] param_data_i,
  output logic                          acc_re_o,
  output logic                          acc_bank_o,
  output logic [                   7:0] acc_pixel_o,
  output logic [         GroupBits-1:0] acc_slice_o,
  output logic [         GroupBits-1:0] acc_group_o,
  input  logic [                 511:0] acc_data_i,
  output logic                          requant_valid_o,
  output logic                          requant_store_o,
  output logic                          requant_last_o,
  output logic [                  19:0] requant_addr_o,
  output logic [          PartBits-1:0] requant_part_o,
  output logic [          Lanes*32-1:0] requant_sum_o,
  output logic [          Lanes*32-1:0] requant_bias_o,
  output logic [          Lanes*32-1:0] requant_multiplier_o,
  output logic [           Lanes*8-1:0] requant_shift_o,
  output logic                          requant_single_o,
  output logic [                   7:0] requant_zero_point_o,
  output logic [                   7:0] requant_act_min_o,
  output logic [                   7:0] requant_act_max_o,
  input  logic                          result_valid_i,
  input  logic                          result_store_i,
  input  logic                          result_last_i,
  input  logic [                  19:0] result_addr_i,
  input  logic [          PartBits-1:0] result_part_i,
  input  logic [           Lanes*8-1:0] result_i,
  output logic                          write_o,
  output logic [  $clog2(ActWords)-1:0] write_addr_o,
  output logic [          PartBits-1:0] write_part_o,
  output logic [                 127:0] write_data_o
);
  npu_drain #(
    .Rows      (Rows),
    .Cols      (Cols),
    .Lanes     (Lanes),
    .ActWords  (ActWords),
    .ParamWords(ParamWords)
  ) i_drain (
    .*
  );
endmodule
