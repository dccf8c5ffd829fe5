// SPDX-License-Identifier: Apache-2.0
/// Root clock gate of a core: its clock runs while it works or its registers are accessed, and stands still else.
///
/// A core wakes without delay: the clock edge that takes a register access is already its own. It stays awake for `Tail`
/// cycles after its last reason, in which what follows from it settles (an interrupt, a response).
module npu_core_clock #(
  parameter int unsigned Tail        = 2,    // cycles, 1 or more
  parameter bit          FeedThrough = 1'b0  // the clock never stops
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic access_i,  // a register access is offered, or its response is not taken
  input  logic busy_i,    // the core is not ready
  output logic clk_o
);
  logic [Tail-1:0] tail_q;
  logic reason;

  assign reason = access_i || busy_i;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) tail_q <= '1;
    else tail_q <= Tail'({tail_q, reason});
  end

  npu_clock_gate #(
    .FeedThrough(FeedThrough)
  ) i_gate (
    .clk_i,
    .enable_i(reason || tail_q != '0),
    .clk_o
  );
endmodule
