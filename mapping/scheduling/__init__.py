# SPDX-License-Identifier: Apache-2.0
"""Which network runs when, on which unit: requests that arrive, policies, predicted times and energies."""
