"""The simulation against cases that can be worked out by hand."""

from __future__ import annotations

import pytest

from flows.forecast.simulation import Losses, Outcome, Simulation, Site, StageCost
from models.stage import Stage
from tests.support import STAGES

SECONDS = dict.fromkeys(STAGES, 0.0) | {Stage.POSE: 10.0, Stage.TRAIN: 30.0}


def costs(share: float = 1.0, cpus: float = 1.0) -> dict[Stage, StageCost]:
    return {stage: StageCost(cpus, share if stage is Stage.TRAIN else 0.0) for stage in STAGES}


def run(
    assets: int, gpus: int = 1, share: float = 1.0, at_once: int = 100, cpus: float = 1e6, **more: object
) -> Outcome:
    site = Site(gpus, cpus, at_once, overhead_s=0.0)
    return Simulation(assets, lambda asset: SECONDS, costs(share), site, **more).run()  # type: ignore[arg-type]


def test_one_asset_takes_its_chain() -> None:
    found = run(1)
    assert (found.seconds, found.longest_s, found.gpu_s, found.finished) == (40.0, 40.0, 30.0, 1)


def test_one_gpu_works_without_a_gap() -> None:
    found = run(10)
    assert found.seconds == 10 + 10 * 30  # the first asset's poses, then one field after another
    assert found.gpu_fill(1) == pytest.approx(300 / 310)


def test_shares_of_a_gpu() -> None:
    assert run(10, share=0.5).seconds == 10 + 5 * 30
    assert run(10, share=0.34).seconds == 10 + 5 * 30  # two, not three, fit into one
    assert run(9, share=0.33).seconds == 10 + 3 * 30


def test_a_window_of_one_overlaps_nothing() -> None:
    assert run(10, at_once=1).seconds == 400.0


def test_cores_are_a_limit_too() -> None:
    assert run(4, gpus=4, cpus=1.0).seconds == 4 * 40.0


def test_overhead_is_paid_by_every_stage() -> None:
    site = Site(1, 8.0, 1, overhead_s=0.5)
    assert Simulation(2, lambda asset: SECONDS, costs(), site).run().seconds == 2 * (40 + len(STAGES) * 0.5)


def test_lost_machines_cost_time_and_no_asset() -> None:
    quiet, lossy = run(200, gpus=4), run(200, gpus=4, losses=Losses(gpu_mtbf_h=0.05, repair_s=5, checkpoint_s=10))
    assert lossy.finished == 200
    assert lossy.gpu_s == quiet.gpu_s
    # 6,000 GPU seconds at one loss in 180 s: about 33 losses, each of at most 15 s
    assert 20 < lossy.lost_machines < 50
    assert 0 < lossy.wasted_gpu_s < 15 * lossy.lost_machines
    assert lossy.seconds == pytest.approx(quiet.seconds + lossy.wasted_gpu_s / 4, rel=0.05)


def test_quarantined_assets_are_counted() -> None:
    found = run(2000, gpus=50, losses=Losses(quarantined=0.1))
    assert found.finished + found.quarantined == 2000
    assert 140 < found.quarantined < 260


def test_equal_seeds_give_equal_outcomes() -> None:
    losses = Losses(gpu_mtbf_h=0.05, quarantined=0.05)
    assert run(100, losses=losses, seed=3) == run(100, losses=losses, seed=3)
    assert run(100, losses=losses, seed=3) != run(100, losses=losses, seed=4)


def test_a_stage_that_fits_nowhere_is_named() -> None:
    with pytest.raises(ValueError, match="stage train needs"):
        run(1, gpus=0)
