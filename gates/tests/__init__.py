# SPDX-License-Identifier: Apache-2.0
"""Tests of cells, netlists and gate-level simulation."""
