# SPDX-License-Identifier: Apache-2.0
"""Everything that decides where a layer runs and predicts what that takes, and runs it in RTL."""
