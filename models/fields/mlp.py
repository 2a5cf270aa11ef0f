"""A small fully connected network without biases, as Instant-NGP's."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from models.fields.kernels import ops


class MLP(nn.Module):
    """ReLU between layers, a linear output.

    Args:
        widths: input, hidden ..., output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        pairs = itertools.pairwise(widths)
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(after, before)) for before, after in pairs)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights uniformly with the variance that ReLU layers keep (He et al. 2015)."""
        with torch.no_grad():
            for weight in self.weights:
                bound = math.sqrt(6.0 / weight.shape[1])
                weight.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[N, widths[-1]] of inputs [N, widths[0]]."""
        return ops.mlp(x, list(self.weights))
