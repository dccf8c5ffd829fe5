// SPDX-License-Identifier: Apache-2.0
/// npu_regs with an AXI4-Lite port as cocotbext-axi expects it. `values_i` is what the core gives to its read-only registers, at
/// the bit position that equals eight times the register's address.
module tb_regs (
  input  logic           clk_i,
  input  logic           rst_ni,
  input  logic [1215:0] values_i,
  input  logic [    1:0] irq_set_i,        // done, error
  output logic [    1:0] irq_status_o,
  output logic [    1:0] irq_enable_o,
  output logic           start_o,
  output logic           soft_reset_o,
  output logic [   31:0] cmd_address_o,
  output logic [   31:0] cmd_count_o,
  input  logic [    7:0] s_axil_awaddr,
  input  logic [    2:0] s_axil_awprot,
  input  logic           s_axil_awvalid,
  output logic           s_axil_awready,
  input  logic [   31:0] s_axil_wdata,
  input  logic [    3:0] s_axil_wstrb,
  input  logic           s_axil_wvalid,
  output logic           s_axil_wready,
  output logic [    1:0] s_axil_bresp,
  output logic           s_axil_bvalid,
  input  logic           s_axil_bready,
  input  logic [    7:0] s_axil_araddr,
  input  logic [    2:0] s_axil_arprot,
  input  logic           s_axil_arvalid,
  output logic           s_axil_arready,
  output logic [   31:0] s_axil_rdata,
  output logic [    1:0] s_axil_rresp,
  output logic           s_axil_rvalid,
  input  logic           s_axil_rready
);
  npu_regs_pkg::npu_regs__in_t hwif_in;
  npu_regs_pkg::npu_regs__out_t hwif_out;

  always_comb begin
    hwif_in.id.version.next = values_i[0+:16];
    hwif_in.id.magic.next = values_i[16+:16];
    hwif_in.config_array.a_bits.next = values_i[32+:4];
    hwif_in.config_array.w_bits.next = values_i[36+:4];
    hwif_in.config_array.rows.next = values_i[40+:12];
    hwif_in.config_array.cols.next = values_i[52+:12];
    hwif_in.config_memory.act_kib.next = values_i[64+:12];
    hwif_in.config_memory.weight_kib.next = values_i[76+:12];
    hwif_in.config_memory.param_kib.next = values_i[88+:8];
    hwif_in.config_pipeline.stripe_depth.next = values_i[96+:10];
    hwif_in.config_pipeline.lanes.next = values_i[106+:6];
    hwif_in.config_pipeline.dw_taps.next = values_i[112+:6];
    hwif_in.config_pipeline.axi_bits.next = values_i[118+:10];
    hwif_in.status.busy.next = values_i[160];
    hwif_in.status.done.next = values_i[161];
    hwif_in.status.error.next = values_i[162];
    hwif_in.status.stopping.next = values_i[163];
    hwif_in.error_cause.cause.next = values_i[320+:8];
    hwif_in.error_cause.engine.next = values_i[328+:2];
    hwif_in.error_command.index.next = values_i[352+:32];
    hwif_in.diag_load.state.next = values_i[384+:3];
    hwif_in.diag_load.tokens.next = values_i[387+:3];
    hwif_in.diag_load.on_event.next = values_i[390];
    hwif_in.diag_load.event_id.next = values_i[391+:8];
    hwif_in.diag_load.command.next = values_i[399+:17];
    hwif_in.diag_compute.state.next = values_i[416+:3];
    hwif_in.diag_compute.tokens.next = values_i[419+:3];
    hwif_in.diag_compute.on_event.next = values_i[422];
    hwif_in.diag_compute.event_id.next = values_i[423+:8];
    hwif_in.diag_compute.command.next = values_i[431+:17];
    hwif_in.diag_store.state.next = values_i[448+:3];
    hwif_in.diag_store.tokens.next = values_i[451+:3];
    hwif_in.diag_store.on_event.next = values_i[454];
    hwif_in.diag_store.event_id.next = values_i[455+:8];
    hwif_in.diag_store.command.next = values_i[463+:17];
    hwif_in.diag_fetch.dispatched.next = values_i[480+:31];
    hwif_in.diag_fetch.blocked.next = values_i[511];
    hwif_in.cycles.value.next = values_i[512+:32];
    hwif_in.load_run.value.next = values_i[544+:32];
    hwif_in.load_wait_token.value.next = values_i[576+:32];
    hwif_in.load_wait_memory.value.next = values_i[608+:32];
    hwif_in.load_idle.value.next = values_i[640+:32];
    hwif_in.compute_run.value.next = values_i[672+:32];
    hwif_in.compute_wait_token.value.next = values_i[704+:32];
    hwif_in.compute_wait_memory.value.next = values_i[736+:32];
    hwif_in.compute_wait_drain.value.next = values_i[768+:32];
    hwif_in.compute_idle.value.next = values_i[800+:32];
    hwif_in.store_run.value.next = values_i[832+:32];
    hwif_in.store_wait_token.value.next = values_i[864+:32];
    hwif_in.store_wait_memory.value.next = values_i[896+:32];
    hwif_in.store_idle.value.next = values_i[928+:32];
    hwif_in.read_beats.value.next = values_i[960+:32];
    hwif_in.write_beats.value.next = values_i[992+:32];
    hwif_in.array_first.value.next = values_i[1024+:32];
    hwif_in.array_last.value.next = values_i[1056+:32];
    hwif_in.macs_useful.low.value.next = values_i[1088+:32];
    hwif_in.macs_useful.high.value.next = values_i[1120+:32];
    hwif_in.macs_offered.low.value.next = values_i[1152+:32];
    hwif_in.macs_offered.high.value.next = values_i[1184+:32];
    hwif_in.irq_status.done.hwset  = irq_set_i[0];
    hwif_in.irq_status.error.hwset = irq_set_i[1];
  end

  assign irq_status_o  = {hwif_out.irq_status.error.value, hwif_out.irq_status.done.value};
  assign irq_enable_o  = {hwif_out.irq_enable.error.value, hwif_out.irq_enable.done.value};
  assign start_o       = hwif_out.ctrl.start.value;
  assign soft_reset_o  = hwif_out.ctrl.soft_reset.value;
  assign cmd_address_o = hwif_out.cmd_address.address.value;
  assign cmd_count_o   = hwif_out.cmd_count.count.value;

  npu_regs i_regs (
    .clk   (clk_i),
    .arst_n(rst_ni),
    .*
  );
endmodule
