"""Builds the CPU kernels: one C++ file, once for each instruction set. Everything else is in pyproject.toml.

The libraries have a plain C interface and are loaded by ctypes (models/fields/kernels/cpu.py, tasks/stereo/kernel.py).
They are optional: where there is no compiler the install succeeds; training says at run time that it is slower, and
dense stereo that it cannot run.
"""

import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FIELDS = Path("models/fields/kernels/csrc/kernels.cpp")
STEREO = Path("tasks/stereo/csrc/patchmatch.cpp")
FLAGS = [
    "-std=c++17",
    "-O3",
    "-fopenmp",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wno-maybe-uninitialized",
]
BUILDS = {
    "amx": ["-march=x86-64-v4", "-mprefer-vector-width=512", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx2": ["-march=x86-64-v3"],
}


def kernels() -> list[Extension]:
    """One library an instruction set."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    builds = BUILDS if x86 else {"portable": []}
    found = [library(f"models.fields.kernels._cpu_{name}", FIELDS, flags) for name, flags in builds.items()]
    # a patch of 36 samples wastes fewer lanes of 8 than of 16: 61 instead of 77 ns
    narrow = ["-mprefer-vector-width=256"] if x86 else []
    plain = {name: [*flags, *narrow] for name, flags in builds.items() if name != "amx"}
    return found + [library(f"tasks.stereo._patchmatch_{name}", STEREO, flags) for name, flags in plain.items()]


def library(name: str, source: Path, flags: list[str]) -> Extension:
    """A library of one file and the headers beside it."""
    return Extension(
        name,
        [str(source)],
        depends=[str(path) for path in sorted(source.parent.glob("*.h"))],
        extra_compile_args=[*FLAGS, *flags],
        extra_link_args=["-fopenmp"],
        language="c++",
        optional=True,
    )


class BuildKernels(build_ext):
    """Objects of each library in a folder of their own: they come from the same file."""

    def build_extension(self, ext: Extension) -> None:
        shared, self.build_temp = self.build_temp, str(Path(self.build_temp) / ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared


setup(ext_modules=kernels() if sys.platform != "win32" else [], cmdclass={"build_ext": BuildKernels})
