"""What the database and the photos themselves say about a capture: the material of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.camera import FloatArray
from tasks.pose.base import Capture, Photo
from tasks.pose.features import camera_groups, image_ids, open_database
from tasks.pose.rotation_alone import turned_pairs

import pycolmap  # isort: skip

_STILL = 0.004
_MIN_MATCHES = 15
JUDGED_PAIRS = 60
_FIRM_MATCHES = 30
_THUMB = (192, 192)
_BLOCK = 12
_CHANGED_LEVELS = 30.0


@dataclass(frozen=True)
class PairEvidence:
    """One pair of photos that was compared and shares at least 15 matches."""

    first: int
    second: int
    matches: int
    still: int
    """Matches at the same place in both photos (within 0.4 % of the diagonal)."""
    inliers: int
    """Matches that agree on one two-view geometry; 0 when none was found."""
    turned_only: bool = False
    """The photos differ by a rotation of the camera on the spot."""
    focal: float | None = None
    """The one focal length, in long edges, by which rotations explain such pairs of a camera, where there is one."""

    @property
    def verified(self) -> bool:
        """Whether a two-view geometry was found."""
        return self.inliers >= _MIN_MATCHES


@dataclass(frozen=True)
class Evidence:
    """The facts that a diagnosis is drawn from."""

    features: tuple[int, ...]
    """Keypoints of each photo."""
    pairs: tuple[PairEvidence, ...]
    framing_alike: float
    """Median over all pairs of the correlation of where the detail lies: see `framing`."""
    subject_moves: bool
    """Whether the rest of the frame differs between the photos."""

    @property
    def photos(self) -> int:
        """Number of photos."""
        return len(self.features)

    @property
    def verified(self) -> tuple[PairEvidence, ...]:
        """The pairs with a two-view geometry."""
        return tuple(pair for pair in self.pairs if pair.verified)

    @property
    def connected(self) -> int:
        """Photos in the largest group that verified pairs join."""
        group = list(range(self.photos))

        def root(i: int) -> int:
            while group[i] != i:
                i = group[i]
            return i

        for pair in self.verified:
            group[root(pair.first)] = root(pair.second)
        roots = [root(i) for i in range(self.photos)]
        return max((roots.count(r) for r in set(roots)), default=0)


def gather(database: Path, capture: Capture) -> Evidence:
    """Read the evidence of one capture from its database and its photos."""
    features, pairs = read_pairs(database, capture)
    return Evidence(features, pairs, *framing([_thumb(photo) for photo in capture.photos]))


def read_pairs(database: Path, capture: Capture) -> tuple[tuple[int, ...], tuple[PairEvidence, ...]]:
    """The number of features of each photo, and the pairs that share at least 15 matches."""
    with open_database(database) as db:
        ids = image_ids(db)
        order = {ids[photo.key]: index for index, photo in enumerate(capture.photos) if photo.key in ids}
        points = {
            image: np.asarray(db.read_keypoints(image), dtype=np.float64)[:, :2]
            if db.num_keypoints_for_image(image)
            else np.zeros((0, 2))
            for image in order
        }
        features = [0] * len(capture.photos)
        for image, index in order.items():
            features[index] = len(points[image])
        pairs = _pairs(db, order, points, capture.photos, _group_of(capture.photos))
    return tuple(features), tuple(pairs)


def _group_of(photos: tuple[Photo, ...]) -> list[int]:
    """The number of the camera that took each photo."""
    number = {photo.key: k for k, group in enumerate(camera_groups(photos).values()) for photo in group}
    return [number[photo.key] for photo in photos]


@dataclass(frozen=True)
class _Shared:
    """What two photos share."""

    images: tuple[int, int]
    """COLMAP's numbers of the photos."""
    order: tuple[int, int]
    """Their places in the capture."""
    flow: FloatArray
    """[M] px that each match moved."""
    inliers: tuple[FloatArray, FloatArray]
    """[I, 2] and [I, 2] px of the matches that agree on one two-view geometry."""
    geometry: Any

    @property
    def strength(self) -> int:
        """Matches that agree."""
        return len(self.inliers[0])

    @property
    def moved(self) -> float:
        """Median px that the matches moved."""
        return float(np.median(self.flow))


def _pairs(
    db: Any, order: dict[int, int], points: dict[int, FloatArray], photos: tuple[Photo, ...], group_of: list[int]
) -> list[PairEvidence]:
    shared = _shared(db, order, points)
    judged = _judged(shared, len(photos))
    turned = {k for k in judged if _turned_only(db, points, shared[k])}
    focal_of = _rotations(shared, judged, photos, group_of)
    pairs = []
    for k, pair in enumerate(shared):
        photo, other = (photos[i] for i in pair.order)
        same_size = (photo.width, photo.height) == (other.width, other.height)
        still = int((pair.flow < _STILL * np.hypot(photo.width, photo.height)).sum()) if same_size else 0
        alone = k in turned or k in focal_of
        found = len(pair.flow), still, pair.strength
        pairs.append(PairEvidence(*pair.order, *found, alone, focal_of.get(k)))
    return pairs


def _shared(db: Any, order: dict[int, int], points: dict[int, FloatArray]) -> list[_Shared]:
    """All pairs of photos with 15 matches or more."""
    keys, geometries = db.read_two_view_geometries()
    geometry_of = dict(zip(keys, geometries, strict=True))
    pairs = []
    for key, matches in zip(*db.read_all_matches(), strict=True):
        one, two = pycolmap.pair_id_to_image_pair(key)
        if one not in order or two not in order or len(matches) < _MIN_MATCHES:
            continue
        table = np.asarray(matches, dtype=np.int64)
        flow = np.linalg.norm(points[one][table[:, 0]] - points[two][table[:, 1]], axis=1)
        geometry = geometry_of.get(key)
        agreed = geometry.inlier_matches if geometry is not None else ()
        inner = np.asarray(agreed, dtype=np.int64).reshape(-1, 2)
        inliers = points[one][inner[:, 0]], points[two][inner[:, 1]]
        pairs.append(_Shared((one, two), (order[one], order[two]), flow, inliers, geometry))
    return pairs


def _judged(shared: list[_Shared], photos: int) -> list[int]:
    """The verified pairs to look at closely: of photos all over the capture, the strongest and the widest of each."""
    verified = [k for k, pair in enumerate(shared) if pair.strength >= _MIN_MATCHES]
    if len(verified) <= JUDGED_PAIRS:
        return verified
    strong = sorted(verified, key=lambda k: -shared[k].strength)
    wide = sorted((k for k in strong if shared[k].strength >= _FIRM_MATCHES), key=lambda k: -shared[k].moved)
    chosen: dict[int, None] = {}
    for photo in np.unique(np.linspace(0, photos - 1, JUDGED_PAIRS // 2).astype(int)):
        for ranked in (strong, wide):
            chosen.update(dict.fromkeys([k for k in ranked if photo in shared[k].order][:1]))
    return list(dict.fromkeys([*chosen, *strong]))[:JUDGED_PAIRS]


def _rotations(
    shared: list[_Shared], judged: list[int], photos: tuple[Photo, ...], group_of: list[int]
) -> dict[int, float]:
    """The judged pairs that rotations of a camera of one focal length explain, with that length in long edges."""
    found = {}
    for group in sorted(set(group_of)):
        mine = [k for k in judged if all(group_of[i] == group for i in shared[k].order)]
        if not mine:
            continue
        photo = photos[shared[mine[0]].order[0]]
        middle = np.array([photo.width, photo.height]) / 2
        pairs = [(shared[k].inliers[0] - middle, shared[k].inliers[1] - middle) for k in mine]
        fit, turned = turned_pairs(pairs, max(photo.width, photo.height))
        if fit is not None:
            found.update({k: fit.focal for k, alone in zip(mine, turned, strict=True) if alone})
    return found


def _turned_only(db: Any, points: dict[int, FloatArray], pair: _Shared) -> bool:
    """What COLMAP makes of a pair with the focal length that it has: right where the photos tell it."""
    kinds, geometry, (one, two) = pycolmap.TwoViewGeometryConfiguration, pair.geometry, pair.images
    if geometry.config in (kinds.WATERMARK, kinds.PANORAMIC):
        return True
    cameras = [db.read_camera(db.read_image(image).camera_id) for image in pair.images]
    if not pycolmap.estimate_two_view_geometry_pose(cameras[0], points[one], cameras[1], points[two], geometry):
        return False
    return bool(geometry.config == kinds.PANORAMIC or 0.0 <= geometry.tri_angle < np.radians(0.7))


def _thumb(photo: Photo) -> FloatArray:
    with Image.open(photo.path) as image:
        return np.asarray(image.convert("L").resize(_THUMB, Image.Resampling.BOX), dtype=np.float64)


def framing(thumbs: list[FloatArray]) -> tuple[float, bool]:
    """How far photos share one framing: subject and backdrop at the same places of the frame.

    Light and tone differ between photos of one framing, and a subject that turns looks different each time; what
    stays is where the frame is plain and where it is detailed. Unrelated photos, and photos from a camera that
    walks around a scene, correlate by 0 to 0.3 there, photos from one tripod by 0.5 and more.

    Args:
        thumbs: [192, 192] grey levels 0..255 of each photo.

    Returns:
        the median correlation, over all pairs of photos, of the detail in 16 x 16 blocks of the frame, and whether
        the photos differ anywhere.
    """
    if len(thumbs) < 2:
        return 0.0, False
    detail = np.stack([_blocks(np.log(5.0 + np.hypot(*np.gradient(thumb)))).ravel() for thumb in thumbs])
    detail -= detail.mean(1, keepdims=True)
    detail /= np.maximum(np.linalg.norm(detail, axis=1, keepdims=True), 1e-9)
    alike = float(np.median((detail @ detail.T)[np.triu_indices(len(detail), 1)]))
    low, high = np.percentile(np.stack([_blocks(thumb) for thumb in thumbs]), [10, 90], axis=0)
    return alike, bool((high - low > _CHANGED_LEVELS).mean() > 0.03)


def _blocks(picture: FloatArray) -> FloatArray:
    """[16, 16] means of a [192, 192] picture."""
    count = picture.shape[0] // _BLOCK
    return np.asarray(picture.reshape(count, _BLOCK, count, _BLOCK).mean((1, 3)))
