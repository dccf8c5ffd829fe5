# SPDX-License-Identifier: Apache-2.0
"""A network and an assignment of its channels become command lists and a memory image."""
