"""Outlines that follow the colours of a photo, and stay where there is nothing to follow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tasks.mask.edges import follow_edges

HEIGHT, WIDTH = 120, 160
Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def bar(left: int, right: int) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:100, left:right] = True
    return mask


def photo(truth: Mask, inside: tuple[int, int, int], outside: tuple[int, int, int], noise: float = 4.0) -> Picture:
    """Two colours with noise."""
    picture = np.where(truth[..., None], inside, outside) + np.random.default_rng(0).normal(0, noise, (*truth.shape, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("drawn", [(64, 96), (72, 88), (74, 94)], ids=["too wide", "too narrow", "beside"])
def test_an_outline_beside_an_edge_moves_to_it(drawn: tuple[int, int]) -> None:
    truth = bar(68, 92)
    found = follow_edges(photo(truth, (170, 60, 50), (90, 110, 100)), bar(*drawn))
    assert overlap(bar(*drawn), truth) < 0.86 and overlap(found, truth) > 0.95


def test_brightness_alone_is_an_edge_too() -> None:
    truth = bar(68, 92)
    assert overlap(follow_edges(photo(truth, (150, 150, 150), (100, 100, 100)), bar(64, 96)), truth) > 0.97


def test_an_outline_stays_where_both_sides_look_alike() -> None:
    drawn = bar(64, 96)
    found = follow_edges(photo(drawn, (120, 110, 100), (120, 110, 100)), drawn)
    assert overlap(found, drawn) > 0.95


def test_what_is_far_from_the_outline_stays() -> None:
    """A stain inside and its colour outside."""
    truth = bar(40, 120)
    picture = photo(truth, (170, 60, 50), (90, 110, 100))
    picture[50:70, 70:90] = (90, 110, 100)
    picture[50:70, 145:160] = (170, 60, 50)
    found = follow_edges(picture, truth)
    assert found[50:70, 70:90].all() and not found[50:70, 145:160].any()


def test_an_empty_mask_stays_empty() -> None:
    picture = photo(bar(68, 92), (170, 60, 50), (90, 110, 100))
    assert not follow_edges(picture, np.zeros((HEIGHT, WIDTH), bool)).any()


def test_a_mask_at_the_border_of_the_photo_keeps_its_border() -> None:
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[:, :60] = True
    drawn = truth.copy()
    drawn[:, 55:60] = False
    found = follow_edges(photo(truth, (170, 60, 50), (90, 110, 100)), drawn)
    assert overlap(found, truth) > 0.97 and found[:, :40].all()
