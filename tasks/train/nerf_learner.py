"""Training of a vanilla NeRF: one step, what has to be remembered between steps, and the way there from the poses.

Rays are sampled between the cube's two sides. What lies outside is one colour: random where masks say that nothing is
there (`mask_use = "empty"`), else black or white. Photos that show surroundings are explained with fog in the cube.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from models.camera import PoseSet
from models.fields.march import cube_interval
from models.fields.nerf import NerfField
from models.fields.threads import threads_of
from tasks.context import Context
from tasks.train.fit import trained_field
from tasks.train.inputs import forbid_hidden, open_photos, settle_masks
from tasks.train.options import SLICE_SAMPLES, NerfOptions
from tasks.train.outcome import Trained
from tasks.train.pixel_bank import PixelBank, Pixels
from tasks.train.stream import StreamBank
from tasks.train.trainer import StepFacts, train

FINAL_RATE = 0.1
"""The learning rate falls exponentially to that factor over the budget (section 5.3)."""
MAX_SHARDS = 64
CELL_OPACITY = 0.01
"""A cell is occupied when a single rendering step through it may be that opaque."""
SPARE = 4
"""Pixels drawn for each that is wanted: some may not be used, some see nothing of the cube."""
EVALUATION_PIXELS = 1 << 11
EVALUATION_SEED = 12345


class Shard(NamedTuple):
    """What one part of a step's batch contributes: sums over its rays."""

    loss: float
    gradients: list[Tensor]
    rays: int


class NerfLearner:
    """Trains a NerfField on a bank of pixels (a trainer.Learner).

    Args:
        field: reset, on `device`.
        bank: the training photos.
        heldout: photos to evaluate on; the training photos where there are none.
        seed: of every random choice.
        threads: shards that are computed side by side; changes the speed alone.
    """

    def __init__(
        self,
        field: NerfField,
        bank: PixelBank | StreamBank,
        heldout: PixelBank | StreamBank | None,
        options: NerfOptions,
        seed: int,
        device: str,
        threads: int = 1,
    ) -> None:
        self.field, self.bank, self.options, self.device = field, bank, options, device
        self.generators = [
            torch.Generator(device).manual_seed(seed * MAX_SHARDS + number) for number in range(options.shards)
        ]
        self.pool = ThreadPoolExecutor(min(threads, options.shards))
        self.empty_outside_mask = options.mask_use == "empty" and bank.masked
        self.parameters = list(field.parameters())
        self.optimiser = torch.optim.Adam(self.parameters, lr=options.learning_rate, eps=1e-7, fused=True)
        self.samples = (options.coarse_samples, options.fine_samples)
        self.steps_done = 0
        self.psnr_pixels = self._evaluation_pixels(heldout or bank)
        self.psnr_train_pixels = self._evaluation_pixels(bank)

    # -- a step ---------------------------------------------------------------------------------------------------

    def step(self, share: float, rate: float) -> StepFacts:
        """As trainer.Learner.step."""
        self.bank.turn_to(self.steps_done)
        self.steps_done += 1
        parts = list(self.pool.map(self._shard, self.generators))
        rays = sum(part.rays for part in parts)
        value = sum(part.loss for part in parts) / max(rays, 1)
        if math.isfinite(value) and rays:
            for number, parameter in enumerate(self.parameters):
                parameter.grad = sum(part.gradients[number] for part in parts) / rays  # type: ignore[assignment]
            for group in self.optimiser.param_groups:
                group["lr"] = self.options.learning_rate * rate * FINAL_RATE**share
            self.optimiser.step()
        return StepFacts(value, rays, rays * (2 * self.samples[0] + self.samples[1]))

    def _shard(self, generator: torch.Generator) -> Shard:
        """Loss and gradients of one part of the batch, slice by slice. Touches nothing but its generator."""
        pixels = self._draw(generator)
        loss, gradients = 0.0, [torch.zeros_like(parameter) for parameter in self.parameters]
        for part in self._slices(pixels):
            value = self._loss(part, generator)
            for total, gradient in zip(gradients, torch.autograd.grad(value, self.parameters), strict=True):
                total.add_(gradient)
            loss += float(value.detach())
        return Shard(loss, gradients, len(pixels.photo))

    def _draw(self, generator: torch.Generator) -> Pixels:
        """Random pixels: a shard of the step's rays, all of which meet the cube."""
        wanted = max(1, self.options.rays // self.options.shards)
        pixels = self.bank.take(self.bank.draw(SPARE * wanted, generator))
        return self._meeting(pixels, wanted, whatever_the_mask=self.empty_outside_mask)

    def _meeting(self, pixels: Pixels, most: int, whatever_the_mask: bool = False) -> Pixels:
        """The first `most` pixels that may be used and whose rays meet the cube."""
        t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, self.options.near)
        allowed = torch.ones_like(pixels.alpha, dtype=torch.bool) if whatever_the_mask else pixels.used
        chosen = ((t_out > t_in) & allowed).nonzero()[:most, 0]
        return Pixels(*(part[chosen] for part in pixels))

    def _slices(self, pixels: Pixels) -> Iterable[Pixels]:
        """The pixels in parts whose activations fit into a few hundred megabytes."""
        rays = max(1, SLICE_SAMPLES // sum(self.samples))
        for start in range(0, len(pixels.photo), rays):
            yield Pixels(*(part[start : start + rays] for part in pixels))

    def _loss(self, pixels: Pixels, generator: torch.Generator) -> Tensor:
        """Squared errors of both networks' colours (eq. 6), summed over rays, meant over channels."""
        t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, self.options.near)
        both = self.field.render(pixels.rays_o, pixels.rays_d, t_in, t_out, self.samples, generator)
        target, behind = pixels.rgb, torch.full_like(pixels.rgb, self.field.background)
        if self.empty_outside_mask:
            behind = torch.rand(behind.shape, generator=generator, device=generator.device)
            target = torch.lerp(behind, target, pixels.alpha[:, None])
        errors = [(light + through[:, None] * behind - target).square().mean(1).sum() for light, through in both]
        return errors[0] + errors[1]

    # -- evaluation -----------------------------------------------------------------------------------------------

    def _evaluation_pixels(self, bank: PixelBank | StreamBank) -> Pixels:
        """A fixed subset of the pixels that may be used and whose rays meet the cube."""
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        return self._meeting(bank.survey(SPARE * EVALUATION_PIXELS, generator), EVALUATION_PIXELS)

    def evaluate(self) -> float:
        """As trainer.Learner.evaluate: of the fine network, sampled as in training."""
        return self._psnr(self.psnr_pixels)

    def evaluate_training(self) -> float:
        """PSNR in dB on a fixed subset of the training pixels."""
        return self._psnr(self.psnr_train_pixels)

    def _psnr(self, pixels: Pixels) -> float:
        if not len(pixels.rgb):
            return 0.0
        error = sum(self.pool.map(self._error, self._slices(pixels)))
        return -10.0 * math.log10(max(error / pixels.rgb.numel(), 1e-10))

    @torch.no_grad()
    def _error(self, pixels: Pixels) -> float:
        t_in, t_out = cube_interval(pixels.rays_o, pixels.rays_d, self.options.near)
        _, (light, through) = self.field.render(pixels.rays_o, pixels.rays_d, t_in, t_out, self.samples, None)
        rgb = (light + through[:, None] * self.field.background).clamp(0.0, 1.0)
        return float((rgb - pixels.rgb).square().sum())

    # -- remembering ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """As trainer.Learner.state."""
        found = {f"field.{name}": value for name, value in self.field.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                found[f"adam.{number}.{name}"] = value
        found = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in found.items()}
        for number, generator in enumerate(self.generators):
            found[f"generator.{number}"] = generator.get_state()
        found["counters"] = torch.tensor([self.steps_done])
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """As trainer.Learner.restore."""
        prefix = "field."
        self.field.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, parameter, key = name.split(".")
                moments.setdefault(int(parameter), {})[key] = value.clone()
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        for number, generator in enumerate(self.generators):
            generator.set_state(state[f"generator.{number}"])
        self.steps_done = int(state["counters"])


def fit_nerf(poses: PoseSet, options: NerfOptions, context: Context) -> Trained:
    """Train a NerfField on the pictures of the input `pose`.

    Raises:
        DigitizeError(diverged, undecodable, wrong_size, too_few_images, cancelled, deadline).
    """
    poses, mask_use = settle_masks(poses, options.mask_use)
    options = options.model_copy(update={"mask_use": mask_use})
    heldout, seed, device = poses.of_split("heldout"), context.request.seed, context.device
    field = new_field(options, seed)
    forbid_hidden(field.cells, poses, options.minimum_views, options.near)
    field.to(device)
    where, memory_gb = options.photos, options.photo_memory_gb
    bank = open_photos(poses, "train", where, memory_gb, context)
    heldout_bank = open_photos(poses, "heldout", where, memory_gb / 4, context) if heldout else None
    learner = NerfLearner(field, bank, heldout_bank, options, seed, device, context.threads)
    try:
        with threads_of(1), learner.pool:
            progress = train(learner, options, context)
            psnr_train = learner.evaluate_training()
            field.bake(CELL_OPACITY / field.step, torch.Generator(device).manual_seed(seed))
    finally:
        bank.close()
    return trained_field(field, progress, psnr_train, bool(heldout), field.cells.share)


def new_field(options: NerfOptions, seed: int) -> NerfField:
    """An untrained field."""
    field = NerfField(
        depth=options.depth,
        width=options.width,
        position_frequencies=options.position_frequencies,
        direction_frequencies=options.direction_frequencies,
        occupancy_resolution=options.occupancy_resolution,
        step=2.0 * math.sqrt(3.0) / options.ray_steps,
        near=options.near,
        background=1.0 if options.white_background else 0.0,
    )
    field.reset(torch.Generator().manual_seed(seed))
    return field
