"""Digests, gates, errors, and how light the records are."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.digest import canonical_json, digest_of
from models.errors import HINTS, DigitizeError, ReasonCode
from models.quality import DEFAULT_GATES, Gate, Verdict, apply_gates, worst
from models.results import ArtifactRef, FileRef

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_digest_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest_of(dict(reversed(value.items()))) == digest_of(value)


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


def test_content_digest_ignores_order_but_not_names() -> None:
    a, b = FileRef(path="a", sha256="1", bytes=1), FileRef(path="b", sha256="2", bytes=1)
    assert ArtifactRef.content_digest((a, b)) == ArtifactRef.content_digest((b, a))
    swapped = (FileRef(path="a", sha256="2", bytes=1), FileRef(path="b", sha256="1", bytes=1))
    assert ArtifactRef.content_digest((a, b)) != ArtifactRef.content_digest(swapped)


def test_every_reason_has_a_hint() -> None:
    assert set(HINTS) == set(ReasonCode)
    assert all(len(hint) > 10 for hint in HINTS.values())


def test_errors_survive_pickling_and_say_where() -> None:
    error = DigitizeError(ReasonCode.BLURRED, "expected sharp, found blur", asset="pot", path="a.jpg", retryable=True)
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.message, again.asset, again.path, again.retryable, again.hint) == (
        error.code,
        error.message,
        "pot",
        "a.jpg",
        True,
        HINTS[ReasonCode.BLURRED],
    )
    assert str(again) == "[blurred] asset pot: a.jpg: expected sharp, found blur"


def test_gates() -> None:
    gates = (
        Gate(metric="psnr", at_least=20, otherwise=Verdict.REVIEW),
        Gate(metric="psnr", at_least=10, otherwise=Verdict.REJECT),
        Gate(metric="error", at_most=1, otherwise=Verdict.REJECT),
    )

    def verdict(**values: float) -> Verdict:
        return worst(outcome.consequence for outcome in apply_gates(gates, values))

    assert verdict(psnr=20.0, error=1.0) is Verdict.ACCEPT
    assert verdict(psnr=15.0, error=1.0) is Verdict.REVIEW
    assert verdict(psnr=5.0, error=1.0) is Verdict.REJECT
    assert verdict(psnr=float("nan"), error=1.0) is Verdict.REJECT
    assert [each.passed for each in apply_gates(gates, {"psnr": 20.0, "error": 1.01})] == [True, True, False]
    assert worst([]) is Verdict.ACCEPT


def test_a_metric_that_is_missing_is_for_review_unless_its_gate_lets_it_pass() -> None:
    gate = Gate(metric="psnr", at_least=10, otherwise=Verdict.REJECT)
    (missing,) = apply_gates([gate], {"error": 1.0})
    assert missing.value is None and not missing.passed and missing.consequence is Verdict.REVIEW
    (loose,) = apply_gates([gate.model_copy(update={"when": "if_measured"})], {})
    assert loose.value is None and loose.passed and loose.consequence is Verdict.ACCEPT


def test_a_gate_has_one_bound() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Gate(metric="x")
    with pytest.raises(ValueError, match="exactly one"):
        Gate(metric="x", at_least=1, at_most=2)
    assert len({(gate.metric, gate.otherwise) for gate in DEFAULT_GATES}) == len(DEFAULT_GATES)


def test_records_import_without_anything_heavy() -> None:
    code = (
        "import sys, models.spec, models.spec_yaml, models.results, models.manifest, models.status;"
        "print([m for m in ('torch', 'numpy', 'prefect', 'ray', 'boto3', 'open3d') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
