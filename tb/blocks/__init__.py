# SPDX-License-Identifier: Apache-2.0
"""Benches of single blocks: cocotb tests against golden models, collected by pytest, one module per block."""
