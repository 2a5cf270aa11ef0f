"""One optimisation step of the radiance field, and what has to be remembered between steps."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.fields.hash_density import HashDensityField
from models.fields.march import Samples, cube_interval, march
from models.fields.sh import spherical_harmonics
from models.fields.volume import distortion, render_weights, sum_along_rays
from tasks.train.methods.hash_density import Options
from tasks.train.photos import PixelBank, Pixels
from tasks.train.render import OPAQUE, trace
from tasks.train.trainer import StepFacts

HUBER_DELTA = 0.1
WARM_UP_STEPS = 20
"""Steps over which the learning rate rises."""
DECAY_FROM, FINAL_RATE = 0.4, 0.02
"""From that share of the budget on the rate falls, exponentially, to that factor."""
REFRESH_EVERY, WARM_GRID_STEPS = 16, 256
CELL_OPACITY = 0.01
"""A cell is occupied when a single step through it may be that opaque."""
MAX_SHARDS = 64
MISS_SHARE = 0.15
"""Rays that miss the cube, as a share of those that hit it: they train the model of the outside alone."""
VISIBLE = 4e-3
"""Transmittance of the cube, one step of an 8-bit picture, below which what is behind is not trained."""
EVALUATION_PIXELS = 1 << 13
EVALUATION_SEED = 12345


class Batch(NamedTuple):
    """The rays of one step with what they should look like."""

    pixels: Pixels
    t_in: Tensor
    t_out: Tensor


class Shard(NamedTuple):
    """What one part of a step's batch contributes."""

    loss: float
    gradients: tuple[Tensor | None, ...]
    rays: int
    samples: int


class RadianceLearner:
    """Trains a HashDensityField on a bank of pixels (a trainer.Learner).

    Args:
        field: reset, on `device`, cells that must stay empty already forbidden.
        bank: the training photos.
        heldout: photos to evaluate on; the training photos where there are none.
        seed: of every random choice.
        threads: shards that are computed side by side; changes the speed alone.
    """

    def __init__(
        self,
        field: HashDensityField,
        bank: PixelBank,
        heldout: PixelBank | None,
        options: Options,
        seed: int,
        device: str,
        threads: int = 1,
    ) -> None:
        self.field, self.bank, self.options = field, bank, options
        self.device = device
        self.generators = [
            torch.Generator(device).manual_seed(seed * MAX_SHARDS + number) for number in range(options.shards)
        ]
        self.pool = ThreadPoolExecutor(min(threads, options.shards))
        self.empty_outside_mask = options.mask_use == "empty" and bank.masked
        self.log_gain = torch.nn.Parameter(torch.zeros(bank.photos, 3, device=device))
        tables = [p for n, p in field.named_parameters() if n.endswith("table")]
        nets = [p for n, p in field.named_parameters() if not n.endswith("table")]
        groups: list[dict[str, Any]] = [
            {"params": tables, "scale": 1.0},
            {"params": nets, "weight_decay": 1e-6, "scale": 1.0},
            {"params": [self.log_gain], "scale": 0.1},
        ]
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimiser = torch.optim.Adam(groups, lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.steps_done, self.rays = 0, max(16, options.samples_per_step // 256)
        self.psnr_pixels = self._evaluation_pixels(heldout or bank)
        self.psnr_train_pixels = self._evaluation_pixels(bank)

    # -- a step ---------------------------------------------------------------------------------------------------

    def step(self, share: float, rate: float) -> StepFacts:
        """As trainer.Learner.step."""
        if self.steps_done and self.steps_done % REFRESH_EVERY == 0:
            self._refresh_grid()
        parts = list(self.pool.map(self._shard, self.generators))
        value = sum(part.loss for part in parts) / len(parts)
        if math.isfinite(value):
            self._descend(parts, share, rate)
        rays, samples = sum(part.rays for part in parts), sum(part.samples for part in parts)
        self.steps_done += 1
        growth = min(1.5, max(0.5, self.options.samples_per_step / max(samples, 1)))
        self.rays = int(min(self.options.max_rays, max(16, self.rays * growth)))
        return StepFacts(value, rays, samples)

    def _shard(self, generator: torch.Generator) -> Shard:
        """Loss and gradients of one part of the batch. Touches nothing but its generator."""
        batch = self._draw(generator)
        loss, samples = self._loss(batch, generator)
        return Shard(
            float(loss.detach()),
            torch.autograd.grad(loss, self.parameters, allow_unused=True),
            len(batch.t_in),
            samples,
        )

    def _descend(self, parts: list[Shard], share: float, rate: float) -> None:
        """One step of Adam along the mean of the shards' gradients."""
        for number, parameter in enumerate(self.parameters):
            found = [gradient for part in parts if (gradient := part.gradients[number]) is not None]
            parameter.grad = None
            if found:
                for other in found[1:]:
                    found[0].add_(other)
                parameter.grad = found[0].div_(len(parts))
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * rate * group["scale"] * self._schedule(share)
        self.optimiser.step()

    def _schedule(self, share: float) -> float:
        decay: float = FINAL_RATE ** (max(0.0, share - DECAY_FROM) / (1.0 - DECAY_FROM))
        return min(1.0, (self.steps_done + 1) / WARM_UP_STEPS) * decay

    def _draw(self, generator: torch.Generator) -> Batch:
        """Random pixels: a shard of `self.rays` whose rays meet the cube, and some that miss it."""
        wanted = self.rays // self.options.shards
        index = torch.randint(self.bank.pixels, (2 * wanted,), generator=generator, device=self.device)
        pixels = self.bank.take(index)
        t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, self.options.near)
        allowed = torch.ones_like(pixels.used) if self.empty_outside_mask else pixels.used
        hits = ((t_out > t_in) & allowed).nonzero()[:wanted, 0]
        chosen = hits
        if self.field.outside is not None:
            misses = ((t_out <= t_in) & allowed).nonzero()[: int(wanted * MISS_SHARE), 0]
            chosen = torch.cat([hits, misses])
        return Batch(Pixels(*(part[chosen] for part in pixels)), t_in[chosen], t_out[chosen])

    def _loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, int]:
        """Mean Huber loss of the rays' colours, and how many samples it took."""
        field, pixels = self.field, batch.pixels
        rays = len(batch.t_in)
        jitter = _random(generator, rays)
        samples = march(pixels.rays_o, pixels.rays_d, batch.t_in, batch.t_out, field.step, jitter, field.grid)
        marched = len(samples.ray)
        samples = self._visible(pixels, samples, rays)
        ray = samples.ray
        x = pixels.rays_o[ray] + samples.t[:, None] * pixels.rays_d[ray]
        density, feature = field.query(x)
        weights, _ = render_weights(density, field.step, ray, rays)
        rgb = field.color_from_basis(spherical_harmonics(pixels.rays_d)[ray], feature)
        light = sum_along_rays(weights[:, None] * rgb, ray, rays)
        through = 1.0 - sum_along_rays(weights[:, None], ray, rays)[:, 0]
        target = pixels.rgb
        if self.empty_outside_mask:
            behind = _random(generator, rays, 3)
            target = torch.where(pixels.used[:, None], target, behind)
            predicted = light + through[:, None] * behind
        else:
            front, before, behind = field.surroundings(
                pixels.rays_o, pixels.rays_d, batch.t_in, batch.t_out, through.detach() > VISIBLE, generator
            )
            predicted = front + before[:, None] * (light + through[:, None] * behind)
        if self.options.exposure:
            gain = self.log_gain - self.log_gain.mean(0)
            predicted = predicted * torch.exp(gain[pixels.photo])
        loss = torch.nn.functional.huber_loss(predicted, target, delta=HUBER_DELTA) / HUBER_DELTA
        if self.options.distortion > 0:
            spread = distortion(weights, samples.t, field.step, ray, rays)
            loss = loss + self.options.distortion * spread.mean()
        return loss, marched

    @torch.no_grad()
    def _visible(self, pixels: Pixels, samples: Samples, rays: int) -> Samples:
        """The samples that light can come from: what is behind the first surface costs no gradient and no colour."""
        x = pixels.rays_o[samples.ray] + samples.t[:, None] * pixels.rays_d[samples.ray]
        _, transmittance = render_weights(self.field.query(x)[0], self.field.step, samples.ray, rays)
        seen = (transmittance > OPAQUE).nonzero()[:, 0]
        return Samples(samples.ray[seen], samples.t[seen])

    def _refresh_grid(self) -> None:
        grid = self.field.cells
        turn, warm = self.steps_done // REFRESH_EVERY, self.steps_done <= WARM_GRID_STEPS
        generator = self.generators[0]
        cells = grid.scheduled(turn, warm, generator)
        grid.refresh(lambda x: self.field.query(x)[0], cells, CELL_OPACITY / self.field.step, generator)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def _evaluation_pixels(self, bank: PixelBank) -> Pixels:
        """A fixed subset of the pixels that may be used and whose rays meet the cube."""
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        index = torch.randint(bank.pixels, (4 * EVALUATION_PIXELS,), generator=generator)
        pixels = bank.take(index.to(self.device))
        t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, self.options.near)
        chosen = ((t_out > t_in) & pixels.used).nonzero()[:EVALUATION_PIXELS, 0]
        return Pixels(*(part[chosen] for part in pixels))

    def evaluate(self) -> float:
        """As trainer.Learner.evaluate."""
        return self._psnr(self.psnr_pixels)

    def evaluate_training(self) -> float:
        """PSNR in dB on a fixed subset of the training pixels."""
        return self._psnr(self.psnr_train_pixels)

    def _psnr(self, pixels: Pixels) -> float:
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
        for number, moments in self.optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                found[f"adam.{number}.{name}"] = value
        found = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in found.items()}
        for number, generator in enumerate(self.generators):
            found[f"generator.{number}"] = generator.get_state()
        found["counters"] = torch.tensor([self.steps_done, self.rays])
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """As trainer.Learner.restore."""
        prefix = "field."
        self.field.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self.log_gain.data.copy_(state["log_gain"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, parameter, key = name.split(".")
                moments.setdefault(int(parameter), {})[key] = value.clone()
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        for number, generator in enumerate(self.generators):
            generator.set_state(state[f"generator.{number}"])
        self.steps_done, self.rays = (int(value) for value in state["counters"])


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)
