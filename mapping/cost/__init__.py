# SPDX-License-Identifier: Apache-2.0
"""The cost model: cycles of a layer's shape on a unit, without compiling or simulating it."""
