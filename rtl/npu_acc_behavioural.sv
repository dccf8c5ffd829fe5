// SPDX-License-Identifier: Apache-2.0
/// Accumulators of 16 columns in the form that simulates fast: two banks of `Depth` pixels; one bank is summed into while the other is drained.
///
/// A sum takes two cycles: the pixel's address in the first (`read_i`), its contribution in the second (`add_i`), one pixel per cycle;
/// the same pixel may come in consecutive cycles. `first_i` replaces what is there, `max_i` takes the maximum instead of the
/// sum. Drain data comes one cycle after `drain_i` and stays until its bank is read again. The caller never drains
/// the bank that is being summed into. Sums have `Bits` bits and wrap; they come out sign-extended.
module npu_acc_behavioural
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned Depth    = 32,       // pixels, up to 256
  parameter  int unsigned Bits     = AccBits,  // of an accumulator, up to 32
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
  localparam int unsigned UnusedBits = AccBits - Bits;

  logic [ChannelBlock-1:0][AccBits-1:0] mem[2][Depth];  // sign-extended
  logic bank_q, first_q, drain_bank_q, forward;
  logic [AddrBits-1:0] pixel_q;
  logic [1:0][ChannelBlock-1:0][AccBits-1:0] read_q;
  logic [ChannelBlock-1:0][AccBits-1:0] old, sum;

  function automatic logic [AccBits-1:0] wrap(logic [AccBits-1:0] value);
    logic signed [AccBits-1:0] high;
    high = value << UnusedBits;
    return high >>> UnusedBits;
  endfunction

  assign old     = read_q[bank_q];
  // what is written in this cycle is not in the memory yet
  assign forward = add_i && bank_q == bank_i && pixel_q == pixel_i;

  always_comb begin
    for (int unsigned i = 0; i < ChannelBlock; i++) begin
      if (first_q) sum[i] = wrap(value_i[i]);
      else if (max_i) sum[i] = signed'(wrap(value_i[i])) > signed'(old[i]) ? wrap(value_i[i]) : old[i];
      else sum[i] = wrap(value_i[i] + old[i]);
    end
  end

  always_ff @(posedge clk_i) begin
    if (read_i) begin
      bank_q  <= bank_i;
      pixel_q <= pixel_i;
      first_q <= first_i;
      if (!first_i) read_q[bank_i] <= forward ? sum : mem[bank_i][pixel_i];
    end
    if (drain_i) begin
      drain_bank_q         <= drain_bank_i;
      read_q[drain_bank_i] <= mem[drain_bank_i][drain_pixel_i];
    end
    if (add_i) mem[bank_q][pixel_q] <= sum;
  end

  assign drain_o = read_q[drain_bank_q];

  if (Depth > 1 << PixelBits || Bits > AccBits) begin : gen_DepthIsAddressable
    $fatal(1, "npu_acc_behavioural: Depth must be at most 256, Bits at most 32");
  end

  BankIsDrainedOrSummedInto : assert property (@(posedge clk_i) disable iff (!rst_ni)
      drain_i && read_i |-> drain_bank_i != bank_i)
  else $error("A bank is drained while the other is summed into: each has one read port.");
endmodule
