# SPDX-License-Identifier: Apache-2.0
"""Proofs of properties of the RTL's blocks, with Yosys and z3; docs/explanation/proofs.md lists them."""
