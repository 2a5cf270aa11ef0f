"""The ratios to the public peer: its better setting counts, and what it could not make is not counted for it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.real_peer import peer_figures


def row(chamfer: float, seconds: float, patchmatch: float | None, sgbm: float | None) -> dict[str, Any]:
    peer = {"patchmatch": {"cpu_seconds": 500.0}, "sgbm": {"cpu_seconds": 100.0}}
    for name, value in (("patchmatch", patchmatch), ("sgbm", sgbm)):
        peer[name] |= {"reason": "dense ended with 1"} if value is None else {"chamfer": value}
    return {"chamfer": chamfer, "mvs_cpu_seconds": {"all": seconds}, "peer": peer}


def test_ratios_take_means_over_objects_and_the_peer_s_better_setting() -> None:
    rows = {"one": row(0.001, 300.0, 0.006, 0.004), "two": row(0.003, 500.0, 0.002, 0.008), "alone": {"chamfer": 1.0}}
    found = peer_figures(rows)
    assert found["peer_chamfer_ratio"] == pytest.approx(0.5) and found["peer_chamfer_pct"] == pytest.approx(0.4)
    assert found["peer_time_ratio"] == pytest.approx(0.8)
    assert (found["peer_cpu_s_patchmatch"], found["peer_cpu_s_sgbm"]) == (500.0, 100.0)


def test_a_setting_that_fails_once_is_not_the_better_one() -> None:
    found = peer_figures({"one": row(0.001, 300.0, 0.004, None), "two": row(0.001, 300.0, 0.004, 0.0001)})
    assert found["peer_chamfer_ratio"] == pytest.approx(0.25)
    both = peer_figures({"one": row(0.001, 300.0, None, None)})
    assert "peer_chamfer_ratio" not in both and both["peer_time_ratio"] == pytest.approx(0.6)


def test_no_rows_no_figures() -> None:
    assert peer_figures({"alone": {"chamfer": 1.0}}) == {}
