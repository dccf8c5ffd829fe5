# SPDX-License-Identifier: Apache-2.0
"""Training-time mapping search: train a network while choosing which unit makes which channels."""
