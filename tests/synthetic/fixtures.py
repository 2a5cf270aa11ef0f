"""Captures made once a session. Use: `pytest_plugins = ["tests.synthetic.fixtures"]`, or import the fixture's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.sample.capture import write_sample


def write_tiny_capture(folder: Path, views: int = 24, width: int = 320, height: int = 240, seed: int = 0) -> Path:
    """The sample capture, small: photos/, truth/ and batch.yaml, on a coarser true surface. Some seconds."""
    write_sample(folder, views=views, width=width, height=height, seed=seed, cell_m=0.0025)
    return folder


@pytest.fixture(scope="session")
def tiny_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `write_tiny_capture` leaves it. Read only: all tests of the session share it."""
    return write_tiny_capture(tmp_path_factory.mktemp("tiny_capture"))
