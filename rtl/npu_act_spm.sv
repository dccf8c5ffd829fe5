// SPDX-License-Identifier: Apache-2.0
/// Activation scratchpad: two readers and two writers on banks of single-port SRAM, 256 bytes wide together.
///
/// Words of `Rows` bytes; the writers and the store engine move 16-byte parts of a word. A bank serves one access in a cycle:
/// an operand read before a result, these before the store engine, and that before the load engine (`*_ready_o`). Results are
/// always taken: one that meets an operand read is written a cycle late, and then the read waits if they meet again.
/// Banks are interleaved by word: streams in order that have met are one apart from then on, and do not meet again. Read data
/// comes one cycle after the request. Addresses must lie inside (the requesters check).
module npu_act_spm
  import npu_pkg::*;
#(
  parameter  int unsigned Rows     = 16,                   // bytes in a word, a multiple of 16
  parameter  int unsigned Words    = 4096,                 // a multiple of the banks
  localparam int unsigned Parts    = Rows / ChannelBlock,  // 16-byte parts of a word
  localparam int unsigned PartBits = Parts > 1 ? $clog2(Parts) : 1,
  localparam int unsigned AddrBits = $clog2(Words)
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  // compute: operand read
  input  logic                op_valid_i,
  output logic                op_ready_o,
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
  localparam int unsigned Banks = Rows > 128 ? 2 : 256 / Rows;
  localparam int unsigned BankBits = $clog2(Banks);
  localparam int unsigned Depth = Words / Banks;
  localparam int unsigned DepthBits = Depth > 1 ? $clog2(Depth) : 1;

  // ---------------------------------------------------------------- a result that waits for its bank
  typedef struct packed {
    logic [AddrBits-1:0] addr;
    logic [PartBits-1:0] part;
    logic [WordBits-1:0] data;
  } result_t;

  logic late_q, late_d, res_go;
  result_t late_result_q, now, res;
  logic [BankBits-1:0] op_bank, res_bank, load_bank, store_bank;
  logic [BankBits-1:0] op_bank_q, store_bank_q;
  logic [PartBits-1:0] store_part_q;

  assign now    = '{addr: res_addr_i, part: res_part_i, data: res_data_i};
  assign res    = late_q ? late_result_q : now;
  assign res_go = late_q || (res_we_i && !(op_valid_i && op_bank == res_bank));
  assign late_d = res_we_i && (late_q || !res_go);

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) late_q <= 1'b0;
    else late_q <= late_d;
  end

  always_ff @(posedge clk_i) begin
    if (late_d) late_result_q <= now;
  end

  // ---------------------------------------------------------------- banks
  assign op_bank    = BankBits'(op_addr_i);
  assign res_bank   = BankBits'(res.addr);
  assign load_bank  = BankBits'(load_addr_i);
  assign store_bank = BankBits'(store_addr_i);

  logic [Banks-1:0] op_at, res_at, store_at, load_at;  // who asks a bank
  logic [Banks-1:0][Rows*8-1:0] rdata;
  assign op_at    = Banks'(op_valid_i) << op_bank;
  assign res_at   = Banks'(res_go) << res_bank;
  assign store_at = Banks'(store_valid_i) << store_bank;
  assign load_at  = Banks'(load_valid_i) << load_bank;

  assign op_ready_o    = !(late_q && op_bank == res_bank);
  assign store_ready_o = !res_at[store_bank] && !op_at[store_bank];
  assign load_ready_o  = !res_at[load_bank] && !op_at[load_bank] && !store_at[load_bank];

  for (genvar b = 0; b < Banks; b++) begin : gen_bank
    logic [Parts-1:0] we;
    logic [AddrBits-1:0] addr;

    always_comb begin
      we   = '0;
      addr = load_addr_i;
      if (res_at[b]) begin
        addr = res.addr;
        we   = Parts'(1) << res.part;
      end else if (op_at[b]) begin
        addr = op_addr_i;
      end else if (store_at[b]) begin
        addr = store_addr_i;
      end else begin
        we   = Parts'(1) << load_part_i;
      end
    end

    npu_sram #(
      .WordBits(Rows * 8),
      .Depth   (Depth),
      .LaneBits(WordBits)
    ) i_sram (
      .clk_i,
      .valid_i(res_at[b] || op_at[b] || store_at[b] || load_at[b]),
      .we_i   (we),
      .addr_i (DepthBits'(addr >> BankBits)),
      .wdata_i({Parts{res_at[b] ? res.data : load_data_i}}),
      .rdata_o(rdata[b])
    );
  end

  always_ff @(posedge clk_i) begin
    if (op_valid_i && op_ready_o) op_bank_q <= op_bank;
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

  if (Rows % ChannelBlock != 0 || Words % Banks != 0) begin : gen_WordsFillTheBanks
    $fatal(1, "npu_act_spm: Rows must be a multiple of 16, Words of 256 / Rows");
  end

  OperandReadInside : assert property (@(posedge clk_i) disable iff (!rst_ni) op_valid_i |-> 32'(op_addr_i) < Words)
  else $error("An operand read lies inside the scratchpad: the compute engine checks its address.");

  ResultWriteInside : assert property (@(posedge clk_i) disable iff (!rst_ni) res_we_i |-> 32'(res_addr_i) < Words)
  else $error("A result is written inside the scratchpad: the drain checks its address.");

  LoadWriteInside : assert property (@(posedge clk_i) disable iff (!rst_ni) load_valid_i |-> 32'(load_addr_i) < Words)
  else $error("A loaded word is written inside the scratchpad: the load engine checks its address.");

  StoreReadInside : assert property (@(posedge clk_i) disable iff (!rst_ni)
      store_valid_i |-> 32'(store_addr_i) < Words)
  else $error("A stored word is read inside the scratchpad: the store engine checks its address.");
endmodule
