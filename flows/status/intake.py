"""What of the files that a user gave was used: counts of the ingest stage, and what was passed over before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.plan.sources import given_places, other_places
from models.listing import list_folder, summary
from models.spec import AssetSpec
from models.spec_yaml import SpecFile
from models.stage import Stage
from models.status import AssetStatus, StageStatus

_NAMED = 8


def lines_of(status: AssetStatus) -> list[str]:
    """What of an asset's photos, masks, given cameras and marks was not used, or not as it was given."""
    facts = {stage: status.stages.get(stage, StageStatus()).facts for stage in (Stage.INGEST, Stage.POSE, Stage.SCALE)}
    lines = intake_lines(facts[Stage.INGEST]) + camera_lines(facts[Stage.POSE])
    return lines + list(facts[Stage.SCALE].get("notes", ()))


def camera_lines(facts: dict[str, Any]) -> list[str]:
    """The same of the pose stage's facts: photos without a camera, and what was found about given ones.

    >>> camera_lines({"photos": 9, "unregistered": ["a.jpg"], "notes": ["1 of 9 frames belong to no photo"]})
    ['1 of 9 photos without a camera: a.jpg', '1 of 9 frames belong to no photo']
    """
    lost, lines = facts.get("unregistered", ()), list(facts.get("notes", ()))
    if not lost:
        return lines
    names = ", ".join(lost[:_NAMED]) + (f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else "")
    return [f"{len(lost)} of {facts.get('photos', 0)} photos without a camera: {names}", *lines]


def intake_lines(facts: dict[str, Any]) -> list[str]:
    """What the ingest stage's facts say of photos and masks that were not used, and of several cameras.

    >>> intake_lines({"found": 9, "photos": 6, "rejected": {"undecodable": 2, "blurred": 1}})
    ['3 of 9 photos not used: 2 undecodable, 1 blurred']
    >>> intake_lines({"found": 9, "photos": 9, "cameras": 2, "camera_groups": ["6 x A, 40 x 30", "3 x B, 20 x 30"]})
    ['2 cameras: 6 x A, 40 x 30; 3 x B, 20 x 30']
    >>> intake_lines({"found": 6, "photos": 6, "masks": 2, "masks_given": 2})
    ['2 of 6 photos have a mask']
    """
    found, photos = facts.get("found", 0), facts.get("photos", 0)
    lines = []
    if rejected := facts.get("rejected"):
        ordered = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
        counts = ", ".join(f"{count} {code}" for code, count in ordered)
        lines.append(f"{found - photos} of {found} photos not used: {counts}")
    if helping := facts.get("alignment_only"):
        lines.append(f"{helping} of {photos} photos help to find the cameras alone")
    if len(cameras := facts.get("camera_groups", ())) > 1:
        more = f" and {len(cameras) - _NAMED} more" if len(cameras) > _NAMED else ""
        lines.append(f"{facts.get('cameras', len(cameras))} cameras: {'; '.join(cameras[:_NAMED])}{more}")
    if facts.get("masks_given") and facts.get("masks", photos) < photos:
        lines.append(f"{facts['masks']} of {photos} photos have a mask")
    return lines + list(facts.get("notes", ()))


def passed_over(spec_file: SpecFile, asset: AssetSpec) -> list[str]:
    """What lies among an asset's photos, or among its masks, and is not read; a line each, with the reason."""
    others, places = other_places(spec_file, asset), given_places(asset)
    lines = []
    for name in ("photos", "masks"):
        if name not in places:
            continue
        uri = spec_file.resolve(places[name][0])
        if "://" in uri or not Path(uri).is_dir():
            continue
        try:
            passed = list_folder(Path(uri), others[name]).passed
        except OSError:
            continue  # the plan says so
        lines += [f"{name}: {line}" if name != "photos" else line for line in summary(passed)]
    return lines
