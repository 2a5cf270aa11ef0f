"""Write the first specification for the captures of a folder."""

from __future__ import annotations

import re

from flows.plan.discover import Capture

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
