"""Captures that cannot be measured, or not whole: each must end in a reasoned verdict, never in a published torn mesh.

    python -m bench.real_bad                        the five, 24 photos of 0.5 MP each
    python -m bench.real_bad --rows mirror,glass
    python -m bench.real_bad --quick                one small row: shows that the script works, under 60 s

`blur`: one photo far out of focus. `passer`: somebody walks past in two photos, partly before the object. `masks`:
the masks given show a corner of the frame. `mirror`, `glass`: what the object is made of. The run gets no truth, so
that the verdict is the one that a user gets; its mesh, published or not, is scored afterwards. Goal:
`bad_published_torn`, the rows that were published with an F-score at 1 % below 0.8, is 0. `python -m bench.real --all`
runs these rows as well. The last line is one JSON object; rows are kept in `.bench/real_bad.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image, ImageFilter

from bench.line import ROOT
from bench.real_rows import NOT_MEASURED, QUICK, QUICK_STAGES, changed, run

KINDS = ("blur", "passer", "masks", "mirror", "glass")
SIZE = {"views": 24, "width": 800, "height": 600}
TORN = 0.8
"""F-score at 1 % of the diagonal below which a mesh is torn."""
ROWS = ROOT / ".bench" / "real_bad.json"
SEED = 3
SAMPLES = 100_000
_BLURRED, _PASSED = 5, (8, 9)
_BLUR_SHARE = 0.009
"""Gaussian sigma of the photo out of focus, as a share of its width: 7 px of 800."""
Picture = npt.NDArray[np.uint8]


def write_bad(kind: str, folder: Path, size: dict[str, int]) -> Path:
    """The capture of one row, without truth in its specification; returns that. The truth lies in `folder/truth`."""
    from tasks.sample.material import Material
    from tasks.sample.phone_capture import write_phone_sample

    material = Material(kind) if kind in set(Material) else Material.PAINT
    write_phone_sample(folder, seed=SEED, material=material, **size)
    photos = sorted((folder / "photos").glob("*.jpg"))
    spec = yaml.safe_load((folder / "batch.yaml").read_text())
    (asset,) = spec["assets"]
    asset |= {"id": kind, "scale": {"kind": "none"}}
    del asset["truth"]
    if kind == "blur":
        _redraw(photos[_BLURRED], _out_of_focus)
    elif kind == "passer":
        for number, k in enumerate(_PASSED):
            outline = folder / "truth" / "masks" / f"{photos[k].stem}.png"
            _redraw(photos[k], lambda picture, at=outline, step=number: _walked_past(picture, at, step))
    elif kind == "masks":
        asset["masks"] = {"path": "./masks"}
        _write_corner_masks(photos, folder / "masks")
    (folder / "batch.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder / "batch.yaml"


def _redraw(path: Path, draw: Callable[[Image.Image], Image.Image]) -> None:
    """Change a photo in place; its EXIF stays."""
    with Image.open(path) as photo:
        exif, picture = photo.info.get("exif", b""), photo.convert("RGB")
    draw(picture).save(path, quality=88, exif=exif)


def _out_of_focus(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(_BLUR_SHARE * picture.width))


def _walked_past(picture: Image.Image, outline: Path, step: int) -> Image.Image:
    """Head and coat of somebody between camera and table, over the right or the left half of the object."""
    with Image.open(outline) as mask:
        columns = np.flatnonzero((np.asarray(mask) > 127).any(0))
    half = 0.09 * picture.width
    middle = float(np.quantile(columns, 0.8 if step == 0 else 0.2)) + (0.3 if step == 0 else -0.3) * half
    height, width = picture.height, picture.width
    v, u = np.mgrid[:height, :width]
    body = (((u - middle) / half) ** 2 + ((v - 0.75 * height) / (0.5 * height)) ** 2) < 1
    body |= (((u - middle) / (0.45 * half)) ** 2 + ((v - 0.16 * height) / (0.11 * height)) ** 2) < 1
    cloth = np.random.default_rng(step).integers(40, 200, (12, 9, 3), dtype=np.uint8)
    coat = np.asarray(Image.fromarray(cloth).resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.array(picture)
    pixels[body] = coat[body]
    return Image.fromarray(pixels)


def _write_corner_masks(photos: Sequence[Path], folder: Path) -> None:
    """One mask a photo: the same rectangle near the upper left corner of each, whatever lies there."""
    folder.mkdir()
    for path in photos:
        with Image.open(path) as photo:
            width, height = photo.size
        mask: Picture = np.zeros((height, width), np.uint8)
        mask[height // 10 : 4 * height // 10, width // 10 : 3 * width // 10] = 255
        Image.fromarray(mask).save(folder / f"{path.stem}.png")


def score(row: dict[str, Any], truth: Path) -> dict[str, float | None]:
    """Chamfer distance (share of the true diagonal) and F-scores of a row's mesh; all None without one."""
    from models.camera import PoseSet
    from models.errors import DigitizeError
    from tasks.quality.published import read_published
    from tasks.quality.truth import measure, read_truth

    found: dict[str, float | None] = dict.fromkeys(("chamfer", "fscore_1pct", "fscore_0_5pct"))
    surface, pose = (Path(row.get(f"{stage}_folder", "none")) for stage in ("surface", "pose"))
    if not (surface / "asset.glb").is_file():
        return found
    poses = PoseSet.model_validate_json((pose / "poses.json").read_bytes())
    try:
        mesh = read_published(surface / "asset.glb", poses.up)
        scored = measure(mesh, poses, read_truth(truth), SAMPLES, 0, 0, 0, 2).report.mesh
    except DigitizeError:
        return found
    return found | {
        "chamfer": scored.chamfer,
        "fscore_1pct": scored.fscore(0.01),
        "fscore_0_5pct": scored.fscore(0.005),
    }


def is_torn(row: dict[str, Any]) -> bool:
    """Whether a row was published though its F-score at 1 % is below `TORN`, or there is none."""
    return bool(row["published"]) and (row["fscore_1pct"] or 0.0) < TORN


def bad_rows(kinds: Sequence[str], size: dict[str, int], method: str | None = None) -> dict[str, dict[str, Any]]:
    """One row a kind of bad input: verdict, reasons, figures against the truth, and whether anything was published."""
    rows = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as temporary:
            batch = write_bad(kind, Path(temporary), size)
            changed(batch, method, QUICK_STAGES if size is QUICK else None)
            row = run(batch)
            row |= score(row, batch.parent / "truth")
            row["published"] = (batch.parent / "published" / "assets" / kind / "latest.json").is_file()
            rows[kind] = {key: value for key, value in row.items() if not key.endswith("_folder")}
            print(kind, json.dumps(rows[kind]), flush=True)
    return rows


def bad_figures(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`bad_published_torn`: how many rows `is_torn`; not measured unless all five ran."""
    if set(rows) != set(KINDS):
        return {"bad_published_torn": NOT_MEASURED}
    return {"bad_published_torn": sum(is_torn(row) for row in rows.values())}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", default=",".join(KINDS))
    parser.add_argument("--method", help="a training method instead of the default")
    arguments = parser.parse_args()
    kinds = ["masks"] if arguments.quick else [kind for kind in arguments.rows.split(",") if kind]
    rows = bad_rows(kinds, QUICK if arguments.quick else SIZE, arguments.method)
    ROWS.parent.mkdir(exist_ok=True)
    kept = json.loads(ROWS.read_text()) if ROWS.is_file() and not arguments.quick else {}
    if not arguments.quick:
        ROWS.write_text(json.dumps(kept | rows, indent=1))
    figures = bad_figures(rows if arguments.quick else kept | rows)
    print(json.dumps({"bench": "real_bad", "quick": arguments.quick, "figures": figures}))


if __name__ == "__main__":
    main()
