"""Training of radiance fields: one step, and the way there from the poses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.camera import PoseSet
from models.fields.hash_density import HashDensityField
from models.fields.kernels.ops import composite, visible_counts
from models.fields.march import Samples, march
from models.fields.render import OPAQUE
from models.fields.sh import spherical_harmonics
from tasks.context import Context
from tasks.train.fit import field_arguments, fit_field
from tasks.train.hash_learner import REFRESH_EVERY, Batch, HashFieldLearner
from tasks.train.options import HashDensityOptions
from tasks.train.outcome import Trained
from tasks.train.pixel_bank import Pixels
from tasks.train.trainer import StepFacts

if TYPE_CHECKING:
    from tasks.train.dense_prior import DensePrior

WARM_GRID_STEPS = 256
PRIOR_POINTS, PRIOR_SIDE, PRIOR_END = 1024, 0.012, 0.1
"""Points of dense stereo looked at in a step, how far before and behind them, in field units, and what is left of their
weight at the end."""
PRIOR_OUTSIDE = 0.3
"""Weight of keeping empty what lies outside of dense stereo's surface: colours that tell otherwise outweigh it."""
PRIOR_MARGIN, PRIOR_MOST, PRIOR_SCALE = 1.0, 4.0, 0.01
"""How far the logarithm of the density shall be from the level's, what a point may count, and their weight's unit."""
CELL_OPACITY = 0.01
"""A cell is occupied when a single step through it may be that opaque."""


def fit_radiance(poses: PoseSet, options: HashDensityOptions, context: Context) -> Trained:
    """Train a HashDensityField on the pictures of the input `pose`. Raises as `fit_field`."""
    return fit_field(poses, options, context, new_field, RadianceLearner)


def new_field(options: HashDensityOptions, seed: int, outside: bool) -> HashDensityField:
    """An untrained field."""
    arguments = field_arguments(options, outside)
    arguments |= {"max_resolution": options.max_resolution << (options.cascades - 1), "cascades": options.cascades}
    field = HashDensityField(**arguments)
    field.reset(torch.Generator().manual_seed(seed))
    return field


class RadianceLearner(HashFieldLearner):
    """Trains a HashDensityField. Arguments as HashFieldLearner's."""

    field: HashDensityField

    def step(self, share: float, rate: float) -> StepFacts:
        """As trainer.Learner.step."""
        self.share = share
        return super().step(share, rate)

    def _loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Mean Huber loss of the rays' colours, and how many samples were marched over."""
        field, pixels = self.field, batch.pixels
        jitter = self._random(len(batch.t_in))
        marched = march(pixels.rays_o, pixels.rays_d, batch.t_in, batch.t_out, field.step, jitter, field.grid)
        samples, x, known = self._visible(pixels, marched)
        if self.cameras is not None:
            x = samples.places(pixels.rays_o, pixels.rays_d)  # the same numbers, differentiable by the cameras
        density, feature = field.query_encoded(field.encode(x, known))
        basis = spherical_harmonics(pixels.rays_d).t().index_select(1, samples.ray).t()
        rgb = field.color_from_basis(basis, feature)
        seen = composite(density, rgb, samples.t, samples.offsets, field.step)
        loss = self._colour_loss(batch, seen)
        if self.prior is not None and self.options.dense_weight > 0:
            loss = loss + self.options.dense_weight * PRIOR_END**self.share * self._off_points(self.prior)
            loss = loss + self.options.dense_weight * PRIOR_OUTSIDE * self._filled_outside(self.prior)
        return loss, len(marched.t)

    def _filled_outside(self, prior: DensePrior) -> Tensor:
        """How far the density of some places outside of dense stereo's surface exceeds a tenth of the level, as natural
        logarithms."""
        places, _ = prior.draw_outside(PRIOR_POINTS, self.generator)
        if not len(places):
            return torch.zeros((), device=places.device)
        value = self.field.query(places)[0].clamp(min=1e-9).log() - math.log(0.1 * self.field.level)
        return PRIOR_SCALE * torch.relu(value).clamp(max=PRIOR_MOST).mean()

    def _off_points(self, prior: DensePrior) -> Tensor:
        """How much the density lacks of the level just behind some points of dense stereo, and exceeds it just before
        them, as natural logarithms."""
        drawn = prior.draw(PRIOR_POINTS, self.generator)
        aside = PRIOR_SIDE * drawn.normal
        places = torch.cat([drawn.x + aside, drawn.x - aside]).clamp(-self.field.extent, self.field.extent)
        value = self.field.query(places)[0].clamp(min=1e-9).log() - math.log(self.field.level)
        before, behind = value.view(2, -1)
        off = torch.relu(PRIOR_MARGIN + before) + torch.relu(PRIOR_MARGIN - behind)
        return PRIOR_SCALE * (drawn.weight * off.clamp(max=PRIOR_MOST)).mean()

    @torch.no_grad()
    def _visible(self, pixels: Pixels, marched: Samples) -> tuple[Samples, Tensor, Tensor]:
        """The samples that light can come from, their places and encodings: what is behind the first surface costs
        neither colour nor gradient."""
        x = marched.places(pixels.rays_o, pixels.rays_d)
        encoded = self.field.encode(x)
        density, _ = self.field.query_encoded(encoded)
        samples, kept = marched.leading(visible_counts(density, marched.offsets, self.field.step, OPAQUE))
        return samples, x.index_select(0, kept), encoded.t().index_select(1, kept).t()

    def _refresh_grid(self) -> None:
        grid = self.field.cells
        turn, warm = self.steps_done // REFRESH_EVERY, self.steps_done <= WARM_GRID_STEPS
        cells = grid.scheduled(turn, warm, self.generator)
        threshold = CELL_OPACITY / self.field.step
        grid.refresh(lambda x: self.field.query(x)[0], cells, threshold, self.generator)
