"""Opens a network whatever its file is: a `.tflite` model or a network file."""

from pathlib import Path

from common.errors import ModelFileError
from golden.importers.tflite import load_tflite
from golden.network import Network
from golden.network_file import load_network

MODEL_FILES = "a model is an int8 .tflite file or a network file (.npz)"
READERS = {".tflite": load_tflite, ".npz": load_network}


def load_model(path: str | Path) -> Network:
    """Read a model by its file name's ending.

    Raises:
        ModelFileError: another ending; see `load_tflite` and `load_network`.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise ModelFileError(f"{path}: {MODEL_FILES}, and this name ends in {path.suffix!r}")
    return READERS[path.suffix](path)
