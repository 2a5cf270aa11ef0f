"""A command-line peer: pyarchinit-photogrammetry (GPL), photos in, mesh out, scored as our meshes are.

    python -m bench.peers.photogrammetry PHOTOS TRUTH                          PatchMatch at half size
    python -m bench.peers.photogrammetry PHOTOS TRUTH --backend sgbm           two-view matching at full size
    python -m bench.peers.photogrammetry PHOTOS TRUTH --keep FOLDER            keep the project, mesh and cameras

The peer solves the cameras itself, gets no masks, and runs on the CPU alone: `ppg new`, `add-photos`, `align`,
`dense`, `mesh --source depth_maps`, `export`. What it calls `cpu` is two-view semi-global matching: `sgbm` here. Its
code is GPL: it lives in an environment of its own below `.bench/peers/`, made at the first use, and is run as a program
only. It needs Open3D for `mesh`; `open3d-cpu` is the same module without CUDA. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifacts import TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE, TRUTH_SUPPORT_FILE
from models.camera import Camera, CameraSet, Plane, PosedImage, matrix4, transform_points
from models.errors import DigitizeError
from models.mesh.io import read_ply
from models.mesh.mesh import Mesh
from tasks.quality.alignment import align
from tasks.quality.geometry import SAMPLES, prepare, score
from tasks.stereo.estimate import DepthRange
from tasks.stereo.photo import Photo

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".bench" / "peers"
NAME = "photogrammetry"
PACKAGES = (
    "pyarchinit-photogrammetry==1.6.0",
    "pyarchinit-photogrammetry-core==0.5.0",
    "open3d-cpu==0.19.0",
)
CORE_NAME, CORE_PACKAGES = "photogrammetry-core", ("pyarchinit-photogrammetry-core==0.5.0",)
"""The peer's kernels alone."""
BACKENDS = {"patchmatch": "patchmatch", "sgbm": "cpu"}
"""The peer's names of its ways to depth, by ours."""
QUALITIES = {"patchmatch": "high", "sgbm": "ultra"}
"""Sizes of the photos: `ultra` takes them whole, `high` half their width."""
MARGIN = 0.02
"""How far beyond the true object's box the peer's mesh is kept, as a share of the diagonal."""
LAST_LINES = 6
"""Of a command's output, given as the reason of a failure."""


CORE_SCRIPT = """
import sys, time
import numpy as np
import ppg_core

data, found, seconds = np.load(sys.argv[1]), {}, []
for r, number in enumerate(data["references"]):
    rows = zip(data[f"sources{r}"], data[f"rotation{r}"], data[f"translation{r}"])
    sources = [(data[f"grey{j}"], tuple(data["k"][j].tolist()), R, t) for j, R, t in rows]
    near, far = data["ranges"][r].tolist()
    start = time.process_time()
    depth, _, _ = ppg_core.patchmatch_depth(
        data[f"grey{number}"], tuple(data["k"][number].tolist()), sources, (near, far),
        iterations=4, max_cost=0.5, min_views=1)
    seconds.append(time.process_time() - start)
    found[f"depth{r}"] = np.asarray(depth, np.float32)
np.savez(sys.argv[2], seconds=seconds, **found)
"""
"""Settings of the peer's program for photos from close by: four sweeps, the filter `moderate`, one source suffices."""


@dataclass(frozen=True)
class PeerRun:
    """What one run of the peer left."""

    mesh: Path | None
    """PLY in the frame of `cameras`; None where a step failed."""
    cameras: Path | None
    """Folder with COLMAP's text files; None where a step failed."""
    cpu_seconds: float
    """User and system time of all its processes."""
    wall_seconds: float
    steps: dict[str, float]
    """CPU seconds of each step."""
    reason: str | None = None
    """The step that failed, and the end of what it printed."""


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The Python of an environment below `.bench/peers/`, made with pip where it is not there.

    Raises:
        RuntimeError: pip could not install the packages; the text is the end of what it printed.
    """
    folder = PEERS / name
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if done.is_file() and done.read_text().split() == list(packages):
        return python
    folder.mkdir(parents=True, exist_ok=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    for command in ([sys.executable, "-m", "venv", str(folder)], pip):
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if ended.returncode != 0:
            raise RuntimeError(f"expected {' '.join(packages)} to install, found: {last_lines(ended.stdout)}")
    done.write_text("\n".join(packages) + "\n")
    return python


def last_lines(text: str) -> str:
    """The end of a program's output on one line."""
    return " | ".join(line.strip() for line in text.strip().splitlines()[-LAST_LINES:])


def _timed(command: list[str], log: Path) -> tuple[int, float]:
    """Run a command with its output in `log`: exit status, and CPU seconds of it and all that it waited for."""
    # an activated environment of ours must not reach the peer
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    own = {key: value for key, value in os.environ.items() if key not in hidden}
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=own, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def run_peer(photos: Path, folder: Path, backend: str, quality: str) -> PeerRun:
    """Run the peer on a folder of photos.

    Args:
        photos: read only.
        folder: gets the project, `mesh.ply` and `cameras/`; must hold no project yet.
        backend: a key of `BACKENDS`.
        quality: `ultra` (whole photos), `high` (half their width), `medium`, `low`, `lowest`.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    project, mesh, cameras = str(folder / "peer.ppg"), folder / "mesh.ply", folder / "cameras"
    try:
        ppg = str(environment(NAME, PACKAGES).parent / "ppg")
    except RuntimeError as error:
        return PeerRun(None, None, 0.0, 0.0, {}, str(error))
    commands = {
        "new": ["new", project],
        "add-photos": ["add-photos", project, str(photos.resolve())],
        "align": ["align", project, "--gpu", "off"],
        "dense": ["dense", project, "--backend", BACKENDS[backend], "--quality", quality, "--gpu", "off"],
        # the colours of a mesh are not scored
        "mesh": ["mesh", project, "--source", "depth_maps", "--no-texture"],
        "export": ["export", project, "--model", str(mesh), "--cameras", str(cameras)],
    }
    start, steps, reason = time.monotonic(), {}, None
    for step, arguments in commands.items():
        log = folder / f"{step}.log"
        code, steps[step] = _timed([ppg, *arguments], log)
        if code != 0:
            reason = f"{step} ended with {code}: {last_lines(log.read_text(errors='replace'))}"
            break
    wall, cpu = time.monotonic() - start, sum(steps.values())
    steps = {step: round(seconds, 1) for step, seconds in steps.items()}
    made = mesh if mesh.is_file() else None
    return PeerRun(made, cameras if cameras.is_dir() else None, round(cpu, 1), round(wall, 1), steps, reason)


def peer_cameras(folder: Path) -> list[PosedImage]:
    """The peer's cameras from COLMAP's text files, named as the photos; lens distortion is left out."""
    import pycolmap

    found = []
    solution = pycolmap.Reconstruction(str(folder))
    for image in solution.images.values():
        lens = solution.cameras[image.camera_id]
        k = lens.calibration_matrix()
        camera = Camera(width=lens.width, height=lens.height, fx=k[0, 0], fy=k[1, 1], cx=k[0, 2], cy=k[1, 2])
        c2w = np.eye(4)
        c2w[:3] = image.cam_from_world().inverse().matrix()
        found.append(PosedImage(name=Path(image.name).name, camera=camera, c2w=matrix4(c2w)))
    return found


def cropped(mesh: Mesh, low: np.ndarray, high: np.ndarray) -> Mesh:
    """The faces whose centres lie in a box, `low` and `high` [3]."""
    centres = mesh.triangles.mean(1)
    inside = ((centres >= low) & (centres <= high)).all(1)
    return Mesh(mesh.vertices, mesh.faces[inside])


def score_peer(run: PeerRun, truth: Path, samples: int = SAMPLES) -> dict[str, Any]:
    """The peer's mesh against the truth, as `tasks.quality.geometry` scores ours; `reason` where it cannot be.

    The mesh is moved by the similarity of its camera centres to the true ones and cut to the true object's box with
    `MARGIN` on every side, because the peer models the room as well. Lengths are shares of the true diagonal.

    Args:
        truth: the folder with `mesh.ply`, `cameras.json` and `support.json`.
        samples: points on each surface.
    """
    if run.mesh is None or run.cameras is None:
        return {"reason": run.reason or "expected a mesh and cameras, found none"}
    true = CameraSet.model_validate_json((truth / TRUTH_CAMERAS_FILE).read_text()).images
    try:
        alignment = align(peer_cameras(run.cameras), true)
    except DigitizeError as error:
        return {"reason": str(error)}
    support = truth / TRUTH_SUPPORT_FILE
    plane = Plane.model_validate_json(support.read_text()) if support.is_file() else None
    mesh = read_ply(truth / TRUTH_MESH_FILE)
    surface = prepare(mesh, true, plane, samples)
    found = read_ply(run.mesh)
    moved = Mesh(transform_points(alignment.truth_from_capture, found.vertices), found.faces)
    margin = MARGIN * surface.diagonal
    moved = cropped(moved, mesh.vertices.min(0) - margin, mesh.vertices.max(0) + margin)
    result = score(moved, surface)
    row: dict[str, Any] = {
        "chamfer": result.chamfer,
        "accuracy": result.accuracy,
        "completeness": result.completeness,
        "normal_consistency": result.normal_consistency,
    }
    for each in result.at:
        row[f"fscore_{100 * each.share:g}pct".replace(".", "_")] = each.fscore
    row |= {"cameras": alignment.cameras, "centre_rms": alignment.centre_rms / surface.diagonal}
    row |= {"faces": len(found.faces), "faces_in_box": len(moved.faces)}
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def kernel_depth(
    python: Path,
    photos: list[Photo],
    chosen: list[tuple[int, ...]],
    ranges: list[DepthRange],
    references: list[int],
    folder: Path,
) -> tuple[float, list[npt.NDArray[np.float32]]]:
    """CPU seconds of the peer's kernel, and its maps [H, W]. Raises RuntimeError where its process fails."""
    given: dict[str, Any] = {
        "references": references,
        "ranges": [(ranges[r].least, ranges[r].most) for r in references],
    }
    cameras = [photo.levels[0].camera for photo in photos]
    # the peer's pixel centres are whole numbers
    given["k"] = [(camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5) for camera in cameras]
    for j, photo in enumerate(photos):
        given[f"grey{j}"] = ((photo.levels[0].quads & 255) / 255.0).astype(np.float32)
    for number, r in enumerate(references):
        moves = np.stack([photos[j].w2c @ np.array(photos[r].c2w) for j in chosen[r]])
        given |= {f"sources{number}": chosen[r], f"rotation{number}": moves[:, :3, :3].copy()}
        given[f"translation{number}"] = moves[:, :3, 3].copy()
    source, target = folder / "peer_in.npz", folder / "peer_out.npz"
    np.savez(source, **given)
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [str(python), "-c", CORE_SCRIPT, str(source), str(target)],
        env={**own, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"expected the peer's depth, found: {last_lines(ended.stdout)}")
    with np.load(target) as found:
        return float(found["seconds"].sum()), [found[f"depth{k}"] for k in range(len(references))]


def peer_row(photos: Path, truth: Path, folder: Path, backend: str, quality: str | None = None) -> dict[str, Any]:
    """Run and score: one row."""
    quality = quality or QUALITIES[backend]
    run = run_peer(photos, folder, backend, quality)
    facts = {key: value for key, value in asdict(run).items() if key not in ("mesh", "cameras")}
    return {"peer": PACKAGES[0], "backend": backend, "quality": quality, **facts, **score_peer(run, truth)}


def main() -> None:
    """Run, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("truth", type=Path, help="the folder with mesh.ply, cameras.json and support.json")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="patchmatch")
    parser.add_argument("--quality", help="the peer's size of photos; high for patchmatch, ultra for sgbm")
    parser.add_argument("--keep", type=Path, help="leave the peer's files here; must hold no project yet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        row = peer_row(arguments.photos, arguments.truth, folder, arguments.backend, arguments.quality)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
