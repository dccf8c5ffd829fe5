// SPDX-License-Identifier: Apache-2.0
/// Registers behind enables, for tests of clock gates: a wide word that moves on, a narrow one, and a counter that always runs.
module gated #(
  parameter int unsigned Wide = 100
) (
  input  logic            clk_i,
  input  logic            rst_ni,
  input  logic            push_i,
  input  logic [Wide-1:0] word_i,
  input  logic            tick_i,
  output logic [Wide-1:0] first_o,
  output logic [Wide-1:0] second_o,
  output logic [4:0]      ticks_o,
  output logic [2:0]      count_o
);
  always_ff @(posedge clk_i) begin
    if (push_i) begin
      first_o  <= word_i;
      second_o <= first_o;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      ticks_o <= '0;
      count_o <= '0;
    end else begin
      count_o <= count_o + 3'd1;
      // the enable depends on a register that is behind another gate, and on one that is behind none
      if (tick_i && (first_o[0] || count_o[0])) ticks_o <= ticks_o + 5'd1;
    end
  end
endmodule
