"""What passes through a stage's door: references in, references and facts out. Never arrays."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from models.digest import digest_of, stage_key
from models.errors import HINTS, DigitizeError, ReasonCode
from models.ladder import SteppedDown
from models.quality import Metric, Verdict
from models.record import Record
from models.resources import Resources
from models.stage import Stage


class FileRef(Record):
    """One file of a committed or given set: path relative to the set, content and size."""

    path: str
    sha256: str
    bytes: int = Field(ge=0)


class ArtifactRef(Record):
    """A set of files by content. `uri` says where they lie; two references with one digest hold the same bytes."""

    digest: str
    uri: str
    """A prefix inside the work store (`store:work/...`), or a local path, or an `s3://` prefix for sources."""
    files: tuple[FileRef, ...] = ()

    @staticmethod
    def content_digest(files: tuple[FileRef, ...]) -> str:
        """The digest of a set of files: their paths and contents, whatever order they come in."""
        return digest_of(sorted([f.path, f.sha256] for f in files))

    def has(self, path: str) -> bool:
        """Whether the set holds `path`."""
        return any(file.path == path for file in self.files)


class Reason(Record):
    """Why an asset, or one of its files, was refused or marked for review."""

    code: ReasonCode
    message: str
    path: str | None = None
    hint: str = ""

    @staticmethod
    def of(code: ReasonCode, message: str, path: str | None = None, hint: str = "") -> Reason:
        """A reason with the vocabulary's own hint unless another is given."""
        return Reason(code=code, message=message, path=path, hint=hint or HINTS[code])


class StageRequest(Record):
    """One stage of one asset, ready to run: everything that can change its result, and where its inputs lie."""

    asset: str
    stage: Stage
    method: str
    version: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Effective options: the method's defaults, the preset and the overrides, merged."""
    inputs: dict[str, ArtifactRef] = Field(default_factory=dict)
    seed: int = 0
    resources: Resources = Resources()

    @property
    def key(self) -> str:
        """The cache key (docs/conventions.md): resources and places are not in it."""
        digests = {name: ref.digest for name, ref in self.inputs.items()}
        return stage_key(self.stage, self.method, self.version, self.options, digests, self.seed)

    @property
    def prefix(self) -> str:
        """Where this stage commits inside the work store."""
        return f"work/{self.asset}/{self.stage}/{self.key}"


class StageResult(Record):
    """What a stage found. Its files lie in the attempt that won the commit.

    A stage that judges its asset unfit *returns* `verdict=reject` with reasons: that is a result and is committed.
    It *raises* DigitizeError when it could not do its work.
    """

    facts: dict[str, Any] = Field(default_factory=dict)
    """Counts and figures for people; JSON values, finite numbers only."""
    metrics: tuple[Metric, ...] = ()
    """What gates may bound. Gates are not applied here but where the asset is judged (`models/verdict.py`)."""
    verdict: Verdict = Verdict.ACCEPT
    """The stage's own, whatever the gates say: most accept whatever they measure."""
    reasons: tuple[Reason, ...] = ()
    causes: tuple[Reason, ...] = ()
    """What lies behind low metrics, where the stage looked into it: named first when it or a gate rejects the asset."""
    lowered: dict[str, Any] = Field(default_factory=dict)
    """The options that the stage lowered by itself to fit the memory it was given, with the values that it used: the
    commit goes to the key of those."""

    @staticmethod
    def rejection(error: DigitizeError) -> StageResult:
        """The rejection of an asset for what an error says about it."""
        reason = Reason.of(error.code, error.message, error.path, error.hint)
        return StageResult(verdict=Verdict.REJECT, reasons=(reason,))


class RejectedChain(Record):
    """One choice of methods whose result a gate rejected or sent to review, before the next choice was tried."""

    methods: dict[Stage, str]
    """The methods of the stages for which there were several to choose from."""
    stage: Stage
    """The stage that rejected the asset, or sent it to review."""
    key: str
    """Of its commit."""
    reasons: tuple[Reason, ...] = ()
    verdict: Verdict = Verdict.REJECT

    def __str__(self) -> str:
        """For people: `train hash_sdf: rejected by quality`."""
        methods = ", ".join(f"{stage} {name}" for stage, name in self.methods.items())
        return f"{methods}: {'rejected' if self.verdict is Verdict.REJECT else 'sent to review'} by {self.stage}"


class Done(Record):
    """`DONE.json`: the commit of one stage. The first writer wins; everybody else adopts it.

    A result that stepped down is committed under the key of the settings used. The `DONE.json` at the key that was
    asked for then *refers* to it: the same record, whose `key` is not its folder's, with `stepped_down`.
    """

    key: str
    asset: str
    stage: Stage
    method: str
    version: str
    options: dict[str, Any]
    """The effective settings: those that `key` is made of."""
    seed: int
    attempt: str
    files: tuple[FileRef, ...]
    digest: str
    """Content digest of `files`: what downstream keys are made of."""
    result: StageResult
    seconds: float
    cpu_seconds: float
    peak_memory_gb: float
    stepped_down: SteppedDown | None = None
    """What was lowered, where this record stands at a key that asked for more."""

    @property
    def prefix(self) -> str:
        """Where the result is committed inside the work store."""
        return f"work/{self.asset}/{self.stage}/{self.key}"

    @property
    def ref(self) -> ArtifactRef:
        """The committed files as an input for the next stage."""
        uri = f"store:{self.prefix}/attempts/{self.attempt}"
        return ArtifactRef(digest=self.digest, uri=uri, files=self.files)
