"""Charts of the report as inline SVG: colours come from the page's style, so that they follow its scheme."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from models.camera import PoseSet, gltf_from_world, transform_points

FloatArray = npt.NDArray[np.float64]

_SIZE = 340.0
_MOST_POINTS = 1500


def camera_plot(poses: PoseSet, xyz: npt.ArrayLike | None, side: bool) -> Markup:
    """Cameras, region of interest and sparse points seen from above, or from the side.

    Args:
        xyz: [P, 3] sparse points in the world.
        side: from the side (height upwards) instead of from above.
    """
    turn = gltf_from_world(poses.up)
    axes, signs = ((0, 1), (1.0, -1.0)) if side else ((0, 2), (1.0, 1.0))

    def flat(points: npt.ArrayLike) -> FloatArray:
        picked: FloatArray = transform_points(turn, points)[:, axes] * signs
        return picked

    centres = np.stack([image.centre for image in poses.images])
    forward = np.stack([np.array(image.c2w)[:3, 2] for image in poses.images])
    cube = _cube(np.array(poses.world_from_field))
    frame = np.concatenate([flat(centres), flat(cube)])
    low, high = frame.min(0), frame.max(0)
    span = max(float((high - low).max()), 1e-12)
    middle = (low + high) / 2

    def place(points: npt.ArrayLike) -> FloatArray:
        placed: FloatArray = (flat(points) - middle) / span * (_SIZE - 44) + _SIZE / 2
        return placed

    parts = []
    if xyz is not None and len(np.asarray(xyz)):
        x = np.asarray(xyz, dtype=np.float64)
        dots = place(x[np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).astype(np.int64))])
        dots = dots[((dots > 0) & (dots < _SIZE)).all(1)]
        path = "".join(f"M{u:.1f} {v:.1f}h0" for u, v in dots)
        parts.append(f'<path class="dots" d="{path}"/>')
    parts.append(_outline(place(cube)))
    length = 0.05 * span
    for image, at, tip in zip(poses.images, place(centres), place(centres + length * forward), strict=True):
        parts.append(_camera(at, tip, image.split, image.name))
    what = "side" if side else "above"
    label = f"{len(poses.images)} cameras and the sparse points seen from {'the side' if side else 'above'}"
    return Markup(
        f'<svg class="plot plot-{what}" viewBox="0 0 {_SIZE:.0f} {_SIZE:.0f}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _camera(at: FloatArray, tip: FloatArray, split: str, name: str) -> Markup:
    direction = tip - at
    across = np.array([-direction[1], direction[0]])
    length = np.linalg.norm(across)
    # a camera that looks straight along the view's axis has no direction in it: it keeps a small width
    across = across / length * max(float(length), 4.0) * 0.55 if length > 1e-9 else np.array([4.0, 0.0])
    a, b = tip + across, tip - across
    return Markup(
        '<path class="camera {split}" d="M{x:.1f} {y:.1f}L{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}Z">'
        "<title>{name} ({split})</title></path>"
    ).format(split=split, name=name, x=at[0], y=at[1], ax=a[0], ay=a[1], bx=b[0], by=b[1])


def _cube(world_from_field: FloatArray) -> FloatArray:
    """[8, 3] corners of the region of interest."""
    corners = np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], indexing="ij"), -1).reshape(-1, 3)
    return transform_points(world_from_field, corners)


def _outline(corners: FloatArray) -> str:
    edges = [(i, j) for i in range(8) for j in range(i + 1, 8) if (i ^ j).bit_count() == 1]
    path = "".join(
        f"M{corners[i, 0]:.1f} {corners[i, 1]:.1f}L{corners[j, 0]:.1f} {corners[j, 1]:.1f}" for i, j in edges
    )
    return f'<path class="region" d="{path}"/>'


def line_chart(xs: Sequence[float], ys: Sequence[float], x_label: str, y_label: str) -> Markup | None:
    """A curve with its axes; None for fewer than two finite points. Labels are escaped."""
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if np.isfinite(x) and np.isfinite(y)]
    if len(points) < 2:
        return None
    width, height, left, bottom, top = 720.0, 250.0, 52.0, 40.0, 30.0
    x0, x1 = min(x for x, _ in points), max(x for x, _ in points)
    ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points))
    y0, y1 = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        u = left + (x - x0) / max(x1 - x0, 1e-12) * (width - left - 16)
        return u, height - bottom - (y - y0) / max(y1 - y0, 1e-12) * (height - bottom - top)

    grid = []
    for tick in ticks:
        _, v = place(x0, tick)
        grid.append(f'<path class="grid" d="M{left:.0f} {v:.1f}H{width - 16:.0f}"/>')
        grid.append(f'<text class="tick" x="{left - 8:.0f}" y="{v + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x in (x0, (x0 + x1) / 2, x1):
        u, _ = place(x, y0)
        grid.append(
            f'<text class="tick" x="{u:.1f}" y="{height - bottom + 18:.0f}" text-anchor="middle">{x:.0f}</text>'
        )
    line = " ".join(f"{u:.1f},{v:.1f}" for u, v in (place(x, y) for x, y in points))
    head = Markup(
        '<svg class="chart" viewBox="0 0 {w:.0f} {h:.0f}" role="img" '
        'aria-label="{y} over {x}: from {a:.4g} to {b:.4g}">'
        '<text class="axis" x="{w2:.0f}" y="{h2:.0f}" text-anchor="middle">{x}</text>'
        '<text class="axis" x="12" y="18">{y}</text>'
    ).format(
        w=width,
        h=height + 6,
        x=x_label,
        y=y_label,
        a=points[0][1],
        b=points[-1][1],
        w2=(width + left) / 2,
        h2=height + 2,
    )
    return head + Markup("".join(grid)) + Markup(f'<polyline class="curve" points="{line}"/></svg>')


def nice_ticks(low: float, high: float) -> list[float]:
    """Round places that span [low, high], about four of them.

    >>> nice_ticks(12.3, 27.9)
    [10.0, 15.0, 20.0, 25.0, 30.0]
    """
    raw = max(high - low, 1e-9) / 4
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * next(m for m in (1, 2, 5, 10) if m * power >= raw))
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [float(k * step) for k in range(first, max(last, first + 1) + 1)]
