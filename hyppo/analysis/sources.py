"""How much of the spread is data, and how much is training.

References
----------
Bouthillier et al. 2021, MLSys, "Accounting for variance in machine learning benchmarks".
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyppo.arguments import takes_study
from hyppo.errors import StudyError
from hyppo.search.blocks import better, confirmed_of, fit_blocks, unchosen_of

if TYPE_CHECKING:
    from hyppo.study import Study


@dataclass(frozen=True, slots=True)
class SpreadBySource:
    """The spread of the loss by its source.

    Attributes
    ----------
    data : float
        Standard deviation due to the data that replicas of one index share: `replica.data_seed`, `replica.fold`.
    training : float
        Standard deviation due to the rest: initial weights, order of batches, dropout, hardware.
    total : float
        Both together.
    trials, replicas : int
        That they were estimated from.
    """

    data: float
    training: float
    total: float
    trials: int
    replicas: int

    def __str__(self) -> str:
        share = self.data**2 / self.total**2 if self.total else 0.0
        return (
            f"spread {self.total:.3g}: {self.data:.3g} from the data ({share:.0%} of the variance), "
            f"{self.training:.3g} from training ({self.replicas} replicas of {self.trials} trials)"
        )


@takes_study
def spread_by_source(study: "Study") -> SpreadBySource:
    """How much of the spread of the loss is due to the data, and how much to training.

    The estimate is from the better half of the trials with several replicas, confirmations included, without the losses
    that contenders were chosen by for further replicas. The function that trains must use `replica.data_seed` or
    `replica.fold`, otherwise all spread is due to training.

    Raises
    ------
    StudyError
        Too few trials with several replicas: it takes two, with replicas of the same indices.

    Examples
    --------
    >>> from hyppo import Real, Space, Study
    >>> study = Study(Space(x=Real(0, 1)), replicas=4)
    >>> for _ in range(6):
    ...     trial = study.ask()
    ...     study.tell(trial.number, [trial.params["x"] + 0.3 * (r == 2) for r in range(4)])
    >>> source = spread_by_source(study)
    >>> source.data > 10 * source.training
    True
    """
    several = better([{**unchosen_of(t, study.config), **confirmed_of(t)} for t in study.trials], fewest=2)
    blocks = fit_blocks(several, study.config.block_of)
    if blocks is None:
        raise StudyError(
            "too few trials have several replicas to tell the sources of the spread apart: study.confirm(10), or "
            "Study(replicas=3)"
        )
    data, training = math.sqrt(blocks.data), math.sqrt(blocks.training)
    return SpreadBySource(data, training, math.hypot(data, training), len(several), sum(map(len, several)))
