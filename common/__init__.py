# SPDX-License-Identifier: Apache-2.0
"""What every room needs: errors, files, folders, workers."""
