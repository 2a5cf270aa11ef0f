"""SIFT features and verified matches in a COLMAP database.

Image ids follow the photos' names and every random choice has a fixed seed, so that the database holds the same
features and matches whatever the number of threads.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from tasks.pose.base import Capture, Photo
from tasks.pose.options import PoseOptions

import pycolmap  # isort: skip

# COLMAP narrates each step on stderr; failures come back as results and exceptions
pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value

Pair = tuple[int, int]

_SEQUENCE = 10
_WORDS = 64
_SAMPLES = 400


@dataclass(frozen=True)
class FeatureSettings:
    """How features are found and matched."""

    max_features: int
    edge_px: int
    peak_threshold: float = 0.02 / 3
    """Contrast below which a feature is dropped; COLMAP's own value."""
    guided: bool = False
    """Match a second time along the epipolar lines: more matches, more time."""

    @staticmethod
    def of(options: PoseOptions) -> FeatureSettings:
        """The settings that the options ask for."""
        return FeatureSettings(options.max_features, options.feature_edge_px)

    @property
    def dense(self) -> FeatureSettings:
        """Settings for photos of little texture."""
        return FeatureSettings(max(self.max_features, 8000), self.edge_px, self.peak_threshold / 4, guided=True)


def camera_groups(photos: tuple[Photo, ...]) -> dict[tuple[str, int, int], list[Photo]]:
    """The photos by camera: same key, same size in pixels."""
    groups: dict[tuple[str, int, int], list[Photo]] = defaultdict(list)
    for photo in photos:
        groups[(photo.camera_key, photo.width, photo.height)].append(photo)
    return dict(groups)


def camera_model(name: str, photos: int) -> str:
    """COLMAP's camera model: `auto` takes as many distortion terms as that many photos determine."""
    if name != "auto":
        return name
    return "SIMPLE_RADIAL" if photos < 8 else "RADIAL" if photos < 20 else "OPENCV"


def camera_params(model: str, focal: float, width: int, height: int) -> str:
    """COLMAP's parameter list of an undistorted start: focal length in pixels, centre in the middle."""
    focals = [focal, focal] if model == "OPENCV" else [focal]
    terms = {"SIMPLE_RADIAL": 1, "RADIAL": 2, "OPENCV": 4}[model]
    return ",".join(repr(float(x)) for x in [*focals, width / 2, height / 2, *[0.0] * terms])


def create_database(path: Path, capture: Capture, model: str, shared: bool = True) -> None:
    """A database with one camera a group (one a photo unless `shared`), and the photos, group by group.

    The ids given here stay, so that they do not depend on which thread finds its features first.
    """
    path.unlink(missing_ok=True)
    with open_database(path):
        pass
    for group in camera_groups(capture.photos).values():
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = camera_model(model, len(group))
        focals = [photo.focal_px for photo in group if photo.focal_px]
        if focals:
            first = group[0]
            focal = float(np.median(focals))
            reader.camera_params = camera_params(reader.camera_model, focal, first.width, first.height)
        names = [photo.key for photo in group]
        mode = pycolmap.CameraMode.SINGLE if shared else pycolmap.CameraMode.PER_IMAGE
        pycolmap.import_images(path, capture.image_dir, mode, names, reader)


def extract(path: Path, capture: Capture, settings: FeatureSettings, threads: int) -> None:
    """Find the features of all photos of the database, inside their masks."""
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu = False
    options.num_threads = threads
    options.max_image_size = settings.edge_px
    options.sift.max_num_features = settings.max_features
    options.sift.peak_threshold = settings.peak_threshold
    reader = pycolmap.ImageReaderOptions()
    if capture.mask_dir is not None:
        reader.mask_path = str(capture.mask_dir)
    names = [photo.key for photo in capture.photos]
    pycolmap.extract_features(
        path,
        capture.image_dir,
        names,
        reader_options=reader,
        extraction_options=options,
        device=pycolmap.Device.cpu,
    )


def match(
    path: Path, capture: Capture, options: PoseOptions, settings: FeatureSettings, threads: int, seed: int
) -> int:
    """Match photos and verify the matches geometrically.

    Returns:
        the number of pairs that were compared.
    """
    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu = False
    matching.num_threads = threads
    matching.guided_matching = settings.guided
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    count = len(capture.photos)
    if count <= options.exhaustive_limit:
        pycolmap.match_exhaustive(
            path, matching_options=matching, verification_options=verification, device=pycolmap.Device.cpu
        )
        return count * (count - 1) // 2
    pairs = select_pairs(_descriptors(path, capture), options.neighbours, seed)
    listing = path.with_suffix(".pairs.txt")
    keys = [photo.key for photo in capture.photos]
    listing.write_text("".join(f"{keys[i]} {keys[j]}\n" for i, j in pairs))
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = str(listing)
    pycolmap.match_image_pairs(path, matching, pairing, verification, device=pycolmap.Device.cpu)
    return len(pairs)


def select_pairs(descriptors: list[npt.NDArray[np.float32]], neighbours: int, seed: int) -> list[Pair]:
    """The pairs worth matching in a large capture: neighbours in order, and look-alikes.

    Likeness is the cosine of VLAD vectors (Jegou et al. 2010) over a vocabulary learnt from the capture itself.

    Args:
        descriptors: one [F, 128] array a photo, in the order of the capture; F may be 0.
    """
    count = len(descriptors)
    pairs = {(i, j) for i in range(count) for j in range(i + 1, min(i + 1 + _SEQUENCE, count))}
    likeness = _vlad(descriptors, seed)
    likeness = likeness @ likeness.T
    np.fill_diagonal(likeness, -np.inf)
    for i, row in enumerate(likeness):
        for j in np.argsort(-row, kind="stable")[: min(neighbours, count - 1)]:
            pairs.add((min(i, int(j)), max(i, int(j))))
    return sorted(pairs)


def _vlad(descriptors: list[npt.NDArray[np.float32]], seed: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    samples = [_unit(d[rng.permutation(len(d))[:_SAMPLES]].astype(np.float32)) for d in descriptors]
    pool = np.concatenate(samples)
    vectors = np.zeros((len(samples), _WORDS * 128), np.float32)
    if len(pool) < 4 * _WORDS:
        return vectors
    words = _vocabulary(pool[rng.permutation(len(pool))[:20000]])
    for vector, sample in zip(vectors, samples, strict=True):
        if len(sample):
            residual = np.zeros_like(words)
            nearest = np.argmax(sample @ words.T, axis=1)
            np.add.at(residual, nearest, sample - words[nearest])
            vector[:] = _unit(_unit(residual).reshape(1, -1))[0]
    return vectors


def _vocabulary(pool: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[_WORDS, 128] centres of a spherical k-means over shuffled unit descriptors [S, 128]."""
    words = pool[:_WORDS].copy()
    for _ in range(8):
        nearest = np.argmax(pool @ words.T, axis=1)
        sums = np.zeros_like(words)
        np.add.at(sums, nearest, pool)
        words = np.where(np.bincount(nearest, minlength=_WORDS)[:, None] > 0, _unit(sums), words)
    return words


def _descriptors(path: Path, capture: Capture) -> list[npt.NDArray[np.float32]]:
    with open_database(path) as database:
        ids = image_ids(database)
        return [np.asarray(database.read_descriptors(ids[photo.key]).data, np.float32) for photo in capture.photos]


def open_database(path: Path) -> Any:
    """The database at `path`, as a context manager."""
    return pycolmap.Database.open(path)


def image_ids(database: Any) -> dict[str, int]:
    """COLMAP's image id by the photo's key."""
    return {image.name: image.image_id for image in database.read_all_images()}


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), dtype=np.float32)
