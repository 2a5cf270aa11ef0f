"""Captures as they come, through the command line: formats, modes, orientations, containers, layouts and names.

    python -m bench.inputs            every input; about 15 minutes
    python -m bench.inputs --quick    every thirtieth: shows that the script works, under 60 s

Each input is an asset of its own: four photos of a smooth wall, written in one way. All go through `init`, `validate`,
`plan`, `run --until ingest` and `explain`, each with `--json`. An input is right when as many photos were stored as its
row says, of the true size and like the true picture, or when it is refused with the words of its row; and when every
command gave valid JSON and the documented exit code. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from bench.inputs_cameras import camera_inputs
from bench.inputs_table import Input, inputs, picture
from bench.older_commit import ROOT

OK, USAGE, REJECTED, FAILED = 0, 2, 3, 4
LIKE_DB = 22.0
"""PSNR against the true picture; palettes, one bit and CMYK without a profile have bounds of their own."""


def digitize(*arguments: object) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of one command. Raises ValueError where that is no JSON."""
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def specification(folder: Path, table: list[Input]) -> Path:
    """One batch with an asset for each input."""
    assets: list[dict[str, Any]] = []
    for each in table:
        asset: dict[str, Any] = {"id": each.id, "photos": each.source, "scale": {"kind": "none"}}
        if each.masks:
            asset["masks"] = {"path": each.masks}
        if each.alignment_only:
            asset["alignment_only"] = [each.alignment_only]
        assets.append(asset)
    stages = {"ingest": {"options": {"min_photos": 2, "reject_duplicates": False, "blur_ratio": 0.0}}}
    spec = {"version": 1, "name": "inputs", "preset": "preview", "stages": stages, "assets": assets}
    path = folder / "all.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def judged(folder: Path, each: Input, run: dict[str, Any], missing: set[str]) -> str:
    """What is wrong with an input's way through the commands; empty for nothing."""
    asset = next((found for found in run["assets"] if found["id"] == each.id), None)
    if asset is None:
        return "run knows nothing of it"
    code, told = digitize("explain", folder / "all.yaml", each.id)
    said = [asset["failure"], asset["reasons"], told["rejected_photos"], told["passed_over"], told["not_used"]]
    words = json.dumps(said, ensure_ascii=False)
    if each.words and each.words not in words:
        return f"expected the words '{each.words}', found {words[:300]}"
    if each.photos == 0:
        wanted = {"quarantined": FAILED, "rejected": REJECTED}.get(asset["phase"])
        return "" if wanted == code else f"expected a refusal, found {asset['phase']} and exit code {code}"
    if (asset["phase"], code) != ("pending", OK):
        return f"expected it as far as ingest, found {asset['phase']}, exit code {code}: {words[:300]}"
    if each.id in missing:
        return "validate says that it is not there"
    return stored_wrong(folder, each)


def stored_wrong(folder: Path, each: Input) -> str:
    """What is wrong with the photos that ingest stored."""
    (index,) = (folder / "store" / "work" / each.id / "ingest").glob("*/attempts/*/photos.json")
    photos = json.loads(index.read_text())["photos"]
    if each.photos < 0:
        return "" if photos else "expected frames, found none"
    if len(photos) != each.photos:
        return f"expected {each.photos} photos, found {len(photos)}"
    if each.masks and sum(photo["mask"] is not None for photo in photos) != each.masked:
        return f"expected {each.masked} masks, found others"
    true = np.asarray(picture(0).convert("L") if each.grey else picture(0), np.float64)
    best = 0.0
    for photo in photos:
        with Image.open(index.parent / photo["file"]) as stored:
            found = np.asarray(stored.convert("L") if each.grey else stored.convert("RGB"), np.float64)
        if found.shape[:2] != true.shape[:2]:
            if not each.one_size:
                continue
            return f"expected {true.shape[1]} x {true.shape[0]}, found {found.shape[1]} x {found.shape[0]}"
        best = max(best, float(10 * np.log10(255.0**2 / max(np.mean((found - true) ** 2), 1e-9))))
    bound = each.like_db or LIKE_DB
    return "" if best >= bound else f"expected the picture at {bound:g} dB, found {best:.1f}"


def layouts_wrong(folder: Path, table: list[Input]) -> dict[str, str]:
    """Inputs that `init` neither makes an asset of nor names."""
    code, document = digitize("init", folder / "captures", "--force")
    if code != OK:
        return {each.id: f"init ended with {code}" for each in table}
    told = json.dumps([document["assets"], document["passed_over"]], ensure_ascii=False)
    return {each.id: "init does not name it" for each in table if f"{each.id}" not in told}


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    table = [*inputs(), *camera_inputs()][:: 30 if quick else 1]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ |= {"DIGITIZE_DATABASE_URL": f"sqlite:///{folder / 'c.db'}", "PREFECT_HOME": str(folder / "prefect")}
        for each in table:
            each.make(folder / "captures" / each.id)
        spec = specification(folder, table)
        wrong = layouts_wrong(folder, table)
        code, validated = digitize("validate", spec)
        missing = {each.id for each in table if f"/{each.id}" in json.dumps(validated["mistakes"])}
        codes = {"validate": code in (OK, USAGE), "plan": digitize("plan", spec)[0] in (OK, FAILED)}
        code, run = digitize("run", spec, "--until", "ingest")
        codes["run"] = code in (OK, REJECTED, FAILED)
        again, second = digitize("run", spec, "--until", "ingest")
        states = {found["stages"]["ingest"]["state"] for found in second["assets"] if found["phase"] == "pending"}
        codes["second run"] = again == code and states == {"cached"}
        for number, each in enumerate(table):
            if each.id not in wrong and (why := judged(folder, each, run, missing)):
                wrong[each.id] = why
            if number % 20 == 0:
                print(f"{number} of {len(table)}", file=sys.stderr, flush=True)
    for name, why in wrong.items():
        print(f"{name}: {why}", flush=True)
    right = len(table) - len(wrong) if all(codes.values()) else 0
    figures = {"inputs_tried": len(table), "inputs_right_share": round(right / len(table), 4)}
    return {**figures, "wrong": wrong, "exit_codes": codes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.quick)
    head = {"bench": "inputs", **({"quick": True} if arguments.quick else {})}
    print(json.dumps({**head, "figures": figures}))


if __name__ == "__main__":
    main()
