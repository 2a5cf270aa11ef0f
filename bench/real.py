"""Captures as a phone takes them: what `digitize run` makes of objects in a cluttered room, and of real photos.

    python -m bench.real             six rendered objects with truth, the flower pot and the ruin
    python -m bench.real --quick     one small capture: shows that the script works, under 60 s
    python -m bench.real --all       and other methods, parts left out, a larger preset, an older commit
                                     (`bench.real_variants`), Buddha's head, and bad input (`bench.real_bad`)
    python -m bench.real --objects flask,knot --method mvs

Cameras are solved by the line, no masks are given, preset `preview`. The real photos lie below `--data`; without them
their figures are "not measured". The public peer gets two objects' photos as well; its environment is made at the first
use. The last line is one JSON object; rows are kept in `.bench/real.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.older_commit import ROOT, checked_out
from bench.real_peer import NAMES as PEER_NAMES
from bench.real_peer import peer_figures
from bench.real_rows import HEIGHT, NOT_MEASURED, OBJECTS, QUICK, VIEWS, WIDTH, phone_rows, real_row
from bench.real_variants import OLDER

ROWS = ROOT / ".bench" / "real.json"
POT = {
    "pot_verdict": "verdict",
    "pot_psnr_mesh": "psnr_mesh_corrected",
    "pot_psnr_model": "psnr_model_corrected",
    "pot_completeness": "completeness_dense",
    "pot_precision": "precision_dense",
    "pot_covered": "coverage_mesh",
}


def figures(
    phone: dict[str, dict[str, Any]], pot: dict[str, Any] | None, ruin: dict[str, Any] | None
) -> dict[str, Any]:
    """The figures by name."""
    found: dict[str, Any] = dict.fromkeys(
        ("mask_iou", "phone_chamfer_pct", "phone_fscore_0p5", "phone_fscore_0p5_worst", "phone_accepted"), NOT_MEASURED
    )
    if phone:
        fscores = [row.get("fscore_0_5pct") or 0.0 for row in phone.values()]
        chamfers = [row["chamfer"] for row in phone.values() if row.get("chamfer") is not None]
        found |= {
            "mask_iou": round(float(np.mean([value for row in phone.values() for value in row["mask_iou"]])), 4),
            "phone_chamfer_pct": round(100.0 * float(np.mean(chamfers)), 4) if chamfers else NOT_MEASURED,
            "phone_fscore_0p5": round(float(np.mean(fscores)), 4),
            "phone_fscore_0p5_worst": round(min(fscores), 4),
            "phone_accepted": round(float(np.mean([row["verdict"] == "accept" for row in phone.values()])), 3),
        }
    found |= dict.fromkeys((*POT, "pot_minutes", "ruin_covers", "ruin_floaters"), NOT_MEASURED)
    if pot is not None:
        found |= {name: pot.get(of) for name, of in POT.items()}
        found["pot_minutes"] = round(pot["cpu_seconds"]["all"] / 120.0, 2)
    if ruin is not None and "covers" in ruin:
        found |= {"ruin_covers": ruin["covers"], "ruin_floaters": ruin["floaters"]}
    gaps = [row["texture_gap_db"] for row in phone.values() if "texture_gap_db" in row]
    found["phone_texture_gap_db"] = round(float(np.mean(gaps)), 3) if gaps else NOT_MEASURED
    return found | dict.fromkeys(PEER_NAMES, NOT_MEASURED) | peer_figures(phone)


def real_rows(data: Path, method: str | None, everything: bool) -> dict[str, dict[str, Any] | None]:
    """The rows of real photos by name."""
    rows = {
        "pot": real_row(data / "scene_flowerpot", method, variants=["standard"] if everything else []),
        "ruin": real_row(data / "scene_cyprus", method, scene=True),
    }
    return rows | ({"buddha": real_row(data / "scene_buddha", method)} if everything else {})


def main() -> None:
    """Measure and print."""
    from bench.real_bad import KINDS, SIZE, bad_figures, bad_rows

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all", action="store_true", help="all further rows, too: many hours")
    parser.add_argument("--objects", default=",".join(OBJECTS))
    parser.add_argument("--method", help="a training method instead of the default")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    everything = arguments.all and not arguments.quick
    names = ["flask"] if arguments.quick else [name for name in arguments.objects.split(",") if name]
    size = QUICK if arguments.quick else {"views": VIEWS, "width": WIDTH, "height": HEIGHT}
    with (
        tempfile.TemporaryDirectory() as folder,
        checked_out(OLDER, Path(folder)) if everything else contextlib.nullcontext() as older,
    ):
        phone = phone_rows(names, arguments.data, size, arguments.method, older)
    real = {} if arguments.quick else real_rows(arguments.data, arguments.method, everything)
    bad = bad_rows(KINDS, SIZE, arguments.method) if everything else {}
    rows = {
        "phone": phone,
        **real,
        "bad": bad,
        "method": arguments.method,
        "machine": platform.processor(),
    }
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps(rows, indent=1))
    found = figures(phone, real.get("pot"), real.get("ruin")) | bad_figures(bad)
    print(json.dumps({"bench": "real", "quick": arguments.quick, "figures": found}))


if __name__ == "__main__":
    main()
