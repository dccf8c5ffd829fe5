# SPDX-License-Identifier: Apache-2.0
"""Co-simulation: builds the simulator and runs jobs on it. Knows memory and commands, no networks."""
