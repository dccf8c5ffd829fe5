// SPDX-License-Identifier: Apache-2.0
/// Way of an addition's operands: a channel block of each input goes through the requantiser, and comes back to be accumulated.
///
///   operand (16 channels) --> feed, Lanes channels per cycle --> requantiser --> collect 16 channels --> accumulators
///
/// `issue_i` announces a beat whose operand is on `valid_i` two cycles later. `busy_o` holds beats back so that an operand is
/// fed before the next one arrives; `pending_o` is up until the last operand fed has been accumulated.
module npu_addition
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned Lanes   = 16,                    // of the requantiser; divides ChannelBlock
  localparam int unsigned Subs    = ChannelBlock / Lanes,  // cycles for a channel block
  localparam int unsigned SubBits = Subs > 1 ? $clog2(Subs) : 1
) (
  input  logic                                 clk_i,
  input  logic                                 rst_ni,
  input  logic                                 clear_i,
  // operands
  input  logic                                 issue_i,
  output logic                                 busy_o,
  output logic                                 pending_o,
  input  logic                                 valid_i,
  input  logic [ChannelBlock-1:0][AccBits-1:0] operand_i,    // stays until the next one
  // to the requantiser
  output logic                                 feed_o,
  output logic                                 feed_last_o,  // ends the channel block
  output logic [Lanes-1:0][AccBits-1:0]        feed_sum_o,
  // from the requantiser
  input  logic                                 wide_valid_i,
  input  logic                                 wide_last_i,
  input  logic [Lanes-1:0][AccBits-1:0]        wide_i,
  // to the accumulators
  output logic                                 go_o,         // the block's last channels come
  output logic                                 sum_valid_o,  // one cycle later: the block
  output logic [ChannelBlock-1:0][AccBits-1:0] sum_o
);
  logic [SubBits-1:0] sub_q;
  logic feeding_q;           // the operand is not in the requantiser as a whole yet
  logic [SubBits:0] gap_q;   // the operand register is free again when the beat that goes now will arrive: two cycles ahead
  logic [3:0] flight_q;      // pixels between the operand register and the accumulators
  logic sum_valid_q;
  logic [ChannelBlock-1:0][AccBits-1:0] sum_q;

  assign feed_o      = valid_i || feeding_q;
  assign feed_last_o = sub_q == SubBits'(Subs - 1);
  assign busy_o      = gap_q != '0;
  assign pending_o   = flight_q != '0;
  assign go_o        = wide_valid_i && wide_last_i;
  assign sum_valid_o = sum_valid_q;
  assign sum_o       = sum_q;

  always_comb begin
    for (int unsigned l = 0; l < Lanes; l++) begin
      feed_sum_o[l] = '0;
      for (int unsigned s = 0; s < Subs; s++) begin
        if (sub_q == SubBits'(s)) feed_sum_o[l] = operand_i[s*Lanes+l];
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      sub_q       <= '0;
      feeding_q   <= 1'b0;
      gap_q       <= '0;
      flight_q    <= '0;
      sum_valid_q <= 1'b0;
    end else if (clear_i) begin
      sub_q       <= '0;
      feeding_q   <= 1'b0;
      gap_q       <= '0;
      flight_q    <= '0;
      sum_valid_q <= 1'b0;
    end else begin
      if (issue_i) gap_q <= (SubBits + 1)'(Subs - 1);
      else if (busy_o) gap_q <= gap_q - 1'b1;
      if (feed_o) begin
        sub_q     <= feed_last_o ? '0 : sub_q + 1'b1;
        feeding_q <= !feed_last_o;
      end
      flight_q    <= flight_q + 4'(valid_i) - 4'(sum_valid_q);
      sum_valid_q <= go_o;
    end
  end

  if (Subs == 1) begin : gen_whole
    always_ff @(posedge clk_i) begin
      if (go_o) sum_q <= wide_i;
    end
  end else begin : gen_collect
    always_ff @(posedge clk_i) begin
      if (wide_valid_i) sum_q <= $bits(sum_q)'({wide_i, sum_q} >> (Lanes * AccBits));
    end
  end

  OperandIsFedBeforeTheNext : assert property (@(posedge clk_i) disable iff (!rst_ni || clear_i)
      valid_i |-> !feeding_q)
  else $error("An operand is in the requantiser as a whole before the next one takes its place.");
endmodule
