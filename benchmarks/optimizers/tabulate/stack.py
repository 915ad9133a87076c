"""Networks of several seeds, trained at once: every tensor has a leading seed dimension, and no operation mixes seeds.

    symbol  meaning
    s       seeds
    b       rows of a mini-batch

Torch's optimisers work element by element, so that one of them on stacked tensors is s independent ones. Each seed has
its own generator: initial values, batches and dropout of a seed do not depend on the others.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

Tensor = torch.Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "softplus": torch.nn.functional.softplus,
    "sine": torch.sin,
}


class Stack:
    """The random numbers of s seeds, and the trainable tensors drawn from them."""

    def __init__(self, seeds: int) -> None:
        torch.set_num_threads(1)
        self.generators = [torch.Generator().manual_seed(1000 + seed) for seed in range(seeds)]
        self.trainable: list[Tensor] = []

    def _draw(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(g) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """(s, *shape) in [0, 1)."""
        return self._draw(lambda g: torch.rand(shape, generator=g))

    def normal(self, *shape: int) -> Tensor:
        """(s, *shape), mean 0 and variance 1."""
        return self._draw(lambda g: torch.randn(shape, generator=g))

    def batches(self, rows: int, size: int) -> Iterator[Tensor]:
        """One epoch of mini-batches: row numbers (s, b), in each seed's own order; drops a smaller last batch."""
        order = self._draw(lambda g: torch.randperm(rows, generator=g))
        for first in range(0, rows - size + 1, size):
            yield order[:, first : first + size]

    def parameter(self, fan_in: int, *shape: int) -> Tensor:
        """A trainable (s, *shape), uniform within 1 / sqrt(fan_in): torch's own initial values."""
        made = ((2.0 * self.uniform(*shape) - 1.0) / fan_in**0.5).requires_grad_()
        self.trainable.append(made)
        return made

    def linear(self, fan_in: int, fan_out: int) -> Callable[[Tensor], Tensor]:
        """A layer (s, b, fan_in) -> (s, b, fan_out)."""
        weight, bias = self.parameter(fan_in, fan_in, fan_out), self.parameter(fan_in, 1, fan_out)
        return lambda x: torch.baddbmm(bias, x, weight)

    def mlp(self, widths: Sequence[int], activation: str) -> Callable[[Tensor], Tensor]:
        """Linear layers of these widths, the activation between them."""
        layers = [self.linear(a, b) for a, b in pairwise(widths)]
        act = ACTIVATIONS[activation]

        def forward(x: Tensor) -> Tensor:
            for layer in layers[:-1]:
                x = act(layer(x))
            return layers[-1](x)

        return forward

    def drop(self, x: Tensor, rate: float) -> Tensor:
        """Dropout."""
        return x if rate == 0.0 else x * (self.uniform(*x.shape[1:]) >= rate) / (1.0 - rate)

    def optimizer(self, name: str, rate: float, momentum: float = 0.9) -> torch.optim.Optimizer:
        """The optimiser of everything trainable so far."""
        if name == "sgd":
            return torch.optim.SGD(self.trainable, rate, momentum=momentum)
        return {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[name](self.trainable, rate)


def step(optimizer: torch.optim.Optimizer, losses: Tensor) -> None:
    """One update from the losses of the seeds, (s,): the gradient of their sum is that of each."""
    optimizer.zero_grad()
    losses.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of each seed, (s, b, classes) and (s, b) -> (s,)."""
    picked = torch.log_softmax(logits, dim=-1).gather(-1, labels[..., None])[..., 0]
    return -picked.mean(dim=1)


def columns(curve: Sequence[Tensor]) -> Any:
    """Losses (s,) recorded along a training -> (s, k); values that are not finite are failures, NaN."""
    losses = torch.stack([c.detach() for c in curve], dim=1).double().numpy()
    return np.where(np.isfinite(losses), losses, np.nan)
