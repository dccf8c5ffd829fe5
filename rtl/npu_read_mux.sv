/// Joins the read channels of the fetch unit (index 0) and the load engine (index 1) on one AXI read port.
///
/// Fetch goes first; a request that is on the port stays until it is taken. Data is routed by its ID, which is the index.
module npu_read_mux #(
  parameter int unsigned AxiDataBits = 128
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  // requesters
  input  logic [1:0]             ar_valid_i,
  output logic [1:0]             ar_ready_o,
  input  logic [1:0][31:0]       ar_addr_i,
  input  logic [1:0][7:0]        ar_len_i,
  output logic [1:0]             r_valid_o,
  input  logic [1:0]             r_ready_i,
  output logic [AxiDataBits-1:0] r_data_o,
  output logic [1:0]             r_resp_o,
  output logic                   r_last_o,
  // port
  output logic                   m_ar_valid_o,
  input  logic                   m_ar_ready_i,
  output logic [1:0]             m_ar_id_o,
  output logic [31:0]            m_ar_addr_o,
  output logic [7:0]             m_ar_len_o,
  input  logic                   m_r_valid_i,
  output logic                   m_r_ready_o,
  input  logic [1:0]             m_r_id_i,
  input  logic [AxiDataBits-1:0] m_r_data_i,
  input  logic [1:0]             m_r_resp_i,
  input  logic                   m_r_last_i
);
  logic select, locked_q, select_q;

  assign select = locked_q ? select_q : !ar_valid_i[0];

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      locked_q <= 1'b0;
      select_q <= 1'b0;
    end else begin
      locked_q <= m_ar_valid_o && !m_ar_ready_i;
      select_q <= select;
    end
  end

  assign m_ar_valid_o = ar_valid_i[select];
  assign m_ar_id_o    = {1'b0, select};
  assign m_ar_addr_o  = ar_addr_i[select];
  assign m_ar_len_o   = ar_len_i[select];
  assign ar_ready_o   = {m_ar_ready_i && select, m_ar_ready_i && !select};

  // not by ID: no path from the port's inputs to its outputs; the requesters' ready does not wait for their valid
  assign m_r_ready_o  = r_ready_i == '1;
  assign r_valid_o    = {m_r_valid_i && m_r_ready_o && m_r_id_i[0], m_r_valid_i && m_r_ready_o && !m_r_id_i[0]};
  assign r_data_o     = m_r_data_i;
  assign r_resp_o     = m_r_resp_i;
  assign r_last_o     = m_r_last_i;

  // Data comes back under the IDs that were sent.
  assert property (@(posedge clk_i) disable iff (!rst_ni) m_r_valid_i |-> !m_r_id_i[1]);
endmodule
