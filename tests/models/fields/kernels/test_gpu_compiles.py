"""The Triton kernels compile for GPUs that are not here, and read and add entries as vectors."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LARGEST_SHARED = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that one program may have."""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("capability", [80, pytest.param(90, marks=pytest.mark.slow)])
def test_kernels_compile(capability: int, tmp_path: Path) -> None:
    """In a process of its own, without the interpreter, which accepts what the compiler rejects."""
    own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = [str(HERE.parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(HERE / "compile_gpu.py"), str(capability)],
        env={**own, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    compiled = {(record["kernel"], record["case"]): record for record in report["compiled"]}
    assert {kernel for kernel, _ in compiled} == set(report["launched"])
    assert all(record["bytes"] > 0 for record in compiled.values())
    assert all(record["shared"] <= LARGEST_SHARED[capability] for record in compiled.values())

    points, corners = 2, 8  # points of one thread
    pairs, halves = compiled["gpu_encode._forward", "2 fp32"], compiled["gpu_encode._forward", "2 fp16"]
    assert pairs["pair_loads"] == points * corners
    assert halves["single_loads"] - pairs["single_loads"] == points * corners
    if capability >= 90:
        assert compiled["gpu_encode._backward_table", "2"]["pair_sums"] == points * corners
