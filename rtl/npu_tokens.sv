// SPDX-License-Identifier: Apache-2.0
/// Dependency tokens between the three engines: one counter for each ordered pair.
///
/// Index 0 is load, 1 compute, 2 store. A post names its targets in a mask and is taken as a whole, when every target's
/// counter has room; a take needs the counter to be available in the same cycle (the engine looks at `available_o` first).
module npu_tokens
  import npu_pkg::*;
#(
  parameter int unsigned CountBits = 6  // a counter holds up to 2^CountBits - 1 tokens
) (
  input  logic                                  clk_i,
  input  logic                                  rst_ni,
  input  logic                                  clear_i,
  // by posting engine: targets
  input  logic [NumEngines-1:0]                 post_valid_i,
  input  logic [NumEngines-1:0][NumEngines-1:0] post_mask_i,
  output logic [NumEngines-1:0]                 post_ready_o,
  // by taking engine: posting engines
  output logic [NumEngines-1:0][NumEngines-1:0] available_o,
  input  logic [NumEngines-1:0][NumEngines-1:0] take_i
);
  logic [NumEngines-1:0][NumEngines-1:0][CountBits-1:0] count_q;  // [from][to]

  always_comb begin
    for (int from = 0; from < NumEngines; from++) begin
      post_ready_o[from] = 1'b1;
      for (int to = 0; to < NumEngines; to++) begin
        if (post_mask_i[from][to] && count_q[from][to] == '1) post_ready_o[from] = 1'b0;
        available_o[to][from] = count_q[from][to] != '0;
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      count_q <= '0;
    end else if (clear_i) begin
      count_q <= '0;
    end else begin
      for (int from = 0; from < NumEngines; from++) begin
        for (int to = 0; to < NumEngines; to++) begin
          count_q[from][to] <= count_q[from][to]
              + CountBits'(post_valid_i[from] && post_ready_o[from] && post_mask_i[from][to])
              - CountBits'(take_i[to][from]);
        end
      end
    end
  end

  for (genvar to = 0; to < NumEngines; to++) begin : gen_engine
    TokensAreThereWhenTaken : assert property (@(posedge clk_i) disable iff (!rst_ni) (take_i[to] & ~available_o[to]) == '0)
    else $error("A token is taken only where there is one: otherwise the order between the engines is lost.");
  end
endmodule
