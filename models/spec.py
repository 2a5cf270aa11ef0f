"""What a user asks for: a batch of assets, in YAML. `models/spec_yaml.py` reads it; `docs/spec.md` explains it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from models.capture_kind import CaptureKind
from models.colour import ColourReference
from models.quality import Gate, Verdict
from models.record import Record
from models.scale import NONE
from models.stage import Stage

PACKAGE = "package:"
"""Begins the uri of a file of an installed package."""
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def _asset_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError(
            f"expected 1 to 100 of a-z 0-9 . _ - starting with a letter or digit, found {value!r}: "
            "ids become folder names and S3 keys"
        )
    return value


AssetId = Annotated[str, AfterValidator(_asset_id)]


class Preset(StrEnum):
    """How much time and detail an asset gets."""

    PREVIEW = "preview"
    STANDARD = "standard"
    HIGH = "high"


class Scale(Record):
    """How the asset gets its size in metres. A required choice: `kind: none` says that it has none.

    A kind is a method of the stage `scale` and brings its own keys; the planner checks them (`flows/plan/chains.py`).
    """

    model_config = ConfigDict(extra="allow")

    kind: str = Field(default=NONE, pattern="^[a-z][a-z0-9_]{0,39}$")
    """`none`, `known_distance` (two marked points whose distance is known), or a kind that a package adds."""

    @property
    def keys(self) -> dict[str, Any]:
        """What stands beside `kind`: the options of that method."""
        return dict(self.model_extra or {})


class MaskRole(StrEnum):
    """What the white part of a mask is."""

    OBJECT = "object"
    """White is the object; everything else is ignored in poses and training."""
    IGNORE = "ignore"
    """White is to be ignored (a hand, a stand, a passer-by)."""
    OUTLINE = "outline"
    """White is the object; cameras are solved on the whole photos, everything else is ignored in training alone. For
    masks that were found on whole photos and edited, and for plain objects on a patterned support."""


class Masks(Record):
    """A folder of masks: 8-bit images named as their photos."""

    path: str
    role: MaskRole = MaskRole.OBJECT


class MaskNetwork(Record):
    """Another network that finds the object, instead of U^2-Net-p: an ONNX file."""

    network: str
    """A path, an `s3://` address, or `package:NAME/FILE`."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the file: it is checked before anything is planned and where the file is read, and is what masks are known
    by."""


class AutomaticMasks(StrEnum):
    """Where masks come from when nobody drew any."""

    AUTO = "auto"
    """A network finds the object, the cameras check it; without its weights as `geometry`."""
    GEOMETRY = "geometry"
    """What stands on the support inside the region of interest, from the sparse points."""
    NONE = "none"
    """No masks."""


def _masks_tag(value: Any) -> str:
    if isinstance(value, str):
        return "[word]"
    is_network = isinstance(value, MaskNetwork) or (isinstance(value, dict) and "network" in value)
    return "[network]" if is_network else "[folder]"


MaskChoice = Annotated[
    Annotated[Masks, Tag("[folder]")]
    | Annotated[MaskNetwork, Tag("[network]")]
    | Annotated[AutomaticMasks, Tag("[word]")],
    Discriminator(_masks_tag),
]
"""A folder of masks, a network, or a word; error messages leave tags in brackets out."""


PoseFormat = Literal["auto", "transforms", "cameras", "colmap", "metashape", "realitycapture"]


class KnownPoses(Record):
    """Cameras measured elsewhere: the pose stage then only checks and undistorts."""

    path: str
    """A file, or the folder of a COLMAP model."""
    format: PoseFormat = "auto"
    """`auto` tells by the file; `transforms`: transforms.json as Instant-NGP and nerfstudio write it (OpenGL axes);
    `cameras`: this project's own cameras.json (a CameraSet, OpenCV axes); `colmap`: a folder with COLMAP's cameras and
    images, text or binary; `metashape`: cameras exported as XML; `realitycapture`: internal/external camera parameters
    exported as CSV."""


class ExternalInput(Record):
    """Something further that a method reads: a file or folder, an `s3://` prefix, or a file of an installed package."""

    uri: str
    """A path, `s3://bucket/prefix`, or `package:NAME/FILE`."""
    sha256: str | None = Field(default=None, pattern="[0-9a-f]{64}")
    """Of a package's file, which is then the same on every machine; required for packages."""

    @model_validator(mode="after")
    def _pinned(self) -> ExternalInput:
        if self.uri.startswith(PACKAGE) and self.sha256 is None:
            raise ValueError(f"expected the sha256 of {self.uri}, found none: packages differ between machines")
        if self.sha256 is not None and not self.uri.startswith(PACKAGE):
            raise ValueError("sha256: expected it with `package:` alone; other inputs are known by their content")
        return self


def _as_external(value: Any) -> Any:
    return {"uri": value} if isinstance(value, str) else value


GivenInput = Annotated[ExternalInput, BeforeValidator(_as_external, json_schema_input_type=str | ExternalInput)]


class StageChoice(Record):
    """One stage's method and options; what is left out comes from the preset."""

    method: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0)
    """Wall seconds after which the stage is killed, instead of the method's own."""


def _as_choices(value: Any) -> Any:
    """`hash_sdf`, `{method: hash_sdf}` and lists of either, as a list of mappings."""
    items = value if isinstance(value, list | tuple) else [value]
    return [{"method": item} if isinstance(item, str) else item for item in items]


StageChoices = Annotated[
    tuple[StageChoice, ...],
    BeforeValidator(_as_choices, json_schema_input_type=str | StageChoice | list[str | StageChoice]),
    Field(min_length=1),
]
"""A method, or several that are tried in order: the next one while none is accepted."""


class PublishTarget(Record):
    """Where finished assets go."""

    to: str
    """A folder, or `s3://bucket/prefix`."""
    minimum_verdict: Literal[Verdict.ACCEPT, Verdict.REVIEW] = Verdict.ACCEPT
    """`accept` publishes accepted assets alone, `review` those marked for review, too."""


class AssetSpec(Record):
    """One object and its photos."""

    id: AssetId
    photos: str
    """A folder, a zip archive, a video file, or an `s3://bucket/prefix`; relative to the specification's folder."""
    masks: MaskChoice = AutomaticMasks.AUTO
    """A folder of masks, or how to find the object without any."""
    poses: KnownPoses | None = None
    colour: ColourReference | None = None
    """White balance and exposure of all photos, from a surface that one of them shows."""
    alignment_only: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Photos that help to find the cameras and are used for nothing else, by name or pattern (`bar_*.jpg`)."""
    scale: Scale
    truth: str | None = None
    """A folder with the true `mesh.ply` and `cameras.json`, to score against."""
    inputs: dict[
        str, Annotated[ExternalInput, BeforeValidator(_as_external, json_schema_input_type=str | ExternalInput)]
    ] = Field(default_factory=dict)
    """What further methods read, by the names under which they ask for it."""
    capture_kind: CaptureKind = CaptureKind.RINGS
    """How the object was photographed."""
    preset: Preset | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    priority: int = 0
    """Assets of a higher priority come first."""
    stages: dict[Stage, StageChoices] = Field(default_factory=dict)
    gates: tuple[Gate, ...] = ()

    @property
    def given_masks(self) -> Masks | None:
        """The folder of masks, where one is given."""
        return self.masks if isinstance(self.masks, Masks) else None

    @property
    def mask_network(self) -> MaskNetwork | None:
        """The network that finds the object, where another than the usual one is given."""
        return self.masks if isinstance(self.masks, MaskNetwork) else None


class CaptureSource(Record):
    """A place where captures appear: each folder directly below it is an asset as soon as it is complete."""

    under: str
    """A folder, or `s3://bucket/prefix`; relative to the specification's folder."""
    scale: Scale
    """Of each capture that brings none of its own."""
    complete: str = Field(default="capture.json", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*")
    """The object whose arrival says that a capture is complete (docs/operations.md)."""
    quiet_minutes: float = Field(default=30.0, ge=0)
    """A capture without that object is complete when nothing of it has changed for this long."""
    capture_kind: CaptureKind = CaptureKind.RINGS
    """Of each capture whose manifest does not name another."""
    preset: Preset | None = None
    stages: dict[Stage, StageChoices] = Field(default_factory=dict)
    gates: tuple[Gate, ...] = ()


class CaptureFile(Record):
    """One file that belongs to a capture."""

    path: str
    bytes: int | None = Field(default=None, ge=0)


class CaptureManifest(Record):
    """`capture.json`, written last beside the photos: the capture is complete. `{}` says just that."""

    version: Literal[1] = 1
    files: tuple[CaptureFile, ...] = ()
    """What has to be there; the capture waits for files that are late."""
    scale: Scale | None = None
    preset: Preset | None = None
    capture_kind: CaptureKind | None = None


class BatchSpec(Record):
    """A batch of assets: the whole of one YAML file."""

    version: Literal[1] = 1
    name: AssetId
    preset: Preset = Preset.STANDARD
    seed: int = Field(default=0, ge=0, lt=2**31)
    store: str = "store"
    """Where committed work lives: a folder, or `s3://bucket/prefix`."""
    publish: tuple[PublishTarget, ...] = ()
    stages: dict[Stage, StageChoices] = Field(default_factory=dict)
    """Choices for all assets; an asset's own come on top."""
    gates: tuple[Gate, ...] = ()
    assets: tuple[AssetSpec, ...] = ()
    captures: tuple[CaptureSource, ...] = ()
    """Places where further assets appear."""

    @model_validator(mode="after")
    def _something(self) -> BatchSpec:
        if not self.assets and not self.captures:
            raise ValueError("expected at least one asset in `assets`, or a place in `captures`")
        return self

    @field_validator("assets")
    @classmethod
    def _unique(cls, assets: tuple[AssetSpec, ...]) -> tuple[AssetSpec, ...]:
        seen: set[str] = set()
        for asset in assets:
            if asset.id in seen:
                raise ValueError(f"expected each asset id once, found '{asset.id}' twice")
            seen.add(asset.id)
        return assets
