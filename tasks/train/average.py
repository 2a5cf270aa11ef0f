"""A running mean of the weights: what is evaluated and handed on is calmer than any single step (Instant-NGP, 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.fields.hash_encoding import HashEncoding

EVERY = 8
"""Steps between updates: large tables are read and written that much more rarely."""


class WeightAverage:
    """Exponential mean of a module's parameters.

    Args:
        module: its parameters are averaged.
        decay: share of the mean that one step keeps, in (0, 1); an update after EVERY steps keeps decay^EVERY.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = module
        self.means = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        """Take the weights after `steps_done` steps into account; does something every EVERY steps alone."""
        if steps_done % EVERY:
            return
        weight = max(1.0 - self.decay**EVERY, EVERY / max(steps_done, 1))  # the first ones: the plain mean
        for name, parameter in self.module.named_parameters():
            self.means[name].lerp_(parameter, weight)

    def swap(self) -> None:
        """Exchange the module's weights and their means; twice changes nothing."""
        for name, parameter in self.module.named_parameters():
            parameter.data, self.means[name] = self.means[name], parameter.data
        for part in self.module.modules():
            if isinstance(part, HashEncoding):
                part.round()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within this block the module has the means as its weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state(self) -> dict[str, Tensor]:
        """The means by parameter; not copied."""
        return self.means

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a `state`."""
        for name, mean in self.means.items():
            mean.copy_(state[name])
