"""U^2-Net-p (Qin et al. 2020, "U2-Net: Going deeper with nested U-structure for salient object detection").

The weights are `u2netp` of `models/weights.txt`; onnxruntime runs them on the CPU.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.weights import listed

WEIGHTS = "u2netp"
EXTERNAL = f"weights:{WEIGHTS}"
"""The name under which a method asks for the weights."""
EDGE_PX = 320
"""Edge of the square picture that the network reads."""
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

Picture = npt.NDArray[np.uint8]
SoftMask = npt.NDArray[np.float32]


@cache
def is_installed() -> bool:
    """Whether this machine has the package that carries the weights. Its bytes are checked where they are read."""
    weights = listed()[WEIGHTS]
    try:
        return importlib.metadata.version(weights.package) == weights.version
    except importlib.metadata.PackageNotFoundError:
        return False


class U2Net:
    """The network, ready to run. Equal pictures give equal masks, however many threads there are."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Read the network at `path`; takes 0.1 s and 60 MB."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads)
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input: str = self._session.get_inputs()[0].name
        self._output: str = self._session.get_outputs()[0].name

    def __call__(self, picture: Picture) -> SoftMask:
        """How much each part of a picture stands out.

        Args:
            picture: [H, W, 3] sRGB of any size.

        Returns:
            [320, 320] in [0, 1] over the whole picture, its least value 0 and its greatest 1.
        """
        square = Image.fromarray(picture).resize((EDGE_PX, EDGE_PX), Image.Resampling.LANCZOS)
        x = np.asarray(square, dtype=np.float32)
        x = (x / max(float(x.max()), 1e-6) - _MEAN) / _DEVIATION
        (found,) = self._session.run([self._output], {self._input: x.transpose(2, 0, 1)[None]})
        y = np.asarray(found, dtype=np.float32)[0, 0]
        return np.asarray((y - y.min()) / max(float(y.max() - y.min()), 1e-8), dtype=np.float32)
