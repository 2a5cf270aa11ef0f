"""The backends that can be tested in this process."""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

NAMES = ("cpu", "gpu")


class Backend(NamedTuple):
    """A module with the operations, and where its tensors lie."""

    module: Any
    device: str
    exact: dict[str, str]
    """What its networks are asked for so that they multiply in float32."""

    def put(self, *tensors: Tensor | None) -> list[Any]:
        """Contiguous copies on the backend's device; floats as float32."""
        return [
            None if x is None else (x.float() if x.is_floating_point() else x).to(self.device).contiguous()
            for x in tensors
        ]


def _gpu() -> Backend:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    from models.fields.kernels import gpu, gpu_launch

    if not gpu_launch.INTERPRETED and not torch.cuda.is_available():
        pytest.skip("no GPU; test_gpu_interpreted.py runs this in a process with TRITON_INTERPRET=1")
    return Backend(gpu, "cpu" if gpu_launch.INTERPRETED else "cuda", {"precision": "ieee"})


def load(name: str) -> Backend:
    """The backend of that name; skips the test where it cannot run."""
    if name == "gpu":
        return _gpu()
    from models.fields.kernels import cpu

    if not cpu.available():
        pytest.skip("the compiled kernels are not built (no C++ compiler at install)")
    return Backend(cpu, "cpu", {"precision": "ieee"})
