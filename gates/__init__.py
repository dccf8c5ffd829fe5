# SPDX-License-Identifier: Apache-2.0
"""Cells, netlists and gate-level simulation: what a block costs in area and energy."""
