"""Do given cameras agree with the photos? Verified matches lie on the epipolar lines of true cameras, before both.

Where they do not, other readings of the same file are tried: axis conventions, inverted matrices, photos that EXIF
turned. One that agrees is taken and told of; where none does, the file is refused before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from models.camera import FloatArray
from models.errors import DigitizeError
from tasks.pose.base import Capture
from tasks.pose.features import image_ids, open_database
from tasks.pose.given.frame import invalid
from tasks.pose.given.lens import FISHEYE, swapped_fisheye
from tasks.pose.given.read import GivenCamera, GivenPoses

import pycolmap  # isort: skip

LIMIT_PX = 2.0
LIMIT_SHARE = 0.004
"""Of the long edge: epipolar error up to which a pair of photos agrees, where that is more than LIMIT_PX."""
_MIN_MATCHES = 20
_MOST_MATCHES = 200
_PAIRS_A_PHOTO = 8
_LEAST_PAIRS = 3
_AGREE, _MENDED = 0.5, 0.6
_ONE_WRONG = 0.2
_STILL = 0.004
_NEAR_EPIPOLE, _ONE_PLACE = 0.05, 1e-9
_LEAST_PARALLAX = np.sin(np.radians(0.3))
_LENS_RATIO, _LENS_PX, _LEAST_OUTER = 0.85, 0.5, 5
Cameras = Mapping[str, GivenCamera]


@dataclass(frozen=True)
class PairMatches:
    """Verified matches of two photos, without those that stand still in the frame (a backdrop behind a turntable)."""

    first: str
    second: str
    a: FloatArray
    """[M, 2] pixels in the first photo, pixel centres at +0.5."""
    b: FloatArray


@dataclass(frozen=True)
class Agreement:
    """How well cameras agree with the matches, pair by pair."""

    pairs: tuple[tuple[str, str], ...]
    error: FloatArray
    """[P] median epipolar error over the limit of the pair: up to 1 agrees."""
    error_px: FloatArray
    """[P] the same in pixels of the stored photos."""
    behind: FloatArray
    """[P] share of the matches that lie behind a camera."""

    @property
    def agrees(self) -> FloatArray:
        """[P] whether a pair agrees."""
        return np.asarray((self.error <= 1.0) & (self.behind < 0.5))

    @property
    def share(self) -> float:
        """Share of the pairs that agree."""
        return float(self.agrees.mean()) if len(self.error) else 0.0

    @property
    def median_px(self) -> float:
        """Median of the pairs' errors in pixels."""
        return float(np.median(self.error_px)) if len(self.error_px) else 0.0

    def outliers(self) -> list[str]:
        """Photos whose pairs disagree while those of the others agree: their own pose is wrong."""
        left = np.ones(len(self.pairs), bool)
        bad: list[str] = []
        while True:
            shares = {}
            for name in {name for pair in self.pairs for name in pair} - set(bad):
                mine = np.array([name in pair for pair in self.pairs]) & left
                if mine.sum() >= 2:
                    shares[name] = float(self.agrees[mine].mean())
            worst = min(shares, key=lambda name: (shares[name], name), default=None)
            if worst is None or shares[worst] >= _ONE_WRONG:
                return bad
            bad.append(worst)
            left &= np.array([worst not in pair for pair in self.pairs])


@dataclass(frozen=True)
class Checked:
    """Cameras that agree with the photos, or that could not be checked."""

    cameras: dict[str, GivenCamera]
    notes: tuple[str, ...]
    error_px: float | None
    """Median epipolar error; None where too few photos match."""


def check_given(given: GivenPoses, matches: Sequence[PairMatches]) -> Checked:
    """The cameras of a file in the reading that agrees with the photos.

    Raises DigitizeError(poses_invalid) where none does, with what was measured.
    """
    cameras, first, name, notes = _as_given(given, matches)
    pairs = len(first.pairs)
    if pairs < _LEAST_PAIRS:
        note = f"the poses could not be checked against the photos: {pairs} pairs of photos match"
        return Checked(cameras, (*notes, note), None)
    if first.share < _AGREE:
        cameras, agreed, name, notes = _mended(given, matches, first)
        notes = (
            *notes,
            f"the poses agree with the photos as {name} ({agreed.median_px:.2f} px), not as written "
            f"({first.median_px:.1f} px)",
        )
        first = agreed
    _refuse_wrong_lens(cameras, matches, first)
    wrong = first.outliers()
    if wrong:
        listed = ", ".join(sorted(wrong)[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        notes = (*notes, f"{len(wrong)} photos are left out, whose poses disagree with all others: {listed}")
    kept = {name: camera for name, camera in cameras.items() if name not in wrong}
    return Checked(kept, notes, first.median_px)


def _as_given(
    given: GivenPoses, matches: Sequence[PairMatches]
) -> tuple[dict[str, GivenCamera], Agreement, str, tuple[str, ...]]:
    """The cameras as the file says; for frames with swapped edges and no EXIF, turned the way that agrees better."""
    ways = [
        (agree(cameras, matches), cameras, faults)
        for cameras, faults in (given.cameras(swapped_by=quarters) for quarters in (1, 3))
    ]
    best, cameras, faults = max(ways, key=lambda way: way[0].share)
    if not cameras:
        raise invalid(faults[0] if faults else "expected frames of the photos, found none")
    return cameras, best, "", (*given.notes, *_told(given, faults))


def _told(given: GivenPoses, faults: Sequence[str]) -> list[str]:
    every = (*given.faults, *faults)
    return [f"left out: {fault}" for fault in every[:5]] + ([f"and {len(every) - 5} more"] if len(every) > 5 else [])


def _mended(
    given: GivenPoses, matches: Sequence[PairMatches], first: Agreement
) -> tuple[dict[str, GivenCamera], Agreement, str, tuple[str, ...]]:
    """The reading of the file that agrees with the photos. Raises DigitizeError(poses_invalid) where none does."""
    tried = []
    for name, cameras, faults in _readings(given):
        found = agree(cameras, matches)
        tried.append(name)
        if found.share >= _MENDED and found.median_px < 0.5 * first.median_px + 0.25 * LIMIT_PX:
            return cameras, found, name, (*given.notes, *_told(given, faults))
    cameras, _ = given.cameras()
    if other := _other_lens(cameras, matches):
        raise other
    bad = int((~first.agrees.astype(bool)).sum())
    raise invalid(
        f"expected poses that agree with the photos, found matches {first.median_px:.1f} px beside their epipolar "
        f"lines (median; {bad} of {len(first.pairs)} pairs disagree); nor do they agree as {', '.join(tried)}",
        "Check that the file belongs to these photos and that they were not cropped or renamed since; or leave `poses` "
        "out, then the cameras are solved from the photos.",
    )


def _readings(given: GivenPoses) -> Iterator[tuple[str, dict[str, GivenCamera], tuple[str, ...]]]:
    """Other readings of a file, the likeliest first: what was wrong about it, cameras, faults."""
    turned = "poses of the photos before EXIF turned them upright"
    if given.turned:
        yield (turned, *given.cameras(sensor=True))
    for name in given.other_readings:
        yield (name, *given.cameras(name, swapped_by=1))
        if given.turned:
            yield (f"{name} and {turned}", *given.cameras(name, sensor=True))


def _refuse_wrong_lens(cameras: Cameras, matches: Sequence[PairMatches], found: Agreement) -> None:
    """Raise DigitizeError(poses_invalid) where the photos show no fisheye although the file says so."""
    if not any(camera.lens.model in FISHEYE for camera in cameras.values()):
        return
    plain = {
        name: replace(camera, lens=swapped_fisheye(camera.lens) or camera.lens)
        for name, camera in cameras.items()
        if camera.lens.model in FISHEYE
    }
    outer = list(_outer(cameras, plain, matches))
    bent, straight = agree(cameras, outer), agree({**cameras, **plain}, outer)
    if straight.share >= found.share and straight.median_px < _LENS_RATIO * bent.median_px:
        raise _lens_error("a fisheye", "none", bent.median_px, straight.median_px)


def _outer(cameras: Cameras, others: Cameras, matches: Sequence[PairMatches]) -> Iterator[PairMatches]:
    """The matches that lie where two lenses differ: near the middle of a picture all lenses are alike."""

    def differs(name: str, pixels: FloatArray) -> FloatArray:
        if name not in others:
            return np.zeros(len(pixels), bool)
        one, other = cameras[name].lens.camera(1), others[name].lens.camera(1)
        local = np.asarray(one.cam_from_img(pixels), dtype=np.float64)
        there = other.img_from_cam(np.concatenate([local, np.ones((len(local), 1))], 1))
        return np.asarray(np.linalg.norm(there - pixels, axis=1) > _LENS_PX)

    for pair in matches:
        if pair.first in cameras and pair.second in cameras:
            far = np.logical_or(differs(pair.first, pair.a), differs(pair.second, pair.b))
            if far.sum() >= _LEAST_OUTER:
                yield PairMatches(pair.first, pair.second, pair.a[far], pair.b[far])


def _other_lens(cameras: Cameras, matches: Sequence[PairMatches]) -> DigitizeError | None:
    """The error that names the lens, where the photos agree with the poses and not with the kind of lens."""
    other = {
        name: replace(camera, lens=lens)
        for name, camera in cameras.items()
        if (lens := swapped_fisheye(camera.lens)) is not None
    }
    if not other:
        return None
    found, given = agree({**cameras, **other}, matches), agree(cameras, matches)
    if found.share < _MENDED:
        return None
    fisheye = any(camera.lens.model in FISHEYE for camera in cameras.values())
    says, shows = ("a fisheye", "none") if fisheye else ("no fisheye", "one")
    return _lens_error(says, shows, given.median_px, found.median_px)


def _lens_error(says: str, shows: str, given_px: float, found_px: float) -> DigitizeError:
    return invalid(
        f"expected photos of the lens that the file describes, {says}; the photos show {shows}: matches lie "
        f"{given_px:.2f} px beside their epipolar lines with the file's lens, {found_px:.2f} px with the other kind",
        "Correct the lens in the file (`is_fisheye`, `camera_model`), or give the photos that it describes.",
    )


def agree(cameras: Cameras, matches: Sequence[PairMatches]) -> Agreement:
    """How well cameras agree with matches."""
    rays = {name: camera.lens.camera(1) for name, camera in cameras.items()}
    pairs, error, error_px, behind = [], [], [], []
    for pair in matches:
        if pair.first not in cameras or pair.second not in cameras:
            continue
        measured = _measure(pair, cameras, rays)
        edge = max(max(cameras[name].lens.width, cameras[name].lens.height) for name in (pair.first, pair.second))
        pairs.append((pair.first, pair.second))
        error_px.append(measured[0])
        error.append(measured[0] / max(LIMIT_PX, LIMIT_SHARE * edge))
        behind.append(measured[1])
    return Agreement(tuple(pairs), np.array(error), np.array(error_px), np.array(behind))


def _measure(pair: PairMatches, cameras: Cameras, lenses: Mapping[str, object]) -> tuple[float, float]:
    """The median epipolar error in pixels, and the share of matches behind a camera. From one place, two cameras see a
    point along one ray."""
    one, two = cameras[pair.first], cameras[pair.second]
    d1, d2 = (
        _directions(lenses[name], pixels, cameras[name].c2w)
        for name, pixels in ((pair.first, pair.a), (pair.second, pair.b))
    )
    baseline = two.c2w[:3, 3] - one.c2w[:3, 3]
    length, focal = float(np.linalg.norm(baseline)), 0.5 * (one.lens.focal + two.lens.focal)
    fits = np.isfinite(d1).all(1) & np.isfinite(d2).all(1)
    if length < _ONE_PLACE * (1.0 + float(np.abs(one.c2w[:3, 3]).max())):
        apart = np.linalg.norm(d1 - d2, axis=1)[fits]
        return (float(np.median(apart)) if len(apart) else np.pi) * focal, 0.0
    b = baseline / length
    n1, n2 = np.cross(b, d1), np.cross(b, d2)
    s1, s2 = np.linalg.norm(n1, axis=1), np.linalg.norm(n2, axis=1)
    fits &= (s1 > _NEAR_EPIPOLE) & (s2 > _NEAR_EPIPOLE)
    if not fits.any():
        return np.pi * focal, 1.0
    off1 = np.abs(np.einsum("ni,ni->n", n1, d2))[fits] / s1[fits] * two.lens.focal
    off2 = np.abs(np.einsum("ni,ni->n", n2, d1))[fits] / s2[fits] * one.lens.focal
    return float(np.median(0.5 * (off1 + off2))), _behind(d1[fits], d2[fits], b)


def _behind(d1: FloatArray, d2: FloatArray, b: FloatArray) -> float:
    """Share of the pairs of rays, of those that are not parallel, whose nearest points lie behind a camera."""
    cosine = np.einsum("ni,ni->n", d1, d2)
    spread = 1.0 - cosine**2
    wide = spread > _LEAST_PARALLAX**2
    if wide.sum() < _MIN_MATCHES // 2:
        return 0.0
    along1, along2 = d1[wide] @ b, d2[wide] @ b
    s = (along1 - along2 * cosine[wide]) / spread[wide]
    t = (along1 * cosine[wide] - along2) / spread[wide]
    return float(((s < 0) | (t < 0)).mean())


def _directions(lens: object, pixels: FloatArray, c2w: FloatArray) -> FloatArray:
    """[M, 3] unit rays in the world; not finite where the lens sees nothing."""
    local = np.asarray(lens.cam_from_img(pixels), dtype=np.float64)  # type: ignore[attr-defined]
    rays = np.concatenate([local, np.ones((len(local), 1))], 1) if local.shape[1] == 2 else local
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return np.asarray(rays @ c2w[:3, :3].T)


def read_matches(database: Path, capture: Capture) -> list[PairMatches]:
    """The verified matches of each photo with those that it shares most with."""
    photos = {photo.key: photo for photo in capture.photos}
    found: list[PairMatches] = []
    with open_database(database) as db:
        names = {image_id: key for key, image_id in image_ids(db).items() if key in photos}
        keys, geometries = db.read_two_view_geometries()
        ranked = sorted(zip(keys, geometries, strict=True), key=lambda pair: (-len(pair[1].inlier_matches), pair[0]))
        points: dict[int, FloatArray] = {}
        taken: dict[int, int] = {}
        for key, geometry in ranked:
            one, two = pycolmap.pair_id_to_image_pair(key)
            table = np.asarray(geometry.inlier_matches, dtype=np.int64)
            if one not in names or two not in names or len(table) < _MIN_MATCHES:
                continue
            if min(taken.get(one, 0), taken.get(two, 0)) >= _PAIRS_A_PHOTO:
                continue
            for image in (one, two):
                if image not in points:
                    points[image] = np.asarray(db.read_keypoints(image), dtype=np.float64)[:, :2]
            first, second = photos[names[one]], photos[names[two]]
            a, b = points[one][table[:, 0]], points[two][table[:, 1]]
            if (first.width, first.height) == (second.width, second.height):
                moved = np.linalg.norm(a - b, axis=1) > _STILL * np.hypot(first.width, first.height)
                a, b = a[moved], b[moved]
            if len(a) < _MIN_MATCHES:
                continue
            step = max(1, len(a) // _MOST_MATCHES)
            found.append(PairMatches(first.name, second.name, a[::step], b[::step]))
            taken[one], taken[two] = taken.get(one, 0) + 1, taken.get(two, 0) + 1
    return found
