// SPDX-License-Identifier: Apache-2.0
/// npu_compute with flat enums.
module tb_compute
  import npu_pkg::*;
#(
  parameter  int unsigned ABits       = 8,
  parameter  int unsigned WBits       = 8,
  parameter  int unsigned Rows        = 16,
  parameter  int unsigned Cols        = 16,
  parameter  int unsigned StripeDepth = 64,
  parameter  int unsigned Lanes       = 16,
  parameter  int unsigned DwTaps      = 5,
  parameter  int unsigned ActWords    = 1000,
  parameter  int unsigned WeightWords = 600,
  parameter  int unsigned ParamWords  = 500,
  parameter  bit          Structural  = 1'b0,
  localparam int unsigned Parts       = Rows / ChannelBlock,
  localparam int unsigned PartBits    = Parts > 1 ? $clog2(Parts) : 1
) (
  input  logic                           clk_i,
  input  logic                           rst_ni,
  input  logic                           clear_i,
  input  logic                           stop_i,
  input  logic                           start_valid_i,
  output logic                           start_ready_o,
  input  logic [            CmdBits-1:0] start_cmd_i,
  output logic                           start_illegal_o,
  output logic                           done_o,
  output logic [                    2:0] work_o,
  output logic                           error_o,
  output logic [                    7:0] error_cause_o,
  output logic                           op_valid_o,
  input  logic                           op_ready_i,
  output logic [   $clog2(ActWords)-1:0] op_addr_o,
  input  logic [             Rows*8-1:0] op_data_i,
  output logic                           res_we_o,
  output logic [   $clog2(ActWords)-1:0] res_addr_o,
  output logic [           PartBits-1:0] res_part_o,
  output logic [                  127:0] res_data_o,
  output logic                           weight_re_o,
  output logic [$clog2(WeightWords)-1:0] weight_addr_o,
  input  logic [                  255:0] weight_data_i,
  output logic                           param_re_o,
  output logic [ $clog2(ParamWords)-1:0] param_addr_o,
  input  logic [                  127:0] param_data_i,
  output logic                           mac_cycle_o,
  output logic                           mac_beat_o,
  output logic [                   31:0] useful_macs_o
);
  state_e work;
  error_e cause;
  assign work_o        = 3'(work);
  assign error_cause_o = 8'(cause);

  npu_compute #(
    .ABits      (ABits),
    .WBits      (WBits),
    .Rows       (Rows),
    .Cols       (Cols),
    .StripeDepth(StripeDepth),
    .Lanes      (Lanes),
    .DwTaps     (DwTaps),
    .ActWords   (ActWords),
    .WeightWords(WeightWords),
    .ParamWords (ParamWords),
    .Structural (Structural)
  ) i_compute (
    .work_o       (work),
    .error_cause_o(cause),
    .*
  );
endmodule
