"""Training of signed distance fields: one step, and the way there from the poses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.camera import PoseSet
from models.fields.hash_density import HashDensityField
from models.fields.hash_sdf import GAP, HashSDFField
from models.fields.kernels.ops import composite, visible_counts
from models.fields.march import Samples, cube_interval, march
from models.fields.render import OPAQUE
from models.fields.sh import SH_WIDTH, spherical_harmonics
from tasks.context import Context
from tasks.train.fit import FEATURES, field_arguments, fit_field
from tasks.train.flatness import bending, plain_pixels
from tasks.train.hash_learner import Batch, HashFieldLearner
from tasks.train.initial_shape import imprint, rough_shape
from tasks.train.options import HashSDFOptions
from tasks.train.outcome import Trained
from tasks.train.photometric import PhotoConsistency, Surface
from tasks.train.pixel_bank import PixelBank, Pixels
from tasks.train.radiance_learner import RadianceLearner
from tasks.train.silhouettes import Silhouettes
from tasks.train.stream import StreamBank
from tasks.train.trainer import StepFacts

if TYPE_CHECKING:
    from tasks.train.dense_prior import DensePrior

REACH = 6.0
"""Distances are worth sampling up to that many times 1 / sharpness: beyond, nothing is seen."""
ROUGH: dict[str, Any] = {
    "levels": 8,
    "base_resolution": 16,
    "max_resolution": 256,
    "log2_table": 16,
    "hidden": 64,
    "features": FEATURES,
    "colour_layers": 1,
    "occupancy_resolution": 64,
    "step": 2.0 * math.sqrt(3.0) / 256.0,
}
"""The radiance field that the first shape is read from."""
ROUGH_RATE = 1e-2
COARSE_STEP = 0.6
"""Length of a rendering step while the surface is blurred, in units of 1 / sharpness."""
LOOKED_AT = 1 << 17
"""Cells of the occupancy grid that are looked at every time: occupied ones and their neighbours, where the surface goes
next."""
CLEAR_CELLS = 3.0
"""Cells of the occupancy grid next to a point within which nothing hides it."""
BOUNDED, NEAR_SURFACE = 512, 2.0
"""Places a step that are held against the silhouettes, within that many times 1 / sharpness of the surface."""
PRIOR_POINTS, PRIOR_REACH, PRIOR_TURN, PRIOR_END = 1024, 0.05, 0.02, 0.1
"""Points of dense stereo looked at in a step; field units beyond which one is taken for a mistake; the distance that a
normal turned by a right angle counts as; what is left of their weight at the end."""
PRIOR_OUTSIDE = 3.0
"""Weight of keeping outside what lies outside of dense stereo's surface: colours that tell otherwise outweigh it."""
SLOPES = 2048
"""Places a step at which slopes are looked at, half of them near the surface."""


def fit_surface(poses: PoseSet, options: HashSDFOptions, context: Context) -> Trained:
    """Train a HashSDFField on the pictures of the input `pose`. Raises as `fit_field`."""
    return fit_field(poses, options, context, new_surface, SDFLearner)


def new_surface(options: HashSDFOptions, seed: int, outside: bool) -> HashSDFField:
    """An untrained field: a sphere."""
    field = HashSDFField(options.initial_radius, **field_arguments(options, outside))
    field.reset(torch.Generator().manual_seed(seed))
    return field


class SDFLearner(HashFieldLearner):
    """Trains a HashSDFField. Arguments as HashFieldLearner's."""

    field: HashSDFField
    options: HashSDFOptions

    def __init__(
        self,
        field: HashSDFField,
        bank: PixelBank | StreamBank,
        heldout: PixelBank | StreamBank | None,
        options: HashSDFOptions,
        seed: int,
        device: str,
    ) -> None:
        super().__init__(field, bank, heldout, options, seed, device)
        self.rough: RadianceLearner | None = None
        if options.rough_until > 0:
            levels = options.background_levels if field.outside is not None else 0
            rough = HashDensityField(**ROUGH, near=field.near, background_levels=levels)
            rough.reset(torch.Generator().manual_seed(seed))
            rough.to(device).cells.forbid(_halved(field.cells.allowed == 0, rough.cells.resolution))
            changes = {"learning_rate": ROUGH_RATE, "refine_cameras": False, "robust": False}
            settings = options.model_copy(update=changes)
            self.rough = RadianceLearner(rough, bank, heldout, settings, seed, device)
        self.shaped = self.rough is None
        self.photometric: PhotoConsistency | None = None
        if isinstance(bank, PixelBank) and options.ncc > 0:
            self.photometric = PhotoConsistency(bank)
        self.silhouettes: Silhouettes | None = None
        if isinstance(bank, PixelBank) and self.empty_outside_mask and options.carve + options.fill + options.flat > 0:
            self.silhouettes = Silhouettes(bank)
            self.plain = plain_pixels(bank)
        self._constant = torch.eye(SH_WIDTH, device=device)[0]
        self.finest_step = field.step

    def start_gains(self, log_gain: Tensor) -> None:
        """As HashFieldLearner.start_gains."""
        super().start_gains(log_gain)
        if self.rough is not None:
            self.rough.start_gains(log_gain)

    def start_from(self, prior: DensePrior) -> None:
        """As HashFieldLearner.start_from: the prior's shape is the first."""
        super().start_from(prior)
        self.rough = None
        self._take_shape(prior.shape)

    def step(self, share: float, rate: float) -> StepFacts:
        """As trainer.Learner.step: of the rough shape first, of the surface then."""
        options, field = self.options, self.field
        if self.rough is not None and share < options.rough_until:
            return self.rough.step(share / options.rough_until, rate)
        if self.rough is not None and not self.shaped:
            self._take_shape(rough_shape(self.rough.field))
        start = options.rough_until if self.rough is not None else 0.0
        self.share = (share - start) / (1.0 - start)
        steep = min(1.0, self.share / options.sharpen_until)
        field.sharpness.fill_(options.sharpness_from * (options.sharpness_to / options.sharpness_from) ** steep)
        field.step = max(self.finest_step, COARSE_STEP / float(field.sharpness))
        more = (options.levels - options.levels_from) * min(1.0, self.share / options.levels_until)
        field.active = options.levels_from + int(more + 1e-6)
        return super().step(share, rate)

    def _take_shape(self, grid: Tensor) -> None:
        """Go on from signed distances [G, G, G] on a grid over the cube."""
        self.field.active = self.options.levels_from
        imprint(self.field, self.tables["encoding"], grid, self.generator)
        self.shaped = True
        self.field.cells.occupied_cells.fill_(1)
        self._look_at((self.field.cells.allowed > 0).view(-1).nonzero()[:, 0])

    def state(self) -> dict[str, Tensor]:
        """As trainer.Learner.state."""
        found = super().state()
        found["shaped"] = torch.tensor(self.shaped)
        if self.rough is not None:
            found |= {f"rough/{name}": value for name, value in self.rough.state().items()}
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """As trainer.Learner.restore."""
        own = {name: value for name, value in state.items() if not name.startswith("rough/")}
        self.shaped = bool(own.pop("shaped"))
        super().restore(own)
        if self.rough is not None:
            self.rough.restore({name.removeprefix("rough/"): v for name, v in state.items() if name not in own})

    def evaluate(self) -> float:
        """As trainer.Learner.evaluate."""
        return super().evaluate() if self.shaped or self.rough is None else self.rough.evaluate()

    def evaluate_training(self) -> float:
        return super().evaluate_training() if self.shaped or self.rough is None else self.rough.evaluate_training()

    def _loss(self, batch: Batch) -> tuple[Tensor, int]:
        field, pixels, options = self.field, batch.pixels, self.options
        jitter = self._random(len(batch.t_in))
        marched = march(pixels.rays_o, pixels.rays_d, batch.t_in, batch.t_out, field.step, jitter, field.grid)
        samples, x, known = self._visible(pixels, marched)
        if self.cameras is not None:
            x = samples.places(pixels.rays_o, pixels.rays_d)
        value, feature = field.decode(x, field.encode(x, known))
        density = field.density_along(value, samples)
        basis = spherical_harmonics(pixels.rays_d).t().index_select(1, samples.ray).t()
        if self.share < options.directions_from:
            basis = basis * self._constant
        seen = composite(density, field.color_from_basis(basis, feature), samples.t, samples.offsets, field.step)
        loss = self._colour_loss(batch, seen)
        loss = loss + self._regularity(x.detach(), value)
        if self.prior is not None and options.dense_weight > 0:
            loss = loss + options.dense_weight * PRIOR_END**self.share * self._off_points(self.prior)
            loss = loss + options.dense_weight * PRIOR_OUTSIDE * self._filled_outside(self.prior)
        if self.silhouettes is not None and self.share >= options.levels_until:
            loss = loss + self._bounded(self.silhouettes, pixels.number[samples.ray], x.detach(), value)
        if self.photometric is not None and self.share >= options.ncc_from:
            crossing = self._crossings(pixels, samples, value)
            term = (
                None
                if crossing is None
                else self.photometric.loss(crossing, self._distances, self._hidden, self.generator)
            )
            if term is not None:
                loss = loss + options.ncc * term
        return loss, len(marched.t)

    @torch.no_grad()
    def _visible(self, pixels: Pixels, marched: Samples) -> tuple[Samples, Tensor, Tensor]:
        """The samples that light can come from, and one more a ray for the difference to it; places and encodings."""
        x = marched.places(pixels.rays_o, pixels.rays_d)
        encoded = self.field.encode(x)
        value, _ = self.field.decode(x, encoded)
        density = self.field.density_along(value, marched)
        counts = visible_counts(density, marched.offsets, self.field.step, OPAQUE)
        samples, kept = marched.leading(torch.minimum(counts + 1, marched.offsets.diff()))
        return samples, x.index_select(0, kept), encoded.t().index_select(1, kept).t()

    def _regularity(self, x: Tensor, value: Tensor) -> Tensor:
        """The eikonal and curvature terms, at some of the samples [N, 3] with values [N] and at random places."""
        field, options = self.field, self.options
        anywhere = self._random(SLOPES // 2, 3) * 2.0 - 1.0
        if len(x):
            chosen = torch.randint(len(x), (SLOPES // 2,), generator=self.generator, device=x.device)
            places, middle = torch.cat([x[chosen], anywhere]), value[chosen]
        else:
            places, middle = anywhere, value
        slope, mean = field.slope(places)
        loss: Tensor = options.eikonal * (slope.norm(dim=1) - 1.0).square().mean()
        if options.curvature > 0 and len(middle):
            bend = 2.0 * (mean[: len(middle)] - middle).abs() / field.tap**2
            loss = loss + options.curvature * (field.tap / self._first_tap) * bend.mean()
        return loss

    def _off_points(self, prior: DensePrior) -> Tensor:
        """How far the surface lies from some points of dense stereo, and how far it is turned from their normals."""
        drawn = prior.draw(PRIOR_POINTS, self.generator)
        slope, value = self.field.slope(drawn.x)
        distance = value.abs().clamp(max=PRIOR_REACH)
        turned = 1.0 - (normalize(slope, dim=1) * drawn.normal).sum(1)
        return (drawn.weight * (distance + PRIOR_TURN * turned)).mean()

    def _filled_outside(self, prior: DensePrior) -> Tensor:
        """How deep some places outside of dense stereo's surface lie inside."""
        places, away = prior.draw_outside(PRIOR_POINTS, self.generator)
        if not len(places):
            return torch.zeros((), device=places.device)
        return torch.relu(away - self.field.query(places)[0]).mean()

    def _bounded(self, silhouettes: Silhouettes, number: Tensor, x: Tensor, value: Tensor) -> Tensor:
        """The silhouettes' terms and flatness, at some samples near the surface: places [N, 3] of pixels [N], with
        values [N]."""
        options, near = self.options, (value.detach().abs() < NEAR_SURFACE / self.field.sharpness).nonzero()[:, 0]
        if not len(near):
            return torch.zeros((), device=x.device)
        chosen = near[torch.randint(len(near), (BOUNDED,), generator=self.generator, device=x.device)]
        found = silhouettes.bound(x[chosen], value[chosen], self.generator)
        loss: Tensor = options.carve * found.excess + options.fill * found.room
        chosen = chosen[self.plain[number[chosen]]]
        if options.flat > 0 and len(chosen):
            slope, _ = self.field.slope(x[chosen])
            bend = bending(x[chosen], value[chosen], slope.detach(), self._distances, self.generator)
            loss = loss + options.flat * (len(chosen) / BOUNDED) * bend
        return loss

    @property
    def _first_tap(self) -> float:
        return 2.0 / self.field.encoding.levels[self.options.levels_from - 1].resolution

    def _crossings(self, pixels: Pixels, samples: Samples, value: Tensor) -> Surface | None:
        """Where some rays first enter the surface, by the values of the samples in front and behind."""
        inside = value.detach() < 0
        ray, t = samples.ray, samples.t
        enters = ~inside[:-1] & inside[1:] & (ray[1:] == ray[:-1]) & (t[1:] - t[:-1] < GAP * self.field.step)
        at = enters.nonzero()[:, 0]
        if not len(at):
            return None
        rays = ray[at]
        first = torch.cat([torch.ones_like(rays[:1], dtype=torch.bool), rays[1:] != rays[:-1]])
        at = at[first & pixels.used[rays]]
        if not len(at):
            return None
        order = torch.rand(len(at), generator=self.generator, device=at.device).argsort()
        at = at[order[: self.options.ncc_patches]]
        before, behind, rays = value[at], value[at + 1], ray[at]
        depth = t[at] + (t[at + 1] - t[at]) * before / (before - behind)
        x = pixels.rays_o[rays].detach() + depth[:, None] * pixels.rays_d[rays].detach()
        slope, _ = self.field.slope(x.detach())
        return Surface(x, slope, pixels.photo[rays], pixels.number[rays])

    def _distances(self, x: Tensor) -> Tensor:
        return self.field.query(x)[0]

    @torch.no_grad()
    def _hidden(self, x: Tensor, eyes: Tensor) -> Tensor:
        """[N] whether the way from points [N, 3] of the surface to places [N, 3] passes through the inside."""
        field = self.field
        way = normalize(eyes - x, dim=1)
        _, t_out = cube_interval(x, way)
        start = torch.full_like(t_out, CLEAR_CELLS * 2.0 / field.cells.resolution)
        samples = march(x, way, start, t_out, 2.0 * field.step, torch.zeros_like(start), field.grid)
        inside = field.query(samples.places(x, way))[0] < 0.0
        return torch.zeros_like(start).index_add_(0, samples.ray, inside.float()) > 0

    def _refresh_grid(self) -> None:
        grid = self.field.cells
        cells = (grid.around() & (grid.allowed > 0)).view(-1).nonzero()[:, 0]
        if len(cells) > LOOKED_AT:
            cells = cells[torch.randint(len(cells), (LOOKED_AT,), generator=self.generator, device=cells.device)]
        self._look_at(cells)

    def _look_at(self, cells: Tensor) -> None:
        """Decide for some cells whether the surface may be near."""
        grid, field = self.field.cells, self.field
        sharpness = max(float(field.sharpness), self.options.sharpness_from)
        reach = max(REACH / sharpness, 2.0 * field.step) + 2.0 * math.sqrt(3.0) / grid.resolution

        def worth(x: Tensor) -> Tensor:
            return torch.exp(-field.query(x)[0].abs() / reach)

        grid.refresh(worth, cells, math.exp(-1.0), self.generator, decay=0.0, lenient=False)


def _halved(cells: Tensor, resolution: int) -> Tensor:
    """[K, g, g, g] bool: cells of a coarser grid all of whose parts are set in [K, G, G, G] bool."""
    return torch.nn.functional.adaptive_avg_pool3d(cells.float(), resolution) > 1.0 - 1e-6
