// SPDX-License-Identifier: Apache-2.0
/// Any list of NPU cores on one memory port.
///
/// Registers of core i start at byte 0x400 * i of the AXI4-Lite port. The cores share the AXI4 memory port round robin
/// and a set of event counters (SIGNAL and WAIT). The counters are cleared by reset and by a soft reset of a core while all other
/// cores are ready. The clock of a core that has nothing to do stands still (npu_core_clock).
module npu_soc
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned NumCores = 2,
  // default: an 8-bit core (index 0) and a ternary one
  parameter core_cfg_t [NumCores-1:0] Cores = {
    core_cfg_t'{a_bits: 8, w_bits: 2, rows: 32, cols: 32, stripe_depth: 16, lanes: 16, dw_taps: 5,
                act_kib: 64, weight_kib: 16, param_kib: 4, axi_bits: 128},
    core_cfg_t'{a_bits: 8, w_bits: 8, rows: 16, cols: 16, stripe_depth: 32, lanes: 16, dw_taps: 5,
                act_kib: 64, weight_kib: 32, param_kib: 4, axi_bits: 128}
  },
  parameter int unsigned AxiDataBits = 128,   // of every core
  parameter int unsigned AxiIdBits   = AxiCoreIdBits + (NumCores > 1 ? $clog2(NumCores) : 1),
  parameter int unsigned Events      = 16,    // event counters
  parameter bit          Structural  = 1'b0,  // array, accumulators and requantiser in the form that is synthesised
  parameter bit          ClockGates  = 1'b1   // clocks of cores that have nothing to do stand still
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  // registers
  input  logic [15:0]              s_axil_awaddr,
  input  logic [2:0]               s_axil_awprot,
  input  logic                     s_axil_awvalid,
  output logic                     s_axil_awready,
  input  logic [31:0]              s_axil_wdata,
  input  logic [3:0]               s_axil_wstrb,
  input  logic                     s_axil_wvalid,
  output logic                     s_axil_wready,
  output logic [1:0]               s_axil_bresp,
  output logic                     s_axil_bvalid,
  input  logic                     s_axil_bready,
  input  logic [15:0]              s_axil_araddr,
  input  logic [2:0]               s_axil_arprot,
  input  logic                     s_axil_arvalid,
  output logic                     s_axil_arready,
  output logic [31:0]              s_axil_rdata,
  output logic [1:0]               s_axil_rresp,
  output logic                     s_axil_rvalid,
  input  logic                     s_axil_rready,
  // memory
  output logic [AxiIdBits-1:0]     m_axi_awid,
  output logic [31:0]              m_axi_awaddr,
  output logic [7:0]               m_axi_awlen,
  output logic [2:0]               m_axi_awsize,
  output logic [1:0]               m_axi_awburst,
  output logic                     m_axi_awvalid,
  input  logic                     m_axi_awready,
  output logic [AxiDataBits-1:0]   m_axi_wdata,
  output logic [AxiDataBits/8-1:0] m_axi_wstrb,
  output logic                     m_axi_wlast,
  output logic                     m_axi_wvalid,
  input  logic                     m_axi_wready,
  input  logic [AxiIdBits-1:0]     m_axi_bid,
  input  logic [1:0]               m_axi_bresp,
  input  logic                     m_axi_bvalid,
  output logic                     m_axi_bready,
  output logic [AxiIdBits-1:0]     m_axi_arid,
  output logic [31:0]              m_axi_araddr,
  output logic [7:0]               m_axi_arlen,
  output logic [2:0]               m_axi_arsize,
  output logic [1:0]               m_axi_arburst,
  output logic                     m_axi_arvalid,
  input  logic                     m_axi_arready,
  input  logic [AxiIdBits-1:0]     m_axi_rid,
  input  logic [AxiDataBits-1:0]   m_axi_rdata,
  input  logic [1:0]               m_axi_rresp,
  input  logic                     m_axi_rlast,
  input  logic                     m_axi_rvalid,
  output logic                     m_axi_rready,
  // interrupts, by core
  output logic [NumCores-1:0]      irq_o
);
  localparam int unsigned WindowBits = 10;

  // ---------------------------------------------------------------- registers
  logic [15:0] axil_awaddr, axil_araddr;
  logic [31:0] axil_wdata;
  logic [3:0] axil_wstrb;
  logic [NumCores-1:0] axil_awvalid, axil_awready, axil_wvalid, axil_wready, axil_bvalid, axil_bready;
  logic [NumCores-1:0] axil_arvalid, axil_arready, axil_rvalid, axil_rready;
  logic [NumCores-1:0][1:0] axil_bresp, axil_rresp;
  logic [NumCores-1:0][31:0] axil_rdata;

  npu_axil_demux #(
    .Ports     (NumCores),
    .WindowBits(WindowBits)
  ) i_registers (
    .clk_i,
    .rst_ni,
    .s_axil_awaddr,
    .s_axil_awvalid,
    .s_axil_awready,
    .s_axil_wdata,
    .s_axil_wstrb,
    .s_axil_wvalid,
    .s_axil_wready,
    .s_axil_bresp,
    .s_axil_bvalid,
    .s_axil_bready,
    .s_axil_araddr,
    .s_axil_arvalid,
    .s_axil_arready,
    .s_axil_rdata,
    .s_axil_rresp,
    .s_axil_rvalid,
    .s_axil_rready,
    .m_axil_awaddr (axil_awaddr),
    .m_axil_awvalid(axil_awvalid),
    .m_axil_awready(axil_awready),
    .m_axil_wdata  (axil_wdata),
    .m_axil_wstrb  (axil_wstrb),
    .m_axil_wvalid (axil_wvalid),
    .m_axil_wready (axil_wready),
    .m_axil_bresp  (axil_bresp),
    .m_axil_bvalid (axil_bvalid),
    .m_axil_bready (axil_bready),
    .m_axil_araddr (axil_araddr),
    .m_axil_arvalid(axil_arvalid),
    .m_axil_arready(axil_arready),
    .m_axil_rdata  (axil_rdata),
    .m_axil_rresp  (axil_rresp),
    .m_axil_rvalid (axil_rvalid),
    .m_axil_rready (axil_rready)
  );

  // ---------------------------------------------------------------- memory port
  axi_read_req_t core_read_req[NumCores];
  axi_read_rsp_t core_read_rsp[NumCores];
  axi_write_req_t core_write_req[NumCores];
  axi_write_rsp_t core_write_rsp[NumCores];

  assign m_axi_awsize  = 3'($clog2(AxiDataBits / 8));
  assign m_axi_arsize  = 3'($clog2(AxiDataBits / 8));
  assign m_axi_awburst = 2'b01;
  assign m_axi_arburst = 2'b01;

  npu_axi_arbiter #(
    .Ports   (NumCores),
    .DataBits(AxiDataBits)
  ) i_arbiter (
    .clk_i,
    .rst_ni,
    .core_read_req_i (core_read_req),
    .core_read_rsp_o (core_read_rsp),
    .core_write_req_i(core_write_req),
    .core_write_rsp_o(core_write_rsp),
    .m_axi_awid,
    .m_axi_awaddr,
    .m_axi_awlen,
    .m_axi_awvalid,
    .m_axi_awready,
    .m_axi_wdata,
    .m_axi_wstrb,
    .m_axi_wlast,
    .m_axi_wvalid,
    .m_axi_wready,
    .m_axi_bid,
    .m_axi_bresp,
    .m_axi_bvalid,
    .m_axi_bready,
    .m_axi_arid,
    .m_axi_araddr,
    .m_axi_arlen,
    .m_axi_arvalid,
    .m_axi_arready,
    .m_axi_rid,
    .m_axi_rdata,
    .m_axi_rresp,
    .m_axi_rlast,
    .m_axi_rvalid,
    .m_axi_rready
  );

  // ---------------------------------------------------------------- events
  logic [NumCores*NumEngines-1:0] signal_valid, signal_ready, wait_valid, wait_grant;
  logic [NumCores*NumEngines-1:0][EventIdBits-1:0] signal_event, wait_event, wait_amount;
  logic [NumCores-1:0] busy, soft_reset;
  logic clear_events;

  always_comb begin
    // units that get ready in this very cycle no longer count as busy
    clear_events = soft_reset != '0 && (busy & ~soft_reset) == '0;
  end

  npu_events #(
    .Requesters(NumCores * NumEngines),
    .Events    (Events)
  ) i_events (
    .clk_i,
    .rst_ni,
    .clear_i       (clear_events),
    .signal_valid_i(signal_valid),
    .signal_event_i(signal_event),
    .signal_ready_o(signal_ready),
    .wait_valid_i  (wait_valid),
    .wait_event_i  (wait_event),
    .wait_amount_i (wait_amount),
    .wait_grant_o  (wait_grant)
  );

  // ---------------------------------------------------------------- cores
  for (genvar i = 0; i < NumCores; i++) begin : gen_core
    logic clk, access;
    assign access = axil_awvalid[i] || axil_wvalid[i] || axil_bvalid[i] || axil_arvalid[i] || axil_rvalid[i];

    npu_core_clock #(
      .FeedThrough(!ClockGates)
    ) i_clock (
      .clk_i,
      .rst_ni,
      .access_i(access),
      .busy_i  (busy[i]),
      .clk_o   (clk)
    );

    npu_core #(
      .Config    (Cores[i]),
      .Events    (Events),
      .Structural(Structural)
    ) i_core (
      .clk_i          (clk),
      .rst_ni,
      .s_axil_awaddr  (axil_awaddr[7:0]),
      .s_axil_awprot,
      .s_axil_awvalid (axil_awvalid[i]),
      .s_axil_awready (axil_awready[i]),
      .s_axil_wdata   (axil_wdata),
      .s_axil_wstrb   (axil_wstrb),
      .s_axil_wvalid  (axil_wvalid[i]),
      .s_axil_wready  (axil_wready[i]),
      .s_axil_bresp   (axil_bresp[i]),
      .s_axil_bvalid  (axil_bvalid[i]),
      .s_axil_bready  (axil_bready[i]),
      .s_axil_araddr  (axil_araddr[7:0]),
      .s_axil_arprot,
      .s_axil_arvalid (axil_arvalid[i]),
      .s_axil_arready (axil_arready[i]),
      .s_axil_rdata   (axil_rdata[i]),
      .s_axil_rresp   (axil_rresp[i]),
      .s_axil_rvalid  (axil_rvalid[i]),
      .s_axil_rready  (axil_rready[i]),
      .axi_read_req_o (core_read_req[i]),
      .axi_read_rsp_i (core_read_rsp[i]),
      .axi_write_req_o(core_write_req[i]),
      .axi_write_rsp_i(core_write_rsp[i]),
      .signal_valid_o (signal_valid[i*NumEngines+:NumEngines]),
      .signal_event_o (signal_event[i*NumEngines+:NumEngines]),
      .signal_ready_i (signal_ready[i*NumEngines+:NumEngines]),
      .wait_valid_o   (wait_valid[i*NumEngines+:NumEngines]),
      .wait_event_o   (wait_event[i*NumEngines+:NumEngines]),
      .wait_amount_o  (wait_amount[i*NumEngines+:NumEngines]),
      .wait_grant_i   (wait_grant[i*NumEngines+:NumEngines]),
      .busy_o         (busy[i]),
      .soft_reset_o   (soft_reset[i]),
      .irq_o          (irq_o[i])
    );

    NothingComesToASleepingCore : assert property (@(posedge clk_i) disable iff (!rst_ni)
        core_read_rsp[i].r_valid || core_write_rsp[i].b_valid |-> busy[i])
    else $error("Memory answers only a core whose clock runs.");

    if (Cores[i].axi_bits != AxiDataBits) begin : gen_CoreIsAsWideAsThePort
      $fatal(1, "npu_soc: axi_bits of every core must equal AxiDataBits");
    end
  end
endmodule
