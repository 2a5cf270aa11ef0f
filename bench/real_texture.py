"""What a published mesh shows less than a radiance field that was given the true masks: the gap of its texture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from infra.storage import FolderStore, open_store
from models.artifacts import TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE
from models.camera import CameraSet, PoseSet
from models.mesh.io import read_ply
from models.mesh.raycast import RayCaster, cast_mask, render_textured
from models.photos import PhotoIndex
from models.representation import Representation
from models.resources import Resources
from models.results import ArtifactRef, FileRef, StageRequest
from models.stage import Stage
from tasks.context import Context
from tasks.quality.masks import true_camera
from tasks.quality.metrics.colour import colour_corrected
from tasks.quality.metrics.psnr import psnr
from tasks.quality.published import read_published
from tasks.quality.views import MISSED, load_photo
from tasks.registry import effective_options

SECONDS = 150.0
"""Wall time of the field's training."""
MEMORY_GB = 6.0


def texture_gap(ingest: Path, pose: Path, surface: Path, truth: Path, folder: Path) -> float:
    """Mean over the held-out photos of PSNR of field minus PSNR of mesh in dB, both colour-corrected, inside the true
    silhouette.

    Args:
        ingest, pose, surface: outputs of these stages; `poses.json` in `pose` is as the pose stage wrote it.
        truth: the sample's `truth` folder.
        folder: for what is made on the way.
    """
    poses = with_true_masks(ingest, pose, truth, folder / "store" / "pose")
    model = _trained(poses, folder)
    mesh = read_published(surface / "asset.glb", poses.up)
    caster, gaps = RayCaster(mesh, 2), []
    for image in poses.of_split("heldout"):
        photo = load_photo(folder / "store" / "pose" / str(image.image), image.camera)
        with Image.open(folder / "store" / "pose" / str(image.mask)) as picture:
            mask = np.asarray(picture) > 127
        if not mask.any():
            continue
        drawn = model.render(image.camera, image.c2w, poses.world_from_field, backdrop=MISSED[0]).rgb
        shown = render_textured((mesh, caster), image.camera, image.c2w, background=MISSED)
        field = psnr(colour_corrected(np.clip(drawn, 0, 1), photo, mask), photo, mask)
        textured = psnr(colour_corrected(shown.rgb, photo, mask & shown.mask), photo, mask)
        gaps.append(field - textured)
    return float(np.mean(gaps))


def with_true_masks(ingest: Path, pose: Path, truth: Path, folder: Path) -> PoseSet:
    """The pose stage's files again in `folder`, with the true silhouettes as masks; the poses."""
    index = PhotoIndex.read(ingest / "photos.json")
    stored = {photo.name: (photo.width, photo.height) for photo in index.photos}
    cameras = {i.name: i for i in CameraSet.model_validate_json((truth / TRUTH_CAMERAS_FILE).read_bytes()).images}
    caster = RayCaster(read_ply(truth / TRUTH_MESH_FILE), 2)
    poses = PoseSet.model_validate_json((pose / "poses.json").read_bytes())
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for name in ("images", "points.npz", "pose.json"):
        (folder / name).symlink_to((pose / name).resolve())
    images = []
    for image in poses.images:
        exact = cast_mask(
            caster, true_camera(cameras[image.name], stored[image.name], image.camera), cameras[image.name].c2w
        )
        path = f"masks/{Path(image.name).stem}.png"
        Image.fromarray(exact.astype(np.uint8) * 255).save(folder / path)
        images.append(image.model_copy(update={"mask": path}))
    found = poses.model_copy(update={"images": tuple(images)})
    (folder / "poses.json").write_text(found.model_dump_json())
    return found


def _trained(poses: PoseSet, folder: Path) -> Representation:
    """The radiance field of the photos inside their masks, after `SECONDS` of training."""
    from tasks.train.radiance_learner import fit_radiance

    store = folder / "store" / "pose"
    paths = [Path(parent, name) for parent, _, names in os.walk(store, followlinks=True) for name in names]
    files = tuple(FileRef(path=p.relative_to(store).as_posix(), sha256="0" * 64, bytes=1) for p in sorted(paths))
    chosen = {"steps": 10**6, "seconds": SECONDS, "mask_use": "empty"}
    options = effective_options(Stage.TRAIN, "hash_density", "preview", chosen)
    request = StageRequest(
        asset="gap",
        stage=Stage.TRAIN,
        method="hash_density",
        version="1",
        options=options.model_dump(mode="json"),
        inputs={"pose": ArtifactRef(digest="0", uri="store:pose", files=files)},
        resources=Resources(cpus=2, memory_gb=MEMORY_GB),
    )
    for name in ("scratch", "output"):
        (folder / name).mkdir(exist_ok=True)
    context = Context(
        request=request,
        scratch=folder / "scratch",
        output=folder / "output",
        store=FolderStore(folder / "store"),
        open_store=open_store,
        threads=2,
    )
    return fit_radiance(poses, options, context).model
