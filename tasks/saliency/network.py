"""A learned network that finds what stands out, from an ONNX file; onnxruntime runs it on the CPU.

Pictures are resized to what the network reads, divided by their greatest value and normalised by channel; the first
output is taken, and spread from 0 to 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.errors import DigitizeError, ReasonCode

Picture = npt.NDArray[np.uint8]
SoftMask = npt.NDArray[np.float32]
Channels = tuple[float, float, float]

EDGE_PX = 320
"""Edge of the square picture for networks that read any size."""
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Channels = (0.229, 0.224, 0.225)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_WANTED_INPUT = "one input [1, 3, height, width] of float32 or float16"
_WANTED_OUTPUT = "a first output [1, 1, height, width]"


class Reading(NamedTuple):
    """How a picture is made ready for a network."""

    edge_px: int = EDGE_PX
    """Edge of the square picture, where the network leaves its size open."""
    mean: Channels = IMAGENET_MEAN
    """Of red, green and blue in [0, 1]."""
    deviation: Channels = IMAGENET_DEVIATION


class OnnxNetwork:
    """A network, ready to run. Equal pictures give equal masks, however many threads there are."""

    def __init__(self, path: Path, threads: int = 1, reading: Reading | None = None, where: str | None = None) -> None:
        """Read the network at `path`; `where` is what errors call the file.

        The whole network must lie in the one file: what lies beside it has no sha256 that anybody checked.

        Raises DigitizeError(network_invalid) for other files, and for networks with other inputs or outputs.
        """
        self._reading = reading = reading or Reading()
        self._where = where or str(path)
        self._session: Any = _session(path, threads, self._where)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not _fits(inputs[0].shape, 3) or inputs[0].type not in _TYPES:
            raise self._invalid(_WANTED_INPUT, ", ".join(map(_described, inputs)) or "none")
        if not outputs or not _fits(outputs[0].shape, 1):
            raise self._invalid(_WANTED_OUTPUT, _described(outputs[0]) if outputs else "none")
        self._input: str = inputs[0].name
        self._output: str = outputs[0].name
        self._type = _TYPES[inputs[0].type]
        height, width = (each if isinstance(each, int) else reading.edge_px for each in inputs[0].shape[2:])
        self.size: tuple[int, int] = (width, height)
        """Width and height of the picture that the network reads, in pixels."""

    def __call__(self, picture: Picture) -> SoftMask:
        """How much each part of a picture stands out.

        Args:
            picture: [H, W, 3] sRGB of any size.

        Returns:
            [h, w] in [0, 1] over the whole picture, its least value 0 and its greatest 1.

        Raises DigitizeError(network_invalid) when the network fails, or answers with another shape.
        """
        square = Image.fromarray(picture).resize(self.size, Image.Resampling.LANCZOS)
        x = np.asarray(square, dtype=np.float32)
        mean, deviation = np.array(self._reading.mean, np.float32), np.array(self._reading.deviation, np.float32)
        x = (x / max(float(x.max()), 1e-6) - mean) / deviation
        y = self._run(x.transpose(2, 0, 1)[None])
        if y.min() < 0.0 or y.max() > 1.0:  # logits
            y = np.asarray(1.0 / (1.0 + np.exp(-np.clip(y, -80.0, 80.0))), dtype=np.float32)
        return np.asarray((y - y.min()) / max(float(y.max() - y.min()), 1e-8), dtype=np.float32)

    def _run(self, x: npt.NDArray[np.float32]) -> SoftMask:
        """[h, w] the first output for one picture [1, 3, H, W]."""
        try:
            (found,) = self._session.run([self._output], {self._input: x.astype(self._type)})
        except Exception as error:  # onnxruntime has an exception for each of its codes
            if "alloc" in str(error).lower():
                raise MemoryError(_first_line(error)) from error
            width, height = self.size
            raise self._invalid(f"a network that takes {width} x {height} pixels", _first_line(error)) from error
        y = np.asarray(found, dtype=np.float32)
        if y.ndim != 4 or y.shape[:2] != (1, 1) or not y.size:
            raise self._invalid(_WANTED_OUTPUT, str(list(y.shape)))
        if not np.isfinite(y).all():
            raise self._invalid("finite numbers from the network", "others")
        return np.asarray(y[0, 0])

    def _invalid(self, wanted: str, found: str) -> DigitizeError:
        return _invalid(self._where, wanted, found)


def _session(path: Path, threads: int, where: str) -> Any:
    """A session on the file's bytes alone: weights in further files are looked for where there are none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{path}.none")
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception for each of its codes
        raise _invalid(where, "a whole ONNX network in one file", _first_line(error)) from error


def _fits(shape: list[int | str | None], channels: int) -> bool:
    """Whether a declared shape can be [1, channels, height, width]; what a network leaves open fits."""
    fixed = [each if isinstance(each, int) else None for each in shape]
    return len(fixed) == 4 and fixed[0] in (None, 1) and fixed[1] in (None, channels)


def _described(argument: Any) -> str:
    return f"{argument.name} {list(argument.shape)} of {argument.type}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def _invalid(where: str, wanted: str, found: str) -> DigitizeError:
    return DigitizeError(ReasonCode.NETWORK_INVALID, f"expected {wanted}, found {found}", path=where)
