# SPDX-License-Identifier: Apache-2.0
"""Opens a network by its file: a `.tflite` model, a network file, or one that npuloop brings along."""

from pathlib import Path

from common.errors import ModelFileError
from golden.importers.tflite import load_tflite
from golden.network import Network
from golden.network_file import load_network
from golden.zoo.digits import VARIANTS, network_file
from golden.zoo.upscaled import names, upscaled_file

READERS = {".tflite": load_tflite, ".npz": load_network}
BUNDLED = {f"digits_{variant}": network_file(variant) for variant in VARIANTS} | {
    f"digits_{network}_{variant}": upscaled_file(network, variant) for network, variant in names()
}
"""Network files that come with npuloop, by the names that stand for them."""


def load_model(path: str | Path) -> Network:
    """Read a model by its file name's ending, or one of BUNDLED by its name.

    Raises:
        ModelFileError: another ending; see `load_tflite` and `load_network`.
    """
    path = BUNDLED.get(str(path), Path(path))
    if path.suffix not in READERS:
        raise ModelFileError(
            f"{path}: a model is an int8 .tflite file or a network file (.npz), and this name ends in "
            f"{path.suffix!r}; npuloop brings {', '.join(BUNDLED)}"
        )
    return READERS[path.suffix](path)
