"""Find captures in a folder and write the first specification for them."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from models.media import is_archive, is_photo, is_video

_PHOTO_FOLDERS = ("images", "photos", "input", "rgb")
_SKIPPED = frozenset({"store", "published", "masks", "truth"})
_POSES = {"transforms.json": "transforms", "cameras.json": "cameras"}


@dataclass(frozen=True)
class Capture:
    """One object's photos, as found. All paths are relative to the folder that was searched."""

    id: str
    photos: str
    about: str
    """What is there, for a comment: `34 photos`, `zip archive`, `video`."""
    masks: str | None = None
    poses: str | None = None
    poses_format: str = "transforms"


def slug(name: str) -> str:
    """An asset id from a file's name: `Vase Nº 3` -> `vase-no-3`."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9._-]+", "-", text).strip("-._")
    return text[:100].rstrip("-._") or "asset"


def find_captures(folder: Path) -> list[Capture]:
    """The captures in a folder, in name order.

    A subfolder with photos (or with `images/` and, beside it, `masks/` or `transforms.json`), a zip archive or a
    video is one capture each; a folder that holds photos itself is a single one.
    """
    here = _capture(folder, folder)
    found = [] if here is None else [here]
    for entry in sorted(folder.iterdir(), key=lambda path: path.name.lower()):
        if entry.name.startswith(".") or entry.name.lower() in _SKIPPED:
            continue
        if entry.is_dir():
            if here is not None and entry.name in _PHOTO_FOLDERS:
                continue
            capture = _capture(entry, folder)
            if capture is not None:
                found.append(capture)
        elif is_archive(entry):
            found.append(Capture(slug(entry.stem), entry.name, "zip archive"))
        elif is_video(entry):
            found.append(Capture(slug(entry.stem), entry.name, "video"))
    return _unique(found)


def _capture(folder: Path, root: Path) -> Capture | None:
    """The capture that a folder holds, or None when there are no photos in it."""
    for photos in (folder, *(folder / name for name in _PHOTO_FOLDERS)):
        count = _photos_in(photos)
        if count:
            break
    else:
        return None
    masks = folder / "masks"
    poses = next((folder / name for name in _POSES if (folder / name).is_file()), None)
    return Capture(
        id=slug(folder.resolve().name),
        photos=_relative(photos, root),
        about=f"{count} photo{'s' if count > 1 else ''}",
        masks=_relative(masks, root) if photos != folder and _photos_in(masks) else None,
        poses=_relative(poses, root) if poses else None,
        poses_format=_POSES[poses.name] if poses else "transforms",
    )


def _photos_in(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    with os.scandir(folder) as entries:
        return sum(is_photo(e.name) for e in entries if not e.name.startswith("."))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _unique(captures: list[Capture]) -> list[Capture]:
    """The captures with `-2`, `-3`... added to ids that came before."""
    taken: set[str] = set()
    result = []
    for capture in captures:
        name, number = capture.id, 2
        while name in taken:
            name, number = f"{capture.id[:95]}-{number}", number + 1
        taken.add(name)
        result.append(Capture(**{**capture.__dict__, "id": name}))
    return result


_HEAD = """\
# A batch for digitize. Check it with `digitize validate {file}`, start it with `digitize run {file}`.
# All keys: docs/spec.md. Paths are relative to this file.
version: 1
name: {name}
preset: preview         # preview (minutes; its figures are in docs/benchmarks.md) | standard | high (hours)
store: store            # committed work: a folder, or s3://bucket/prefix
publish:
  - to: published       # finished assets: a folder, or s3://bucket/prefix
stages:
  # A field that starts from dense stereo; where it is not good enough to publish, the mesh of stereo alone is tried.
  train: [hash_sdf, mvs]
  # Cut the object off the table or mat it stands on, where that plane is found; `keep` leaves it.
  surface: {{options: {{support: cut}}}}

# Bounds on quality can be set here; see docs/spec.md.
# gates:
#   - {{metric: psnr_mesh, at_least: 22, otherwise: review}}

assets:
"""

_SCALE = """\
    scale:
      kind: none        # its size is unknown. To give it one, mark two points whose distance you measured:
"""

_SCALE_EXAMPLE = """\
      # kind: known_distance
      # distance_m: 0.120
      # a: {pixels: {IMG_0001.jpg: [812.5, 604.0], IMG_0007.jpg: [455.0, 590.5]}}
      # b: {pixels: {IMG_0001.jpg: [1430.0, 611.5], IMG_0007.jpg: [1102.0, 640.0]}}
"""


def render_spec(name: str, captures: list[Capture], file: str) -> str:
    """The commented YAML of a batch with these captures."""
    text = _HEAD.format(name=name, file=file)
    for index, capture in enumerate(captures):
        text += f"  - id: {yaml_scalar(capture.id)}\n    photos: {yaml_scalar(capture.photos)}  # {capture.about}\n"
        if capture.masks:
            text += f"    masks: {{path: {yaml_scalar(capture.masks)}, role: object}}  # white is the object\n"
        if capture.poses:
            text += f"    poses: {{path: {yaml_scalar(capture.poses)}, format: {capture.poses_format}}}\n"
        text += _SCALE + _SCALE_EXAMPLE if index == 0 else "    scale: {kind: none}\n"
    return text


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def yaml_scalar(text: str) -> str:
    """A string as YAML: plain where nobody can misread it, otherwise in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted) + '"'
