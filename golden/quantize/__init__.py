"""From PyTorch modules to quantised networks: tracing, ranges, weights, training."""
