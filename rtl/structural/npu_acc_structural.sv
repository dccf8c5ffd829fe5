// SPDX-License-Identifier: Apache-2.0
/// Accumulators of 16 columns, composed of the blocks that are synthesised; cycle for cycle like npu_acc_behavioural.
module npu_acc_structural
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned Depth    = 64,  // pixels, up to 256
  localparam int unsigned AddrBits = Depth > 1 ? $clog2(Depth) : 1
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
  localparam int unsigned BankWordBits = ChannelBlock * AccBits;

  logic bank_q, first_q, forward_q, drain_bank_q;
  logic [AddrBits-1:0] pixel_q;
  logic [1:0][ChannelBlock-1:0][AccBits-1:0] rdata;
  logic [ChannelBlock-1:0][AccBits-1:0] sum;

  always_ff @(posedge clk_i) begin
    if (read_i) begin
      bank_q    <= bank_i;
      pixel_q   <= pixel_i;
      first_q   <= first_i;
      // what is written in this cycle is not in the memory yet
      forward_q <= add_i && bank_q == bank_i && pixel_q == pixel_i;
    end
    if (drain_i) drain_bank_q <= drain_bank_i;
  end

  for (genvar l = 0; l < ChannelBlock; l++) begin : gen_lane
    npu_acc_lane i_lane (
      .clk_i,
      .bank_i      (bank_q),
      .first_i     (first_q),
      .forward_i   (forward_q),
      .add_i,
      .max_i,
      .value_i     (value_i[l]),
      .rdata_i     ({rdata[1][l], rdata[0][l]}),
      .sum_o       (sum[l]),
      .drain_bank_i(drain_bank_q),
      .drain_o     (drain_o[l])
    );
  end

  for (genvar b = 0; b < 2; b++) begin : gen_bank
    logic drain;
    assign drain = drain_i && drain_bank_i == 1'(b);
    npu_sram #(
      .WordBits(BankWordBits),
      .Depth   (Depth),
      .LaneBits(BankWordBits)
    ) i_sram (
      .clk_i,
      .re_i   (drain || (read_i && !first_i && bank_i == 1'(b))),
      .raddr_i(drain ? drain_pixel_i : pixel_i),
      .rdata_o(rdata[b]),
      .we_i   (add_i && bank_q == 1'(b)),
      .waddr_i(pixel_q),
      .wdata_i(sum)
    );
  end

  BankIsDrainedOrSummedInto : assert property (@(posedge clk_i) disable iff (!rst_ni)
      drain_i && read_i |-> drain_bank_i != bank_i)
  else $error("A bank is drained while the other is summed into: each has one read port.");
endmodule
