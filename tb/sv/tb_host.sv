// SPDX-License-Identifier: Apache-2.0
/// The host processor: executes a list of operations on the AXI4-Lite port and the interrupts, without Python.
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
module tb_host #(
  parameter int unsigned NumUnits = 2,
  parameter int unsigned MaxOps   = 1024
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  output logic                soc_rst_no,
  output logic                restart_o,   // high for one cycle when a list starts
  output logic                wake_o,      // toggles when a list has ended
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
  localparam int unsigned AccessLimit = 10_000;
  localparam int unsigned UnitBytes = 'h400;

  // Shared with the program around the model.
  logic [31:0] control [4];
  logic [31:0] ops [MaxOps*OpWords];
  logic [31:0] results [MaxOps*ResultWords];

  typedef enum logic [31:0] {
    OpEnd = 0, OpWrite = 1, OpRead = 2, OpPoll = 3, OpWait = 4, OpDelay = 5, OpReset = 6, OpFail = 7
  } op_e;

  localparam logic [31:0] InfoTimeout = 32'd8;
  localparam logic [31:0] InfoUnitError = 32'd9;
  localparam logic [31:0] InfoNoAnswer = 32'd10;

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

  assign m_axil_bready = 1'b1;
  assign m_axil_rready = 1'b1;

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
      m_axil_awvalid <= 1'b0;
      m_axil_wvalid <= 1'b0;
      m_axil_arvalid <= 1'b0;
    end else begin
      restart_o <= 1'b0;
      cycle_q <= cycle_q + 32'd1;
      count_q <= count_q + 32'd1;
      access_q <= access_q + 32'd1;
      if (m_axil_awready) m_axil_awvalid <= 1'b0;
      if (m_axil_wready) m_axil_wvalid <= 1'b0;
      if (m_axil_arready) m_axil_arvalid <= 1'b0;

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
              m_axil_awaddr <= ops[op_base+1][15:0];
              m_axil_wdata <= ops[op_base+2];
              m_axil_awvalid <= 1'b1;
              m_axil_wvalid <= 1'b1;
              state_q <= StWrite;
            end
            OpRead, OpPoll: begin
              m_axil_araddr <= ops[op_base+1][15:0];
              m_axil_arvalid <= 1'b1;
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
          if (m_axil_bvalid) begin
            results[result_base+1] <= 32'(m_axil_bresp);
            results[result_base+2] <= cycle_q;
            op_q <= op_q + 32'd1;
            state_q <= StFetch;
          end
        end

        StRead: begin
          if (m_axil_rvalid) begin
            access_q <= '0;
            if (code_q == OpWait) begin
              results[result_base] <= a_q;
              results[result_base+2] <= cycle_q;
              if ((m_axil_rdata & c_q) != '0) begin
                results[result_base+1] <= InfoUnitError;
                op_q <= op_q + 32'd1;
                state_q <= StFetch;
              end else begin
                if (m_axil_rdata != '0) a_q[unit_q[4:0]] <= 1'b0;
                state_q <= StWait;
              end
            end else begin
              results[result_base] <= m_axil_rdata;
              results[result_base+1] <= 32'(m_axil_rresp);
              results[result_base+2] <= cycle_q;
              if (code_q == OpPoll && (m_axil_rdata & b_q) != c_q && count_q < d_q) begin
                m_axil_arvalid <= 1'b1;
              end else begin
                if (code_q == OpPoll && (m_axil_rdata & b_q) != c_q) results[result_base+1] <= InfoTimeout;
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
            m_axil_araddr <= 16'(unit_d * UnitBytes + b_q);
            m_axil_arvalid <= 1'b1;
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
        m_axil_awvalid <= 1'b0;
        m_axil_wvalid <= 1'b0;
        m_axil_arvalid <= 1'b0;
        wake_o <= !wake_o;
        state_q <= StIdle;
      end
    end
  end

  NoFailureWasAskedFor : assert property (@(posedge clk_i) disable iff (!rst_ni) !fail_q)
  else $error("The operation FAIL has broken this assertion on purpose.");

  if (NumUnits > 32) begin : gen_UnitsFitAWord
    $fatal(1, "tb_host: at most 32 units");
  end
endmodule
