"""The one exception of the project, and the complete vocabulary of reasons.

A reason code is stable: reports, exit codes, dashboards and users' scripts match on it. `HINTS` says what the
person at the camera (or at the keyboard) can do about each.
"""

from __future__ import annotations

from enum import StrEnum


class ReasonCode(StrEnum):
    """Why something was refused, rejected, or failed. `docs/errors.md` lists all of them."""

    # specification
    SPEC_INVALID = "spec_invalid"
    NOT_BUILT_YET = "not_built_yet"
    # sources and photos
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_EMPTY = "source_empty"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNDECODABLE = "undecodable"
    TOO_SMALL = "too_small"
    BLURRED = "blurred"
    DUPLICATE = "duplicate"
    WRONG_SIZE = "wrong_size"
    ARCHIVE_UNSAFE = "archive_unsafe"
    IMAGE_BOMB = "image_bomb"
    TOO_FEW_IMAGES = "too_few_images"
    MASK_MISMATCH = "mask_mismatch"
    COLOUR_UNSOLVED = "colour_unsolved"
    NETWORK_INVALID = "network_invalid"
    # camera poses
    WRONG_MASKS = "wrong_masks"
    NO_FEATURES = "no_features"
    NO_OVERLAP = "no_overlap"
    NO_PARALLAX = "no_parallax"
    MOVING_SUBJECT = "moving_subject"
    TOO_FEW_REGISTERED = "too_few_registered"
    HIGH_REPROJECTION_ERROR = "high_reprojection_error"
    SHORT_TRACKS = "short_tracks"
    POSES_INVALID = "poses_invalid"
    SCALE_UNSOLVED = "scale_unsolved"
    NO_REGION = "no_region"
    # training
    DIVERGED = "diverged"
    # surface
    EMPTY_SURFACE = "empty_surface"
    NOT_FINITE = "not_finite"
    INSIDE_OUT = "inside_out"
    OUTSIDE_REGION = "outside_region"
    ALL_FLOATERS = "all_floaters"
    # quality
    LOW_FIDELITY = "low_fidelity"
    LOW_GEOMETRY = "low_geometry"
    MESH_DEFECT = "mesh_defect"
    NOT_MEASURED = "not_measured"
    TRUTH_INVALID = "truth_invalid"
    # storing and publishing
    STORE_UNREACHABLE = "store_unreachable"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    PUBLISH_CONFLICT = "publish_conflict"
    # running
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    WORKER_LOST = "worker_lost"
    MISSING_DEPENDENCY = "missing_dependency"
    ENVIRONMENT = "environment"
    INTERNAL = "internal"


HINTS: dict[ReasonCode, str] = {
    ReasonCode.SPEC_INVALID: "Correct the line that the message names; `digitize validate SPEC` checks again without running.",
    ReasonCode.NOT_BUILT_YET: "Choose one of the values that the message lists.",
    ReasonCode.SOURCE_NOT_FOUND: "Check the path in the specification; relative paths start at the specification's folder.",
    ReasonCode.SOURCE_EMPTY: "Put JPEG, PNG, TIFF, WebP or HEIC photos there.",
    ReasonCode.UNSUPPORTED_FORMAT: "Convert the file to JPEG, PNG, TIFF, WebP or HEIC.",
    ReasonCode.UNDECODABLE: "The file is damaged or not an image: copy it again from the camera.",
    ReasonCode.TOO_SMALL: "Photograph at a higher resolution, or lower `ingest.options.min_edge_px`.",
    ReasonCode.BLURRED: "Use a tripod, more light or a shorter exposure.",
    ReasonCode.DUPLICATE: "Nothing to do: the same picture was there twice and is used once.",
    ReasonCode.WRONG_SIZE: "Photograph the whole set with one camera at one setting, or set `reject_odd_sizes: false` "
    "to take the photo for another camera's.",
    ReasonCode.ARCHIVE_UNSAFE: "Pack the photos again as a plain zip: no absolute paths, no links, no nested archives.",
    ReasonCode.IMAGE_BOMB: "The picture claims more pixels than any camera delivers: remove it.",
    ReasonCode.TOO_FEW_IMAGES: "Photograph the object from at least 20 directions, in rings around it.",
    ReasonCode.MASK_MISMATCH: "Give each mask the name of its photo and the photo's size in pixels.",
    ReasonCode.COLOUR_UNSOLVED: "Mark a neutral surface that is neither over-exposed nor dark, or photograph the chart larger, evenly lit and without reflections.",
    ReasonCode.NETWORK_INVALID: "Give an ONNX network that docs/spec.md describes under `masks`, whole and in one file; `digitize doctor SPEC` tries it.",
    ReasonCode.WRONG_MASKS: (
        "Look at the masks beside the photos: white must be the object (`role: object`). "
        "Correct them, or leave them out (`masks: auto`)."
    ),
    ReasonCode.NO_FEATURES: "The photos show too little texture: put the object on a patterned mat and light it evenly.",
    ReasonCode.NO_OVERLAP: "The photos do not show the same thing: keep 70 % overlap between neighbours, one object a capture.",
    ReasonCode.NO_PARALLAX: "The camera turned but did not move: walk around the object instead of panning.",
    ReasonCode.MOVING_SUBJECT: (
        "The subject moves against its background: keep it still, or mask the background "
        "(a turntable needs a plain backdrop or masks)."
    ),
    ReasonCode.TOO_FEW_REGISTERED: "Close the gaps: add photos between the views that did not connect, 10 degrees apart.",
    ReasonCode.HIGH_REPROJECTION_ERROR: "Keep zoom and focus fixed, avoid reflections, and keep everything still during the capture.",
    ReasonCode.SHORT_TRACKS: "Take photos closer together, so that each point is seen in three or more.",
    ReasonCode.POSES_INVALID: "Check the cameras file against docs/spec.md: one rigid camera-to-world matrix for each photo.",
    ReasonCode.SCALE_UNSOLVED: "Mark both points of the known distance in at least two photos that registered.",
    ReasonCode.NO_REGION: "Point all cameras at the object, or give `pose.options.region` in the specification.",
    ReasonCode.DIVERGED: "Lower the learning rate in `train.options`, or remove badly exposed photos.",
    ReasonCode.EMPTY_SURFACE: "Nothing solid was found in the region of interest: check the region and the photos' sharpness.",
    ReasonCode.NOT_FINITE: "A numerical failure: run again with another seed and report it.",
    ReasonCode.INSIDE_OUT: "The surface encloses the cameras: check the region of interest.",
    ReasonCode.OUTSIDE_REGION: "Give the region of interest by hand in `pose.options.region`.",
    ReasonCode.ALL_FLOATERS: "Add photos, even out the lighting, or mask the background.",
    ReasonCode.LOW_FIDELITY: "Look at the comparison pictures in the report; add sharp photos where they differ.",
    ReasonCode.LOW_GEOMETRY: "Look at the error map in the report; add photos of the parts that are off. Mirrors and clear glass cannot be measured: dull them with a spray.",
    ReasonCode.MESH_DEFECT: "Look at the mesh checks in the report; a finer preset closes most holes.",
    ReasonCode.NOT_MEASURED: "Take more photos: with 8 or more, some are kept back to measure on. Or let the gate hold `when: if_measured`.",
    ReasonCode.TRUTH_INVALID: "The truth folder needs mesh.ply and cameras.json as docs/spec.md describes.",
    ReasonCode.STORE_UNREACHABLE: "Check the store's address and credentials: `digitize doctor` tries them.",
    ReasonCode.CHECKSUM_MISMATCH: "Stored bytes differ from what was committed: check the disk, then rerun from the stage named.",
    ReasonCode.PUBLISH_CONFLICT: "Another run published this asset at the same moment: run again.",
    ReasonCode.OUT_OF_MEMORY: "Use the `preview` preset, fewer or smaller photos, or a machine with more memory.",
    ReasonCode.OUT_OF_DISK: "Free disk space, or point the store somewhere larger.",
    ReasonCode.DEADLINE: "Raise `timeout_s` of the stage, or use a smaller preset.",
    ReasonCode.CANCELLED: "Run again: committed stages are kept and the rest continues from its checkpoint.",
    ReasonCode.WORKER_LOST: "Run again: committed stages are kept and the rest continues from its checkpoint.",
    ReasonCode.MISSING_DEPENDENCY: "Install what the message names; `digitize doctor` checks the machine.",
    ReasonCode.ENVIRONMENT: "Something around digitize is in the way: set what the message names; `digitize doctor` checks the machine.",
    ReasonCode.INTERNAL: "This is a defect of digitize: please report it with the message and the log.",
}


class DigitizeError(Exception):
    """An error that a user can act on.

    Args:
        code: the reason, from the fixed vocabulary.
        message: what was expected and what was found.
        hint: what to do about it; the vocabulary's own hint when empty.
        retryable: whether the same call may succeed later without anything being changed.
        asset: the asset concerned, when known.
        path: the file concerned, when known.
    """

    def __init__(
        self,
        code: ReasonCode,
        message: str,
        hint: str = "",
        retryable: bool = False,
        asset: str | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = ReasonCode(code)
        self.message = message
        self.hint = hint or HINTS[self.code]
        self.retryable = retryable
        self.asset = asset
        self.path = path

    def __reduce__(self) -> tuple[type[DigitizeError], tuple[object, ...]]:
        return type(self), (self.code, self.message, self.hint, self.retryable, self.asset, self.path)

    def __str__(self) -> str:
        where = " ".join(
            part for part in (self.asset and f"asset {self.asset}:", self.path and f"{self.path}:") if part
        )
        return f"[{self.code}] {where + ' ' if where else ''}{self.message}"
