// SPDX-License-Identifier: Apache-2.0
/// AXI4 memory model with latency, bandwidth limit, random back-pressure and injected errors.
///
/// The program around the model (main.cpp) reads and writes `mem`, `settings` and `statistics` directly. Settings
/// are taken over when `restart_i` is high, which also reseeds the random generator: equal jobs see equal stalls.
///
/// Timing with back-pressure off: a burst's first read beat can be taken `read latency` cycles after its address was,
/// further beats follow one per cycle, also across bursts; a write response follows its last beat after
/// `write latency` cycles. Depth bursts may be outstanding each way; all answers come in order.
///
/// Takes INCR bursts of the full data width only and asserts that. An address beyond the memory is answered with
/// DECERR; a beat that falls into an error range is answered with that range's response. Neither writes memory.
module tb_memory #(
  parameter int unsigned DataBits = 128,               // 64 or 128
  parameter int unsigned IdBits   = 3,
  parameter int unsigned MemBytes = 16 * 1024 * 1024,
  parameter int unsigned Depth    = 64                 // outstanding bursts each way, a power of two
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  restart_i,
  output logic [31:0]           outstanding_o,  // bursts accepted and not yet answered

  input  logic [IdBits-1:0]     s_axi_awid,
  input  logic [31:0]           s_axi_awaddr,
  input  logic [7:0]            s_axi_awlen,
  input  logic                  s_axi_awvalid,
  output logic                  s_axi_awready,
  input  logic [DataBits-1:0]   s_axi_wdata,
  input  logic [DataBits/8-1:0] s_axi_wstrb,
  input  logic                  s_axi_wlast,
  input  logic                  s_axi_wvalid,
  output logic                  s_axi_wready,
  output logic [IdBits-1:0]     s_axi_bid,
  output logic [1:0]            s_axi_bresp,
  output logic                  s_axi_bvalid,
  input  logic                  s_axi_bready,
  input  logic [IdBits-1:0]     s_axi_arid,
  input  logic [31:0]           s_axi_araddr,
  input  logic [7:0]            s_axi_arlen,
  input  logic                  s_axi_arvalid,
  output logic                  s_axi_arready,
  output logic [IdBits-1:0]     s_axi_rid,
  output logic [DataBits-1:0]   s_axi_rdata,
  output logic [1:0]            s_axi_rresp,
  output logic                  s_axi_rlast,
  output logic                  s_axi_rvalid,
  input  logic                  s_axi_rready
);
  /*verilator inline_module*/

  localparam int unsigned Bytes = DataBits / 8;
  localparam int unsigned WordShift = $clog2(Bytes);
  localparam int unsigned Words = MemBytes / Bytes;
  localparam int unsigned WordBits = $clog2(Words);
  localparam int unsigned DepthBits = $clog2(Depth);
  localparam int unsigned ErrorRanges = 4;

  localparam logic [1:0] RespOkay = 2'd0;
  localparam logic [1:0] RespDecerr = 2'd3;

  // Memory and its settings, shared with the program around the model (see tb/host.py for the same indices).
  logic [DataBits-1:0] mem [Words];
  logic [31:0] settings [32];
  logic [31:0] statistics [8];

  localparam int unsigned SetReadLatency = 0;
  localparam int unsigned SetWriteLatency = 1;
  localparam int unsigned SetBeats = 2;       // bandwidth limit: beats ...
  localparam int unsigned SetCycles = 3;      // ... per cycles, each way; 0 cycles: no limit
  localparam int unsigned SetStall = 4;       // a channel stalls in a cycle if a random byte is below this
  localparam int unsigned SetSeed = 5;
  localparam int unsigned SetDataFirst = 6;   // a write's address is taken only when its data is offered, as AXI4 allows
  localparam int unsigned SetErrors = 8;      // 4 words a range: first byte, last byte, {resp, write, read}, 0

  localparam int unsigned StatReadBeats = 0;
  localparam int unsigned StatWriteBeats = 1;
  localparam int unsigned StatWriteFirst = 2; // lowest and highest byte address of the words written
  localparam int unsigned StatWriteLast = 3;
  localparam int unsigned StatOutstanding = 4;

  typedef struct packed {
    logic [IdBits-1:0] id;
    logic [31:0] address;
    logic [7:0] len;
    logic [31:0] due;
  } burst_t;

  typedef struct packed {
    logic [IdBits-1:0] id;
    logic [1:0] resp;
    logic [31:0] due;
  } answer_t;

  // Settings in force
  logic [31:0] read_latency_q, write_latency_q, beats_q, cycles_q;
  logic [8:0] stall_q;
  logic [31:0] range_first_q [ErrorRanges];
  logic [31:0] range_last_q [ErrorRanges];
  logic [3:0] range_kind_q [ErrorRanges];
  logic errors_on_q, data_first_q;

  always_ff @(posedge clk_i) begin
    if (restart_i) begin
      read_latency_q <= settings[SetReadLatency];
      write_latency_q <= settings[SetWriteLatency];
      beats_q <= settings[SetBeats];
      cycles_q <= settings[SetCycles];
      stall_q <= settings[SetStall][8:0];
      data_first_q <= settings[SetDataFirst][0];
      errors_on_q <= 1'b0;
      for (int unsigned i = 0; i < ErrorRanges; i++) begin
        range_first_q[i] <= settings[SetErrors + 4 * i];
        range_last_q[i] <= settings[SetErrors + 4 * i + 1];
        range_kind_q[i] <= settings[SetErrors + 4 * i + 2][3:0];
        if (settings[SetErrors + 4 * i + 2][1:0] != 2'd0) errors_on_q <= 1'b1;
      end
    end
  end

  // Response of one beat
  function automatic logic [1:0] resp_of(logic [31:0] address, logic write);
    logic [1:0] resp;
    resp = RespOkay;
    if (errors_on_q) begin
      for (int unsigned i = 0; i < ErrorRanges; i++) begin
        if (range_kind_q[i][{1'b0, write}] && address >= range_first_q[i] && address <= range_last_q[i]) begin
          resp = range_kind_q[i][3:2];
        end
      end
    end
    if ({1'b0, address} >= 33'(MemBytes)) resp = RespDecerr;
    return resp;
  endfunction

  // Time and random stalls
  logic [31:0] now_q;
  logic [63:0] random_q;
  logic stall_ar, stall_r, stall_aw, stall_w, stall_b;

  function automatic logic [63:0] xorshift(logic [63:0] state);
    logic [63:0] x;
    x = state ^ (state << 13);
    x = x ^ (x >> 7);
    return x ^ (x << 17);
  endfunction

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      now_q <= '0;
      random_q <= 64'h9e37_79b9_7f4a_7c15;
    end else begin
      now_q <= now_q + 32'd1;
      if (restart_i) random_q <= {settings[SetSeed] ^ 32'h9e37_79b9, ~settings[SetSeed]};
      else if (stall_q != '0) random_q <= xorshift(random_q);
    end
  end

  assign stall_ar = {1'b0, random_q[15:8]} < stall_q;
  assign stall_r = {1'b0, random_q[23:16]} < stall_q;
  assign stall_aw = {1'b0, random_q[31:24]} < stall_q;
  assign stall_w = {1'b0, random_q[39:32]} < stall_q;
  assign stall_b = {1'b0, random_q[47:40]} < stall_q;

  // Bandwidth: a beat costs `cycles` credits, every cycle brings `beats`.
  function automatic logic [31:0] credit_after(logic [31:0] credit, logic beat);
    logic [31:0] sum;
    if (cycles_q == '0) return '0;
    sum = credit + beats_q;
    if (sum > cycles_q + beats_q - 32'd1) sum = cycles_q + beats_q - 32'd1;
    return beat ? sum - cycles_q : sum;
  endfunction

  // ---------------------------------------------------------------------------------------------------------- reads
  burst_t read_queue [Depth];
  logic [DepthBits:0] read_in_q, read_out_q;
  logic [DepthBits:0] read_count;
  logic [7:0] read_beat_q;
  logic [31:0] read_credit_q;
  burst_t read_head;
  logic [31:0] read_address;
  logic read_emit, read_push;

  assign read_count = read_in_q - read_out_q;
  assign read_head = read_queue[read_out_q[DepthBits-1:0]];
  assign read_address = read_head.address + (32'(read_beat_q) << WordShift);
  assign read_push = s_axi_arvalid && s_axi_arready;
  assign read_emit = (read_count != '0) && $signed(now_q - read_head.due) >= 0
                     && (!s_axi_rvalid || s_axi_rready) && !stall_r && read_credit_q >= cycles_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      read_in_q <= '0;
      read_out_q <= '0;
      read_beat_q <= '0;
      read_credit_q <= '0;
      s_axi_arready <= 1'b0;
      s_axi_rvalid <= 1'b0;
    end else begin
      s_axi_arready <= read_count <= (DepthBits + 1)'(Depth - 2) && !stall_ar;
      if (read_push) begin
        read_queue[read_in_q[DepthBits-1:0]] <=
          '{id: s_axi_arid, address: s_axi_araddr, len: s_axi_arlen, due: now_q + read_latency_q - 32'd1};
        read_in_q <= read_in_q + 1'b1;
      end
      read_credit_q <= restart_i ? '0 : credit_after(read_credit_q, read_emit);
      if (s_axi_rready) s_axi_rvalid <= 1'b0;
      if (read_emit) begin
        s_axi_rvalid <= 1'b1;
        s_axi_rid <= read_head.id;
        s_axi_rlast <= read_beat_q == read_head.len;
        s_axi_rresp <= resp_of(read_address, 1'b0);
        s_axi_rdata <= resp_of(read_address, 1'b0) == RespOkay ? mem[read_address[WordShift+:WordBits]] : '0;
        read_beat_q <= read_beat_q + 8'd1;
        if (read_beat_q == read_head.len) begin
          read_beat_q <= '0;
          read_out_q <= read_out_q + 1'b1;
        end
      end
    end
  end

  // --------------------------------------------------------------------------------------------------------- writes
  burst_t write_queue [Depth];
  logic [DepthBits:0] write_in_q, write_out_q;
  logic [DepthBits:0] write_count;
  answer_t answer_queue [Depth];
  logic [DepthBits:0] answer_in_q, answer_out_q;
  logic [DepthBits:0] answer_count;
  logic [7:0] write_beat_q;
  logic [1:0] write_resp_q;   // worst response of the burst's beats so far
  logic [31:0] write_credit_q, write_credit_d;
  burst_t write_head;
  answer_t answer_head;
  logic [31:0] write_address;
  logic [1:0] write_resp, write_worst;
  logic write_push, write_beat, write_end, answer_pop;

  assign write_count = write_in_q - write_out_q;
  assign answer_count = answer_in_q - answer_out_q;
  assign write_head = write_queue[write_out_q[DepthBits-1:0]];
  assign answer_head = answer_queue[answer_out_q[DepthBits-1:0]];
  assign write_address = write_head.address + (32'(write_beat_q) << WordShift);
  assign write_push = s_axi_awvalid && s_axi_awready;
  assign write_beat = s_axi_wvalid && s_axi_wready;
  assign write_end = write_beat && s_axi_wlast;
  assign write_resp = resp_of(write_address, 1'b1);
  assign write_worst = write_resp_q > write_resp ? write_resp_q : write_resp;
  assign write_credit_d = credit_after(write_credit_q, write_beat);
  assign answer_pop = (answer_count != '0) && $signed(now_q - answer_head.due) >= 0
                      && (!s_axi_bvalid || s_axi_bready) && !stall_b;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      write_in_q <= '0;
      write_out_q <= '0;
      answer_in_q <= '0;
      answer_out_q <= '0;
      write_beat_q <= '0;
      write_resp_q <= '0;
      write_credit_q <= '0;
      s_axi_awready <= 1'b0;
      s_axi_wready <= 1'b0;
      s_axi_bvalid <= 1'b0;
    end else begin
      s_axi_awready <= write_count + answer_count <= (DepthBits + 1)'(Depth - 2) && !stall_aw
                       && (!data_first_q || s_axi_wvalid);
      if (write_push) begin
        write_queue[write_in_q[DepthBits-1:0]] <=
          '{id: s_axi_awid, address: s_axi_awaddr, len: s_axi_awlen, due: '0};
        write_in_q <= write_in_q + 1'b1;
      end

      // Data is taken only for a burst whose address has come.
      write_credit_q <= restart_i ? '0 : write_credit_d;
      s_axi_wready <= (write_count + (DepthBits + 1)'(write_push)) != (DepthBits + 1)'(write_end)
                      && !stall_w && write_credit_d >= cycles_q;
      if (write_beat) begin
        if (write_resp == RespOkay) begin
          for (int unsigned i = 0; i < Bytes; i++) begin
            if (s_axi_wstrb[i]) mem[write_address[WordShift+:WordBits]][8*i+:8] <= s_axi_wdata[8*i+:8];
          end
        end
        write_beat_q <= s_axi_wlast ? '0 : write_beat_q + 8'd1;
        write_resp_q <= s_axi_wlast ? '0 : write_worst;
      end
      if (write_end) begin
        write_out_q <= write_out_q + 1'b1;
        answer_queue[answer_in_q[DepthBits-1:0]] <=
          '{id: write_head.id, resp: write_worst, due: now_q + write_latency_q - 32'd1};
        answer_in_q <= answer_in_q + 1'b1;
      end

      if (s_axi_bready) s_axi_bvalid <= 1'b0;
      if (answer_pop) begin
        s_axi_bvalid <= 1'b1;
        s_axi_bid <= answer_head.id;
        s_axi_bresp <= answer_head.resp;
        answer_out_q <= answer_out_q + 1'b1;
      end
    end
  end

  // ----------------------------------------------------------------------------------------------------- statistics
  assign outstanding_o = 32'(read_count) + 32'(s_axi_rvalid)
                         + 32'(write_count) + 32'(answer_count) + 32'(s_axi_bvalid);

  always_ff @(posedge clk_i) begin
    statistics[StatOutstanding] <= outstanding_o;
    if (restart_i) begin
      statistics[StatReadBeats] <= '0;
      statistics[StatWriteBeats] <= '0;
      statistics[StatWriteFirst] <= '1;
      statistics[StatWriteLast] <= '0;
    end else begin
      if (s_axi_rvalid && s_axi_rready) statistics[StatReadBeats] <= statistics[StatReadBeats] + 32'd1;
      if (write_beat) begin
        statistics[StatWriteBeats] <= statistics[StatWriteBeats] + 32'd1;
        if (write_address < statistics[StatWriteFirst]) statistics[StatWriteFirst] <= write_address;
        if (write_address > statistics[StatWriteLast]) statistics[StatWriteLast] <= write_address;
      end
    end
  end

  // ----------------------------------------------------------------------------------------------------- assertions
  LastBeatIsMarked : assert property (@(posedge clk_i) disable iff (!rst_ni)
    write_beat |-> s_axi_wlast == (write_beat_q == write_head.len))
  else $error("The last beat of a write burst, and only it, is marked: the model counts beats by WLAST.");

  if (DataBits != 64 && DataBits != 128) begin : gen_WidthIsSupported
    $fatal(1, "tb_memory: DataBits must be 64 or 128");
  end
  if (2 ** WordBits != Words) begin : gen_MemoryIsAPowerOfTwo
    $fatal(1, "tb_memory: MemBytes must be a power of two");
  end
  if (2 ** DepthBits != Depth) begin : gen_DepthIsAPowerOfTwo
    $fatal(1, "tb_memory: Depth must be a power of two");
  end
endmodule
