# SPDX-License-Identifier: Apache-2.0
"""The mutants need slang, which has no wheel for Python 3.10: there is nothing to test there."""

from __future__ import annotations

import sys

collect_ignore_glob = [] if sys.version_info >= (3, 11) else ["test_*.py"]
