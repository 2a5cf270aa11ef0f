"""Mutated files through every reader of the product: photos, masks, videos, archives, poses, specifications, events.

    python -m bench.fuzz            100,000 files; at most an hour on two cores
    python -m bench.fuzz --quick    1,000 files: shows that the script works, under 60 s

Each file is a small valid one with one to six mutations (`bench/fuzz_mutate.py`). A reader may answer, or refuse with
its own error. A failure is anything else: another exception, a hang, memory beyond a bound, a file written outside the
scratch folder, the death of any process but the child that decodes that one photo or video. Files that fail are kept
in `.bench/fuzz/`. The last line is one JSON object.

    fuzz_files          files that were read
    fuzz_failures       those that failed
    fuzz_child_deaths   decoding children that died of their file, which was then refused
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.older_commit import ROOT

if TYPE_CHECKING:
    from bench.fuzz_readers import Reader, World

FILES, QUICK = 100_000, 1_000
WORKERS = 2
HANG_S, PHOTO_HANG_S = 30, 60
MEMORY_BYTES = 8 << 30
"""Address space of a worker, in which all readers but the decoders run."""
CHUNK = 500
KEPT = ROOT / ".bench" / "fuzz"


class HangError(Exception):
    """A reader that had not come back in time."""


def _alarm(number: int, frame: object) -> None:
    raise HangError(f"not back after {HANG_S} s")


def work(index: int, files: int, seed: int, folder: Path) -> None:
    """One worker: prints a JSON line a failure and one of all counts at the end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _alarm)
    from bench.fuzz_mutate import mutated
    from bench.fuzz_readers import READERS, REFUSALS, World
    from tasks.ingest import decoder

    decoder.PHOTO_SECONDS = PHOTO_HANG_S
    scratch = folder / "scratch"
    scratch.mkdir()
    world = World(scratch)
    counts: dict[str, Counter[str]] = {}
    with world.stack:
        for name, reader in READERS.items():
            rng = random.Random(f"{seed} {index} {name}")
            seeds = list(reader.seeds())
            for suffix, data in seeds:
                if refusal := _refused(reader, scratch / _file_name(suffix, "seed"), data, world):
                    _keep(name, scratch / _file_name(suffix, "seed"), f"a valid file is refused: {refusal}")
            count, started = counts.setdefault(name, Counter()), time.monotonic()
            for number in range(round(files * reader.share)):
                suffix, data = rng.choice(seeds)
                bad = mutated(data, rng.choice(seeds)[1], rng, reader.text)
                path = scratch / _file_name(suffix, f"f{number}")
                path.write_bytes(bad)
                deaths = world.decoder.deaths
                signal.alarm(HANG_S if name not in ("photos", "masks", "videos") else 4 * PHOTO_HANG_S)
                try:
                    reader.read(path, world)
                    count["read"] += 1
                except REFUSALS:
                    count["refused"] += 1
                except BaseException:
                    count["failures"] += 1
                    _keep(name, path, traceback.format_exc())
                finally:
                    signal.alarm(0)
                count["child_deaths"] += world.decoder.deaths - deaths
                path.unlink(missing_ok=True)
                if number % 50 == 49:
                    _tidy(scratch, world.good)
                    if outside := _outside(folder):
                        count["failures"] += 1
                        _keep(name, path, f"written outside the scratch folder: {outside}")
            count["files"] = round(files * reader.share)
            count["seconds"] = round(time.monotonic() - started)
            print(json.dumps({"reader": name, **count}), flush=True)


def _file_name(suffix: str, stem: str) -> str:
    """The name of a file: its seed's suffix, or for `-cameras.bin` the word before it."""
    word = suffix[1:].split(".", maxsplit=1)[0]
    return f"{word}-{stem}{Path(suffix).suffix}" if suffix.startswith("-") else stem + suffix


def _refused(reader: Reader, path: Path, data: bytes, world: World) -> str:
    """Why a valid file is refused; empty where it is read, as it should be."""
    path.write_bytes(data)
    try:
        reader.read(path, world)
    except Exception as error:
        return repr(error)
    path.unlink()
    return ""


def _outside(folder: Path) -> list[str]:
    """What was written beside the scratch folder; taken away, so that it is told once."""
    found = [path for path in folder.rglob("*") if not path.is_relative_to(folder / "scratch") and path.is_file()]
    for path in found:
        path.unlink()
    return [str(path) for path in found]


def _tidy(scratch: Path, good: Path) -> None:
    for path in scratch.iterdir():
        if path.is_dir() and not path.name.startswith("model"):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and path != good:
            path.unlink()


def _keep(name: str, path: Path, why: str) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    target = KEPT / f"{name}-{os.getpid()}-{path.name}"
    if path.exists():
        shutil.copyfile(path, target)
    target.with_name(f"{target.name}.why").write_text(why)
    print(json.dumps({"failure": name, "file": str(target), "why": why[-2000:]}), flush=True)


def measure(files: int, seed: int) -> dict[str, Any]:
    """All figures."""
    started = time.monotonic()
    shutil.rmtree(KEPT, ignore_errors=True)
    rows: dict[str, Counter[str]] = {}
    failures: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        workers = []
        for index in range(WORKERS):
            folder = Path(temporary) / f"w{index}"
            home = folder / "home"
            home.mkdir(parents=True)
            # whatever a reader writes without being told where comes into the watched folder
            places = dict.fromkeys(("HOME", "TMPDIR", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(home))
            environment = {**os.environ, **places, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
            command = [sys.executable, "-m", "bench.fuzz", "--worker", str(index)]
            command += ["--files", str(files // WORKERS), "--seed", str(seed), "--folder", str(folder)]
            workers.append(subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True))
        for index, worker in enumerate(workers):
            assert worker.stdout is not None
            for line in worker.stdout:
                found = json.loads(line)
                if "failure" in found:
                    failures.append(found)
                    print(line, end="", flush=True)
                    continue
                rows.setdefault(found.pop("reader"), Counter()).update(found)
            if worker.wait() != 0:
                failures.append({"failure": "worker", "why": f"worker {index} ended with {worker.returncode}"})
                print(failures[-1], flush=True)
    figures = {
        "fuzz_files": sum(row["files"] for row in rows.values()),
        "fuzz_failures": len(failures),
        "fuzz_child_deaths": sum(row["child_deaths"] for row in rows.values()),
        "fuzz_minutes": round((time.monotonic() - started) / 60, 1),
    }
    return {**figures, "seed": seed, "readers": {name: dict(row) for name, row in rows.items()}, "failed": failures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--files", type=int, help="how many files, instead of 100,000")
    parser.add_argument("--seed", type=int, default=1, help="of all choices")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments.worker, arguments.files, arguments.seed, arguments.folder)
        return
    files = arguments.files or (QUICK if arguments.quick else FILES)
    head = {"bench": "fuzz", **({"quick": True} if arguments.quick else {})}
    print(json.dumps({**head, "figures": measure(files, arguments.seed)}))


if __name__ == "__main__":
    main()
