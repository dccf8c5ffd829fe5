# SPDX-License-Identifier: Apache-2.0
"""The measuring side of the cost model: shapes run in RTL, their cycles kept in a store."""
