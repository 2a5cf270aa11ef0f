"""The cause of a failed capture from made-up evidence, and the evidence from made-up photos."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from models.errors import HINTS, ReasonCode
from models.quality import DEFAULT_GATES, Verdict
from models.verdict import judge_stage
from tasks.pose.diagnose import explain
from tasks.pose.evidence import Evidence, PairEvidence, framing

DATA = Path(__file__).parents[4] / "shared" / "data"


def pairs(
    count: int, matches: int = 200, inliers: int = 150, still: int = 0, turned: bool = False
) -> tuple[PairEvidence, ...]:
    return tuple(
        PairEvidence(i, j, matches, still, inliers, turned) for i, j in itertools.combinations(range(count), 2)
    )


def evidence(
    features: int = 3000, joined: tuple[PairEvidence, ...] = (), alike: float = 0.1, moves: bool = True, count: int = 10
) -> Evidence:
    return Evidence((features,) * count, joined, alike, moves)


@pytest.mark.parametrize(
    ("found", "registered", "code"),
    [
        (evidence(features=40), 0, ReasonCode.NO_FEATURES),
        (evidence(), 0, ReasonCode.NO_OVERLAP),
        (evidence(joined=pairs(4)), 4, ReasonCode.NO_OVERLAP),
        (evidence(joined=pairs(10, turned=True)), 0, ReasonCode.NO_PARALLAX),
        (evidence(joined=pairs(10, still=180)), 0, ReasonCode.MOVING_SUBJECT),
        (evidence(joined=pairs(10, still=180, turned=True), moves=False), 0, ReasonCode.NO_PARALLAX),
        (evidence(joined=pairs(3, 20, 16), alike=0.66), 0, ReasonCode.MOVING_SUBJECT),
        (evidence(alike=0.66), 0, ReasonCode.NO_OVERLAP),
        (evidence(joined=pairs(10)), 4, ReasonCode.TOO_FEW_REGISTERED),
    ],
)
def test_the_cause_follows_the_evidence(found: Evidence, registered: int, code: ReasonCode) -> None:
    reason = explain(found, registered)
    assert reason.code is code
    assert reason.hint == HINTS[code]
    assert any(character.isdigit() for character in reason.message)


def test_groups_are_counted_through_chains() -> None:
    chain = tuple(PairEvidence(i, i + 1, 50, 0, 40) for i in (0, 1, 2, 5, 6))
    assert evidence(joined=chain).connected == 4


def test_framing_tells_a_tripod_from_a_walk() -> None:
    rng = np.random.default_rng(0)
    tripod, walk = [], []
    for _ in range(8):
        picture = np.full((192, 192), 150.0) + rng.normal(0, 1, (192, 192))
        picture[60:172, 48:144] = np.kron(rng.uniform(0, 255, (28, 24)), np.ones((4, 4)))
        tripod.append(picture)
        walk.append(np.roll(picture, tuple(rng.integers(-96, 96, 2)), (0, 1)))
    assert framing(tripod)[0] > 0.8 and framing(tripod)[1]
    assert framing(walk)[0] < 0.4
    assert framing([tripod[0]] * 4) == (pytest.approx(1.0), False)
    assert framing(tripod[:1]) == (0.0, False)


@pytest.mark.parametrize(
    ("folder", "code"), [("bad_nadar", ReasonCode.MOVING_SUBJECT), ("bad_no_overlap", ReasonCode.NO_OVERLAP)]
)
def test_real_captures_that_cannot_work(folder: str, code: ReasonCode, tmp_path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    from tasks.pose.task import run
    from tests.tasks.pose.captures import commit_ingest, pose_context

    if not (DATA / folder).is_dir():
        pytest.skip(f"needs the folder {folder} of the shared data")
    (tmp_path / "photos").mkdir()
    for path in (DATA / folder).iterdir():
        try:
            with Image.open(path) as image:
                image.thumbnail((800, 800))
                image.convert("RGB").save(tmp_path / "photos" / path.name, quality=95)
        except UnidentifiedImageError:
            continue
    ingest = commit_ingest(tmp_path / "store", tmp_path / "photos", None)
    context = pose_context(tmp_path / "run", tmp_path / "store", ingest, "colmap")
    result = run(context.request, context)
    found = judge_stage(result, DEFAULT_GATES)
    assert found.verdict is Verdict.REJECT
    assert found.reasons[0].code is code, found.reasons
    assert result.facts["registered_images"] < 6
