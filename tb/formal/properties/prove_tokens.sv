// SPDX-License-Identifier: Apache-2.0
/// npu_tokens: no token is lost, made or taken twice, between any two engines.
///
/// One pair of engines, any, is followed: what is proven of it holds of all. Assumed: a token is taken only where there is
/// one; npu_engine_ctrl is proven to do so.
module prove_tokens
  import npu_pkg::*;
#(
  parameter int unsigned CountBits = 6
) (
  input logic                                  clk_i,
  input logic                                  rst_ni,
  input logic                                  clear_i,
  input logic [NumEngines-1:0]                 post_valid_i,
  input logic [NumEngines-1:0][NumEngines-1:0] post_mask_i,
  input logic [NumEngines-1:0][NumEngines-1:0] take_i,
  input logic [1:0]                            from_i,  // the pair: constant
  input logic [1:0]                            to_i
);
  localparam int unsigned Most = (1 << CountBits) - 1;

  logic [NumEngines-1:0] post_ready_o;
  logic [NumEngines-1:0][NumEngines-1:0] available_o;
  npu_tokens #(.CountBits(CountBits)) dut (.*);

  logic started_q = 1'b0;
  logic [1:0] from_q, to_q;
  logic [15:0] tokens_q;
  logic posted, taken;
  assign posted = post_valid_i[from_i] && post_ready_o[from_i] && post_mask_i[from_i][to_i];
  assign taken  = take_i[to_i][from_i];
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    from_q    <= from_i;
    to_q      <= to_i;
    if (!rst_ni || clear_i) tokens_q <= '0;
    else tokens_q <= tokens_q + 16'(posted) - 16'(taken);
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    else assume (from_i == from_q && to_i == to_q);
    assume (from_i < 2'(NumEngines) && to_i < 2'(NumEngines));
    for (int e = 0; e < NumEngines; e++) assume ((take_i[e] & ~available_o[e]) == '0);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // The counter is that of the posts and takes since the last reset: none is lost, none appears.
      CountIsPostsLessTakes : assert (16'(dut.count_q[from_i][to_i]) == tokens_q);
      // The count stays within the counter.
      CountWithinCounter : assert (tokens_q <= 16'(Most));
      // A token is offered exactly while there is one.
      AvailableWhileThereIsOne : assert (available_o[to_i][from_i] == (tokens_q != '0));
      // A post waits only while a counter of its own is full.
      if (post_mask_i[from_i] == NumEngines'(1) << to_i) begin
        PostWaitsOnlyForRoom : assert (post_ready_o[from_i] == (tokens_q != 16'(Most)));
      end
      // A post with a full counter among its targets is not taken, not even in part.
      if (post_mask_i[from_i][to_i] && tokens_q == 16'(Most)) begin
        PostIsTakenAsAWhole : assert (!post_ready_o[from_i]);
      end
      PostAndTakeAtOnce : cover (posted && taken && tokens_q == 16'd2);
      TwoTargets : cover (posted && $countones(post_mask_i[from_i]) == 2);
      // a wide counter is full after more cycles than a cover looks at
      Full :
      cover (tokens_q == 16'(CountBits < 4 ? Most : 3) && post_valid_i[from_i] && (CountBits >= 4 || !post_ready_o[from_i]));
    end
  end
endmodule
