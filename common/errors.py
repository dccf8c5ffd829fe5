# SPDX-License-Identifier: Apache-2.0
"""The one error family of npuloop. A message names the file or layer, the fault and the fix."""

from collections.abc import Sequence


class NpuloopError(Exception):
    """Base of every error that npuloop raises on purpose."""


MAX_REASONS = 12
"""Reasons that one message lists."""


def together(reasons: Sequence[str], where: str) -> str:
    """Return one message of several reasons: the only one as it is, more as a list, cut where it is long."""
    if len(reasons) == 1:
        return reasons[0]
    lines = [f"{where}: {len(reasons)} reasons", *reasons[:MAX_REASONS]]
    if len(reasons) > MAX_REASONS:
        lines.append(f"and {len(reasons) - MAX_REASONS} more")
    return "\n  - ".join(lines)


class LayerFileError(NpuloopError):
    """A layer file is missing, damaged, or says something that the layer file format does not allow."""


class UnsupportedError(NpuloopError):
    """An operator, option or width that npuloop does not implement. Nothing is ever silently approximated."""


class ArithmeticRangeError(NpuloopError):
    """A number is outside the range in which the arithmetic is defined."""


class ShapeError(NpuloopError):
    """Arrays whose ranks, shapes or element types do not fit each other."""


class NetworkError(NpuloopError):
    """A quantised network, or a file of one, that is damaged or contradicts itself."""


class ModelFileError(NpuloopError):
    """A model file of another tool (`.tflite`) that is missing, damaged, or contradicts itself."""


class TestbenchError(NpuloopError):
    """Something around the simulated hardware is wrong; the message says what and how to fix it."""

    __test__ = False  # not a test class, whatever its name says to pytest


class ConfigError(NpuloopError):
    """A hardware configuration that cannot be built."""


class GatesError(NpuloopError):
    """A tool, a cell library or a netlist is missing, damaged, or does not fit what is asked of it."""
