"""Figures of dense stereo: how much of the objects' depth is right, what it costs, and a peer's kernel beside ours.

    python -m bench.dense              flask and knot: about 10 minutes on two cores
    python -m bench.dense --all        all six objects
    python -m bench.dense --quick      one small capture: shows that the script works, under 60 s

Figures ("not measured" where something is missing; the rows say why):

- `depth_1pct`: share of the true object pixels of all training photos whose depth errs by at most 1 % of the object's
  diagonal, over phone-style captures whose cameras and masks the line solves; pixels without depth are wrong.
- `depth_cpu_seconds`, `depth_peak_gb`, `depth_photos`: of the stage `dense` for the 40 photos of one capture, maps of
  0.5 MP inside true masks. Held-out photos have no maps: `depth_photos` counts those that do. The peak is the largest
  resident memory of the stage's process, which the stage records itself.
- `patchmatch_of_limit`: the kernel's CPU time that its inner loop alone would take, as a share: scored pairs of patch
  and view, times the CPU time of a pair in `patch_costs`. The pairs are counted by a copy of the kernel that is built
  from the same sources with a counter. Pairs whose window leaves the source's picture end early: they are not scored,
  so what they cost counts as loss, and so do the patches of the reference, propagation and random numbers. Measure it
  on a quiet machine: a value above 1 means that other work slowed the pairs down more than the kernel.
- `patchmatch_vs_peer`: CPU time of our depth (photometric and geometric rounds as the stage has them) over that of the
  kernel in pyarchinit-photogrammetry-core, for the same whole photos with the same sources, if ours is as often right
  (`ours_depth_1pct`, `peer_depth_1pct`). The peer's kernel starts from random planes, with the settings that its
  program has for close range; one thread each. It is GPL: it runs in a process of its own, in an environment of its
  own below `.bench/peers/`. `--quick` makes none, and leaves the peer out where there is none.

The last line is one JSON object; rows are kept in `.bench/dense.json`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from bench.line import ROOT
from bench.peers.photogrammetry import CORE_NAME, CORE_PACKAGES, PEERS, environment, kernel_depth
from bench.real import HEIGHT, NOT_MEASURED, OBJECTS, VIEWS, WIDTH, changed, run, write_object
from models.artifacts import DENSE_FACTS_FILE, POINTS_FILE, POSES_FILE
from models.camera import Camera, CameraSet, Matrix4, PosedImage, PoseSet, matrix4, pixel_rays, transform_points
from models.errors import DigitizeError
from models.mesh.io import read_ply
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.points import SparsePoints
from tasks.dense.options import DenseOptions
from tasks.dense.workset import REGION_MARGIN
from tasks.quality.alignment import align
from tasks.stereo import estimate, kernel, views
from tasks.stereo.maps import DepthMap, depth_path, read_depth_map
from tasks.stereo.photo import Photo, crosses_cube, fitted, make_photo, read_mask

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Row = dict[str, Any]

SHARE = 0.01
"""Of the diagonal: the largest error of depth that counts as right."""
FEW = ("flask", "knot")
EDGE_PX, TIMED_EDGE_PX, PEER_EDGE_PX = 640, 816, 640
"""Long edges of the maps: of the captures, of the timed one (0.5 MP), of the photos beside the peer's (0.3 MP)."""
STAGES: dict[str, dict[str, Any]] = {
    "train": {"method": "mvs", "options": {"resolution": 96}},
    "surface": {"options": {"support": "cut", "faces": 4000, "texture_size": 256}},
    "quality": {"options": {"samples": 10000, "max_views": 1, "stereo_views": 0, "hull_resolution": 0}},
}
"""What the figures do not depend on is small."""
QUICK = {"views": 14, "width": 400, "height": 300}
TRUE_MASKS: dict[str, Any] = {"masks": {"path": "./truth/masks", "role": "object"}}
TRUE_CAMERAS: dict[str, Any] = {"poses": {"path": "./truth/cameras.json", "format": "cameras"}}
"""Given to an asset. The photos' lens distortion is not in the cameras."""
REPEATS = 3
PAIR_TURNS = 6
"""Timings of the pairs for one of the kernel, which takes that much longer."""
LEAST_TIMED = 100_000
"""Pixels whose pairs are timed; taken several times where there are fewer."""
POOL, REFERENCES, SOURCES = 12, 6, 5
"""Photos beside the peer: those whose depth is refined, those of them that are compared, and sources of each."""
ROWS = ROOT / ".bench" / "dense.json"
CSRC = ROOT / "tasks" / "stereo" / "csrc"

COUNTED = """
#include "patch.h"
namespace stereo {
static int64_t pairs = 0, scored = 0;
inline float counted_cost(const Patch& patch, const Window& window, const Source& source, const float* h, float x,
                          float y, float min_variance) {
  const float c[3] = {h[0] * x + h[1] * y + h[2], h[3] * x + h[4] * y + h[5], h[6] * x + h[7] * y + h[8]};
  ++pairs;
  scored += window_inside(h, c, source.width, source.height);
  return patch_cost(patch, window, source, h, x, y, min_variance);
}
}
#define patch_cost counted_cost
#include "patchmatch.cpp"
EXPORT void counts(int64_t* found) {
  found[0] = stereo::pairs, found[1] = stereo::scored;
  stereo::pairs = stereo::scored = 0;
}
"""
"""The kernel with a counter that reading sets to zero; for one thread.

`scored` leaves out the pairs that end before the inner loop.
"""


@dataclass(frozen=True)
class Capture:
    """What the line left of one capture: what stereo reads."""

    poses: PoseSet
    images: tuple[PosedImage, ...]
    """The training photos."""
    folders: tuple[Path, ...]
    """Where pictures and masks lie: the outputs of the stages mask and pose."""
    xyz: FloatArray
    """[P, 3] sparse points."""
    seen: npt.NDArray[np.bool_]
    """[I, P] which training photo sees which point."""

    @staticmethod
    def of(row: Row) -> Capture:
        """The capture of a row of `bench.real.run`. Raises ValueError where the pose stage left nothing."""
        folders = tuple(Path(row[name]) for name in ("mask_folder", "pose_folder") if name in row)
        paths = [folder / POSES_FILE for folder in folders if (folder / POSES_FILE).is_file()]
        points = [folder / POINTS_FILE for folder in folders if (folder / POINTS_FILE).is_file()]
        if not paths or not points:
            raise ValueError(f"expected poses and points of the capture, found none: {row.get('reasons')}")
        poses = PoseSet.model_validate_json(paths[0].read_bytes())
        sparse = SparsePoints.read(points[0])
        seen = np.zeros((len(poses.images), len(sparse.xyz)), bool)
        seen[sparse.visible_idx, sparse.owner] = True
        training = np.array([image.split == "train" for image in poses.images])
        return Capture(poses, poses.of_split("train"), folders, sparse.xyz, seen[training])

    def path(self, name: str) -> Path:
        """A picture or mask by the path that the PoseSet gives it."""
        return next(folder / name for folder in self.folders if (folder / name).is_file())

    def photo(self, k: int, edge_px: int, masked: bool) -> Photo:
        """A training photo as the dense stage reads it; the whole picture unless `masked`."""
        image = self.images[k]
        camera, mask = fitted(image.camera, edge_px), None
        if masked:
            region = matrix4(np.array(self.poses.world_from_field) @ np.diag([REGION_MARGIN] * 3 + [1.0]))
            mask = crosses_cube(camera, image.c2w, region)
            if image.mask is not None:
                mask &= read_mask(self.path(image.mask), camera)
        with Image.open(self.path(str(image.image))) as picture:
            size = (camera.width, camera.height)
            resized = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        return make_photo(resized, camera, image.c2w, mask, DenseOptions().levels)

    def depths(self, k: int) -> estimate.DepthRange:
        """Where the depth of a training photo is searched."""
        return views.depth_range(self.images[k], self.poses.world_from_field, self.xyz, self.seen[k])


class Truth:
    """The true object in the frame of a capture."""

    def __init__(self, poses: PoseSet, folder: Path) -> None:
        true = CameraSet.model_validate_json((folder / "cameras.json").read_text())
        alignment = align(poses.images, true.images)
        mesh = read_ply(folder / "mesh.ply")
        capture_from_truth = np.linalg.inv(np.array(alignment.truth_from_capture))
        moved = Mesh(transform_points(capture_from_truth, mesh.vertices), mesh.faces)
        self.tolerance = SHARE * moved.diagonal
        """In the capture's unit."""
        self._caster = RayCaster(moved, 1)

    def right(self, camera: Camera, c2w: Matrix4, depth: Float32Array) -> tuple[int, int]:
        """Pixels of a map [H, W] whose depth is right, and pixels that see the object."""
        rays_o, rays_d = pixel_rays(camera, c2w)
        true = self._caster.cast(rays_o, rays_d).t * (rays_d @ np.array(c2w)[:3, 2])
        hit = np.isfinite(true)
        right = hit & (depth.ravel() > 0) & (np.abs(depth.ravel() - np.where(hit, true, 0)) <= self.tolerance)
        return int(right.sum()), int(hit.sum())


def run_capture(name: str, folder: Path, data: Path, size: dict[str, int], edge_px: int, given: Row) -> Row | None:
    """Write a capture and run the line on it; None where the object's mesh is not there.

    Args:
        edge_px: of the depth maps.
        given: settings of the asset: true masks and the like, instead of what the line finds.
    """
    batch = write_object(name, folder, data, size)
    if batch is None:
        return None
    changed(batch, None, {**STAGES, "dense": {"options": {"edge_px": edge_px}}})
    if given:
        spec = yaml.safe_load(batch.read_text())
        spec["assets"][0] |= given
        batch.write_text(yaml.safe_dump(spec, sort_keys=False))
    return run(batch)


def depth_row(row: Row, truth: Path, edge_px: int) -> Row:
    """How many true object pixels of a capture have right depth; none where the line made no depth maps."""
    facts = {key: row[key] for key in ("verdict", "reasons", "cpu_seconds")}
    try:
        capture = Capture.of(row)
        true = Truth(capture.poses, truth)
    except (ValueError, DigitizeError) as error:
        # without cameras: the silhouettes of all photos at the size that the maps would have had
        pixels = 0
        for path in sorted((truth / "masks").glob("*.png")):
            with Image.open(path) as mask:
                inside = float((np.asarray(mask) > 127).sum())
                pixels += round(inside * min(1.0, edge_px / max(mask.size)) ** 2)
        return {"right": 0, "pixels": pixels, "photos": 0, "reason": str(error), **facts}
    right = pixels = 0
    for image in capture.images:
        path = Path(row.get("dense_folder", "none")) / depth_path(image)
        camera = fitted(image.camera, edge_px)
        depth = np.zeros((camera.height, camera.width), np.float32)
        if path.is_file():
            depth = read_depth_map(path).depth
            camera = image.camera.resized(depth.shape[1], depth.shape[0])
        found = true.right(camera, image.c2w, depth)
        right, pixels = right + found[0], pixels + found[1]
    share = round(right / max(1, pixels), 4)
    return {"depth_1pct": share, "right": right, "pixels": pixels, "photos": len(capture.images), **facts}


def stage_row(row: Row) -> Row:
    """Time and memory of the dense stage, as its commit has them; a reason where there is none."""
    if "dense_folder" not in row:
        return {"reason": f"expected outputs of the dense stage, found none: {row['reasons']}"}
    folder = Path(row["dense_folder"])
    done = json.loads((folder.parents[1] / "DONE.json").read_text())
    facts = json.loads((folder / DENSE_FACTS_FILE).read_text())
    kept = {key: done[key] for key in ("cpu_seconds", "seconds", "peak_memory_gb")}
    return {**kept, **{key: facts[key] for key in ("photos", "edge_px", "points")}, "line_peak_gb": row["peak_gb"]}


def counting_library(folder: Path) -> ctypes.CDLL:
    """The kernel with a counter. Raises RuntimeError where the compiler is missing or fails."""
    source, library = folder / "counted.cpp", folder / "counted.so"
    source.write_text(COUNTED)
    flags = [
        "-std=c++17",
        "-O3",
        "-march=native",
        "-fopenmp",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-shared",
        "-fPIC",
    ]
    command = [os.environ.get("CXX", "g++"), *flags, f"-I{CSRC}", str(source), "-o", str(library)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"expected {command[0]} to build the counting kernel, found {error}") from error
    return ctypes.CDLL(str(library))


def least_cpu(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Least CPU seconds of each work; they take turns, so that other work on the machine meets all of them."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, seconds in zip(works, found, strict=True):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
    return [min(each) for each in found]


def kernel_row(capture: Capture, edge_px: int, repeats: int, folder: Path) -> Row:
    """The kernel's CPU time for one photo from random planes, and what the inner loop alone would take; one thread.

    The inner loop is timed by `patch_costs` at the planes found, in the order of the pixels, as the kernel meets them.
    The time with one source is subtracted from that with all: what is left is pairs alone, without the patches of the
    reference.
    """
    try:
        counting = counting_library(folder)
    except RuntimeError as error:
        return {"reason": str(error)}
    k = int(capture.seen.sum(1).argmax())
    chosen = views.choose_sources(capture.images, capture.xyz, capture.seen, DenseOptions().views)[k]
    photo, depths = capture.photo(k, edge_px, True), capture.depths(k)
    if len(chosen) < 2:
        return {"reason": f"expected a photo with two sources, found {len(chosen)}"}
    level, world = photo.levels[0], np.array(photo.c2w)
    others = [capture.photo(j, edge_px, True) for j in chosen]
    sources = [kernel.Source(other.levels[0], other.w2c @ world) for other in others]
    search = kernel.Search(depths.least, depths.most, DenseOptions().iterations, seed=1)
    shape = (level.camera.height, level.camera.width)
    depth, normal = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)

    def patchmatch() -> None:
        depth[:], normal[:] = 0, 0
        kernel.patchmatch(level, sources, search, depth, normal)

    counts = (ctypes.c_int64 * 2)()
    # a library that this process opened before goes on counting
    counting.counts(counts)
    with mock.patch.object(kernel, "require_library", return_value=counting):
        patchmatch()
    counting.counts(counts)
    pixels, planes = found_planes(level.camera, depth, normal)
    costs = kernel.patch_costs(level, sources, search, pixels, planes)
    whole = (costs < kernel.WORST_COST).all(1)
    pixels, planes = np.ascontiguousarray(pixels[whole]), np.ascontiguousarray(planes[whole])
    if len(pixels) == 0:
        return {"reason": "expected depth where all sources can be compared, found none"}
    # few pixels are over too soon for the clock
    times = -(-LEAST_TIMED // len(pixels))
    pixels, planes = np.tile(pixels, (times, 1)), np.tile(planes, (times, 1))

    def pairs(count: int) -> Callable[[], object]:
        return lambda: kernel.patch_costs(level, sources[:count], search, pixels, planes)

    all_pairs, one_pair = pairs(len(sources)), pairs(1)
    works = [patchmatch, *(work for _ in range(PAIR_TURNS) for work in (all_pairs, one_pair))]
    found = least_cpu(works, repeats)
    seconds, several, one = found[0], min(found[1::2]), min(found[2::2])
    pair_ns = 1e9 * (several - one) / (len(pixels) * (len(sources) - 1))
    masked = shape[0] * shape[1] if level.mask is None else int(level.mask.sum())
    return {
        "of_limit": round(counts[1] * pair_ns * 1e-9 / seconds, 4),
        "pairs": counts[0],
        "scored_pairs": counts[1],
        "cpu_seconds": round(seconds, 3),
        "pair_ns": round(pair_ns, 2),
        "pair_ns_with_reference": round(1e9 * several / (len(pixels) * len(sources)), 2),
        "timed_pixels": len(pixels),
        "masked_pixels": masked,
        "sources": len(sources),
        "iterations": search.iterations,
        "cpu_seconds_per_megapixel": round(1e6 * seconds / masked, 2),
    }


def found_planes(
    camera: Camera, depth: Float32Array, normal: Float32Array
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Pixels [N, 2] (column, row) with depth, row by row, and their planes [N, 4] in camera axes."""
    row, column = np.nonzero(depth)
    x, y = (column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy
    points = np.stack([x, y, np.ones(len(x))], 1) * depth[row, column][:, None]
    n = normal[row, column]
    planes = np.concatenate([n, -(n * points).sum(1, keepdims=True)], 1).astype(np.float32)
    return np.stack([column, row], 1).astype(np.int32), planes


def peer_row(capture: Capture, true: Truth, edge_px: int, folder: Path, install: bool) -> Row:
    """Our depth and the peer's of a few neighbouring photos, whole pictures with the same sources; one thread each."""
    try:
        if not install and not (PEERS / CORE_NAME).is_dir():
            raise RuntimeError(f"expected the peer in {PEERS / CORE_NAME}, found none: run once without --quick")
        python = environment(CORE_NAME, CORE_PACKAGES)
    except RuntimeError as error:
        return {"reason": str(error)}
    centres = np.stack([image.centre for image in capture.images])
    first = int(capture.seen.sum(1).argmax())
    pool = np.argsort(np.linalg.norm(centres - centres[first], axis=1), kind="stable")[:POOL].tolist()
    images = [capture.images[k] for k in pool]
    chosen = views.choose_sources(images, capture.xyz, capture.seen[pool], SOURCES)
    references = [r for r in range(len(pool)) if chosen[r]][:REFERENCES]
    if not references:
        return {"reason": "expected photos that see the same points, found none"}
    photos = [capture.photo(k, edge_px, False) for k in pool]
    ranges = [capture.depths(k) for k in pool]
    ours = our_rounds(photos, chosen, ranges, references, true)
    try:
        theirs = kernel_depth(python, photos, chosen, ranges, references, folder)
    except RuntimeError as error:
        return {"reason": str(error), "ours": ours}
    peer = {"cpu_seconds": round(theirs[0], 2), "depth_1pct": share_right(photos, references, theirs[1], true)}
    row: Row = {"ours": ours, "peer": peer, "photos": len(references), "megapixels": megapixels(photos, references)}
    if peer["depth_1pct"] > ours[-1]["depth_1pct"]:
        return {**row, "reason": "expected our depth to be right as often as the peer's, found it less often"}
    return {**row, "ratio": round(ours[-1]["cpu_seconds"] / peer["cpu_seconds"], 3)}


def megapixels(photos: list[Photo], references: list[int]) -> float:
    """Of the maps of some photos together."""
    cameras = [photos[r].levels[0].camera for r in references]
    return round(1e-6 * sum(camera.width * camera.height for camera in cameras), 3)


def share_right(photos: list[Photo], references: list[int], depths: list[Float32Array], true: Truth) -> float:
    """Share of the object's pixels in some photos whose depth is right."""
    rows = [true.right(photos[r].levels[0].camera, photos[r].c2w, d) for r, d in zip(references, depths, strict=True)]
    return round(sum(row[0] for row in rows) / max(1, sum(row[1] for row in rows)), 4)


def our_rounds(
    photos: list[Photo],
    chosen: list[tuple[int, ...]],
    ranges: list[estimate.DepthRange],
    references: list[int],
    true: Truth,
) -> list[Row]:
    """After the photometric pass and each geometric round: CPU seconds so far, and how often depth is right.

    All photos get maps, because a geometric round reads those of the sources; the references' time alone counts.
    """
    options, settings = DenseOptions(), estimate.StereoSettings()
    rows: list[Row] = []
    maps: list[DepthMap] = []
    total = 0.0
    for round_ in range(1 + options.geometric_rounds):
        made = []
        for k, photo in enumerate(photos):
            others = [photos[j] for j in chosen[k]]
            start = time.process_time()
            if not others:
                made.append(maps[k] if maps else DepthMap.empty(photo.levels[0].camera))
            elif round_ == 0:
                made.append(estimate.estimate(photo, others, settings, ranges[k], k))
            else:
                theirs, seed = [maps[j] for j in chosen[k]], 1000 * round_ + k
                made.append(estimate.refine(photo, others, settings, ranges[k], maps[k], theirs, seed))
            total += (time.process_time() - start) * (k in references)
        maps = made
        share = share_right(photos, references, [maps[r].depth for r in references], true)
        rows.append({"round": round_, "cpu_seconds": round(total, 2), "depth_1pct": share})
    return rows


def timed_rows(data: Path, size: dict[str, int], quick: bool) -> dict[str, Row]:
    """Of the capture with true masks: its depth, the dense stage, the kernel, and the peer beside ours."""
    edge_px = 240 if quick else TIMED_EDGE_PX
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # cameras are known in a small capture: too few of its photos overlap
        row = run_capture("flask", folder, data, size, edge_px, TRUE_MASKS | (TRUE_CAMERAS if quick else {}))
        assert row is not None, "the flask needs no data"
        rows = {"masked": depth_row(row, folder / "truth", edge_px), "stage": stage_row(row)}
        print("masked", json.dumps(rows), flush=True)
        try:
            capture = Capture.of(row)
            true = Truth(capture.poses, folder / "truth")
        except (ValueError, DigitizeError) as error:
            return {**rows, "kernel": {"reason": str(error)}, "peer": {"reason": str(error)}}
        rows["kernel"] = kernel_row(capture, edge_px, 1 if quick else REPEATS, folder)
        print("kernel", json.dumps(rows["kernel"]), flush=True)
        rows["peer"] = peer_row(capture, true, 160 if quick else PEER_EDGE_PX, folder, not quick)
        print("peer", json.dumps(rows["peer"]), flush=True)
    return rows


def phone_rows(names: list[str], data: Path, size: dict[str, int]) -> dict[str, Row]:
    """One row an object, cameras and masks as the line finds them."""
    rows = {}
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            row = run_capture(name, Path(temporary), data, size, EDGE_PX, {})
            if row is None:
                continue
            rows[name] = depth_row(row, Path(temporary) / "truth", EDGE_PX)
            print(name, json.dumps(rows[name]), flush=True)
    return rows


def figures(phone: dict[str, Row], timed: dict[str, Row]) -> Row:
    """The figures by name."""
    pixels = sum(row["pixels"] for row in phone.values())
    right = sum(row["right"] for row in phone.values())
    stage, peer = timed["stage"], timed["peer"]
    ours = peer.get("ours", [{}])[-1]
    return {
        "depth_1pct": round(right / pixels, 4) if pixels else NOT_MEASURED,
        "depth_cpu_seconds": stage.get("cpu_seconds", NOT_MEASURED),
        "depth_peak_gb": stage.get("peak_memory_gb", NOT_MEASURED),
        "depth_photos": stage.get("photos", NOT_MEASURED),
        "patchmatch_of_limit": timed["kernel"].get("of_limit", NOT_MEASURED),
        "patchmatch_vs_peer": peer.get("ratio", NOT_MEASURED),
        "ours_depth_1pct": ours.get("depth_1pct", NOT_MEASURED),
        "peer_depth_1pct": peer.get("peer", {}).get("depth_1pct", NOT_MEASURED),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--objects", default=",".join(FEW), help=f"of {','.join(OBJECTS)}")
    parser.add_argument("--all", action="store_true", help="all objects")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    names = list(OBJECTS) if arguments.all else [name for name in arguments.objects.split(",") if name]
    size = QUICK if arguments.quick else {"views": VIEWS, "width": WIDTH, "height": HEIGHT}
    timed = timed_rows(arguments.data, size, arguments.quick)
    phone = {"flask": timed["masked"]} if arguments.quick else phone_rows(names, arguments.data, size)
    rows = {"phone": phone, **timed, "quick": arguments.quick, "machine": platform.processor()}
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps(rows, indent=1))
    print(json.dumps({"bench": "dense", "quick": arguments.quick, "figures": figures(phone, timed)}))


if __name__ == "__main__":
    main()
