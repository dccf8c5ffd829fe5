// SPDX-License-Identifier: Apache-2.0
/// Accumulators of 16 columns in one of their two forms, equal in every cycle: npu_acc_behavioural simulates faster,
/// npu_acc_structural is what is synthesised.
module npu_acc
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  bit          Structural = 1'b0,     // the form that is synthesised
  parameter  int unsigned Depth      = 32,       // pixels, up to 256
  parameter  int unsigned Bits       = AccBits,  // of an accumulator, up to 32
  localparam int unsigned AddrBits   = Depth > 1 ? $clog2(Depth) : 1
) (
  input  logic                                 clk_i,
  input  logic                                 rst_ni,
  // first cycle
  input  logic                                 read_i,
  input  logic                                 bank_i,
  input  logic [AddrBits-1:0]                  pixel_i,
  input  logic                                 first_i,
  // second cycle
  input  logic                                 add_i,
  input  logic                                 max_i,
  input  logic [ChannelBlock-1:0][AccBits-1:0] value_i,
  // drain
  input  logic                                 drain_i,
  input  logic                                 drain_bank_i,
  input  logic [AddrBits-1:0]                  drain_pixel_i,
  output logic [ChannelBlock-1:0][AccBits-1:0] drain_o
);
  if (Structural) begin : gen_structural
    npu_acc_structural #(
      .Depth(Depth),
      .Bits (Bits)
    ) i_form (
      .*
    );
  end else begin : gen_behavioural
    npu_acc_behavioural #(
      .Depth(Depth),
      .Bits (Bits)
    ) i_form (
      .*
    );
  end
endmodule
