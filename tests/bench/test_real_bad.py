"""Bad input is made as it says, and what counts as published though torn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.real_bad import KINDS, bad_figures, is_torn, score, write_bad
from bench.real_rows import NOT_MEASURED
from models.spec_yaml import load_spec

SIZE = {"views": 12, "width": 160, "height": 120}


def row(published: bool, fscore: float | None) -> dict[str, Any]:
    return {"published": published, "fscore_1pct": fscore}


def test_torn_is_what_was_published_with_a_low_f_score_or_none() -> None:
    assert is_torn(row(True, 0.79)) and is_torn(row(True, None))
    assert not is_torn(row(True, 0.81)) and not is_torn(row(False, 0.1)) and not is_torn(row(False, None))


def test_the_figure_counts_the_five_rows_and_needs_all_of_them() -> None:
    rows = {kind: row(False, None) for kind in KINDS}
    assert bad_figures(rows) == {"bad_published_torn": 0}
    assert bad_figures(rows | {"glass": row(True, 0.2), "blur": row(True, 0.99)}) == {"bad_published_torn": 1}
    assert bad_figures({"glass": row(True, 0.2)}) == bad_figures({}) == {"bad_published_torn": NOT_MEASURED}


def test_no_mesh_no_score(tmp_path: Path) -> None:
    assert set(score({}, tmp_path).values()) == {None}


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in ("blur", "passer", "masks")}
    for kind, folder in made.items():
        write_bad(kind, folder, SIZE)
    return made


def pictures(folder: Path) -> list[np.ndarray]:
    found = []
    for path in sorted((folder / "photos").glob("*.jpg")):
        with Image.open(path) as photo:
            found.append(np.asarray(photo.convert("RGB"), dtype=np.float64))
    return found


@pytest.mark.slow
def test_one_photo_is_out_of_focus_and_two_are_passed(captures: dict[str, Path]) -> None:
    plain, blurred, passed = (pictures(captures[kind]) for kind in ("masks", "blur", "passer"))
    change = [float(np.abs(a - b).max()) for a, b in zip(plain, blurred, strict=True)]
    assert [k for k, each in enumerate(change) if each > 0] == [5]
    detail = [float(np.abs(np.diff(each[5], axis=1)).mean()) for each in (plain, blurred)]
    assert detail[1] < 0.7 * detail[0]
    masks = sorted((captures["passer"] / "truth" / "masks").glob("*.png"))
    assert [k for k, (a, b) in enumerate(zip(plain, passed, strict=True)) if np.abs(a - b).max() > 0] == [8, 9]
    for k in (8, 9):
        with Image.open(masks[k]) as mask:
            shown = np.asarray(mask) > 127
        hidden = (np.abs(plain[k] - passed[k]).max(2) > 30)[shown].mean()
        assert 0.05 < hidden < 0.9


@pytest.mark.slow
def test_the_runs_know_no_truth_and_masks_are_given_to_one_row_alone(captures: dict[str, Path]) -> None:
    for kind, folder in captures.items():
        (asset,) = load_spec(folder / "batch.yaml").spec.assets
        assert asset.id == kind and asset.truth is None
        assert (asset.given_masks is not None) == (kind == "masks")
    names = {path.stem for path in (captures["masks"] / "masks").iterdir()}
    assert names == {path.stem for path in (captures["masks"] / "photos").iterdir()}
    with Image.open(next((captures["masks"] / "masks").iterdir())) as mask:
        assert 0.05 < (np.asarray(mask) > 127).mean() < 0.07 and mask.size == (160, 120)
