# SPDX-License-Identifier: Apache-2.0
"""Bit-accurate models of what the NPUs compute: arithmetic, operators and networks.

The package knows no hardware: nothing here depends on cycles, registers or a memory map. Every result is
exact integer arithmetic (see docs/reference/arithmetic.md), so every comparison against it has tolerance
zero.
"""
