"""Why a capture gave no model, or too small a one: the true cause, with the evidence for it."""

from __future__ import annotations

import numpy as np

from models.errors import ReasonCode
from models.results import Reason
from tasks.pose.evidence import JUDGED_PAIRS, Evidence

_FEW_FEATURES = 150
_STILL_SHARE = 0.5
_STILL_PAIRS = 0.3
_FRAMING_ALIKE = 0.45
_TURNED_PAIRS = 0.5
_SURELY_TURNED = 0.8


def explain(evidence: Evidence, registered: int) -> Reason:
    """The most likely cause, most specific first.

    Args:
        registered: photos in the largest model; 0 when there is none.
    """
    for cause in (_no_features, _moving_subject, _no_parallax, _no_overlap):
        if (reason := cause(evidence)) is not None:
            return reason
    return Reason.of(
        ReasonCode.TOO_FEW_REGISTERED,
        f"expected most of {evidence.photos} photos to register, found {registered}; "
        f"{evidence.connected} are joined by matches",
    )


def turned_throughout(evidence: Evidence) -> Reason | None:
    """The rejection of a capture that gave a model, although rotations of one camera explain nearly all of it.

    Where the focal length is not known, photos from one place fit a bent sheet around a camera that moves as well.
    """
    alone = [pair for pair in evidence.verified if pair.focal is not None]
    sure = len(alone) >= _SURELY_TURNED * min(len(evidence.verified), JUDGED_PAIRS)
    joined = Evidence(evidence.features, tuple(alone), 0.0, False).connected
    return _no_parallax(evidence) if alone and sure and joined >= _SURELY_TURNED * evidence.photos else None


def _no_features(evidence: Evidence) -> Reason | None:
    poor = sum(count < _FEW_FEATURES for count in evidence.features)
    if poor <= evidence.photos / 2:
        return None
    return Reason.of(
        ReasonCode.NO_FEATURES,
        f"expected {_FEW_FEATURES} distinct spots or more a photo, found fewer in {poor} of {evidence.photos} photos "
        f"(median {np.median(evidence.features):.0f})",
    )


def _moving_subject(evidence: Evidence) -> Reason | None:
    possible = evidence.photos * (evidence.photos - 1) / 2
    still = [pair for pair in evidence.pairs if pair.still >= max(15, _STILL_SHARE * pair.matches)]
    if evidence.subject_moves and len(still) >= _STILL_PAIRS * possible:
        return Reason.of(
            ReasonCode.MOVING_SUBJECT,
            f"{len(still)} of {possible:.0f} pairs of photos match at the same pixels: the background stands still "
            "in the frame while the subject moves before it",
        )
    # a plain backdrop has nothing to match: then one framing of all photos says that the camera stood still, and a
    # few weak matches between them say that it is one subject
    weak = len(evidence.verified) < _STILL_PAIRS * possible and evidence.pairs
    if weak and evidence.subject_moves and evidence.framing_alike >= _FRAMING_ALIKE:
        return Reason.of(
            ReasonCode.MOVING_SUBJECT,
            f"all {evidence.photos} photos are framed alike (correlation {evidence.framing_alike:.2f}) but only "
            f"{len(evidence.verified)} of {possible:.0f} pairs match: the camera stood still while the subject turned "
            "or moved",
        )
    return None


def _no_parallax(evidence: Evidence) -> Reason | None:
    verified = evidence.verified
    turned = sum(pair.turned_only for pair in verified)
    judged = min(len(verified), JUDGED_PAIRS)
    if len(verified) < evidence.photos / 2 or turned < _TURNED_PAIRS * judged:
        return None
    focals = [pair.focal for pair in verified if pair.focal is not None]
    one = f" (one focal length of about {np.median(focals):.2g} x the long side explains them)" if focals else ""
    return Reason.of(
        ReasonCode.NO_PARALLAX,
        f"{turned} of the {judged} pairs of photos that were examined differ by a rotation alone{one}: "
        "no depth can be seen",
    )


def _no_overlap(evidence: Evidence) -> Reason | None:
    if evidence.connected > max(2.0, 0.6 * evidence.photos):
        return None
    possible = evidence.photos * (evidence.photos - 1) // 2
    return Reason.of(
        ReasonCode.NO_OVERLAP,
        f"{len(evidence.verified)} of {possible} pairs of photos show the same thing; the largest connected group has "
        f"{evidence.connected} of {evidence.photos} photos",
    )
