"""The order of stages, and what methods of other distributions have to hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from models.errors import DigitizeError, ReasonCode
from models.stage import Given, Inputs, Stage
from tasks import registry

BUILT_IN = ("ingest", "pose", "mask", "dense", "train", "surface", "scale", "export", "quality", "publish")


class Entry:
    """An entry point that names a module of this process."""

    def __init__(self, name: str, group: str, module: ModuleType) -> None:
        self.name, self.group, self._module = name, group, module

    def load(self) -> ModuleType:
        return self._module


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Entry]]:
    """A list to which a test adds what is installed besides this distribution."""
    entries: list[Entry] = []

    def entry_points(group: str, name: str | None = None) -> list[Entry]:
        return [each for each in entries if each.group == group and name in (None, each.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry.clear()
    yield entries
    monkeypatch.undo()
    registry.clear()


def stage(name: str, after: tuple[str, ...], refines: tuple[str, ...] = ()) -> Entry:
    module = ModuleType(name)
    vars(module).update(AFTER=after, REFINES=refines)
    return Entry(name, "digitize.stages", module)


def test_the_built_in_stages_are_in_their_order() -> None:
    assert registry.stages() == BUILT_IN
    assert all(registry.is_built_in(each) for each in registry.stages())
    assert registry.position("train") == 4 and registry.position("unknown") == 10


def test_a_refining_stage_comes_before_every_other_reader(installed: list[Entry]) -> None:
    installed += [stage("tidy", ("pose",), ("pose",)), stage("polish", ("surface",), ("surface",))]
    order = ["ingest", "pose", "mask", "dense", "tidy", "train", "surface", "polish"]
    assert list(registry.stages()) == [*order, "scale", "export", "quality", "publish"]
    assert registry.refiners(Stage.POSE) == ("mask", "dense", "tidy") and registry.refiners(Stage.SURFACE) == (
        "polish",
    )


def test_refining_stages_order_themselves(installed: list[Entry]) -> None:
    installed += [stage("a_second", ("pose", "z_first"), ("pose",)), stage("z_first", ("pose",), ("pose",))]
    assert list(registry.stages())[1:6] == ["pose", "mask", "dense", "z_first", "a_second"]
    assert registry.refiners(Stage.POSE) == ("mask", "dense", "z_first", "a_second")


def test_a_stage_after_quality_comes_before_publish(installed: list[Entry]) -> None:
    installed.append(stage("thumbs", ("quality",)))
    assert list(registry.stages())[-3:] == ["quality", "thumbs", "publish"]
    installed.append(stage("tell", ("publish",)))
    registry.clear()
    assert list(registry.stages())[-2:] == ["publish", "tell"]


def test_circles_and_missing_neighbours_are_named(installed: list[Entry]) -> None:
    installed += [stage("one", ("two",)), stage("two", ("one",))]
    with pytest.raises(DigitizeError, match="found a circle: one, publish, two"):
        registry.stages()
    installed[:] = [stage("lonely", ("nowhere",))]
    registry.clear()
    with pytest.raises(DigitizeError, match="stage lonely comes after nowhere, which is not installed"):
        registry.stages()


def test_an_incomplete_method_says_what_it_lacks(installed: list[Entry]) -> None:
    module = ModuleType("half")
    vars(module).update(VERSION="1", PRESETS={})
    installed.append(Entry("half", "digitize.train", module))
    with pytest.raises(DigitizeError) as caught:
        registry.method(Stage.TRAIN, "half")
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY
    assert "expected Options, resources, estimate in method 'half' of stage train" in caught.value.message
    assert "half" in registry.methods(Stage.TRAIN)


def test_a_stage_in_one_module_is_its_own_only_method(installed: list[Entry]) -> None:
    installed.append(stage("tidy", ("pose",)))
    assert registry.methods(Stage("tidy")) == ("tidy",)
    assert registry.default_method(Stage("tidy"), Given("rings")) == "tidy"
    with pytest.raises(DigitizeError, match="expected one of the stages ingest, pose"):
        registry.stage_module(Stage("nothing"))


def test_default_methods_follow_from_what_is_given() -> None:
    assert registry.default_method(Stage.POSE, Given("rings")) == "colmap"
    assert registry.default_method(Stage.POSE, Given("rings", frozenset({"poses"}))) == "known"
    assert registry.default_method(Stage.SURFACE, Given("rings", outputs={"train": "mesh"})) == "mesh"


def test_declared_inputs_of_a_stage_hold_for_its_methods() -> None:
    module = registry.method(Stage.QUALITY, "standard")
    options = registry.effective_options(Stage.QUALITY, "standard", "preview", {})
    assert registry.inputs(Stage.QUALITY, module, options, "rings") == Inputs(
        ("ingest", "pose", "surface"), ("mask", "dense", "train")
    )


def test_looking_at_stages_loads_nothing_that_computes(tmp_path: Path) -> None:
    import subprocess

    heavy = ("torch", "pycolmap", "open3d", "scipy", "trimesh")
    code = f"import sys; from tasks import registry; registry.stages(); print([m for m in {heavy} if m in sys.modules])"
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
