"""What photos show at places, against the cameras' own projection and scipy's interpolation."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from models.camera import Camera, project
from models.fields.kernels import cpu
from models.fields.kernels.ops import reference_backend
from models.fields.kernels.sample_photos import Looked
from tasks.sample.scenes import look_at
from tasks.train.pixel_bank import PixelBank

CAMERAS = (
    Camera(width=40, height=30, fx=55.0, fy=52.0, cx=21.0, cy=14.0),
    Camera(width=17, height=25, fx=30.0, fy=33.0, cx=8.0, cy=13.0),
)
POSES = np.stack([look_at(np.array([0.3, -2.0, 0.9])), look_at(np.array([-1.5, 0.8, -0.4]))])


def grey_photos() -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (camera.height, camera.width), dtype=np.uint8) for camera in CAMERAS]


def seen(x: torch.Tensor, photo: torch.Tensor, how: str) -> Looked:
    pictures = grey_photos()
    bank = PixelBank(CAMERAS, POSES, [np.stack([each] * 3, -1) for each in pictures], [None] * 2, "cpu")
    if how == "kernel" and not cpu.available():
        pytest.skip("the compiled kernels are not built (no C++ compiler at install)")
    with reference_backend() if how == "reference" else nullcontext():
        return bank.look(x, photo, torch.from_numpy(np.concatenate([each.ravel() for each in pictures])))


def places(count: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    """Before, beside and behind the cameras."""
    random = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, generator=random), torch.randint(2, (count,), generator=random)


@pytest.mark.parametrize("how", ["kernel", "reference"])
def test_photos_show_what_projection_and_interpolation_say(how: str) -> None:
    x, photo = places()
    found = seen(x, photo, how)
    for number, (camera, pose, picture) in enumerate(zip(CAMERAS, POSES, grey_photos(), strict=True)):
        own = photo == number
        pixels, depth = project(camera, pose, x[own].double().numpy())
        u, v = pixels[:, 0] - 0.5, pixels[:, 1] - 0.5
        inside = (depth > 0) & (u >= 0) & (v >= 0) & (u <= camera.width - 1) & (v <= camera.height - 1)
        expected = map_coordinates(picture.astype(float), [v, u], order=1, mode="nearest") / 255.0
        np.testing.assert_allclose(found.depth[own], depth, atol=1e-5)
        np.testing.assert_array_equal(found.inside[own], inside)
        np.testing.assert_allclose(found.value[own], np.where(inside, expected, 0.0), atol=2e-4)
        assert 50 < inside.sum() < len(inside) - 50


@pytest.mark.parametrize("how", ["kernel", "reference"])
def test_its_slopes_are_those_of_what_is_seen(how: str) -> None:
    x, photo = places(600)
    x.requires_grad_()
    random = torch.randn(600, generator=torch.Generator().manual_seed(3))
    (seen(x, photo, how).value * random).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    ways = torch.nn.functional.normalize(torch.randn(600, 3, generator=torch.Generator().manual_seed(4)), dim=1)
    ends = [seen(x.detach() + step * ways, photo, how) for step in (-1e-3, 0.0, 1e-3)]
    whole = ends[0].inside & ends[1].inside & ends[2].inside
    rise = (ends[2].value - ends[0].value) / 2e-3 * random
    slope = (x.grad * ways).sum(1)
    smooth = whole & ((ends[2].value + ends[0].value - 2 * ends[1].value).abs() < 2e-4)  # no edge of a pixel between
    assert int(smooth.sum()) > 80
    assert torch.allclose(slope[smooth], rise[smooth], atol=0.15, rtol=0.02)
    assert not x.grad[~ends[1].inside].any()


@pytest.mark.parametrize("how", ["kernel", "reference"])
def test_nowhere_and_not_a_number(how: str) -> None:
    assert len(seen(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), how).value) == 0
    x = torch.tensor([[float("nan"), 0.0, 0.0], [float("inf"), 0.0, 0.0], [1e30, 1e30, -1e30]])
    found = seen(x, torch.zeros(3, dtype=torch.int64), how)
    assert not found.inside.any() and not found.value.any()
