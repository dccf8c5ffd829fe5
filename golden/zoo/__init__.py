# SPDX-License-Identifier: Apache-2.0
"""Networks that come with the project: the digits networks, and float networks of the field."""
