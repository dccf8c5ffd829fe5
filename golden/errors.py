"""The one error family of npuloop. A message names the file or layer, the fault and the fix."""


class NpuloopError(Exception):
    """Base of every error that npuloop raises on purpose."""


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
