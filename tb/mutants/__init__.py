# SPDX-License-Identifier: Apache-2.0
"""Mutation testing of the RTL: small faults are put into a copy of it, and the tests must see each.

`source` reads a design, `operators` says which faults a piece of it can have, `generate` lists all faults of
the design, `instrument` writes a copy that holds a draw of them, one of which is chosen when a simulation
starts. `plan` says which tests look at a module first, `pool` runs them, `campaign` runs a draw, `results`
keeps what came out, and `equivalents` knows the faults that no test can see. `make mutants` starts it.
"""
