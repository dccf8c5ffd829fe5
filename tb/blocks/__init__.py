"""Benches of single blocks: cocotb tests against golden models, collected by pytest, one module per block."""
