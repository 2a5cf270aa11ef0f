"""THE module that scores geometry: what every figure about shape in this project means.

- **Frame**: the prediction is moved into the truth's frame by `alignment.align` (Umeyama on camera centres, with
  scale); never by fitting surface to surface.
- **Precision (accuracy)**: 200,000 area-uniform samples over all faces of the prediction, the support left out, to the
  *whole* true surface, undersides included.
- **Recall (completeness)**: 200,000 area-uniform samples of the part of the true surface that at least two true cameras
  see, to the whole prediction. What no pair of cameras sees counts against nobody.
- **Distances** are exact, from point to triangle.
- **Support**: when the truth gives the plane of its support, a sample of the prediction counts as support if and only
  if it lies within 0.5 % of the diagonal of that plane, on either side. Nothing else is left out: neither what lies
  deeper below nor what lies beside the object, and nothing at all where the truth gives no plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import Plane, PosedImage, project, transform_points
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from tasks.quality.base import GeometryScore, SurfaceAtShare
from tasks.quality.metrics.chamfer import chamfer
from tasks.quality.metrics.fscore import fscore
from tasks.quality.metrics.normal_consistency import normal_consistency

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SAMPLES = 200_000
SHARES = (0.0025, 0.005, 0.01)
"""Distances at which F-scores are given, as shares of the true bounding box's diagonal."""
SUPPORT_MARGIN = 0.005
"""Half the thickness of the slab that counts as support, as a share of the diagonal."""
VISIBILITY_TOLERANCE = 1e-4
"""How far behind the first hit a point still counts as seen, as a share of the diagonal."""
MINIMUM_VIEWS = 2
_ROUNDS = 64


@dataclass(frozen=True)
class TrueSurface:
    """A true mesh made ready for scoring: its caster and the samples that count for recall."""

    mesh: Mesh
    caster: RayCaster
    diagonal: float
    support: Plane | None
    seen_points: FloatArray
    """[M, 3] area-uniform over what at least two cameras see."""
    seen_normals: FloatArray
    """[M, 3]"""
    seen_share: float
    samples: int
    seed: int
    threads: int


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """Area-uniform samples over all faces: points [N, 3] and their faces [N]; none for a mesh without area."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total = np.cumsum(areas)
    if not len(total) or not total[-1] > 0:
        return np.zeros((0, 3)), np.zeros(0, np.int64)
    face = np.searchsorted(total, rng.random(count) * total[-1], side="right").astype(np.int64)
    face = np.minimum(face, len(total) - 1)
    # Osada et al. 2002: the square root makes the density uniform over the triangle
    root, v = np.sqrt(rng.random(count))[:, None], rng.random(count)[:, None]
    return (1 - root) * a[face] + root * (1 - v) * b[face] + root * v * c[face], face


def _draw(
    mesh: Mesh, count: int, rng: np.random.Generator, keep: Callable[[FloatArray], BoolArray]
) -> tuple[FloatArray, IntArray, float]:
    """`count` samples for which `keep` holds, drawn until there are enough, and their share of the area."""
    points, faces, drawn, kept = [], [], 0, 0
    for _ in range(_ROUNDS):
        x, face = sample_surface(mesh, count, rng)
        if not len(x):
            break
        ok = keep(x)
        points.append(x[ok])
        faces.append(face[ok])
        drawn, kept = drawn + len(x), kept + int(ok.sum())
        if kept >= count:
            break
    if not kept:
        return np.zeros((0, 3)), np.zeros(0, np.int64), 0.0
    return np.concatenate(points)[:count], np.concatenate(faces)[:count], kept / drawn


def seen_by(
    caster: RayCaster,
    points: npt.ArrayLike,
    cameras: Sequence[PosedImage],
    tolerance: float,
    views: int = MINIMUM_VIEWS,
    check: Callable[[], None] = lambda: None,
) -> BoolArray:
    """Whether at least `views` cameras see each point [N, 3]: inside the frame and not hidden by the surface."""
    x = np.asarray(points, dtype=np.float64)
    count = np.zeros(len(x), np.int64)
    # neighbouring cameras see the same side: taking them in a scattered order settles most points early
    for k in np.random.default_rng(0).permutation(len(cameras)):
        check()
        image = cameras[k]
        todo = np.flatnonzero(count < views)
        if not len(todo):
            break
        uv, depth = project(image.camera, image.c2w, x[todo])
        inside = (depth > 0) & (uv >= 0).all(1) & (uv[:, 0] <= image.camera.width) & (uv[:, 1] <= image.camera.height)
        todo = todo[inside]
        count[todo] += caster.visible(x[todo], image.centre, tolerance)
    return np.asarray(count >= views)


def is_support(points: npt.ArrayLike, support: Plane | None, diagonal: float) -> BoolArray:
    """Whether each point [N, 3] lies in the support's slab (see the module's text); never without a plane."""
    x = np.asarray(points, dtype=np.float64)
    if support is None:
        return np.zeros(len(x), dtype=bool)
    normal = np.array(support.normal)
    distance = (x @ normal + support.offset) / np.linalg.norm(normal)
    return np.asarray(np.abs(distance) <= SUPPORT_MARGIN * diagonal)


def prepare(
    truth: Mesh,
    cameras: Sequence[PosedImage],
    support: Plane | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    threads: int = 0,
    check: Callable[[], None] = lambda: None,
) -> TrueSurface:
    """Make the true surface ready: all that does not depend on the prediction.

    Args:
        truth: the true mesh, without its support.
        cameras: the true cameras of the whole capture, in the truth's frame.
        support: plane of the support in the truth's frame, where there is one.

    Raises:
        DigitizeError(truth_invalid): no area, values that are not finite, or nothing that two cameras see.
    """
    if not len(truth.faces) or not np.isfinite(truth.vertices).all():
        raise DigitizeError(ReasonCode.TRUTH_INVALID, "expected finite vertices and faces in the true mesh")
    caster, used = RayCaster(truth, threads), truth.vertices[np.unique(truth.faces)]
    diagonal = float(np.linalg.norm(used.max(0) - used.min(0)))
    tolerance = VISIBILITY_TOLERANCE * diagonal
    points, faces, share = _draw(
        truth,
        samples,
        np.random.default_rng([seed, 1]),
        lambda x: seen_by(caster, x, cameras, tolerance, check=check),
    )
    if not len(points):
        raise DigitizeError(
            ReasonCode.TRUTH_INVALID,
            f"expected a true surface that at least {MINIMUM_VIEWS} of the {len(cameras)} true cameras see, found none",
        )
    normals = caster.normals(faces).astype(np.float64)
    return TrueSurface(truth, caster, diagonal, support, points, normals, share, samples, seed, threads)


def score(
    prediction: Mesh,
    truth: TrueSurface,
    truth_from_prediction: npt.ArrayLike | None = None,
    shares: Sequence[float] = SHARES,
) -> GeometryScore:
    """Score a surface as the module's text says.

    Args:
        prediction: any mesh, in its own frame.
        truth: from `prepare`.
        truth_from_prediction: [4, 4] similarity into the truth's frame; identity if None.
        shares: distances of the F-scores, as shares of the diagonal.
    """
    if truth_from_prediction is not None:
        prediction = Mesh(transform_points(truth_from_prediction, prediction.vertices), prediction.faces)
    points, faces, kept = _draw(
        prediction,
        truth.samples,
        np.random.default_rng([truth.seed, 2]),
        lambda x: ~is_support(x, truth.support, truth.diagonal),
    )
    caster = RayCaster(prediction, truth.threads)
    to_truth, true_face = truth.caster.closest(points)
    to_prediction, face = caster.closest(truth.seen_points)
    at = tuple(
        SurfaceAtShare(share=share, **fscore(to_truth, to_prediction, share * truth.diagonal)._asdict())
        for share in shares
    )
    empty = not len(points)
    d = truth.diagonal
    agreement = None
    if not empty:
        forward = normal_consistency(caster.normals(faces), truth.caster.normals(true_face))
        agreement = (forward + normal_consistency(truth.seen_normals, caster.normals(face))) / 2.0
    return GeometryScore(
        chamfer=None if empty else chamfer(to_truth, to_prediction, d),
        accuracy=None if empty else float(to_truth.mean()) / d,
        completeness=None if empty else float(to_prediction.mean()) / d,
        at=at,
        normal_consistency=agreement,
        diagonal=d,
        prediction_samples=len(points),
        truth_samples=len(truth.seen_points),
        support_share=0.0 if empty and truth.support is None else 1.0 - kept,
        seen_share=truth.seen_share,
    )
