"""The specification that digitizes a sample capture, and the marks of the scale bar that it names."""

from __future__ import annotations

import numpy as np

from models.camera import CameraSet, project
from models.mesh.raycast import RayCaster
from tasks.sample.lens import Lens
from tasks.sample.mat import BAR_A, BAR_B, BAR_M
from tasks.sample.noise import FloatArray

Marks = dict[str, tuple[FloatArray, FloatArray]]

_MARKED_PHOTOS = 6
_MARK_MARGIN_PX = 12.0


def mark_bar(cameras: CameraSet, caster: RayCaster, lens: Lens | None = None, tolerance_m: float = 1e-5) -> Marks:
    """Where the scale bar's two end marks are, in the photos that show both best.

    Args:
        caster: the object and what else may hide the bar from some cameras.
        lens: of the photos; None where they have no distortion.
        tolerance_m: how far before a mark a surface may lie that counts as the print itself.

    Returns:
        photo name -> pixels [2] of the first and the second mark, spread over the capture.
    """
    found: list[tuple[float, str, FloatArray]] = []
    ends = np.stack([BAR_A, BAR_B])
    for image in cameras.images:
        pixels, _ = project(image.camera, image.c2w, ends)
        if lens is not None:
            pixels = lens.distort_pixels(image.camera, pixels)
        room = min(pixels.min(), float((np.array([image.camera.width, image.camera.height]) - pixels).min()))
        # the neighbourhood of a mark has to be seen too, or nobody could click on it
        around = np.concatenate([ends + np.array([dx, dy, 0.0]) for dx in (-0.004, 0.004) for dy in (-0.004, 0.004)])
        if room >= _MARK_MARGIN_PX and caster.visible(np.concatenate([ends, around]), image.centre, tolerance_m).all():
            length = float(np.linalg.norm(pixels[0] - pixels[1]))
            found.append((length, image.name, pixels))
    best = sorted(found, key=lambda each: -each[0])[: 2 * _MARKED_PHOTOS]
    spread = sorted(best, key=lambda each: each[1])[:: max(1, len(best) // _MARKED_PHOTOS)]
    return {name: (pixels[0], pixels[1]) for _, name, pixels in spread[:_MARKED_PHOTOS]}


def specification(marks: Marks) -> str:
    """The text of batch.yaml for the capture beside it, with the bar's marks as `mark_bar` returns them."""
    lines = [[f"{name}: [{pair[k][0]:.1f}, {pair[k][1]:.1f}]" for name, pair in marks.items()] for k in (0, 1)]
    a, b = (("\n" + " " * 10).join(each) for each in lines)
    return f"""\
# A batch: which objects, from which photos, how well, and where to. Try it:
#   digitize plan batch.yaml      what would run, and for how long
#   digitize run batch.yaml       photos in, published assets out; run it again after a stop: it goes on
version: 1
name: sample

# How much time and detail: preview (minutes, any computer), standard, high.
preset: preview

# Finished work is kept here under what it was made from, so nothing is ever computed twice.
store: ./store

# Where finished assets go: folders or s3://bucket/prefix, as many as you like.
publish:
  - to: ./published

stages:
  # A field that starts from dense stereo; where it is not good enough to publish, the mesh of stereo alone is tried.
  train: [hash_sdf, mvs]
  # Cut the object off the mat it stands on; `keep` leaves the mat.
  surface: {{options: {{support: cut}}}}

assets:
  - id: sample
    # A folder, a zip archive, a video, or s3://bucket/prefix; relative paths start at this file.
    photos: ./photos

    # Photos alone do not tell the size. A scale bar of {BAR_M * 1000:g} mm is printed on the mat; the centres of its
    # two round end marks were clicked in some photos: name: [pixels from the left, pixels from the top].
    # Two photos are enough, more are better. An object without a scale says so: `scale: {{kind: none}}`.
    scale:
      kind: known_distance
      distance_m: {BAR_M:g}
      uncertainty_m: 0.0001
      a:
        pixels:
          {a}
      b:
        pixels:
          {b}

    # Only a synthetic or measured object has one: the true mesh and cameras, to score the result against.
    # Nothing but the report looks at it. Leave it out for your own objects.
    truth: ./truth
"""
