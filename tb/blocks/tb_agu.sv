// SPDX-License-Identifier: Apache-2.0
/// npu_agu with its structures as flat vectors.
module tb_agu
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned Rows       = 16,
  parameter  int unsigned Cols       = 16,
  parameter  int unsigned WBits      = 8,
  parameter  int unsigned DwTaps     = 5,
  localparam int unsigned BeatBits   = $bits(beat_t),
  localparam int unsigned StripeBits = $bits(stripe_t)
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  clear_i,
  input  logic                  start_i,
  input  logic [   CmdBits-1:0] cmd_i,
  output logic                  busy_o,
  output logic [           7:0] opcode_o,
  output logic                  valid_o,
  input  logic                  ready_i,
  output logic [  BeatBits-1:0] beat_o,
  output logic [StripeBits-1:0] stripe_o,
  output logic                  tile_valid_o,
  output logic [          19:0] tile_addr_o,
  output logic [           7:0] tile_words_o,
  output logic [          19:0] first_tile_addr_o,
  output logic [           7:0] first_tile_words_o
);
  opcode_e opcode;
  beat_t beat;
  stripe_t stripe;
  assign opcode_o = 8'(opcode);
  assign beat_o   = beat;
  assign stripe_o = stripe;

  npu_agu #(
    .Rows  (Rows),
    .Cols  (Cols),
    .WBits (WBits),
    .DwTaps(DwTaps)
  ) i_agu (
    .opcode_o(opcode),
    .beat_o  (beat),
    .stripe_o(stripe),
    .*
  );
endmodule
