/// What travels inside the compute engine.
package npu_compute_pkg;

  /// One cycle of work, from address generation to the accumulators.
  typedef struct packed {
    logic        read;         // read a word of the activation scratchpad
    logic [31:0] addr;         // its address, in words of ROWS bytes (checked where it is used)
    logic        pad;          // the operand is the pad value
    logic        fire;         // an output pixel gets a contribution (else the word only slides in)
    logic [7:0]  pixel;        // in the stripe
    logic        first;        // the pixel's first contribution: it replaces what the accumulator holds
    logic        pass_first;   // first cycle of a pass: a new weight tile takes effect
    logic        pass_last;    // last cycle of a pass
    logic        stripe_first; // first cycle of a stripe
    logic        stripe_last;  // last cycle of a stripe
    logic        bank;         // accumulator bank
    logic [3:0]  part;         // vector operators: which 16 channels of the word
    logic        phase;        // addition: second input
    logic [15:0] tap_mask;     // depthwise: columns in use
    logic [15:0] tap_pad;      // depthwise: columns whose tap lies in the padding
    logic [15:0] useful_rows;  // of the MACs in this cycle, those that the network asked for
    logic [15:0] useful_cols;
  } beat_t;

  /// One stripe to requantise and write out.
  typedef struct packed {
    logic [19:0] out_addr;    // first pixel, first group, in words of ROWS bytes
    logic [3:0]  out_part;    // first group's 16 channels in the word
    logic [15:0] out_plane;   // words from one plane to the next
    logic [7:0]  groups;      // groups of 16 channels
    logic [19:0] param_addr;  // first group's parameters, in 16-byte words
    logic        reuse;       // one group, the same as that of the stripe before
    logic [7:0]  pixels;
    logic        bank;
    logic        keep;        // leave the sums where they are, write nothing
    logic        last;        // of the command
    logic        single;      // requantisation rounds once
    logic [7:0]  zero_point;
    logic [7:0]  act_min;
    logic [7:0]  act_max;
  } stripe_t;
endpackage
