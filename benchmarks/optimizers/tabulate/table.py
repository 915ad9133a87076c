"""One table: a lattice of configurations, each trained with the same number of seeds."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray


@dataclass(frozen=True)
class Table:
    """A lattice and the function that trains one of its configurations.

    Parameters
    ----------
    space : hyppo.Space
        Listed parameters and integers. The last one is the length of a training (epochs, updates, trees): one training
        passes through all of its values, so they have no extra cost.
    train : callable
        Values of the other parameters -> losses (seeds, values of the last parameter), lower is better; NaN if the
        training failed.
    failed : float, optional
        Substitute loss of a failed training in the true loss of its configuration: the loss of a model that has learnt
        nothing, or worse. Needed if trainings can fail.
    """

    space: hyppo.Space
    train: Callable[[Mapping[str, Any]], FloatArray]
    failed: float | None = None

    def write(self, path: Path) -> None:
        """Train every configuration and save the losses, (points in the order of the lattice, seeds)."""
        start = time.process_time()
        *names, _ = self.space.names
        values = [[p.value(i) for i in range(p.levels)] for n, p in self.space.parameters.items() if n in names]
        curves = [self.train(dict(zip(names, point, strict=True))) for point in itertools.product(*values)]
        losses = np.swapaxes(np.array(curves), 1, 2).reshape(-1, len(curves[0])).astype(np.float32)
        failures = float(np.isnan(losses).mean())
        if failures and self.failed is None:
            raise ValueError(f"{path.stem}: {failures:.0%} of the trainings failed, and the table has no loss for that")
        kept = {} if self.failed is None else {"failed": np.float32(self.failed)}
        np.savez_compressed(path, space=self.space.to_json(), losses=losses, **kept)
        print(
            f"{path.stem}: {len(losses)} points, {losses.shape[1]} seeds, {failures:.1%} failed, "
            f"{time.process_time() - start:.0f} CPU seconds, {path.stat().st_size / 1024:.0f} KiB",
            flush=True,
        )
