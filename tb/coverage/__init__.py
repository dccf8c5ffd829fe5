# SPDX-License-Identifier: Apache-2.0
"""Coverage: which lines, branches and signals of the RTL the tests reach, and how much of a plan.

`python -m tb.coverage` runs the tests with collection on and reports; `plan.yaml` is the functional plan,
`exclusions.yaml` says which lines, branches and toggles cannot be reached and why.
"""
