// SPDX-License-Identifier: Apache-2.0
/// AXI4 inside npu_soc: a request is what a master drives, a response what it gets back; reads and writes are apart.
///
/// Bursts are INCR and as wide as the port; their size and type are added at the port of npu_soc. Data has room for the widest
/// port: a narrower one uses the low bits, and the bits above are 0 in requests and ignored in responses.
package npu_axi_pkg;
  localparam int unsigned AxiAddrBits = 32;
  localparam int unsigned AxiCoreIdBits = 2;                      // of a core
  localparam int unsigned AxiLenBits = 8;
  localparam int unsigned AxiRespBits = 2;
  localparam int unsigned AxiMaxDataBits = 128;                   // of the widest port
  localparam int unsigned AxiMaxStrbBits = AxiMaxDataBits / 8;
  localparam int unsigned AxiMaxBeats = 16;                       // of a burst
  localparam int unsigned AxiPageBytes = 4096;                    // no burst crosses a page (AXI4, A3.4.1)

  /// Address of a burst, of either kind.
  typedef struct packed {
    logic [AxiCoreIdBits-1:0] id;
    logic [AxiAddrBits-1:0]   addr;
    logic [AxiLenBits-1:0]    len;  // beats - 1
  } axi_address_t;

  /// A beat of write data.
  typedef struct packed {
    logic [AxiMaxStrbBits-1:0] strb;
    logic                      last;
    logic [AxiMaxDataBits-1:0] data;
  } axi_write_data_t;

  /// A beat of read data.
  typedef struct packed {
    logic [AxiCoreIdBits-1:0]  id;
    logic [AxiRespBits-1:0]    resp;
    logic                      last;
    logic [AxiMaxDataBits-1:0] data;
  } axi_read_data_t;

  typedef struct packed {
    axi_address_t ar;
    logic         ar_valid;
    logic         r_ready;
  } axi_read_req_t;

  typedef struct packed {
    logic           ar_ready;
    logic           r_valid;
    axi_read_data_t r;
  } axi_read_rsp_t;

  typedef struct packed {
    axi_address_t    aw;
    logic            aw_valid;
    logic            w_valid;
    logic            b_ready;
    axi_write_data_t w;
  } axi_write_req_t;

  typedef struct packed {
    logic                   aw_ready;
    logic                   w_ready;
    logic [AxiRespBits-1:0] b_resp;
    logic                   b_valid;
  } axi_write_rsp_t;
endpackage
