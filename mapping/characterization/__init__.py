# SPDX-License-Identifier: Apache-2.0
"""Area and energy of cores from their gates."""
