# SPDX-License-Identifier: Apache-2.0
"""Energy: how often things happen in a unit, what each takes, and what a network takes."""
