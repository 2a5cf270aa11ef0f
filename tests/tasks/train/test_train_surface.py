"""The signed distance method: patches that agree, rough shapes, and a ball found from its photos."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.storage import FolderStore
from models.camera import Camera, PoseSet
from models.errors import DigitizeError
from models.fields import load_field
from models.fields.hash_sdf import HashSDFField
from tasks.context import Context
from tasks.registry import effective_options
from tasks.train import task, trainer
from tasks.train.initial_shape import BAND, distances
from tasks.train.photometric import PATCH, PhotoConsistency, Surface, ncc, neighbours
from tasks.train.pixel_bank import PixelBank
from tests.tasks.train.train_capture import TINY, train_context, write_capture

SURFACE = {**TINY, "steps": 450, "samples_per_step": 6000, "evaluate_every": 450, "levels_from": 3, "ncc_patches": 64}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    return write_capture(tmp_path_factory.mktemp("ball"), 48, 64)


def surface_context(store: FolderStore, folder: Path, **options: object) -> Context:
    context = train_context(store, folder)
    effective = effective_options("train", "hash_sdf", "preview", {**SURFACE, **options})
    changes = {"method": "hash_sdf", "options": effective.model_dump(mode="json")}
    context.request = context.request.model_copy(update=changes)
    return context


def test_it_finds_the_ball(capture: FolderStore, tmp_path: Path) -> None:
    context = surface_context(capture, tmp_path)
    result = task.run(context.request, context)
    assert result.facts["psnr_heldout"] > 17.0
    field = load_field(context.output / "model")
    assert isinstance(field, HashSDFField)
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    radius = float(np.linalg.norm(np.array(poses.world_from_field)[:3, 0])) ** -1
    out = torch.nn.functional.normalize(torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    with torch.no_grad():
        t = torch.linspace(0.2, 1.0, 400)
        value = field.query((out[:, None] * t[:, None]).view(-1, 3))[0].view(2000, 400)
    found = t[(value > 0).float().argmax(1)]
    assert float((found - radius).abs().median()) < 0.03
    assert float((field.gradient(out * radius).norm(dim=1) - 1).abs().median()) < 0.15


def test_it_resumes_to_the_same_bytes_after_its_first_shape(
    capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SNAPSHOT_STEPS", 10)
    short = {"steps": 60, "evaluate_every": 40, "checkpoint_every_s": 1e-6, "rough_until": 0.5, "ncc_from": 0.0}
    short |= {"exposure": False}  # its photos would be counted as well
    stores = [FolderStore(Path(shutil.copytree(Path(capture.uri), tmp_path / name))) for name in ("one", "two")]
    whole = surface_context(stores[0], tmp_path / "whole", **short)
    task.run(whole.request, whole)
    checks = iter(range(10_000))  # one a photo, then one a step
    stopped = surface_context(stores[1], tmp_path / "stopped", **short)
    stopped.cancelled = lambda: next(checks) >= 48 + 45
    with pytest.raises(DigitizeError):
        task.run(stopped.request, stopped)
    again = surface_context(stores[1], tmp_path / "again", **short)
    assert again.load_checkpoint(trainer.CHECKPOINT) is not None
    task.run(again.request, again)
    name = "model/field.safetensors"
    assert (again.output / name).read_bytes() == (whole.output / name).read_bytes()


def flat(places: torch.Tensor) -> torch.Tensor:
    """Distances of places on a plane to it."""
    return torch.zeros(len(places))


def all_seen(x: torch.Tensor, eyes: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(x), dtype=torch.bool)


def tone_at(p: np.ndarray) -> np.ndarray:
    """The pattern that covers things."""
    return (
        0.5
        + 0.2 * np.sin(9 * p[..., 0] + 4 * p[..., 1] + 5 * p[..., 2])
        + 0.2 * np.sin(11 * p[..., 1] - 3 * p[..., 0] ** 2)
    )


def bank_of(meet: Callable[[np.ndarray, np.ndarray], np.ndarray], size: int, focal: float) -> PixelBank:
    """Two cameras, 3 units away, turned towards the middle of what rays meet [..] along the way."""
    camera = Camera(width=size, height=size, fx=focal, fy=focal, cx=size / 2, cy=size / 2)
    poses, pictures = [], []
    for side in (-0.3, 0.3):
        eye = np.array([3 * np.sin(side), 0.0, -3 * np.cos(side)])
        forward = -eye / 3
        right = np.cross([0.0, 1.0, 0.0], forward)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
        pose[:3, 3] = eye
        v, u = np.mgrid[0:size, 0:size] + 0.5
        d = np.stack([(u - size / 2) / focal, (v - size / 2) / focal, np.ones_like(u)], -1) @ pose[:3, :3].T
        tone = tone_at(eye + d * meet(eye, d)[..., None])
        pictures.append(np.repeat(np.round(tone * 255).astype(np.uint8)[..., None], 3, 2))
        poses.append(pose)
    return PixelBank([camera, camera], np.stack(poses), pictures, [None, None], "cpu")


def plane_bank() -> PixelBank:
    """Before the plane z = 0."""
    return bank_of(lambda eye, d: -eye[2] / d[..., 2], 96, 120.0)


def at_depth(bank: PixelBank, shift: float, tilt: float) -> Surface:
    """Points of the first photo's middle pixels moved `shift` along their rays from the plane, normals tilted."""
    number = torch.tensor([48 * 96 + 48, 40 * 96 + 52, 55 * 96 + 41])
    photo, local = bank.place(number)
    o, d = bank.rays(photo, local)
    t = -o[:, 2] / d[:, 2] + shift
    normal = torch.tensor([np.sin(tilt), 0.0, -np.cos(tilt)], dtype=torch.float32).expand(3, 3)
    return Surface(o + t[:, None] * d, normal, photo, number)


RADIUS = 0.4


def ball_loss(bank: PixelBank, radius: float, bent: bool) -> float:
    """Photometric loss of a ball of that radius before photos of one of RADIUS; of its tangent planes unless `bent`."""
    size = bank.sizes[0][0]
    middle = torch.arange(size // 2 - 14, size // 2 + 15, 4)
    number = (middle[:, None] * size + middle).view(-1)
    photo, local = bank.place(number)
    o, d = bank.rays(photo, local)
    d = torch.nn.functional.normalize(d, dim=1)
    b = (o * d).sum(1)
    x = o + (-b - (b * b - (o * o).sum(1) + radius**2).sqrt())[:, None] * d
    normal = torch.nn.functional.normalize(x, dim=1)

    def to_ball(places: torch.Tensor) -> torch.Tensor:
        return places.norm(dim=1) - radius

    random = torch.Generator().manual_seed(0)
    found = PhotoConsistency(bank).loss(Surface(x, normal, photo, number), to_ball if bent else flat, all_seen, random)
    assert found is not None
    return float(found)


def test_patches_bend_with_the_surface() -> None:
    """Photos of a ball agree best on a ball of its size; through tangent planes, on one that is too small."""

    def meet(eye: np.ndarray, d: np.ndarray) -> np.ndarray:
        a, b, c = (d * d).sum(-1), (d @ eye), eye @ eye - RADIUS**2
        return (-b - np.sqrt(np.maximum(b * b - a * c, 0.0))) / a

    bank = bank_of(meet, 96, 240.0)
    radii = np.linspace(RADIUS - 0.012, RADIUS + 0.012, 25)
    best = {bent: radii[np.argmin([ball_loss(bank, float(r), bent) for r in radii])] for bent in (True, False)}
    pixel = 2.6 / 240.0
    assert abs(best[True] - RADIUS) < 0.1 * pixel
    assert best[False] < RADIUS - 0.12 * pixel


def test_patches_agree_on_the_plane_and_nowhere_else() -> None:
    bank = plane_bank()
    compare = PhotoConsistency(bank)
    random = torch.Generator().manual_seed(0)

    def loss(shift: float, tilt: float = 0.0) -> float:
        found = compare.loss(at_depth(bank, shift, tilt), flat, all_seen, random)
        return 1.0 if found is None else float(found)

    assert loss(0.0) < 0.01
    assert loss(0.06) > 2 * loss(0.0)
    assert loss(-0.06) > 2 * loss(0.0)
    assert loss(0.0, 0.5) > 2 * loss(0.0)
    surface = at_depth(bank, 0.03, 0.0)
    depth = torch.zeros(3, requires_grad=True)
    _, d = bank.rays(*bank.place(surface.number))
    moved = surface._replace(x=surface.x + depth[:, None] * d)
    found = compare.loss(moved, flat, all_seen, random)
    assert found is not None
    (slope,) = torch.autograd.grad(found, depth)
    assert bool((slope > 0).all())  # nearer is better


def test_hidden_sources_do_not_count() -> None:
    bank = plane_bank()
    nothing = PhotoConsistency(bank).loss(
        at_depth(bank, 0.0, 0.0), flat, lambda x, eyes: torch.ones(len(x), dtype=torch.bool), torch.Generator()
    )
    assert nothing is None


def test_ncc_of_known_patches() -> None:
    a = torch.rand(5, PATCH * PATCH)
    same, textured = ncc(a, 0.3 + 0.5 * a)
    assert torch.allclose(same, torch.ones(5), atol=1e-5)
    assert bool(textured.all())
    expected = np.corrcoef(a[0].numpy(), a[1].numpy())[0, 1]
    assert float(ncc(a[0], a[1])[0]) == pytest.approx(expected, abs=1e-5)
    assert not bool(ncc(a[:1], torch.full((1, PATCH * PATCH), 0.5))[1])


def test_neighbours_are_seen_under_useful_angles() -> None:
    angle = torch.deg2rad(torch.tensor([0.0, 1.0, 10.0, 30.0, 90.0]))
    centres = 3.0 * torch.stack([angle.cos(), angle.sin(), torch.zeros(5)], 1)
    assert neighbours(centres)[0, :3].tolist() == [2, 3, -1]


def test_distances_of_a_ball() -> None:
    from scipy.ndimage import distance_transform_edt

    axis = torch.arange(40) - 19.5
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    outside = (z * z + y * y + x * x).sqrt() > 11.0
    found = distances(outside).numpy()
    exact = np.where(outside, distance_transform_edt(outside) - 0.5, 0.5 - distance_transform_edt(~outside))
    near = np.abs(exact) < BAND - 4
    assert np.abs(found - exact)[near].max() < 0.1 * BAND
    assert np.array_equal(found > 0, outside.numpy())
