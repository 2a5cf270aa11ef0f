"""What learners of hash fields share: drawing rays, comparing colours, steps, evaluation, and what is remembered."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from models.fields.hash_encoding import HashEncoding
from models.fields.hash_field import HashField
from models.fields.kernels.ops import Composited, SparseAdam
from models.fields.march import cube_interval
from models.fields.render import trace
from tasks.train.average import WeightAverage
from tasks.train.cameras import CameraRefinement
from tasks.train.error_map import ErrorMap
from tasks.train.options import HashFieldOptions
from tasks.train.pixel_bank import PixelBank, Pixels
from tasks.train.robust import ROBUST_FROM, ResidualWeights, photo_weights
from tasks.train.stream import StreamBank
from tasks.train.trainer import StepFacts

if TYPE_CHECKING:
    from tasks.train.dense_prior import DensePrior

HUBER_DELTA = 0.1
WARM_UP_STEPS = 20
"""Steps over which the learning rate rises."""
DECAY_FROM, FINAL_RATE = 0.4, 0.02
"""From that share of the budget on the rate falls, exponentially, to that factor."""
REFRESH_EVERY = 16
"""Steps between looks at the occupancy grid."""
MISS_SHARE = 0.15
"""Rays that miss the cube, as a share of those that hit it: they train the model of the outside alone."""
VISIBLE = 4e-3
"""Transmittance of the cube, one step of an 8-bit picture, below which what is behind is not trained."""
CAMERA_RATE = 0.03
"""Learning rate of the camera corrections, as a factor."""
CAMERAS_FROM = 100
"""Steps before the cameras move: first there must be something to align them to."""
EVALUATION_PIXELS = 1 << 13
EVALUATION_SEED = 12345


class Batch(NamedTuple):
    """The rays of one step with what they should look like."""

    pixels: Pixels
    t_in: Tensor
    t_out: Tensor


class HashFieldLearner:
    """Trains a HashField on a bank of pixels (a trainer.Learner). A subclass says what a step's rays should look like
    (`_loss`) and how the occupancy grid is refreshed.

    Args:
        field: reset, on `device`, cells that must stay empty already forbidden.
        bank: the training photos.
        heldout: photos to evaluate on; the training photos where there are none.
        seed: of every random choice.
    """

    share = 0.0
    """Progress of what `_loss` trains, in [0, 1]; subclasses set it at each step."""

    def __init__(
        self,
        field: HashField,
        bank: PixelBank | StreamBank,
        heldout: PixelBank | StreamBank | None,
        options: HashFieldOptions,
        seed: int,
        device: str,
    ) -> None:
        self.field, self.bank, self.options = field, bank, options
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.empty_outside_mask = options.mask_use == "empty" and bank.masked
        self.log_gain = torch.nn.Parameter(torch.zeros(bank.photos, 3, device=device))
        self.cameras = CameraRefinement(bank.centres) if options.refine_cameras else None
        self.error_map = ErrorMap(bank.sizes, device) if options.error_map else None
        self.residuals = ResidualWeights(device) if options.robust else None
        self.photo_weights: Tensor | None = None
        if options.robust and isinstance(bank, PixelBank):
            self.photo_weights = photo_weights(bank, options.near)
        self.average = WeightAverage(field, options.average) if options.average else None
        self.encodings = {name: part for name, part in field.named_modules() if isinstance(part, HashEncoding)}
        self.tables: dict[str, SparseAdam] = {}
        for name, part in self.encodings.items():
            part.read_as(table_type(options, device))
            self.tables[name] = SparseAdam(part.table, rounded=part.rounded)
            part.gradient = self.tables[name].gradient
        nets = [parameter for name, parameter in field.named_parameters() if not name.endswith("table")]
        groups: list[dict[str, Any]] = [
            {"params": nets, "weight_decay": 1e-6, "scale": 1.0},
            {"params": [self.log_gain], "scale": 0.1},
        ]
        if self.cameras is not None:
            groups.append({"params": [self.cameras.raw], "scale": CAMERA_RATE, "start": CAMERAS_FROM})
        self.optimiser = torch.optim.Adam(groups, lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.prior: DensePrior | None = None
        self.steps_done, self.rays = 0, max(16, options.samples_per_step // 256)
        self.heldout = heldout is not None
        self.psnr_pixels = self._evaluation_pixels(heldout or bank)
        self.psnr_train_pixels = self._evaluation_pixels(bank)

    # -- a step ---------------------------------------------------------------------------------------------------

    def step(self, share: float, rate: float) -> StepFacts:
        """As trainer.Learner.step."""
        if self.steps_done and self.steps_done % REFRESH_EVERY == 0:
            self._refresh_grid()
        self.bank.turn_to(self.steps_done)
        batch = self._draw()
        loss, samples = self._loss(batch)
        value = float(loss.detach())
        if math.isfinite(value):
            self._descend(loss, share, rate)
        rays = len(batch.t_in)
        self.steps_done += 1
        if self.average is not None:
            self.average.update(self.steps_done)
        growth = min(1.5, max(0.5, self.options.samples_per_step / max(samples, 1)))
        self.rays = int(min(self.options.max_rays, max(16, self.rays * growth)))
        return StepFacts(value, rays, samples)

    def start_gains(self, log_gain: Tensor) -> None:
        """Go on from gains [photos, 3] that were measured, as natural logarithms."""
        self.log_gain.data.copy_(log_gain)

    def start_from(self, prior: DensePrior) -> None:
        """Train with what dense stereo found, on the learner's device. Call it before the first step."""
        self.prior = prior

    def _descend(self, loss: Tensor, share: float, rate: float) -> None:
        """One step of Adam."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        rate *= self.options.learning_rate * self._schedule(share)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"] * (self.steps_done >= group.get("start", 0))
        self.optimiser.step()
        for table in self.tables.values():
            table.step(rate)

    def _schedule(self, share: float) -> float:
        decay: float = FINAL_RATE ** (max(0.0, share - DECAY_FROM) / (1.0 - DECAY_FROM))
        return min(1.0, (self.steps_done + 1) / WARM_UP_STEPS) * decay

    def _draw(self) -> Batch:
        """Random pixels: `self.rays` whose rays meet the cube, and some that miss it."""
        pixels = self._corrected(self.bank.take(self._candidates(2 * self.rays)))
        rays = (pixels.rays_o.detach(), pixels.rays_d.detach())
        t_in, t_out = cube_interval(*rays, self.options.near, self.field.extent)
        allowed = torch.ones_like(pixels.alpha, dtype=torch.bool) if self.empty_outside_mask else pixels.used
        useful = (t_out > t_in) & allowed
        if self.error_map is not None:
            useless = pixels.number[~useful]
            self.error_map.note(useless, torch.zeros(len(useless), device=self.device))
        hits = useful.nonzero()[: self.rays, 0]
        chosen = hits
        if self.field.outside is not None:
            misses = ((t_out <= t_in) & allowed).nonzero()[: int(self.rays * MISS_SHARE), 0]
            chosen = torch.cat([hits, misses])
        return Batch(Pixels(*(part.index_select(0, chosen) for part in pixels)), t_in[chosen], t_out[chosen])

    def _candidates(self, count: int) -> Tensor:
        """[count] int64 random pixels; with an error map every other one is drawn by it."""
        if self.error_map is None:
            return self.bank.draw(count, self.generator)
        evenly = self.bank.draw(count // 2, self.generator)
        by_error = self.error_map.draw(count // 2, self.generator, self.bank.resident)
        return torch.stack([evenly, by_error], 1).view(-1)

    def _corrected(self, pixels: Pixels) -> Pixels:
        """The pixels of training photos with their rays where the cameras are believed to be."""
        return pixels if self.cameras is None else self.cameras(pixels)

    def _loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The loss of a step's rays, and how many samples were marched over."""
        raise NotImplementedError

    def _colour_loss(self, batch: Batch, seen: Composited) -> Tensor:
        """Weighted mean of the Huber losses of the rays' colours, given what they see inside the cube."""
        field, pixels = self.field, batch.pixels
        target = pixels.rgb
        gain = self._gain(pixels.photo)
        if self.empty_outside_mask:
            behind = self._random(len(target), 3)
            target = torch.lerp(behind, target, pixels.alpha[:, None])
            predicted = gain * seen.light + seen.through[:, None] * behind
        else:
            visible = seen.through.detach() > VISIBLE
            rays = (pixels.rays_o, pixels.rays_d, batch.t_in, batch.t_out)
            front, before, behind = field.surroundings(*rays, visible, self.generator)
            predicted = gain * (front + before[:, None] * (seen.light + seen.through[:, None] * behind))
        residual = (predicted - target).detach().abs().mean(1)
        if self.residuals is None and self.photo_weights is None:
            loss = torch.nn.functional.huber_loss(predicted, target, delta=HUBER_DELTA) / HUBER_DELTA
        else:
            weight = self._weights(pixels, residual, seen.through.detach())
            residual = weight * residual
            loss = torch.nn.functional.huber_loss(predicted, target, delta=HUBER_DELTA, reduction="none").mean(1)
            loss = (weight * loss).sum() / (HUBER_DELTA * weight.sum())
        if self.error_map is not None:
            self.error_map.note(pixels.number, residual)
        if self.options.distortion > 0:
            loss = loss + self.options.distortion * seen.spread.mean()
        return loss

    def _weights(self, pixels: Pixels, residual: Tensor, through: Tensor) -> Tensor:
        """[R] what rays of residuals [R] and transmittances [R] count: less where light differs between photos."""
        weight = torch.ones_like(residual) if self.photo_weights is None else self.photo_weights[pixels.photo]
        if self.residuals is None:
            return weight
        self.residuals.update(residual, through)
        return weight * self.residuals.of(residual, through) if self.share >= ROBUST_FROM else weight

    def _gain(self, photo: Tensor) -> Tensor:
        """What the light of rays [N] of photos is multiplied with: [N, 3], or 1 where photos do not differ."""
        if not self.options.exposure:
            return torch.ones(1, 1, device=self.device)
        return torch.exp((self.log_gain - self.log_gain.mean(0))[photo])

    def _refresh_grid(self) -> None:
        """Look again at which cells of the occupancy grid hold something."""
        raise NotImplementedError

    def _random(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def _evaluation_pixels(self, bank: PixelBank | StreamBank) -> Pixels:
        """A fixed subset of the pixels that may be used and whose rays meet the cube."""
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        pixels = bank.survey(4 * EVALUATION_PIXELS, generator)
        t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, self.options.near, self.field.extent)
        chosen = ((t_out > t_in) & pixels.used).nonzero()[:EVALUATION_PIXELS, 0]
        return Pixels(*(part[chosen] for part in pixels))

    def evaluate(self) -> float:
        """As trainer.Learner.evaluate."""
        return self._psnr(self.psnr_pixels if self.heldout else self._corrected(self.psnr_pixels))

    def evaluate_training(self) -> float:
        """PSNR in dB on a fixed subset of the training pixels."""
        return self._psnr(self._corrected(self.psnr_train_pixels))

    def finish(self) -> None:
        """Give the field the mean of its weights, for good."""
        if self.average is not None:
            self.average.swap()

    @torch.no_grad()
    def _psnr(self, pixels: Pixels) -> float:
        with self.average.used() if self.average is not None else nullcontext():
            return self._psnr_now(pixels)

    def _psnr_now(self, pixels: Pixels) -> float:
        if not len(pixels.rgb):
            return 0.0
        error = 0.0
        for part in torch.arange(len(pixels.rgb), device=self.device).split(EVALUATION_PIXELS):  # type: ignore[no-untyped-call]
            seen = trace(self.field, pixels.rays_o[part], pixels.rays_d[part])
            error += float(((seen.rgb - pixels.rgb[part]) ** 2).sum())
        return -10.0 * math.log10(max(error / pixels.rgb.numel(), 1e-10))

    # -- remembering ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """As trainer.Learner.state."""
        found = {f"field.{name}": value for name, value in self.field.state_dict().items()}
        found["log_gain"] = self.log_gain.data
        if self.cameras is not None:
            found["cameras"] = self.cameras.raw
        if self.error_map is not None:
            found["error_map"] = self.error_map.errors
        if self.residuals is not None:
            found["residual_median"] = self.residuals.median
        if self.average is not None:
            found |= {f"average.{name}": value for name, value in self.average.state().items()}
        for name, table in self.tables.items():
            found |= {f"table.{name}/{key}": value for key, value in table.state().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            found |= {f"adam.{number}.{key}": value for key, value in moments.items()}
        found = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in found.items()}
        found["generator"] = self.generator.get_state()
        found["counters"] = torch.tensor([self.steps_done, self.rays])
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """As trainer.Learner.restore."""
        self.field.load_state_dict(_below("field.", state))
        for encoding in self.encodings.values():
            encoding.round()
        self.log_gain.data.copy_(state["log_gain"])
        if self.cameras is not None:
            self.cameras.raw.data.copy_(state["cameras"])
        if self.error_map is not None:
            self.error_map.errors.copy_(state["error_map"])
        if self.residuals is not None:
            self.residuals.median.copy_(state["residual_median"])
        if self.average is not None:
            self.average.restore(_below("average.", state))
        for name, table in self.tables.items():
            table.restore(_below(f"table.{name}/", state))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("adam.", state).items():
            parameter, key = name.split(".")
            moments.setdefault(int(parameter), {})[key] = value.clone()
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(state["generator"])
        self.steps_done, self.rays = (int(value) for value in state["counters"])


def table_type(options: HashFieldOptions, device: str) -> torch.dtype | None:
    """What hash tables are read as; None for the float32 that they are kept in, always on a CPU."""
    if device == "cpu" or options.table_precision == "float32":
        return None
    return torch.float16 if options.table_precision == "float16" else torch.bfloat16


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
