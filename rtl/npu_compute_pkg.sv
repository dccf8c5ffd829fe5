// SPDX-License-Identifier: Apache-2.0
/// What travels inside the compute engine.
package npu_compute_pkg;
  import npu_pkg::*;

  localparam int unsigned AccBits = 32;    // an accumulator, a bias, a multiplier
  localparam int unsigned PixelBits = 8;   // number of a pixel in its stripe
  localparam int unsigned MaxPartBits = 4; // number of a channel block in a word of the activation scratchpad, at most
  localparam int unsigned MaxTaps = 16;    // kernel columns in a depthwise cycle, at most

  /// One cycle of work, from address generation to the accumulators.
  typedef struct packed {
    logic                     read;         // read a word of the activation scratchpad
    logic [31:0]              addr;         // its address, in words of ROWS bytes (checked where it is used)
    logic                     pad;          // the operand is the pad value
    logic                     fire;         // an output pixel gets a contribution (else the word only slides in)
    logic [PixelBits-1:0]     pixel;        // in the stripe
    logic                     first;        // the pixel's first contribution: it replaces what the accumulator holds
    logic                     pass_first;   // first cycle of a pass: a new weight tile takes effect
    logic                     pass_last;    // last cycle of a pass
    logic                     stripe_first; // first cycle of a stripe
    logic                     stripe_last;  // last cycle of a stripe
    logic                     bank;         // accumulator bank
    logic [MaxPartBits-1:0]   part;         // vector operators: which 16 channels of the word
    logic                     phase;        // addition: second input
    logic [MaxTaps-1:0]       tap_mask;     // depthwise: columns in use
    logic [MaxTaps-1:0]       tap_pad;      // depthwise: columns whose tap lies in the padding
    logic [SizeBits-1:0]      useful_rows;  // of the MACs in this cycle, those that the network asked for
    logic [SizeBits-1:0]      useful_cols;
  } beat_t;

  /// Where an addition's operand goes in the accumulators.
  typedef struct packed {
    logic                 stripe_last;
    logic                 bank;
    logic                 first;
    logic [PixelBits-1:0] pixel;
  } place_t;

  /// One stripe to requantise and write out.
  typedef struct packed {
    logic [LocalAddrBits-1:0] out_addr;    // first pixel, first group, in words of ROWS bytes
    logic [MaxPartBits-1:0]   out_part;    // first group's 16 channels in the word
    logic [SizeBits-1:0]      out_plane;   // words from one plane to the next
    logic [7:0]               groups;      // groups of 16 channels
    logic [LocalAddrBits-1:0] param_addr;  // first group's parameters, in 16-byte words
    logic                     reuse;       // one group, the same as that of the stripe before
    logic [PixelBits-1:0]     pixels;
    logic                     bank;
    logic                     keep;        // leave the sums where they are, write nothing
    logic                     last;        // of the command
    logic                     single;      // requantisation rounds once
    logic [7:0]               zero_point;
    logic [7:0]               act_min;
    logic [7:0]               act_max;
  } stripe_t;
endpackage
