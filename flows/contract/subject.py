"""One method under test: its request on the sphere, and the runs that the checks share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from flows.contract import watch
from flows.contract.capture import Capture, Kind
from flows.contract.probes import Probe, probe_of
from flows.contract.shapes import Finished
from flows.contract.watch import Seen
from flows.plan.sources import WEIGHTS, source_ref
from flows.runner.job import Job
from flows.runner.stage_process import run_job
from models.errors import DigitizeError, ReasonCode
from models.record import Record
from models.results import ArtifactRef, Done, StageRequest
from models.stage import EVERY, Given, Stage
from models.weights import listed
from tasks import registry

CAPTURE_KIND = "rings"
PRESET = "preview"
_LINE = (Stage.INGEST, Stage.POSE, Stage.TRAIN, Stage.SURFACE, Stage.SCALE, Stage.EXPORT, Stage.QUALITY)
"""The stages whose results are at hand where they are optional."""


class Bench:
    """A folder with the captures that the methods under test share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._captures: dict[Kind, Capture] = {}

    def capture(self, kind: Kind) -> Capture:
        """The sphere, photographed so; made once."""
        if kind not in self._captures:
            name = f"{kind.views}x{kind.edge_px}"
            self._captures[kind] = Capture(self.folder / name, kind)
        return self._captures[kind]

    def options(self, stage: Stage, name: str, probe: Probe, capture: Capture, more: Mapping[str, Any]) -> Record:
        """The method's options: those of the stage's probe that it knows, then its own CONTRACT, then `more`."""
        module = registry.method(stage, name)
        known = module.Options.model_fields
        wanted = {**probe.options, **probe.chosen(capture)}
        small = {key: value for key, value in wanted.items() if key in known}
        own: dict[str, Any] = getattr(module, "CONTRACT", {})
        return registry.effective_options(stage, name, PRESET, {**small, **own, **more})

    def request(self, stage: Stage, name: str, kind: Kind | None = None, **more: Any) -> StageRequest:
        """The request of a method on the sphere."""
        module = registry.method(stage, name)
        first = probe_of(stage, ())
        required = registry.inputs(
            stage, module, self.options(stage, name, first, self.capture(first.kind), more), CAPTURE_KIND
        ).required
        probe = probe_of(stage, required)
        capture = self.capture(kind or probe.kind)
        options = self.options(stage, name, probe, capture, more)
        reads = registry.inputs(stage, module, options, CAPTURE_KIND)
        names = [*reads.required, *(each for each in reads.optional if each in (EVERY, *_LINE))]
        if EVERY in names:
            names = [each for each in names if each != EVERY]
            names += [each for each in _LINE if registry.position(each) < registry.position(stage)]
        inputs = {each: self.ref(Stage(each), capture, module) for each in dict.fromkeys(names)}
        return StageRequest(
            asset="sphere",
            stage=stage,
            method=name,
            version=module.VERSION,
            options=options.model_dump(mode="json"),
            inputs=inputs | self._external(module, probe, capture),
            resources=module.resources(options),
        )

    def ref(self, stage: Stage, capture: Capture, reader: ModuleType | None = None) -> ArtifactRef:
        """Committed files of a stage, of a kind that the reader accepts."""
        if stage is Stage.POSE:
            return capture.poses()
        accepted = getattr(reader, "ACCEPTS", {}).get(str(stage), ("field",))
        if stage is Stage.TRAIN:
            made = next((found for kind in accepted if (found := capture.model(kind)) is not None), None)
            if made is not None:
                return made
            name = next(
                each for each in registry.methods(stage) if registry.outputs(registry.method(stage, each)) in accepted
            )
        else:
            given = Given(CAPTURE_KIND, frozenset({"photos"}), {"train": accepted[0]})
            name = registry.default_method(stage, given)
        request = self.request(stage, name, capture.kind)
        return capture.commit(request, registry.stage_module(stage).run).ref

    def _external(self, module: ModuleType, probe: Probe, capture: Capture) -> dict[str, ArtifactRef]:
        given = capture.given()
        asked = registry.external(module, Given(CAPTURE_KIND, frozenset(probe.given)))
        found = {name: source_ref(str(given[name])) for name in asked if name in given}
        return found | {name: listed()[name.removeprefix(WEIGHTS)].ref for name in asked if name.startswith(WEIGHTS)}


@dataclass
class Subject:
    """One method on the sphere."""

    bench: Bench
    stage: Stage
    name: str
    more: Mapping[str, Any]
    """Option values on top of those of the suite."""

    @cached_property
    def module(self) -> ModuleType:
        """The method."""
        return registry.method(self.stage, self.name)

    @cached_property
    def request(self) -> StageRequest:
        """What is asked of it."""
        return self.bench.request(self.stage, self.name, **self.more)

    @cached_property
    def probe(self) -> Probe:
        """How far the suite goes."""
        return probe_of(self.stage, self.request.inputs)

    @property
    def capture(self) -> Capture:
        """The sphere that it works on."""
        return self.bench.capture(self.probe.kind)

    @cached_property
    def reference(self) -> Finished:
        """An undisturbed run in a process of its own, on one thread."""
        return Finished(self.capture, self.request, self.run(isolated=True, threads=1))

    @cached_property
    def watched(self) -> tuple[Done, Seen]:
        """A second run, in this process, on two threads, and what it did."""
        with watch.watching() as seen:
            done = self.run(door=f"{watch.NAME}:watched", threads=2)
        return done, seen

    def run(
        self,
        request: StageRequest | None = None,
        *,
        isolated: bool = False,
        threads: int = 1,
        door: str = "",
        resume: bool = False,
    ) -> Done:
        """Run the method, as if for the first time unless it resumes. Raises DigitizeError as the stage's process."""
        request = request or self.request
        if not resume:
            self.forget(request)
        job = Job(
            request=request,
            store_uri=str(self.capture.store.root),
            threads=threads,
            device="cpu",
            scratch=str(self.scratch),
            door=door,
            isolated=isolated,
        )
        return run_job(job, lambda share, message, facts: None, lambda: False)

    @property
    def scratch(self) -> Path:
        """Where attempts have their folders."""
        folder = self.bench.folder / "scratch"
        folder.mkdir(exist_ok=True)
        return folder

    def forget(self, request: StageRequest) -> None:
        """Remove the commit, its checkpoints and what was written beside it; files of attempts stay."""
        root = self.capture.store.root / request.prefix
        (root / "DONE.json").unlink(missing_ok=True)
        shutil.rmtree(root / "checkpoints", ignore_errors=True)
        for folder in self.probe.outside(self.capture):
            shutil.rmtree(folder, ignore_errors=True)

    def unavailable(self) -> str | None:
        """Why this machine cannot run it; None where it can."""
        if not registry.is_available(self.stage, self.name):
            return "is_available() says that this machine lacks what the method needs"
        asked = registry.external(self.module, Given(CAPTURE_KIND, frozenset(self.probe.given)))
        for name in asked:
            if name.startswith(WEIGHTS):
                try:
                    weights = listed()[name.removeprefix(WEIGHTS)]
                    from models.weights import package_file

                    package_file(weights.package, weights.file, weights.sha256)
                except DigitizeError as error:
                    if error.code is not ReasonCode.MISSING_DEPENDENCY:
                        raise
                    return error.message
        return None
