# SPDX-License-Identifier: Apache-2.0
"""The hardware as software sees it: cores, systems, commands, registers, tensor layout, memory, RTL files."""
