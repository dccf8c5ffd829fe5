// SPDX-License-Identifier: Apache-2.0
/// npu_core with flat ports; the parameters are the core's configuration.
module tb_core
  import npu_pkg::*;
  import npu_axi_pkg::*;
  import npu_core_pkg::*;
#(
  parameter int unsigned ABits       = 8,
  parameter int unsigned WBits       = 8,
  parameter int unsigned Rows        = 16,
  parameter int unsigned Cols        = 16,
  parameter int unsigned StripeDepth = 64,
  parameter int unsigned Lanes       = 16,
  parameter int unsigned DwTaps      = 5,
  parameter int unsigned ActKib      = 4,
  parameter int unsigned WeightKib   = 4,
  parameter int unsigned ParamKib    = 2,
  parameter int unsigned AxiDataBits = 128,
  parameter int unsigned Events      = 16
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic [              7:0] s_axil_awaddr,
  input  logic [              2:0] s_axil_awprot,
  input  logic                     s_axil_awvalid,
  output logic                     s_axil_awready,
  input  logic [             31:0] s_axil_wdata,
  input  logic [              3:0] s_axil_wstrb,
  input  logic                     s_axil_wvalid,
  output logic                     s_axil_wready,
  output logic [              1:0] s_axil_bresp,
  output logic                     s_axil_bvalid,
  input  logic                     s_axil_bready,
  input  logic [              7:0] s_axil_araddr,
  input  logic [              2:0] s_axil_arprot,
  input  logic                     s_axil_arvalid,
  output logic                     s_axil_arready,
  output logic [             31:0] s_axil_rdata,
  output logic [              1:0] s_axil_rresp,
  output logic                     s_axil_rvalid,
  input  logic                     s_axil_rready,
  output logic [              1:0] ar_id_o,
  output logic [             31:0] ar_addr_o,
  output logic [              7:0] ar_len_o,
  output logic                     ar_valid_o,
  input  logic                     ar_ready_i,
  input  logic [              1:0] r_id_i,
  input  logic [  AxiDataBits-1:0] r_data_i,
  input  logic [              1:0] r_resp_i,
  input  logic                     r_last_i,
  input  logic                     r_valid_i,
  output logic                     r_ready_o,
  output logic [              1:0] aw_id_o,
  output logic [             31:0] aw_addr_o,
  output logic [              7:0] aw_len_o,
  output logic                     aw_valid_o,
  input  logic                     aw_ready_i,
  output logic [  AxiDataBits-1:0] w_data_o,
  output logic [AxiDataBits/8-1:0] w_strb_o,
  output logic                     w_last_o,
  output logic                     w_valid_o,
  input  logic                     w_ready_i,
  input  logic [              1:0] b_resp_i,
  input  logic                     b_valid_i,
  output logic                     b_ready_o,
  output logic [              2:0] signal_valid_o,
  output logic [             23:0] signal_event_o,
  input  logic [              2:0] signal_ready_i,
  output logic [              2:0] wait_valid_o,
  output logic [             23:0] wait_event_o,
  output logic [             23:0] wait_amount_o,
  input  logic [              2:0] wait_grant_i,
  output logic                     busy_o,
  output logic                     soft_reset_o,
  output logic                     irq_o,
  // what goes on, in one vector
  output logic [             31:0] watch_o,
  output logic [             31:0] useful_macs_o
);
  localparam core_cfg_t Config = '{
    a_bits: ABits,
    w_bits: WBits,
    rows: Rows,
    cols: Cols,
    stripe_depth: StripeDepth,
    lanes: Lanes,
    dw_taps: DwTaps,
    act_kib: ActKib,
    weight_kib: WeightKib,
    param_kib: ParamKib,
    axi_bits: AxiDataBits
  };
  axi_read_req_t read_req;
  axi_read_rsp_t read_rsp;
  axi_write_req_t write_req;
  axi_write_rsp_t write_rsp;

  assign ar_id_o    = read_req.ar.id;
  assign ar_addr_o  = read_req.ar.addr;
  assign ar_len_o   = read_req.ar.len;
  assign ar_valid_o = read_req.ar_valid;
  assign r_ready_o  = read_req.r_ready;
  assign read_rsp   = '{
    ar_ready: ar_ready_i,
    r: '{id: r_id_i, data: AxiMaxDataBits'(r_data_i), resp: r_resp_i, last: r_last_i},
    r_valid: r_valid_i
  };
  assign aw_id_o    = write_req.aw.id;
  assign aw_addr_o  = write_req.aw.addr;
  assign aw_len_o   = write_req.aw.len;
  assign aw_valid_o = write_req.aw_valid;
  assign w_data_o   = write_req.w.data[AxiDataBits-1:0];
  assign w_strb_o   = write_req.w.strb[AxiDataBits/8-1:0];
  assign w_last_o   = write_req.w.last;
  assign w_valid_o  = write_req.w_valid;
  assign b_ready_o  = write_req.b_ready;
  assign write_rsp  = '{aw_ready: aw_ready_i, w_ready: w_ready_i, b_resp: b_resp_i, b_valid: b_valid_i};

  npu_core #(
    .Config(Config),
    .Events(Events)
  ) i_core (
    .axi_read_req_o (read_req),
    .axi_read_rsp_i (read_rsp),
    .axi_write_req_o(write_req),
    .axi_write_rsp_i(write_rsp),
    .*
  );

  assign useful_macs_o = i_core.useful_macs;
  assign watch_o       = {
    7'd0,
    i_core.engine_state[2],
    i_core.engine_state[1],
    i_core.engine_state[0],
    signal_valid_o,
    wait_valid_o,
    ar_valid_o && ar_ready_i,
    r_valid_i && r_ready_o,
    aw_valid_o && aw_ready_i,
    w_valid_o && w_ready_i,
    i_core.run,
    i_core.mac_cycle,
    i_core.mac_beat,
    soft_reset_o,
    busy_o,
    irq_o
  };

  ReadRequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      ar_valid_o && !ar_ready_i |=> ar_valid_o && $stable(ar_addr_o) && $stable(ar_len_o) && $stable(ar_id_o))
  else $error("A request stays as it is until it is taken (AXI4 A3.2.1).");

  WriteRequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      aw_valid_o && !aw_ready_i |=> aw_valid_o && $stable(aw_addr_o) && $stable(aw_len_o))
  else $error("A request stays as it is until it is taken (AXI4 A3.2.1).");

  BeatStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      w_valid_o && !w_ready_i |=> w_valid_o && $stable(w_data_o) && $stable(w_strb_o) && $stable(w_last_o))
  else $error("A beat stays as it is until it is taken (AXI4 A3.2.1).");
endmodule
