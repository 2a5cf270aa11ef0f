"""What the database and the photos themselves say about a capture: the material of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.camera import FloatArray
from tasks.pose.base import Capture, Photo
from tasks.pose.features import image_ids, open_database

import pycolmap  # isort: skip

_STILL = 0.004
_MIN_MATCHES = 15
_POSED_PAIRS = 60
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
        pairs = _pairs(db, order, points, capture.photos)
    alike, moves = framing([_thumb(photo) for photo in capture.photos])
    return Evidence(tuple(features), tuple(pairs), alike, moves)


def _pairs(
    db: Any, order: dict[int, int], points: dict[int, FloatArray], photos: tuple[Photo, ...]
) -> list[PairEvidence]:
    keys, geometries = db.read_two_view_geometries()
    geometry_of = dict(zip(keys, geometries, strict=True))
    strongest = sorted(geometry_of, key=lambda key: -len(geometry_of[key].inlier_matches))[:_POSED_PAIRS]
    pairs = []
    for key, matches in zip(*db.read_all_matches(), strict=True):
        one, two = pycolmap.pair_id_to_image_pair(key)
        if one not in order or two not in order or len(matches) < _MIN_MATCHES:
            continue
        table = np.asarray(matches, dtype=np.int64)
        flow = np.linalg.norm(points[one][table[:, 0]] - points[two][table[:, 1]], axis=1)
        photo, other = photos[order[one]], photos[order[two]]
        same_size = (photo.width, photo.height) == (other.width, other.height)
        still = int((flow < _STILL * np.hypot(photo.width, photo.height)).sum()) if same_size else 0
        geometry = geometry_of.get(key)
        inliers = len(geometry.inlier_matches) if geometry is not None else 0
        turned = key in strongest and inliers >= _MIN_MATCHES and _turned_only(db, one, two, points, geometry)
        pairs.append(PairEvidence(order[one], order[two], len(table), still, inliers, turned))
    return pairs


def _turned_only(db: Any, one: int, two: int, points: dict[int, FloatArray], geometry: Any) -> bool:
    kinds = pycolmap.TwoViewGeometryConfiguration
    if geometry.config in (kinds.WATERMARK, kinds.PANORAMIC):
        return True
    cameras = [db.read_camera(db.read_image(image).camera_id) for image in (one, two)]
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
