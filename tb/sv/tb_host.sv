// SPDX-License-Identifier: Apache-2.0
/// The host processor: executes a list of operations on the AXI4-Lite port and the interrupts, without Python, and serves a queue
/// of requests for each unit.
///
/// The program around the model (main.cpp) writes `ops`, then a new number into `control[0]`; the list runs until END,
/// fills `results`, and `wake_o` toggles. An operation has 8 words {opcode, a, b, c, d, -, -, -}, a result 4 words
/// {value, info, cycle since the list started, -}:
///
///   END                                       ends the list
///   WRITE  a address  b data                  info: AXI response
///   READ   a address                          value: data; info: AXI response
///   POLL   a address  b mask  c value  d limit  reads until (data & mask) == value; info 8 after d cycles
///   WAIT   a units    b offset c mask  d limit  waits for an interrupt of every unit in a; reads each one's register
///                                             at b and ends early, info 9, when one has a bit of c set; info 8 after
///                                             d cycles; value: units that had not interrupted
///   DELAY  a cycles
///   RESET  a cycles                           holds the SoC's reset
///   FAIL                                      breaks an assertion on purpose: proves that this turns a run red
///
/// An access that is not answered within AccessLimit cycles ends the list with info 10.
///
/// The queues (tb_host_queue) are at work while `control[1]` is not 0; cycle 0 is the first of these. Each unit has a ring of
/// `requests` and one of `answers`, whose words tb_host_pkg names. The program writes a request and then the number of
/// requests that the unit has had in all into `head`; `tail` is the number that are answered, and with every answer `wake_o`
/// toggles.
module tb_host
  import tb_host_pkg::*;
#(
  parameter int unsigned NumUnits    = 2,
  parameter int unsigned MaxOps      = 1024,
  parameter int unsigned MaxRequests = 256,     // of a unit, at a time
  parameter int unsigned AccessLimit = 10_000,  // cycles
  parameter int unsigned ResetLimit  = 100_000
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  output logic                soc_rst_no,
  output logic                restart_o,   // high for one cycle when a list starts
  output logic                wake_o,      // toggles when a list has ended or a request is answered
  input  logic [NumUnits-1:0] irq_i,

  output logic [15:0]         m_axil_awaddr,
  output logic                m_axil_awvalid,
  input  logic                m_axil_awready,
  output logic [31:0]         m_axil_wdata,
  output logic                m_axil_wvalid,
  input  logic                m_axil_wready,
  input  logic [1:0]          m_axil_bresp,
  input  logic                m_axil_bvalid,
  output logic                m_axil_bready,
  output logic [15:0]         m_axil_araddr,
  output logic                m_axil_arvalid,
  input  logic                m_axil_arready,
  input  logic [31:0]         m_axil_rdata,
  input  logic [1:0]          m_axil_rresp,
  input  logic                m_axil_rvalid,
  output logic                m_axil_rready
);
  /*verilator inline_module*/

  localparam int unsigned OpWords = 8;
  localparam int unsigned ResultWords = 4;
  localparam int unsigned RingWords = RequestWords + NumUnits;

  // Shared with the program around the model.
  logic [31:0] control [4];
  logic [31:0] ops [MaxOps*OpWords];
  logic [31:0] results [MaxOps*ResultWords];
  logic [31:0] requests [NumUnits*MaxRequests*RingWords];
  logic [31:0] answers [NumUnits*MaxRequests*AnswerWords];
  logic [31:0] head [NumUnits];
  logic [31:0] tail [NumUnits];

  typedef enum logic [31:0] {
    OpEnd = 0, OpWrite = 1, OpRead = 2, OpPoll = 3, OpWait = 4, OpDelay = 5, OpReset = 6, OpFail = 7
  } op_e;

  typedef enum logic [2:0] {StIdle, StFetch, StWrite, StRead, StWait, StDelay} state_e;

  state_e state_q;
  op_e code_q;
  logic [31:0] number_q;      // list that runs or has run last
  logic [31:0] op_q;          // index of the operation
  logic [31:0] a_q, b_q, c_q, d_q;
  logic [31:0] cycle_q;       // since the list started
  logic [31:0] count_q;       // since the operation started
  logic [31:0] access_q;      // since the access started
  logic [31:0] op_base, result_base;
  logic fail_q;

  assign op_base = op_q * OpWords;
  assign result_base = op_q * ResultWords;

  // the list's port
  logic [15:0] list_awaddr, list_araddr;
  logic list_awvalid, list_awready, list_wvalid, list_wready, list_bvalid, list_arvalid, list_arready, list_rvalid;
  logic [31:0] list_wdata, list_rdata;
  logic [1:0] list_bresp, list_rresp;

  // WAIT: the lowest unit that interrupts and is still waited for
  logic [31:0] interrupting;
  logic [31:0] unit_d, unit_q;
  always_comb begin
    interrupting = 32'(irq_i) & a_q;
    unit_d = '0;
    for (int unsigned i = 0; i < NumUnits; i++) begin
      if (interrupting[NumUnits-1-i]) unit_d = NumUnits - 1 - i;
    end
  end

  // queues
  logic serve_q;
  logic [31:0] now_q;  // cycle since they serve
  logic [NumUnits-1:0] queue_load, queue_ahead, loaded_q, may_start_q, queue_ready, go, queue_failed, partner_failed;
  logic [NumUnits-1:0][RingWords-1:0][31:0] request_q;
  logic [NumUnits-1:0][31:0] running_join;
  logic [NumUnits-1:0] answer_valid;
  logic [NumUnits-1:0][AnswerWords-1:0][31:0] answer;
  logic [NumUnits-1:0] ask, ask_write, ask_done;
  logic [NumUnits-1:0][15:0] ask_address;
  logic [NumUnits-1:0][31:0] ask_data;
  logic [31:0] asked_data;
  logic [1:0] asked_resp;

  for (genvar u = 0; u < NumUnits; u++) begin : gen_Queue
    tb_host_queue #(
      .Unit       (u),
      .AccessLimit(AccessLimit),
      .ResetLimit (ResetLimit)
    ) u_queue (
      .clk_i,
      .rst_ni,
      .serve_i         (serve_q),
      .now_i           (now_q),
      .irq_i           (irq_i[u]),
      .load_o          (queue_load[u]),
      .ahead_o         (queue_ahead[u]),
      .loaded_i        (loaded_q[u]),
      .request_i       (request_q[u][RequestWords-1:0]),
      .ready_o         (queue_ready[u]),
      .go_i            (go[u]),
      .join_o          (running_join[u]),
      .failed_o        (queue_failed[u]),
      .partner_failed_i(partner_failed[u]),
      .answer_valid_o  (answer_valid[u]),
      .answer_o        (answer[u]),
      .ask_o           (ask[u]),
      .write_o         (ask_write[u]),
      .address_o       (ask_address[u]),
      .data_o          (ask_data[u]),
      .done_i          (ask_done[u]),
      .data_i          (asked_data),
      .resp_i          (asked_resp)
    );
  end

  // A request starts with all units that it joins. What it comes after was complete a cycle ago: then it still is.
  always_comb begin
    for (int unsigned u = 0; u < NumUnits; u++) begin
      go[u] = queue_ready[u] && may_start_q[u];
      partner_failed[u] = 1'b0;
      for (int unsigned v = 0; v < NumUnits; v++) begin
        if (request_q[u][RequestJoin][v]
            && !(queue_ready[v] && may_start_q[v] && request_q[v][RequestJoin] == request_q[u][RequestJoin])) begin
          go[u] = 1'b0;
        end
        if (v != u && queue_failed[v] && running_join[v] != '0 && running_join[v] == running_join[u]) begin
          partner_failed[u] = 1'b1;
        end
      end
    end
  end

  // rings
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      serve_q <= 1'b0;
      now_q <= '0;
      loaded_q <= '0;
      may_start_q <= '0;
      request_q <= '0;
    end else begin
      serve_q <= control[1] != '0;
      now_q <= serve_q ? now_q + 32'd1 : '0;
      for (int unsigned u = 0; u < NumUnits; u++) begin
        may_start_q[u] <= 1'b1;
        for (int unsigned v = 0; v < NumUnits; v++) begin
          if (tail[v] < request_q[u][RequestWords+v]) may_start_q[u] <= 1'b0;
        end
        loaded_q[u] <= serve_q && queue_load[u] && !loaded_q[u] && head[u] != tail[u] + 32'(queue_ahead[u]);
        if (queue_load[u] && !loaded_q[u]) begin
          for (int unsigned w = 0; w < RingWords; w++) begin
            request_q[u][w] <= requests[(u*MaxRequests+(tail[u]+32'(queue_ahead[u]))%MaxRequests)*RingWords+w];
          end
        end
        if (answer_valid[u]) begin
          for (int unsigned w = 0; w < AnswerWords; w++) begin
            answers[(u*MaxRequests+tail[u]%MaxRequests)*AnswerWords+w] <= answer[u][w];
          end
          tail[u] <= tail[u] + 32'd1;
        end
        if (!serve_q) tail[u] <= '0;
      end
    end
  end

  tb_host_arbiter #(
    .NumUnits(NumUnits)
  ) u_arbiter (
    .clk_i,
    .rst_ni,
    .ask_i         (ask),
    .write_i       (ask_write),
    .address_i     (ask_address),
    .data_i        (ask_data),
    .done_o        (ask_done),
    .data_o        (asked_data),
    .resp_o        (asked_resp),
    .s_axil_awaddr (list_awaddr),
    .s_axil_awvalid(list_awvalid),
    .s_axil_awready(list_awready),
    .s_axil_wdata  (list_wdata),
    .s_axil_wvalid (list_wvalid),
    .s_axil_wready (list_wready),
    .s_axil_bresp  (list_bresp),
    .s_axil_bvalid (list_bvalid),
    .s_axil_araddr (list_araddr),
    .s_axil_arvalid(list_arvalid),
    .s_axil_arready(list_arready),
    .s_axil_rdata  (list_rdata),
    .s_axil_rresp  (list_rresp),
    .s_axil_rvalid (list_rvalid),
    .m_axil_awaddr,
    .m_axil_awvalid,
    .m_axil_awready,
    .m_axil_wdata,
    .m_axil_wvalid,
    .m_axil_wready,
    .m_axil_bresp,
    .m_axil_bvalid,
    .m_axil_bready,
    .m_axil_araddr,
    .m_axil_arvalid,
    .m_axil_arready,
    .m_axil_rdata,
    .m_axil_rresp,
    .m_axil_rvalid,
    .m_axil_rready
  );

  // list
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      state_q <= StIdle;
      code_q <= OpEnd;
      number_q <= '0;
      op_q <= '0;
      cycle_q <= '0;
      count_q <= '0;
      access_q <= '0;
      a_q <= '0;
      fail_q <= 1'b0;
      soc_rst_no <= 1'b0;
      restart_o <= 1'b0;
      wake_o <= 1'b0;
      list_awvalid <= 1'b0;
      list_wvalid <= 1'b0;
      list_arvalid <= 1'b0;
    end else begin
      restart_o <= 1'b0;
      cycle_q <= cycle_q + 32'd1;
      count_q <= count_q + 32'd1;
      access_q <= access_q + 32'd1;
      if (list_awready) list_awvalid <= 1'b0;
      if (list_wready) list_wvalid <= 1'b0;
      if (list_arready) list_arvalid <= 1'b0;

      unique case (state_q)
        StIdle: begin
          soc_rst_no <= 1'b1;
          op_q <= '0;
          cycle_q <= '0;
          if (control[0] != number_q) begin
            number_q <= control[0];
            restart_o <= 1'b1;
            state_q <= StFetch;
          end
        end

        StFetch: begin
          code_q <= op_e'(ops[op_base]);
          a_q <= ops[op_base+1];
          b_q <= ops[op_base+2];
          c_q <= ops[op_base+3];
          d_q <= ops[op_base+4];
          count_q <= '0;
          access_q <= '0;
          unique case (op_e'(ops[op_base]))
            OpWrite: begin
              list_awaddr <= ops[op_base+1][15:0];
              list_wdata <= ops[op_base+2];
              list_awvalid <= 1'b1;
              list_wvalid <= 1'b1;
              state_q <= StWrite;
            end
            OpRead, OpPoll: begin
              list_araddr <= ops[op_base+1][15:0];
              list_arvalid <= 1'b1;
              state_q <= StRead;
            end
            OpWait: state_q <= StWait;
            OpDelay: state_q <= StDelay;
            OpReset: begin
              soc_rst_no <= 1'b0;
              state_q <= StDelay;
            end
            OpFail: begin
              fail_q <= 1'b1;
              state_q <= StDelay;
            end
            default: begin
              results[result_base+2] <= cycle_q;
              wake_o <= !wake_o;
              state_q <= StIdle;
            end
          endcase
        end

        StWrite: begin
          if (list_bvalid) begin
            results[result_base+1] <= 32'(list_bresp);
            results[result_base+2] <= cycle_q;
            op_q <= op_q + 32'd1;
            state_q <= StFetch;
          end
        end

        StRead: begin
          if (list_rvalid) begin
            access_q <= '0;
            if (code_q == OpWait) begin
              results[result_base] <= a_q;
              results[result_base+2] <= cycle_q;
              if ((list_rdata & c_q) != '0) begin
                results[result_base+1] <= InfoUnitError;
                op_q <= op_q + 32'd1;
                state_q <= StFetch;
              end else begin
                if (list_rdata != '0) a_q[unit_q[4:0]] <= 1'b0;
                state_q <= StWait;
              end
            end else begin
              results[result_base] <= list_rdata;
              results[result_base+1] <= 32'(list_rresp);
              results[result_base+2] <= cycle_q;
              if (code_q == OpPoll && (list_rdata & b_q) != c_q && count_q < d_q) begin
                list_arvalid <= 1'b1;
              end else begin
                if (code_q == OpPoll && (list_rdata & b_q) != c_q) results[result_base+1] <= InfoTimeout;
                op_q <= op_q + 32'd1;
                state_q <= StFetch;
              end
            end
          end
        end

        StWait: begin
          if (a_q == '0 || count_q >= d_q) begin
            results[result_base] <= a_q;
            results[result_base+1] <= a_q == '0 ? 32'd0 : InfoTimeout;
            if (a_q != '0) results[result_base+2] <= cycle_q;
            op_q <= op_q + 32'd1;
            state_q <= StFetch;
          end else if (interrupting != '0) begin
            unit_q <= unit_d;
            list_araddr <= 16'(unit_d * UnitBytes + b_q);
            list_arvalid <= 1'b1;
            access_q <= '0;
            state_q <= StRead;
          end
        end

        StDelay: begin
          if (count_q >= a_q) begin
            soc_rst_no <= 1'b1;
            results[result_base+1] <= '0;
            results[result_base+2] <= cycle_q;
            op_q <= op_q + 32'd1;
            state_q <= StFetch;
          end
        end

        default: state_q <= StIdle;
      endcase

      if ((state_q == StWrite || state_q == StRead) && access_q >= AccessLimit) begin
        results[result_base+1] <= InfoNoAnswer;
        results[result_base+2] <= cycle_q;
        list_awvalid <= 1'b0;
        list_wvalid <= 1'b0;
        list_arvalid <= 1'b0;
        wake_o <= !wake_o;
        state_q <= StIdle;
      end
      if (answer_valid != '0) wake_o <= !wake_o;
    end
  end

  NoFailureWasAskedFor : assert property (@(posedge clk_i) disable iff (!rst_ni) !fail_q)
  else $error("The operation FAIL has broken this assertion on purpose.");

  if (NumUnits > MaxUnits) begin : gen_UnitsFitTheJoin
    $fatal(1, "tb_host: at most 16 units");
  end
  if ((MaxRequests & (MaxRequests - 1)) != 0) begin : gen_RingsWrapAsTheirCounters
    $fatal(1, "tb_host: MaxRequests must be a power of two");
  end
endmodule
