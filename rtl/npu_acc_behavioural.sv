// SPDX-License-Identifier: Apache-2.0
/// Accumulators of 16 columns in the form that simulates fast: two banks of `Depth` pixels; one bank is summed into while the other is drained.
///
/// A sum takes two cycles: the pixel's address in the first (`read_i`), its contribution in the second (`add_i`), one pixel per cycle;
/// the same pixel may come in consecutive cycles. `first_i` replaces what is there, `max_i` takes the maximum instead of the
/// sum. Drain data comes one cycle after `drain_i`. The caller never drains the bank that is being summed into.
module npu_acc_behavioural
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
  logic [1:0][BankWordBits-1:0] rdata;
  logic [ChannelBlock-1:0][AccBits-1:0] old, sum, sum_q;

  always_comb begin
    old = forward_q ? sum_q : rdata[bank_q];
    sum = value_i;
    if (!first_q) begin
      for (int unsigned i = 0; i < ChannelBlock; i++) begin
        if (max_i) sum[i] = signed'(value_i[i]) > signed'(old[i]) ? value_i[i] : old[i];
        else sum[i] = value_i[i] + old[i];
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (read_i) begin
      bank_q    <= bank_i;
      pixel_q   <= pixel_i;
      first_q   <= first_i;
      // what is written in this cycle is not in the memory yet
      forward_q <= add_i && bank_q == bank_i && pixel_q == pixel_i;
    end
    if (add_i) sum_q <= sum;
    if (drain_i) drain_bank_q <= drain_bank_i;
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

  assign drain_o = rdata[drain_bank_q];

  if (Depth > 1 << PixelBits) begin : gen_DepthIsAddressable
    $fatal(1, "npu_acc_behavioural: Depth must be at most 256");
  end

  BankIsDrainedOrSummedInto : assert property (@(posedge clk_i) disable iff (!rst_ni)
      drain_i && read_i |-> drain_bank_i != bank_i)
  else $error("A bank is drained while the other is summed into: each has one read port.");
endmodule
