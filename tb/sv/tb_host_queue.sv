// SPDX-License-Identifier: Apache-2.0
/// The queue of one unit: starts the unit's requests one after the other, each when it may, and answers them.
///
/// A request may start when its cycle has come, what it comes after is complete, and all units that it joins may start too. Its
/// list's address and length are written before, while the unit is at work on the request before it: from the cycle in
/// which it may start to its start there is one access, and from an interrupt to the next start there are four (irq_status,
/// cycles, irq_status, ctrl).
///
///   idle -> address -> count -> until -> start -> run -> status -> cycles ---------------------> clear -> answer -> idle
///                               ^                  | ^                 `-> cause -> command -> reset -> ready -^    |
///                               |                  v |                     ^ limit
///                               |           next address -> next count                                              |
///                               `-----------------------------------------------------------------------------------'
///
/// A unit that reports an error, or has not ended after its request's limit, is soft-reset, and its queue goes on with the next
/// request. So are the units that it had joined: they would wait for it. No other queue is touched. The interrupts of
/// the unit are enabled before, and nobody else uses it.
module tb_host_queue
  import tb_host_pkg::*;
#(
  parameter int unsigned Unit        = 0,
  parameter int unsigned AccessLimit = 10_000,  // cycles
  parameter int unsigned ResetLimit  = 100_000
) (
  input  logic                               clk_i,
  input  logic                               rst_ni,
  input  logic                               serve_i,   // low: forgets everything
  input  logic                        [31:0] now_i,     // cycle
  input  logic                               irq_i,
  // the request: the host loads it while `load_o` is up, and says so
  output logic                               load_o,
  output logic                               ahead_o,   // load the one behind the request that runs
  input  logic                               loaded_i,  // pulses
  input  logic [RequestWords-1:0]     [31:0] request_i,
  // start
  output logic                               ready_o,   // its cycle has come
  input  logic                               go_i,      // it may start
  // the request that runs
  output logic                        [31:0] join_o,
  output logic                               failed_o,
  input  logic                               partner_failed_i,
  // answer
  output logic                               answer_valid_o,
  output logic [AnswerWords-1:0]      [31:0] answer_o,
  // access, see tb_host_arbiter
  output logic                               ask_o,
  output logic                               write_o,
  output logic                        [15:0] address_o,
  output logic                        [31:0] data_o,
  input  logic                               done_i,
  input  logic                        [31:0] data_i,
  input  logic                        [ 1:0] resp_i
);
  // registers of a unit and their fields
  localparam logic [15:0] Ctrl = 16'h10;
  localparam logic [15:0] Status = 16'h14;
  localparam logic [15:0] IrqStatus = 16'h1c;
  localparam logic [15:0] CmdAddress = 16'h20;
  localparam logic [15:0] CmdCount = 16'h24;
  localparam logic [15:0] ErrorCause = 16'h28;
  localparam logic [15:0] ErrorCommand = 16'h2c;
  localparam logic [15:0] Cycles = 16'h40;
  localparam logic [31:0] CtrlStart = 32'h1;
  localparam logic [31:0] CtrlSoftReset = 32'h2;
  localparam logic [31:0] IrqBoth = 32'h3;
  localparam int unsigned IrqErrorBit = 1;
  localparam logic [31:0] StatusNotReady = 32'hd;  // busy, error, stopping

  typedef enum logic [3:0] {
    QIdle, QAddress, QCount, QUntil, QStart, QRun, QNextAddress, QNextCount,
    QStatus, QCycles, QCause, QCommand, QReset, QReady, QClear, QAnswer
  } state_e;

  state_e state_q;
  logic [31:0] limit_q, join_q;  // of the request that runs
  logic [31:0] info_q, irq_status_q, start_q, end_q, cycles_q, cause_q, command_q;
  logic [1:0] resp_q;            // the worst answer to an access
  logic next_q;                  // the next request's list is written
  logic ended_q;                 // the interrupt has come
  logic partner_failed_q;
  logic [31:0] access_q;         // since the access was asked for
  logic [31:0] reset_q;          // since the soft reset
  logic running;

  assign running        = state_q inside {QRun, QNextAddress, QNextCount};
  assign load_o         = state_q == QIdle || (state_q == QRun && !next_q);
  assign ahead_o        = state_q == QRun;
  assign ready_o        = state_q == QUntil && now_i >= request_i[RequestArrival];
  assign join_o         = join_q;
  assign failed_o       = state_q == QCause;
  assign answer_valid_o = state_q == QAnswer;

  always_comb begin
    answer_o = '0;
    answer_o[AnswerInfo] = info_q;
    answer_o[AnswerIrqStatus] = irq_status_q;
    answer_o[AnswerStart] = start_q;
    answer_o[AnswerEnd] = end_q;
    answer_o[AnswerCycles] = cycles_q;
    answer_o[AnswerCause] = cause_q;
    answer_o[AnswerCommand] = command_q;
    answer_o[AnswerResponse] = 32'(resp_q);
  end

  // what each state asks for
  logic [15:0] offset;
  assign address_o = 16'(Unit * UnitBytes) + offset;
  always_comb begin
    ask_o   = 1'b1;
    write_o = 1'b0;
    offset  = '0;
    data_o  = '0;
    unique case (state_q)
      QAddress, QNextAddress: begin
        write_o = 1'b1;
        offset  = CmdAddress;
        data_o  = request_i[RequestAddress];
      end
      QCount, QNextCount: begin
        write_o = 1'b1;
        offset  = CmdCount;
        data_o  = request_i[RequestCount];
      end
      QStart: begin
        write_o = 1'b1;
        offset  = Ctrl;
        data_o  = CtrlStart;
      end
      QStatus: offset = IrqStatus;
      QCycles: offset = Cycles;
      QCause: offset = ErrorCause;
      QCommand: offset = ErrorCommand;
      QReset: begin
        write_o = 1'b1;
        offset  = Ctrl;
        data_o  = CtrlSoftReset;
      end
      QReady: offset = Status;
      QClear: begin
        write_o = 1'b1;
        offset  = IrqStatus;
        data_o  = IrqBoth;
      end
      default: ask_o = 1'b0;
    endcase
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      state_q          <= QIdle;
      limit_q          <= '0;
      join_q           <= '0;
      info_q           <= '0;
      irq_status_q     <= '0;
      start_q          <= '0;
      end_q            <= '0;
      cycles_q         <= '0;
      cause_q          <= '0;
      command_q        <= '0;
      resp_q           <= '0;
      next_q           <= 1'b0;
      ended_q          <= 1'b0;
      partner_failed_q <= 1'b0;
      access_q         <= '0;
      reset_q          <= '0;
    end else if (!serve_i) begin
      state_q <= QIdle;
      next_q  <= 1'b0;
    end else begin
      access_q <= !ask_o || done_i ? '0 : access_q + 32'd1;
      reset_q  <= reset_q + 32'd1;
      if (done_i) resp_q <= resp_q | resp_i;
      if (running && irq_i && !ended_q) begin
        ended_q <= 1'b1;
        end_q   <= now_i;
      end
      if (partner_failed_i && (running || state_q == QStart)) partner_failed_q <= 1'b1;

      unique case (state_q)
        QIdle: if (loaded_i) state_q <= QAddress;
        QAddress: if (done_i) state_q <= QCount;
        QCount: if (done_i) state_q <= QUntil;
        QUntil: begin
          info_q           <= '0;
          irq_status_q     <= '0;
          cycles_q         <= '0;
          cause_q          <= '0;
          command_q        <= '0;
          next_q           <= 1'b0;
          ended_q          <= 1'b0;
          partner_failed_q <= 1'b0;
          limit_q          <= request_i[RequestLimit];
          join_q           <= request_i[RequestJoin];
          if (go_i) state_q <= QStart;
        end
        QStart: begin
          if (done_i) begin
            start_q <= now_i;
            state_q <= QRun;
          end
        end
        QRun: begin
          if (ended_q) begin
            state_q <= QStatus;
          end else if (partner_failed_q) begin
            info_q  <= InfoPartnerFailed;
            end_q   <= now_i;
            state_q <= QReset;
          end else if (now_i - start_q >= limit_q) begin
            info_q  <= InfoTimeout;
            end_q   <= now_i;
            state_q <= QCause;
          end else if (loaded_i) begin
            state_q <= QNextAddress;
          end
        end
        QNextAddress: if (done_i) state_q <= QNextCount;
        QNextCount: begin
          if (done_i) begin
            next_q  <= 1'b1;
            state_q <= QRun;
          end
        end
        QStatus: begin
          if (done_i) begin
            irq_status_q <= data_i;
            state_q      <= QCycles;
          end
        end
        QCycles: begin
          if (done_i) begin
            cycles_q <= data_i;
            state_q  <= QClear;
            if (irq_status_q[IrqErrorBit]) begin
              info_q  <= InfoUnitError;
              state_q <= QCause;
            end
          end
        end
        QCause: begin
          if (done_i) begin
            cause_q <= data_i;
            state_q <= QCommand;
          end
        end
        QCommand: begin
          if (done_i) begin
            command_q <= data_i;
            state_q   <= QReset;
          end
        end
        QReset: begin
          reset_q <= '0;
          if (done_i) state_q <= QReady;
        end
        QReady: begin
          if (done_i && (data_i & StatusNotReady) == '0) begin
            state_q <= QClear;
          end else if (done_i && reset_q >= ResetLimit) begin
            info_q  <= InfoStuck;
            state_q <= QClear;
          end
        end
        QClear: if (done_i) state_q <= QAnswer;
        QAnswer: begin
          resp_q  <= '0;
          state_q <= next_q ? QUntil : QIdle;
        end
        default: state_q <= QIdle;
      endcase

      if (ask_o && !done_i && access_q >= AccessLimit) begin
        info_q  <= InfoNoAnswer;
        next_q  <= 1'b0;
        state_q <= QAnswer;
      end
    end
  end

  NoInterruptBeforeItsRequest : assert property (@(posedge clk_i) disable iff (!rst_ni)
      serve_i && state_q == QUntil && go_i |-> !irq_i)
  else $error("A unit that is started has no interrupt from before.");
endmodule
