"""Is this machine, and the store, ready to work? Each check answers ok, warn or fail, and says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from flows.forecast.room import available_memory_gb, free_disk_gb
from flows.status.files import is_lost
from infra.settings import RunSettings
from infra.storage import open_store
from models.errors import DigitizeError
from models.status import AssetStatus
from models.store import Store
from models.weights import listed, package_file

_IMPORT_TIMEOUT_S = 120
_PYTHON = ((3, 11), (3, 14))
_ROOT = Path(__file__).resolve().parents[2]


class Level(StrEnum):
    """The answer of a check."""

    OK = "ok"
    WARN = "warn"
    """Works, but not as well as it could."""
    FAIL = "fail"
    """Some work will fail on this machine."""


@dataclass(frozen=True)
class Check:
    """One answered question."""

    name: str
    level: Level
    found: str
    advice: str = ""


Thunk = Callable[[], list[Check]]


def check_machine(settings: RunSettings) -> list[Thunk]:
    """The checks of this machine, each to be called by itself: importing the large libraries takes seconds."""
    return [
        lambda: [check_python()],
        check_packages,
        lambda: [check_import("open3d", _OPEN3D, _OPEN3D_ADVICE)],
        lambda: [check_import("pycolmap", _PYCOLMAP, "Install it again: pip install --force-reinstall pycolmap.")],
        lambda: [check_torch(settings)],
        lambda: [check_import("kernels", _KERNELS, _KERNELS_ADVICE, Level.WARN)],
        lambda: [check_import("prefect", "import prefect\nprint(prefect.__version__)", _REINSTALL)],
        lambda: [check_import("ray", "import ray\nprint(ray.__version__)", _RAY_ADVICE, Level.WARN)],
        lambda: [check_weights()],
        lambda: [check_cpu(), check_memory()],
        lambda: [check_scratch(settings)],
    ]


_REINSTALL = "Install again: pip install -c constraints.txt asset-digitizer."
_RAY_ADVICE = "Only `--runner ray` needs it: pip install -c constraints.txt ray."
_OPEN3D = "import open3d\nprint(open3d.__version__)"
_OPEN3D_ADVICE = (
    "A missing library such as libusb-1.0.so.0, libGL.so.1 or libgomp.so.1 comes with the system: "
    "apt-get install libusb-1.0-0 libgl1 libgomp1."
)
_KERNELS = """
from models.fields.kernels import cpu
found = cpu.library()
assert found is not None, "not compiled: training runs in plain torch, several times slower"
print(f"compiled, {found.digitize_lanes()} lanes")
"""
_KERNELS_ADVICE = (
    "Install a C++ compiler with OpenMP (Debian: g++), then install again: pip install -e . or make install."
)
# Pillow before pycolmap, as the stages do: the other way round, two copies of libjpeg or libtiff can meet.
_PYCOLMAP = "from PIL import Image\nimport pycolmap\nprint(pycolmap.__version__)"
_TORCH = """
import torch
line = torch.__version__
if torch.cuda.is_available():
    free, total = torch.cuda.mem_get_info()
    line += f"|{torch.cuda.get_device_name()}|{free / 1e9:.1f}|{total / 1e9:.1f}"
print(line)
"""


def check_python() -> Check:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    low, high = _PYTHON
    if low <= sys.version_info[:2] < high:
        return Check("python", Level.OK, f"{found}  {sys.executable}")
    return Check("python", Level.FAIL, found, "Use Python 3.11, 3.12 or 3.13.")


def check_weights() -> Check:
    """The weights of learned models that `models/weights.txt` lists: there, and the bytes that were pinned."""
    missing = []
    for name, weights in listed().items():
        try:
            package_file(weights.package, weights.file, weights.sha256)
        except DigitizeError as error:
            missing.append(f"{name} ({error.message})")
    if not missing:
        count = len(listed())
        return Check("weights", Level.OK, f"{count} found" if count else "none listed")
    advice = "`make install` installs them; without them the methods that use them take their other path."
    return Check("weights", Level.WARN, "missing: " + "; ".join(missing), advice)


def check_packages() -> list[Check]:
    """Every package that the distribution requires: installed, and in the version that was tested."""
    tested = _constraints()
    missing, other = [], []
    names = _required()
    for name in names:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        wanted = tested.get(_canonical(name))
        if wanted and installed.partition("+")[0] != wanted.partition("+")[0]:
            other.append(f"{name} {installed} (tested: {wanted})")
    if not names:
        advice = "Install it: pip install -c constraints.txt . in the project's folder."
        return [Check("packages", Level.WARN, "asset-digitizer is not installed as a package", advice)]
    if missing:
        return [Check("packages", Level.FAIL, f"missing: {', '.join(missing)}", _REINSTALL)]
    if other:
        advice = "Works in general; exact results were tested with constraints.txt."
        return [Check("packages", Level.WARN, f"other versions: {', '.join(other)}", advice)]
    against = "as tested" if tested else "installed; no constraints.txt here to compare with"
    return [Check("packages", Level.OK, f"{len(names)} {against}")]


def _required() -> list[str]:
    try:
        lines = importlib.metadata.requires("asset-digitizer") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    plain = [line for line in lines if "extra ==" not in line]
    names = {match[0] for line in plain if (match := re.match(r"[A-Za-z0-9._-]+", line))}
    open3d = {"open3d", "open3d-cpu"}  # one of the two is right for a platform; its import is checked by itself
    return sorted(names - open3d, key=str.lower)


def _constraints() -> dict[str, str]:
    path = _ROOT / "constraints.txt"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_canonical(name.strip()): version.strip() for name, version, *_ in pins}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_import(name: str, code: str, advice: str, otherwise: Level = Level.FAIL) -> Check:
    """Import a library in a process of its own, so that a crash in it is an answer too."""
    found, error = _python(code)
    if error:
        return Check(name, otherwise, error, advice)
    return Check(name, Level.OK, found)


def _python(code: str) -> tuple[str, str]:
    """The last line that `code` prints, or how it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_IMPORT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"did not finish within {_IMPORT_TIMEOUT_S} s"
    if done.returncode < 0:
        return "", f"crashed with signal {-done.returncode}"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = lines[-1] if lines else ""
    return (last, "") if done.returncode == 0 else ("", last or f"exit code {done.returncode}")


def check_torch(settings: RunSettings) -> Check:
    """Torch, and the GPU that it sees."""
    line, error = _python(_TORCH)
    if error:
        return Check("torch", Level.FAIL, error, _REINSTALL)
    version, *gpu = line.split("|")
    if gpu:
        name, free, total = gpu
        return Check("torch", Level.OK, f"{version}, {name} with {free} of {total} GB free")
    if settings.device == "cuda":
        advice = "DIGITIZE_DEVICE asks for CUDA: install a CUDA build of torch and the driver, or set it to auto."
        return Check("torch", Level.FAIL, f"{version}, no GPU found", advice)
    if Path("/proc/driver/nvidia/version").exists() and "+cpu" in version:
        advice = "There is an NVIDIA driver but torch is a CPU build: install torch from the CUDA index."
        return Check("torch", Level.WARN, version, advice)
    return Check("torch", Level.OK, f"{version}, no GPU: stages run on the CPU")


def check_cpu() -> Check:
    """CPU cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Check("cpu", Level.WARN, "1 core", "Works, slowly: two or more are better.")
    return Check("cpu", Level.OK, f"{cores} cores")


def check_memory() -> Check:
    """Main memory to spare."""
    free = available_memory_gb()
    if free < 2:
        return Check("memory", Level.FAIL, f"{free:.1f} GB available", "The smallest preset needs about 2 GB.")
    if free < 6:
        return Check("memory", Level.WARN, f"{free:.1f} GB available", "Enough for preset preview; 8 GB for standard.")
    return Check("memory", Level.OK, f"{free:.1f} GB available")


def check_scratch(settings: RunSettings) -> Check:
    """Local disk for attempts."""
    folder = settings.scratch or Path(tempfile.gettempdir())
    if not os.access(next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), os.W_OK):
        return Check("scratch", Level.FAIL, f"{folder} is not writable", "Set DIGITIZE_SCRATCH to a folder that is.")
    free = free_disk_gb(folder)
    if free < 5:
        return Check("scratch", Level.WARN, f"{free:.1f} GB free in {folder}", "Set DIGITIZE_SCRATCH to a larger disk.")
    return Check("scratch", Level.OK, f"{free:.1f} GB free in {folder}")


def check_store(uri: str, name: str = "store") -> Check:
    """A real round trip: create, refuse to create twice, swap, refuse a stale swap, read back, delete."""
    try:
        store = open_store(uri)
        _round_trip(store)
    except DigitizeError as error:
        return Check(name, Level.FAIL, f"{uri}: {error.message}", error.hint)
    except _UnconditionalError as error:
        advice = "The store must honour If-None-Match and If-Match on PUT (AWS S3, MinIO, SeaweedFS, Ceph do)."
        return Check(name, Level.FAIL, f"{uri}: {error}", advice)
    except OSError as error:
        return Check(name, Level.FAIL, f"{uri}: {error}", "Check that the folder exists and that you may write there.")
    if "://" in uri:
        return Check(name, Level.OK, f"{uri} answers, conditional writes hold")
    free = free_disk_gb(Path(uri))
    if free < 5:
        return Check(name, Level.WARN, f"{uri} has {free:.1f} GB free", "Free disk space, or move the store.")
    return Check(name, Level.OK, f"{uri} is writable, {free:.0f} GB free")


class _UnconditionalError(Exception):
    """A store that does not keep the conditions of a write."""


def _round_trip(store: Store) -> None:
    key = f"doctor/{uuid.uuid4().hex}/probe"
    try:
        _expect(store.put_bytes(key, b"first", if_absent=True), "a new object could not be created")
        _expect(not store.put_bytes(key, b"second", if_absent=True), "an object was created over an existing one")
        stat = store.stat(key)
        _expect(stat is not None and stat.bytes == 5, "an object that was written is not there")
        etag = stat.etag if stat else ""
        _expect(store.put_bytes(key, b"third", if_match=etag), "an unchanged object could not be replaced")
        _expect(not store.put_bytes(key, b"fourth", if_match=etag), "an object was replaced although it had changed")
        _expect(store.get_bytes(key) == b"third", "an object holds other bytes than were written")
    finally:
        store.delete(key)
        if (local := store.local_path(key)) is not None:
            shutil.rmtree(local.parent, ignore_errors=True)
            with suppress(OSError):
                local.parent.parent.rmdir()


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _UnconditionalError(otherwise)


def check_runs(statuses: Iterable[AssetStatus]) -> Check:
    """Runs that stopped writing: killed, or their machine is gone."""
    lost = [status.asset for status in statuses if is_lost(status)]
    if lost:
        advice = "Run again: committed stages are kept and the rest continues from its checkpoint."
        return Check("runs", Level.WARN, f"lost: {', '.join(lost)}", advice)
    return Check("runs", Level.OK, "none lost")


def answer(checks: list[Thunk], workers: int = 2) -> Iterable[Check]:
    """The answers in order, as they come; a check that fails itself is a failed check."""
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(each) for each in checks]:
            yield from future.result()
