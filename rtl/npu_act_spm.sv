// SPDX-License-Identifier: Apache-2.0
/// Activation scratchpad: two readers and two writers on four banks of two-port SRAM.
///
/// Words of `Rows` bytes; the writers and the store engine move 16-byte parts of a word. The compute side (operand reads,
/// result writes) is always served in the same cycle, so the array never stalls on the scratchpad; the load and store
/// engines get the banks that it leaves free (`*_ready_o`). Banks are interleaved by word with a folded address, so that
/// rows, columns and strided streams spread over all four. Read data comes one cycle after the request. Addresses must
/// lie inside (the requesters check).
module npu_act_spm
  import npu_pkg::*;
#(
  parameter  int unsigned Rows     = 16,                   // bytes in a word, a multiple of 16
  parameter  int unsigned Words    = 8192,                 // a multiple of 4, 64 or more
  localparam int unsigned Parts    = Rows / ChannelBlock,  // 16-byte parts of a word
  localparam int unsigned PartBits = Parts > 1 ? $clog2(Parts) : 1,
  localparam int unsigned AddrBits = $clog2(Words)
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  // compute: operand read
  input  logic                op_re_i,
  input  logic [AddrBits-1:0] op_addr_i,
  output logic [Rows*8-1:0]   op_data_o,
  // compute: result write
  input  logic                res_we_i,
  input  logic [AddrBits-1:0] res_addr_i,
  input  logic [PartBits-1:0] res_part_i,
  input  logic [WordBits-1:0] res_data_i,
  // load: write
  input  logic                load_valid_i,
  output logic                load_ready_o,
  input  logic [AddrBits-1:0] load_addr_i,
  input  logic [PartBits-1:0] load_part_i,
  input  logic [WordBits-1:0] load_data_i,
  // store: read
  input  logic                store_valid_i,
  output logic                store_ready_o,
  input  logic [AddrBits-1:0] store_addr_i,
  input  logic [PartBits-1:0] store_part_i,
  output logic [WordBits-1:0] store_data_o
);
  localparam int unsigned Banks = 4;

  function automatic logic [1:0] bank_of(logic [5:0] addr);
    return addr[1:0] ^ addr[3:2] ^ addr[5:4];
  endfunction

  logic [1:0] op_bank, res_bank, load_bank, store_bank;
  logic [1:0] op_bank_q, store_bank_q;
  logic [PartBits-1:0] store_part_q;
  logic [Banks-1:0][Rows*8-1:0] rdata;

  assign op_bank       = bank_of(op_addr_i[5:0]);
  assign res_bank      = bank_of(res_addr_i[5:0]);
  assign load_bank     = bank_of(load_addr_i[5:0]);
  assign store_bank    = bank_of(store_addr_i[5:0]);
  assign load_ready_o  = !(res_we_i && res_bank == load_bank);
  assign store_ready_o = !(op_re_i && op_bank == store_bank);

  for (genvar b = 0; b < Banks; b++) begin : gen_bank
    logic op, res, load, store;
    logic [Parts-1:0] we;
    assign op    = op_re_i && op_bank == 2'(b);
    assign res   = res_we_i && res_bank == 2'(b);
    assign load  = load_valid_i && load_ready_o && load_bank == 2'(b);
    assign store = store_valid_i && store_ready_o && store_bank == 2'(b);

    always_comb begin
      we = '0;
      for (int unsigned part = 0; part < Parts; part++) begin
        if (res) we[part] = res_part_i == PartBits'(part);
        else if (load) we[part] = load_part_i == PartBits'(part);
      end
    end

    npu_sram #(
      .WordBits(Rows * 8),
      .Depth   (Words / Banks),
      .LaneBits(WordBits)
    ) i_sram (
      .clk_i,
      .re_i   (op || store),
      .raddr_i(op ? op_addr_i[AddrBits-1:2] : store_addr_i[AddrBits-1:2]),
      .rdata_o(rdata[b]),
      .we_i   (we),
      .waddr_i(res ? res_addr_i[AddrBits-1:2] : load_addr_i[AddrBits-1:2]),
      .wdata_i({Parts{res ? res_data_i : load_data_i}})
    );
  end

  always_ff @(posedge clk_i) begin
    if (op_re_i) op_bank_q <= op_bank;
    if (store_valid_i && store_ready_o) begin
      store_bank_q <= store_bank;
      store_part_q <= store_part_i;
    end
  end

  assign op_data_o = rdata[op_bank_q];

  always_comb begin
    store_data_o = '0;
    for (int unsigned part = 0; part < Parts; part++) begin
      if (store_part_q == PartBits'(part)) store_data_o = rdata[store_bank_q][part*WordBits+:WordBits];
    end
  end

  if (Rows % ChannelBlock != 0 || Words % Banks != 0 || Words < 64) begin : gen_WordsFillTheBanks
    $fatal(1, "npu_act_spm: Rows must be a multiple of 16, Words of 4 and at least 64");
  end

  OperandReadInside : assert property (@(posedge clk_i) disable iff (!rst_ni) op_re_i |-> 32'(op_addr_i) < Words)
  else $error("An operand read lies inside the scratchpad: the compute engine checks its address.");

  ResultWriteInside : assert property (@(posedge clk_i) disable iff (!rst_ni) res_we_i |-> 32'(res_addr_i) < Words)
  else $error("A result is written inside the scratchpad: the drain checks its address.");

  LoadWriteInside : assert property (@(posedge clk_i) disable iff (!rst_ni) load_valid_i |-> 32'(load_addr_i) < Words)
  else $error("A loaded word is written inside the scratchpad: the load engine checks its address.");

  StoreReadInside : assert property (@(posedge clk_i) disable iff (!rst_ni)
      store_valid_i |-> 32'(store_addr_i) < Words)
  else $error("A stored word is read inside the scratchpad: the store engine checks its address.");
endmodule
