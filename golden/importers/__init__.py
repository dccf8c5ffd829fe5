# SPDX-License-Identifier: Apache-2.0
"""Networks of other tools become quantised networks: TensorFlow Lite."""
