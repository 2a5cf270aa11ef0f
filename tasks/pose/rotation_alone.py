"""Whether a camera of unknown focal length only turned: one focal length makes rotations of what photos share.

Photos from one place differ by K R K^-1 whatever they show, with one K for all photos of a camera (Hartley 1994,
"Self-calibration from multiple views with a rotating camera"; Szeliski and Shum 1997). Photos of a flat thing from
several places differ by homographies as well, but no single focal length makes rotations of all of them. The focal
length is searched for, with one term of radial distortion; the principal point is in the middle.

Measured on made matches at 640 px, with noise of 0.5 and 1 px: what a rotation leaves beyond a free homography is 0 to
0.3 px (median over the pairs) for pans with focal lengths of 0.8 to 3 long edges, and 2.3 px and more for a wall seen
along an arc of 11 degrees and more at 0.8 and 1.3 long edges, 1.5 px at 3. Walls and scenes whose views span some 3
degrees or less may pass as pans: those show next to no depth either.

Inside, one unit of length is half of the photo's long edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import FloatArray

Pair = tuple[FloatArray, FloatArray]
"""[N, 2] and [N, 2] pixels of the matches of two photos, from the middle of each photo."""
BoolArray = npt.NDArray[np.bool_]

MIN_PAIRS = 3
MIN_MATCHES = 15
_FOCALS = np.geomspace(0.3, 10.0, 25)
_DISTORTIONS = np.linspace(-0.16, 0.16, 9)
_FOCAL_RANGE = (0.35, 6.0)
_SAMPLE = 150
_SEARCHED_PAIRS = 30
_ROUNDS = 5
_FLAT_PX = 10.0
_FAR_PX = 4.0
_SHARE = 0.85
_EXCESS_PX = 1.0
_MOST = 0.6
_OBSERVABLE_PX = 0.5
_DRAWS = 100


@dataclass(frozen=True)
class Fit:
    """The one camera that comes nearest to explaining all pairs by rotations.

    Errors are pixels of a photo of 1000 px; of a smaller photo, its own: features are found on reduced photos.
    """

    focal: float
    """Focal length in long edges of the photo."""
    distortion: float
    """The undistorted place of x is x (1 + k r^2), r in halves of the long edge."""
    error_px: FloatArray
    """[P] median distance of a match from where the rotation puts it."""
    excess_px: FloatArray
    """[P] what that error exceeds that of a free homography by, in quadrature."""
    explained: FloatArray
    """[P] share of the matches within 4 px of where the rotation puts them."""
    sharpness_px: float
    """What half or twice the focal length adds to the error, in quadrature: small where nothing fixes it."""


@dataclass(frozen=True)
class _Matches:
    """Matches of P pairs, padded to S each."""

    first: FloatArray
    """[P, S, 2]."""
    second: FloatArray
    """[P, S, 2]."""
    there: BoolArray
    """[P, S] False where padded."""
    homography: FloatArray
    """[P, 3, 3] from the first to the second."""
    fitted: BoolArray
    """[P, S] those that one homography nearly explains: a rotation is fitted to them."""
    pixel: float
    """Length of the pixel of `Fit`."""

    def some(self, count: int) -> _Matches:
        """Evenly chosen pairs, `count` at most."""
        at = np.unique(np.linspace(0, len(self.first) - 1, count).astype(int))
        return _Matches(
            self.first[at], self.second[at], self.there[at], self.homography[at], self.fitted[at], self.pixel
        )


def turned_pairs(pairs: Sequence[Pair], long_edge: float) -> tuple[Fit | None, BoolArray]:
    """The pairs that rotations of one camera explain.

    Args:
        pairs: verified matches of pairs of photos of one camera, of one size.
        long_edge: of the photos, px.

    Returns:
        the camera, and [P] whether a rotation explains the pair. None and no pair at all where the focal length cannot
        be told, or is that of no lens, or where fewer than 3 in 5 pairs are rotations.
    """
    fit = fit_camera(pairs, long_edge)
    if fit is None or not _FOCAL_RANGE[0] <= fit.focal <= _FOCAL_RANGE[1] or fit.sharpness_px < _OBSERVABLE_PX:
        return None, np.zeros(len(pairs), dtype=bool)
    turned = (fit.excess_px <= _EXCESS_PX) & (fit.explained >= _SHARE)
    if turned.mean() < _MOST:
        return None, np.zeros(len(pairs), dtype=bool)
    return fit, turned


def fit_camera(pairs: Sequence[Pair], long_edge: float) -> Fit | None:
    """The focal length and the distortion that make rotations of all pairs, as nearly as can be.

    Args:
        pairs: as for `turned_pairs`.
        long_edge: of the photos, px.

    Returns:
        the camera and its errors; None where fewer than 3 pairs have 15 matches, or fewer than 3 in 5 are near a
        homography at all.
    """
    usable = [k for k, pair in enumerate(pairs) if len(pair[0]) >= MIN_MATCHES]
    if len(usable) < MIN_PAIRS:
        return None
    matches = _stacked([pairs[k] for k in usable], long_edge)
    if (matches.fitted.sum(1) >= _SHARE * matches.there.sum(1)).mean() < _MOST:
        return None
    few = matches.some(_SEARCHED_PAIRS)
    focal, distortion, cost = _search(few)
    off = min(min(_cost(few, focal * factor, k) for k in _DISTORTIONS) for factor in (0.5, 2.0))
    error = np.where(matches.there, _errors(matches, focal, distortion), np.nan)
    free = np.where(matches.there, _transfer(matches.homography, matches.first, matches.second), np.nan)
    median, excess, explained = np.full(len(pairs), np.inf), np.full(len(pairs), np.inf), np.zeros(len(pairs))
    median[usable] = np.nanmedian(error, axis=1)
    excess[usable] = np.sqrt(np.maximum(0.0, median[usable] ** 2 - (np.nanmedian(free, axis=1) / matches.pixel) ** 2))
    explained[usable] = (error <= _FAR_PX).sum(1) / matches.there.sum(1)
    return Fit(focal / 2, distortion, median, excess, explained, float(np.sqrt(max(0.0, off - cost))))


def _stacked(pairs: Sequence[Pair], long_edge: float) -> _Matches:
    pixel = 2.0 * max(1.0, long_edge / 1000.0) / long_edge
    first, second = np.zeros((2, len(pairs), _SAMPLE, 2))
    there = np.zeros((len(pairs), _SAMPLE), dtype=bool)
    fitted, homography = there.copy(), np.zeros((len(pairs), 3, 3))
    for k, (one, two) in enumerate(pairs):
        some = np.unique(np.linspace(0, len(one) - 1, _SAMPLE).astype(int))
        count = len(some)
        first[k, :count], second[k, :count] = one[some] * 2.0 / long_edge, two[some] * 2.0 / long_edge
        there[k, :count] = True
        homography[k], fitted[k, :count] = _homography(first[k, :count], second[k, :count], _FLAT_PX * pixel)
    return _Matches(first, second, there, homography, fitted, pixel)


def _search(matches: _Matches) -> tuple[float, float, float]:
    """Focal length, distortion and cost of the best camera: a grid, then finer grids around its best cell."""
    focals, distortions = 2.0 * _FOCALS, _DISTORTIONS
    step, stride = np.log(focals[1] / focals[0]), distortions[1] - distortions[0]
    for _ in range(_ROUNDS):
        cost, focal, distortion = min((_cost(matches, f, k), float(f), float(k)) for f in focals for k in distortions)
        step, stride = step / 2, stride / 2
        focals = focal * np.exp(step * np.arange(-2, 3))
        distortions = distortion + stride * np.arange(-2, 3)
    return focal, distortion, cost


def _cost(matches: _Matches, focal: float, distortion: float) -> float:
    """Mean over all pairs of the mean squared error, px^2; errors beyond 4 px count as 4."""
    squares = np.minimum(_errors(matches, focal, distortion), _FAR_PX) ** 2 * matches.there
    return float((squares.sum(1) / matches.there.sum(1)).mean())


def _errors(matches: _Matches, focal: float, distortion: float) -> FloatArray:
    """[P, S] px between each match in the second photo and where the best rotation of the pair puts it.

    The rotation is that of Kabsch (1976): the nearest one between the rays of the fitted matches.
    """
    rays = [_rays(points, focal, distortion) for points in (matches.first, matches.second)]
    spread = np.einsum("psi,psj->pij", rays[1] * matches.fitted[..., None], rays[0])
    u, _, vt = np.linalg.svd(spread)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    turned = rays[0] @ np.swapaxes(u @ vt, 1, 2)
    ahead = np.maximum(turned[..., 2:], 1e-6)
    seen = rays[1][..., :2] / rays[1][..., 2:]
    return np.asarray(np.linalg.norm(turned[..., :2] / ahead - seen, axis=-1) * focal / matches.pixel)


def _rays(points: FloatArray, focal: float, distortion: float) -> FloatArray:
    """[..., 3] unit directions of [..., 2] points."""
    flat = points * (1.0 + distortion * (points**2).sum(-1, keepdims=True)) / focal
    rays = np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1)
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))


def _homography(first: FloatArray, second: FloatArray, tolerance: float) -> tuple[FloatArray, BoolArray]:
    """The homography that most matches agree on, by RANSAC and two refits, and [N] those within the tolerance of it."""
    draws = np.random.default_rng(0).integers(0, len(first), (_DRAWS, 4))
    found = _homographies(first[draws], second[draws])
    inside = _transfer(found, first[None], second[None]) <= tolerance
    best = inside.sum(1).argmax()
    homography, kept = found[best], inside[best]
    for _ in range(2):
        if kept.sum() < MIN_MATCHES:
            return homography, np.ones(len(first), dtype=bool)
        homography = _homographies(first[None, kept], second[None, kept])[0]
        kept = _transfer(homography[None], first[None], second[None])[0] <= tolerance
    return homography, kept


def _homographies(first: FloatArray, second: FloatArray) -> FloatArray:
    """[D, 3, 3] homographies by the direct linear transform of [D, N, 2] matches, N >= 4."""
    x, one = np.concatenate([first, np.ones_like(first[..., :1])], -1), np.zeros((*first.shape[:2], 3))
    rows = np.concatenate([x, one, -second[..., :1] * x], -1), np.concatenate([one, x, -second[..., 1:] * x], -1)
    system = np.concatenate(rows, axis=1)
    return np.asarray(np.linalg.eigh(np.swapaxes(system, 1, 2) @ system)[1][..., 0].reshape(-1, 3, 3))


def _transfer(homographies: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """[D, N] distance of each match in the second photo from where its homography puts it; points are [D, N, 2]."""
    put = np.concatenate([first, np.ones_like(first[..., :1])], -1) @ np.swapaxes(homographies, 1, 2)
    depth = np.where(np.abs(put[..., 2:]) < 1e-9, 1e-9, put[..., 2:])
    return np.asarray(np.linalg.norm(put[..., :2] / depth - second, axis=-1))
