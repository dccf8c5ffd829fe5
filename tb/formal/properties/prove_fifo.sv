// SPDX-License-Identifier: Apache-2.0
/// npu_fifo: count, order, and data of one word that is followed from its push to its pop.
///
/// Nothing is assumed of the surroundings: any valid, ready, clear and reset in any cycle.
module prove_fifo #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 4
) (
  input logic             clk_i,
  input logic             rst_ni,
  input logic             clear_i,
  input logic             valid_i,
  input logic [Width-1:0] data_i,
  input logic             ready_i,
  input logic             follow_i  // follow the word that is pushed now, if none is followed
);
  localparam int unsigned Bits = 8;

  logic ready_o, valid_o;
  logic [Width-1:0] data_o;
  npu_fifo #(
    .Width(Width),
    .Depth(Depth)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;
  always_comb if (!started_q) assume (!rst_ni);

  // words in the queue, counted here; a word that is followed: its data, and how many are before it
  logic push, pop, followed_q;
  logic [Bits-1:0] words_q, ahead_q;
  logic [Width-1:0] word_q;
  assign push = valid_i && ready_o;
  assign pop  = valid_o && ready_i;
  always_ff @(posedge clk_i) begin
    if (!rst_ni || clear_i) begin
      words_q    <= '0;
      followed_q <= 1'b0;
    end else begin
      words_q <= words_q + Bits'(push) - Bits'(pop);
      if (followed_q) begin
        ahead_q <= ahead_q - Bits'(pop);
        if (pop && ahead_q == '0) followed_q <= 1'b0;
      end else if (push && follow_i) begin
        followed_q <= 1'b1;
        word_q     <= data_i;
        ahead_q    <= words_q - Bits'(pop);
      end
    end
  end

  // the cycle before
  logic stays_q, same_q;
  logic [Width-1:0] data_q;
  always_ff @(posedge clk_i) begin
    stays_q <= rst_ni && !clear_i && valid_o && !ready_i;
    same_q  <= rst_ni && !clear_i && !pop && !(push && words_q == '0);
    data_q  <= data_o;
  end

  // place of the followed word in the storage
  logic [Bits-1:0] place;
  assign place = Bits'((32'(dut.read_q) + 32'(ahead_q)) % Depth);

  always_comb begin
    if (started_q && rst_ni) begin
      // The count is that of the pushes and pops since the last reset.
      CountIsPushesLessPops : assert (Bits'(dut.count_q) == words_q);
      // The count stays within the storage: no overflow, no underflow.
      CountWithinDepth : assert (words_q <= Bits'(Depth));
      // It takes words until it is full.
      TakesUntilFull : assert (ready_o == (words_q != Bits'(Depth)));
      // It offers words until it is empty.
      OffersUntilEmpty : assert (valid_o == (words_q != '0));
      // A word that is offered stays as it is until it is taken.
      WordStaysUntilTaken : assert (!stays_q || (valid_o && data_o == data_q));
      // The output changes only with a pop, or with the first word.
      OutputStays : assert (!same_q || data_o == data_q);
      PointersAgree : assert (32'(dut.write_q) == (32'(dut.read_q) + 32'(words_q)) % Depth);
      PointersInStorage : assert (32'(dut.read_q) < Depth && 32'(dut.write_q) < Depth);
      if (followed_q) begin
        FollowedWordIsInside : assert (ahead_q < words_q);
        FollowedWordIsStored : assert (dut.mem_q[place] == word_q);
        // A word comes out after those that were before it, as it went in.
        WordsComeOutInOrder : assert (ahead_q != '0 || (valid_o && data_o == word_q));
      end
      Full : cover (words_q == Bits'(Depth));
      FollowedWordLeavesAFullQueue : cover (followed_q && pop && ahead_q == '0 && words_q == Bits'(Depth));
    end
  end
endmodule
