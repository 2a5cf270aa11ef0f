"""One optimisation step of the radiance field, and what has to be remembered between steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from models.fields.hash_density import HashDensityField
from models.fields.march import cube_interval, march
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
MISS_SHARE = 0.15
"""Rays that miss the cube, as a share of those that hit it: they train the model of the outside alone."""
EVALUATION_PIXELS = 1 << 14
EVALUATION_SEED = 12345


class Batch(NamedTuple):
    """The rays of one step with what they should look like."""

    pixels: Pixels
    t_in: Tensor
    t_out: Tensor


class RadianceLearner:
    """Trains a HashDensityField on a bank of pixels (a trainer.Learner).

    Args:
        field: reset, on `device`, cells that must stay empty already forbidden.
        bank: the training photos.
        heldout: photos to evaluate on; the training photos where there are none.
        seed: of every random choice.
    """

    def __init__(
        self,
        field: HashDensityField,
        bank: PixelBank,
        heldout: PixelBank | None,
        options: Options,
        seed: int,
        device: str,
    ) -> None:
        self.field, self.bank, self.options = field, bank, options
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.empty_outside_mask = options.mask_use == "empty" and bank.masked
        self.log_gain = torch.nn.Parameter(torch.zeros(bank.photos, 3, device=device))
        tables = [p for n, p in field.named_parameters() if n.endswith("table")]
        nets = [p for n, p in field.named_parameters() if not n.endswith("table")]
        groups = [
            {"params": tables, "scale": 1.0},
            {"params": nets, "weight_decay": 1e-6, "scale": 1.0},
            {"params": [self.log_gain], "scale": 0.1},
        ]
        self.optimiser = torch.optim.Adam(groups, lr=options.learning_rate, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.steps_done, self.rays = 0, max(16, options.samples_per_step // 256)
        self.psnr_pixels = self._evaluation_pixels(heldout or bank)
        self.psnr_train_pixels = self._evaluation_pixels(bank)

    # -- a step ---------------------------------------------------------------------------------------------------

    def step(self, share: float, rate: float) -> StepFacts:
        """As trainer.Learner.step."""
        if self.steps_done and self.steps_done % REFRESH_EVERY == 0:
            self._refresh_grid()
        batch = self._draw()
        loss, samples = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            for group in self.optimiser.param_groups:
                group["lr"] = self.options.learning_rate * rate * group["scale"] * self._schedule(share)
            self.optimiser.step()
        rays = len(batch.t_in)
        self.steps_done += 1
        growth = min(1.5, max(0.5, self.options.samples_per_step / max(samples, 1)))
        self.rays = int(min(self.options.max_rays, max(16, self.rays * growth)))
        return StepFacts(value, rays, samples)

    def _schedule(self, share: float) -> float:
        decay: float = FINAL_RATE ** (max(0.0, share - DECAY_FROM) / (1.0 - DECAY_FROM))
        return min(1.0, (self.steps_done + 1) / WARM_UP_STEPS) * decay

    def _draw(self) -> Batch:
        """Random pixels: up to `self.rays` whose rays meet the cube, and some that miss it."""
        index = torch.randint(self.bank.pixels, (2 * self.rays,), generator=self.generator, device=self.device)
        pixels = self.bank.take(index)
        t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, self.options.near)
        allowed = torch.ones_like(pixels.used) if self.empty_outside_mask else pixels.used
        hits = ((t_out > t_in) & allowed).nonzero()[: self.rays, 0]
        chosen = hits
        if self.field.outside is not None:
            misses = ((t_out <= t_in) & allowed).nonzero()[: int(self.rays * MISS_SHARE), 0]
            chosen = torch.cat([hits, misses])
        return Batch(Pixels(*(part[chosen] for part in pixels)), t_in[chosen], t_out[chosen])

    def _loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Mean Huber loss of the rays' colours, and how many samples it took."""
        field, pixels = self.field, batch.pixels
        rays = len(batch.t_in)
        jitter = self._random(rays)
        samples = march(pixels.rays_o, pixels.rays_d, batch.t_in, batch.t_out, field.step, jitter, field.grid)
        ray = samples.ray
        x = pixels.rays_o[ray] + samples.t[:, None] * pixels.rays_d[ray]
        density, feature = field.query(x)
        weights, transmittance = render_weights(density, field.step, ray, rays)
        seen = (transmittance > OPAQUE).nonzero()[:, 0]
        basis = spherical_harmonics(pixels.rays_d)[ray[seen]]
        rgb = field.color_from_basis(basis, feature[seen])
        light = sum_along_rays(weights[seen, None] * rgb, ray[seen], rays)
        through = 1.0 - sum_along_rays(weights[:, None], ray, rays)[:, 0]
        target = pixels.rgb
        if self.empty_outside_mask:
            behind = self._random(rays, 3)
            target = torch.where(pixels.used[:, None], target, behind)
            predicted = light + through[:, None] * behind
        else:
            front, before, behind = field.surroundings(
                pixels.rays_o, pixels.rays_d, batch.t_in, batch.t_out, through.detach() > OPAQUE, self.generator
            )
            predicted = front + before[:, None] * (light + through[:, None] * behind)
        if self.options.exposure:
            gain = self.log_gain - self.log_gain.mean(0)
            predicted = predicted * torch.exp(gain[pixels.photo])
        loss = torch.nn.functional.huber_loss(predicted, target, delta=HUBER_DELTA) / HUBER_DELTA
        if self.options.distortion > 0:
            spread = distortion(weights, samples.t, field.step, ray, rays)
            loss = loss + self.options.distortion * spread.mean()
        return loss, len(ray)

    def _random(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device)

    def _refresh_grid(self) -> None:
        grid = self.field.cells
        turn, warm = self.steps_done // REFRESH_EVERY, self.steps_done <= WARM_GRID_STEPS
        cells = grid.scheduled(turn, warm, self.generator)
        grid.refresh(lambda x: self.field.query(x)[0], cells, CELL_OPACITY / self.field.step, self.generator)

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
        found["generator"] = self.generator.get_state()
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
                _, number, key = name.split(".")
                moments.setdefault(int(number), {})[key] = value.clone()
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(state["generator"])
        self.steps_done, self.rays = (int(value) for value in state["counters"])
