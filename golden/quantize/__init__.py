# SPDX-License-Identifier: Apache-2.0
"""From PyTorch modules to quantised networks: tracing, ranges, weights, training."""
