# SPDX-License-Identifier: Apache-2.0
"""Layers and networks run in RTL, every value compared with the golden model."""
