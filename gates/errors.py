"""The error of everything that works on cells and netlists."""

from golden.errors import NpuloopError


class GatesError(NpuloopError):
    """A tool, a cell library or a netlist is missing, damaged, or does not fit what is asked of it."""
