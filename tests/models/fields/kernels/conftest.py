"""Each test of a backend runs for all of them."""

from __future__ import annotations

import pytest

from tests.models.fields.kernels import backends


@pytest.fixture(params=backends.NAMES, scope="module")
def backend(request: pytest.FixtureRequest) -> backends.Backend:
    return backends.load(request.param)
