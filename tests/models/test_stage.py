"""Names of stages: one object a name, whatever way it came."""

from __future__ import annotations

import copy
import pickle

import pytest
from pydantic import TypeAdapter, ValidationError

from models.digest import canonical_json
from models.results import StageRequest
from models.stage import Stage


def test_equal_names_are_one_object() -> None:
    assert Stage("train") is Stage.TRAIN and Stage("dense") is Stage("dense")
    assert pickle.loads(pickle.dumps(Stage.TRAIN)) is Stage.TRAIN and copy.deepcopy(Stage.TRAIN) is Stage.TRAIN
    assert f"{Stage.TRAIN}" == "train" and {Stage.TRAIN: 1}["train"] == 1


def test_records_hold_them_as_plain_strings() -> None:
    request = StageRequest(asset="a", stage="dense", method="m", version="1")  # type: ignore[arg-type]
    assert request.stage is Stage("dense")
    assert b'"stage":"dense"' in canonical_json(request)
    assert StageRequest.model_validate_json(canonical_json(request)).stage is Stage("dense")
    by_stage = TypeAdapter(dict[Stage, int])
    assert next(iter(by_stage.validate_json('{"pose": 1}'))) is Stage.POSE
    assert by_stage.dump_json({Stage.POSE: 1}) == b'{"pose":1}'


@pytest.mark.parametrize("name", ["", "Train", "a b", "../x", "9lives", "a" * 41])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected the name of a stage"):
        Stage(name)
    with pytest.raises(ValidationError):
        TypeAdapter(Stage).validate_python(name)
