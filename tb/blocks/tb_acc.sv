// SPDX-License-Identifier: Apache-2.0
/// npu_acc with flat ports.
module tb_acc #(
  parameter  bit          Structural = 1'b0,
  parameter  int unsigned Depth      = 32,
  parameter  int unsigned Bits       = 32,
  localparam int unsigned AddrBits   = Depth > 1 ? $clog2(Depth) : 1
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  input  logic                read_i,
  input  logic                bank_i,
  input  logic [AddrBits-1:0] pixel_i,
  input  logic                first_i,
  input  logic                add_i,
  input  logic                max_i,
  input  logic [       511:0] value_i,
  input  logic                drain_i,
  input  logic                drain_bank_i,
  input  logic [AddrBits-1:0] drain_pixel_i,
  output logic [       511:0] drain_o
);
  npu_acc #(
    .Structural(Structural),
    .Depth     (Depth),
    .Bits      (Bits)
  ) i_acc (
    .*
  );
endmodule
