"""The further rows of `bench.real --all`: other methods, a larger preset, the line without its parts, an older commit.

Each runs on the photos of a capture that the default ran on, in the same store: stages that do not differ are used
again, and their CPU seconds count. `standard` runs on two objects and on the pot alone. `older` is what the commit
before automatic masks and dense stereo made of the photos by its defaults.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

OLDER = "117bf8f~1"
"""Before the first commit of phone-style captures."""
STANDARD = ("flask", "chair")
"""Objects that the preset `standard` runs on."""
VARIANTS: dict[str, dict[str, Any]] = {
    "mvs": {"train": ["mvs"]},
    "hash_sdf": {"train": ["hash_sdf"], "options": {"dense_prior": True}},
    "hash_density": {"train": ["hash_density"], "options": {"dense_prior": True}},
    "without_masks": {"masks": "none", "train": ["hash_sdf"], "options": {"dense_prior": True}},
    "without_priors": {"train": ["hash_sdf"], "options": {"dense_prior": False}},
    "without_either": {"masks": "none", "train": ["hash_sdf"], "options": {"dense_prior": False}},
}
"""What differs from the default: the training method and its options, and the masks."""
Run = Callable[[Path], dict[str, Any]]


def variant(batch: Path, name: str) -> Path:
    """The specification of a variant beside that of the default; returns it. `standard` names the preset."""
    spec = yaml.safe_load(batch.read_text())
    if name == "standard":
        spec["preset"] = "standard"
    else:
        changes = VARIANTS[name]
        options = {"options": changes["options"]} if "options" in changes else {}
        (method,) = changes["train"]
        spec["stages"] = {**spec.get("stages", {}), "train": {"method": method, **options}}
        if "masks" in changes:
            spec["assets"] = [{**asset, "masks": changes["masks"]} for asset in spec["assets"]]
    spec["publish"] = [{"to": f"./published_{name}"}]
    path = batch.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def variant_rows(batch: Path, names: Iterable[str], run: Run) -> dict[str, dict[str, Any]]:
    """One row a variant of a capture, in the store of the default's run."""
    rows = {}
    for name in names:
        row = run(variant(batch, name))
        rows[name] = {key: value for key, value in row.items() if not key.endswith("_folder")}
        print(batch.parent.name, name, json.dumps(rows[name]), flush=True)
    return rows


def older_row(batch: Path, tree: Path, run: Callable[[Path, Path], dict[str, Any]]) -> dict[str, Any]:
    """The row of a capture by the defaults of an older commit, in a store of its own.

    Args:
        tree: where that commit is checked out.
        run: of a specification and a tree.
    """
    folder = batch.parent / "older"
    folder.mkdir()
    spec = yaml.safe_load(batch.read_text())
    (asset,) = spec["assets"]
    kept = {key: asset[key] for key in ("id", "scale", "truth") if key in asset}
    photos = asset["photos"] if Path(asset["photos"]).is_absolute() else str(batch.parent / asset["photos"])
    if "truth" in kept:
        kept["truth"] = str(batch.parent / kept["truth"])
    plain: dict[str, Any] = {
        "name": "older",
        "preset": "preview",
        "store": "store",
        "publish": [{"to": "published"}],
    }
    plain |= {"assets": [{**kept, "photos": photos}]} | ({"gates": spec["gates"]} if "gates" in spec else {})
    (folder / "batch.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    found = run(folder / "batch.yaml", tree)
    shutil.rmtree(folder)
    row = {key: value for key, value in found.items() if not key.endswith("_folder")}
    print(batch.parent.name, "older", json.dumps(row), flush=True)
    return row
