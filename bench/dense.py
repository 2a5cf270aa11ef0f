"""Figures of dense stereo: how much of the objects' depth is right, what it costs, and a peer's kernel beside ours.

    python -m bench.dense              all six objects: about 45 minutes on two cores
    python -m bench.dense --objects flask,knot
    python -m bench.dense --quick      one small capture: shows that the script works, under 60 s

Figures ("not measured" where something is missing; the rows say why):

- `depth_1pct`: share of the true object pixels of all training photos whose depth errs by at most 1 % of the object's
  diagonal, over phone-style captures whose cameras and masks the line solves; pixels without depth are wrong. Gaps of a
  map are filled from the surface of all maps, as the stage writes them (`filled`).
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
  (`ours_depth_1pct`, `peer_depth_1pct`). `patchmatch_vs_peer_at_its_depth`: the same up to the first round after which
  ours is as often right. The peer's kernel starts from random planes, with the settings that its
  program has for close range; one thread each. It is GPL: it runs in a process of its own, in an environment of its
  own below `.bench/peers/`. `--quick` makes none, and leaves the peer out where there is none.

The last line is one JSON object; rows are kept in `.bench/dense.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from bench.dense_capture import Capture, Float32Array, Row, Truth
from bench.dense_kernel import kernel_row
from bench.line import ROOT
from bench.peers.photogrammetry import CORE_NAME, CORE_PACKAGES, PEERS, environment, kernel_depth
from bench.real_rows import HEIGHT, NOT_MEASURED, OBJECTS, VIEWS, WIDTH, changed, run, write_object
from models.artifacts import DENSE_FACTS_FILE
from models.errors import DigitizeError
from tasks.dense.options import DenseOptions
from tasks.stereo import estimate, views
from tasks.stereo.fusion import Fusion, FusionSettings, MapView
from tasks.stereo.maps import DepthMap, depth_path, read_filled_depth
from tasks.stereo.photo import Photo, fitted
from tasks.stereo.planar import planes_between

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
POOL, REFERENCES, SOURCES = 12, 6, 5
"""Photos beside the peer: those whose depth is refined, those of them that are compared, and sources of each."""
ROWS = ROOT / ".bench" / "dense.json"
BLAS_THREADS = "OPENBLAS_NUM_THREADS"


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
            depth = read_filled_depth(path)
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
    enough = next(each for each in ours if each["depth_1pct"] >= peer["depth_1pct"])
    ratios = [round(each["cpu_seconds"] / peer["cpu_seconds"], 3) for each in (ours[-1], enough)]
    return {**row, "ratio": ratios[0], "ratio_at_its_depth": ratios[1]}


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
    places = zip(photos, chosen, strict=True)
    map_views = [MapView(photo.levels[0].camera, photo.c2w, sources) for photo, sources in places]
    for round_ in range(1 + options.geometric_rounds):
        made = []
        fusion = Fusion(map_views, maps.__getitem__, FusionSettings(least_views=options.least_views))
        for k, photo in enumerate(photos):
            others = [photos[j] for j in chosen[k]]
            start = time.process_time()
            if not others:
                made.append(maps[k] if maps else DepthMap.empty(photo.levels[0].camera))
            elif round_ == 0:
                made.append(estimate.estimate(photo, others, settings, ranges[k], k))
            else:
                theirs, seed = [maps[j] for j in chosen[k]], 1000 * round_ + k
                planes = planes_between(photo.levels[0], maps[k], fusion.agreed(k))
                made.append(estimate.refine(photo, others, settings, ranges[k], maps[k], theirs, seed, planes=planes))
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
        "patchmatch_vs_peer_at_its_depth": peer.get("ratio_at_its_depth", NOT_MEASURED),
        "ours_depth_1pct": ours.get("depth_1pct", NOT_MEASURED),
        "peer_depth_1pct": peer.get("peer", {}).get("depth_1pct", NOT_MEASURED),
    }


def hold_to_one_thread() -> None:
    """Start this command again with one thread of linear algebra: CPU time of threads that wait would count as ours."""
    if os.environ.get(BLAS_THREADS) != "1":
        os.execve(
            sys.executable, [sys.executable, "-m", "bench.dense", *sys.argv[1:]], {**os.environ, BLAS_THREADS: "1"}
        )


def main() -> None:
    """Measure and print."""
    hold_to_one_thread()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--objects", default=",".join(OBJECTS))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    names = [name for name in arguments.objects.split(",") if name]
    size = QUICK if arguments.quick else {"views": VIEWS, "width": WIDTH, "height": HEIGHT}
    timed = timed_rows(arguments.data, size, arguments.quick)
    phone = {"flask": timed["masked"]} if arguments.quick else phone_rows(names, arguments.data, size)
    rows = {"phone": phone, **timed, "quick": arguments.quick, "machine": platform.processor()}
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps(rows, indent=1))
    print(json.dumps({"bench": "dense", "quick": arguments.quick, "figures": figures(phone, timed)}))


if __name__ == "__main__":
    main()
