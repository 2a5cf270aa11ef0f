"""A mesh as a representation: what it draws, which colours it gives, and what comes back from its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.representation import MeshRepresentation
from models.representation import FORMAT, REPRESENTATION_FILE, kinds, load_representation
from tasks.sample.scenes import sphere_scene


def test_it_draws_colour_depth_and_outward_normals() -> None:
    scene = sphere_scene(views=4, size=48, radius=2.0)
    model, image = MeshRepresentation(scene.mesh), scene.poses.images[1]
    picture = model.render(image.camera, image.c2w, scene.poses.world_from_field, normals=True, backdrop=0.5)
    exact = scene.render(1, background=(0.5, 0.5, 0.5))
    assert np.abs(picture.rgb - exact.rgb).max() < 1e-6
    solid = picture.opacity > 0.5
    assert np.array_equal(solid, exact.mask) and np.isinf(picture.depth[~solid]).all()
    # the nearest point of a ball of radius 2 seen from 8 away lies at 6
    assert picture.depth[solid].min() == pytest.approx(6.0, abs=0.02)
    centre = np.linalg.norm(np.array(image.c2w)[:3, 3])
    assert centre == pytest.approx(8.0)
    assert picture.normals is not None
    toward = -np.array(image.c2w)[:3, 2]
    assert (picture.normals[solid] @ toward).min() > -0.05 and (picture.normals[~solid] == 0).all()
    black = model.render(image.camera, image.c2w, scene.poses.world_from_field)
    assert black.normals is None and (black.rgb[~solid] < 0.6).all() and black.rgb[0, 0].max() == 0.0


def test_a_face_seen_from_behind_shows_its_other_side() -> None:
    scene = sphere_scene(views=4, size=32)
    inside_out = Mesh(scene.mesh.vertices, scene.mesh.faces[:, ::-1].copy(), colors=scene.mesh.colors)
    image = scene.poses.images[0]
    arguments = (image.camera, image.c2w, scene.poses.world_from_field)
    one, other = (MeshRepresentation(mesh).render(*arguments, normals=True) for mesh in (scene.mesh, inside_out))
    assert one.normals is not None and other.normals is not None
    assert np.abs(one.normals - other.normals).max() < 1e-5


def test_colours_are_those_of_the_nearest_place() -> None:
    mesh = sphere_scene().mesh
    assert mesh.colors is not None
    model = MeshRepresentation(mesh)
    normals = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    found = model.colours(mesh.vertices * 1.01, normals, ())  # type: ignore[arg-type]
    assert np.abs(found.astype(int) - mesh.colors.astype(int)).max() <= 2
    plain = MeshRepresentation(Mesh(mesh.vertices, mesh.faces))
    assert not plain.has_colours and model.has_colours and not model.has_background
    assert len(np.unique(plain.colours(mesh.vertices[:9], normals[:9], ()))) == 1  # type: ignore[arg-type]


def test_what_is_saved_comes_back_and_equal_meshes_give_equal_bytes(tmp_path: Path) -> None:
    mesh = sphere_scene().mesh
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (8, 16, 3)).astype(np.uint8)
    uv = rng.random((len(mesh.vertices), 2))
    for name in ("a", "b"):
        MeshRepresentation(Mesh(mesh.vertices, mesh.faces, uv, texture, mesh.colors)).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["mesh.ply", "representation.json", "texture.png"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    back = load_representation(tmp_path / "a")
    assert isinstance(back, MeshRepresentation) and back.kind == "mesh"
    assert np.array_equal(back.mesh.vertices, mesh.vertices) and np.array_equal(back.mesh.faces, mesh.faces)
    assert back.mesh.texture is not None and np.array_equal(back.mesh.texture, texture)
    assert back.mesh.colors is not None and np.array_equal(back.mesh.colors, mesh.colors)


def test_what_is_no_representation_is_refused_by_name(tmp_path: Path) -> None:
    assert kinds() == ("field", "mesh")
    with pytest.raises(DigitizeError) as caught:
        load_representation(tmp_path)
    assert caught.value.code is ReasonCode.SOURCE_NOT_FOUND
    for text, message in (
        ("{", "not a readable representation"),
        (f'{{"format": {FORMAT + 1}, "kind": "mesh"}}', f"expected format {FORMAT}"),
        (f'{{"format": {FORMAT}, "kind": "splats"}}', "one of the kinds field, mesh, found 'splats'"),
    ):
        (tmp_path / REPRESENTATION_FILE).write_text(text)
        with pytest.raises(DigitizeError, match=message) as caught:
            load_representation(tmp_path)
        assert caught.value.code is ReasonCode.UNSUPPORTED_FORMAT
