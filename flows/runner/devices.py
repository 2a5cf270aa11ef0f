"""Which GPU this machine has, asked of the driver itself: no torch, no subprocess."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path


def cpu_cores() -> int:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def gpu_count() -> int:
    """The GPUs that this process may use."""
    driver, count = _driver(), ctypes.c_int()
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def _driver() -> ctypes.CDLL | None:
    """The CUDA driver, ready; None where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return None if driver.cuInit(0) else driver


def gpu_memory_gb() -> float:
    """Memory in GB of the first GPU that this process may use; 0 without one."""
    driver, device, size = _driver(), ctypes.c_int(), ctypes.c_size_t()
    if driver is None or not gpu_count():
        return 0.0
    if driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device):
        return 0.0
    return size.value / 1e9


def torch_has_cuda() -> bool:
    """Whether the installed torch is a CUDA build, judged by its files: importing it takes seconds."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    return (Path(found.origin).parent / "lib" / "libtorch_cuda.so").exists()


def choose_device(wanted: str, needs_gpu_memory_gb: float) -> str:
    """`cpu` or `cuda` for a stage.

    Args:
        wanted: `cpu`, `cuda` or `auto`.
        needs_gpu_memory_gb: what the stage declares; 0 for stages that never touch a GPU.
    """
    if not needs_gpu_memory_gb:
        return "cpu"
    if wanted != "auto":
        return wanted
    return "cuda" if torch_has_cuda() and gpu_memory_gb() > 0 else "cpu"
