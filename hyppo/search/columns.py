"""The trials as arrays, for the search.

    symbol     shape   meaning
    unit       (n, d)  lattice coordinates, rows by trial number
    mean, std  (n,)    mean and sample standard deviation of the finite losses, NaN if unknown; for the target
                       "ensemble_loss", that loss and the standard deviation of the single losses
    count      (n,)    finite losses
    alone      (n,)    for that target, mean loss of single networks, NaN if unknown
    settled    (n,)    position of the first finite loss in the order of events, -1 if nothing is known of the target
    waiting    (n,)    pending, without a loss yet
    pruned     (n,)    given up, without a loss
    share      (n,)    share of the ended trainings that did not fail, NaN while none ended
    replicas   (n, 3)  trainings: all, pending and failed ones

A trial outside the space, as a study has whose space became narrower, counts in none of them.

A pure function of the trials. A study of ten thousand is asked several times a second: rows are worked out again only
for trials that are new objects, since a changed trial is a new object.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyppo.config import ENSEMBLE_LOSS, MEAN_LOSS, Config
from hyppo.errors import SpaceError
from hyppo.search.blocks import FEWEST_BETTER, Blocks, fit_blocks, losses_of
from hyppo.search.ensembles import alone, at_size
from hyppo.search.feasible import Closed, Feasible
from hyppo.search.memory import Memory, step_of
from hyppo.space import FloatArray, IntArray, Space
from hyppo.stats import summary
from hyppo.trial import State, Trial

if TYPE_CHECKING:
    from hyppo.search.evidence import Observations
    from hyppo.search.known import Known
    from hyppo.search.success import Outcomes

MOST_BETTER = 256  # trials that the effects of blocks are estimated from
BoolArray = npt.NDArray[np.bool_]


class Columns:
    """The columns of a growing list of trials; `update` before reading.

    >>> from hyppo.space import Real
    >>> from hyppo.trial import ReplicaRecord
    >>> columns = Columns(Space(x=Real(0, 1)))
    >>> columns.update([Trial(0, {"x": 0.5}, (ReplicaRecord(0, 7),))])
    >>> columns.pending_units().tolist(), len(columns.taken)
    ([[0.5]], 1)
    """

    def __init__(self, space: Space, config: Config | None = None, feasible: Feasible | None = None) -> None:
        self._space = space
        self._config = config or Config()
        self._unit: FloatArray = np.empty((0, space.dimension))
        self._inside: BoolArray = np.empty(0, dtype=np.bool_)
        self._mean: FloatArray = np.empty(0)
        self._std: FloatArray = np.empty(0)
        self._count: IntArray = np.empty(0, dtype=np.int64)
        self._alone: FloatArray = np.empty(0)
        self._settled: IntArray = np.empty(0, dtype=np.int64)
        self._waiting: BoolArray = np.empty(0, dtype=np.bool_)
        self._pruned: BoolArray = np.empty(0, dtype=np.bool_)
        self._replicas: IntArray = np.empty((0, 3), dtype=np.int64)
        self._share: FloatArray = np.empty(0)
        self.trials: list[Trial] = []
        self.taken: set[bytes] = (
            set() if feasible is None else Closed((), feasible)
        )  # identities of all points; like the trials not to be changed
        self.memory = Memory()  # of the steps that proposed the trials

    def update(self, trials: Sequence[Trial]) -> None:
        """Bring every row up to date with `trials`, which only ever grow."""
        known = len(self.trials)
        changed = [i for i, (old, new) in enumerate(zip(self.trials, trials, strict=False)) if old is not new]
        new = trials[known:]
        memory = self.memory
        if new:
            self._reserve(len(trials))
            which, units = self._encoded([trial.params for trial in new])
            self._unit[known : len(trials)][which] = units
            self._inside[known : len(trials)] = which
            self.taken.update(self._space.keys(units))
            for trial in new:
                memory = memory.after(step_of(trial.origin))
        for i in (*changed, *range(known, len(trials))):
            trial, inside = trials[i], bool(self._inside[i])
            stats = trial.observed(self._config.target, self._config.score) if inside else None
            self._mean[i] = np.nan if stats is None else stats.mean
            self._std[i] = np.nan if stats is None or stats.std is None else stats.std
            self._count[i] = 0 if stats is None else stats.n
            if self._config.target == ENSEMBLE_LOSS:
                self._alone[i] = alone(trial.replicas)
            self._settled[i] = -1 if trial.settled is None or stats is None else trial.settled
            self._waiting[i] = inside and trial.settled is None and trial.state is State.PENDING
            self._pruned[i] = inside and trial.settled is None and trial.state is State.PRUNED
            states = [r.state for r in trial.replicas]
            pending, failed = states.count(State.PENDING), states.count(State.FAILED)
            self._replicas[i] = len(states), pending, failed
            ended = len(states) - pending if inside else 0
            self._share[i] = 1.0 - failed / ended if ended else np.nan
        self.trials, self.memory = list(trials), memory  # last: if Ctrl-C cuts this short, the next call does it again

    def _encoded(self, points: Sequence[Mapping[str, Any]]) -> tuple[BoolArray, FloatArray]:
        """Which of q points are in the space, (q,), and the coordinates of these."""
        inside = np.ones(len(points), dtype=np.bool_)
        try:
            return inside, self._space.encode_all(points)
        except SpaceError:
            inside[:] = [point in self._space for point in points]
            return inside, self._space.encode_all(list(itertools.compress(points, inside)))

    def _reserve(self, n: int) -> None:
        """Make room for n rows, twice as many at a time."""
        if n <= self._share.size:  # the last that is assigned
            return
        room = max(64, 2 * n)

        def grown(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
            out = np.empty((room, *column.shape[1:]), dtype=column.dtype)
            out[: column.shape[0]] = column
            return out

        self._unit, self._mean, self._std = grown(self._unit), grown(self._mean), grown(self._std)
        self._inside = grown(self._inside)
        self._count, self._settled = grown(self._count), grown(self._settled)
        self._alone = grown(self._alone)
        self._waiting, self._pruned = grown(self._waiting), grown(self._pruned)
        self._replicas, self._share = grown(self._replicas), grown(self._share)

    @property
    def asked(self) -> int:
        """Trainings, pending ones among them."""
        return int(self._replicas[: len(self.trials), 0].sum())

    @property
    def failed(self) -> int:
        """Failed trainings."""
        return int(self._replicas[: len(self.trials), 2].sum())

    def failures(self, rows: IntArray) -> IntArray:
        """Failed trainings of some trials, (m,) -> (m,)."""
        failed: IntArray = self._replicas[rows, 2]
        return failed

    def room(self, rows: IntArray, most: int) -> IntArray:
        """Further trainings of some trials up to `most` of each, none while one is pending, (m,) -> (m,)."""
        total, pending = self._replicas[rows, 0], self._replicas[rows, 1]
        return np.where(pending > 0, 0, np.maximum(most - total, 0))

    def settled(self) -> IntArray:
        """Numbers of the trials with a loss, in the order in which they first had one."""
        settled = self._settled[: len(self.trials)]
        rows = np.flatnonzero(settled >= 0)
        return rows[np.argsort(settled[rows], kind="stable")]

    def settled_trials(self) -> list[Trial]:
        """Trials with a loss, in that order."""
        return [self.trials[number] for number in self.settled()]

    def equal(self, trial: Trial) -> list[Trial]:
        """The trials of the same point, this one among them, whose trainings are all taken together."""
        inside = np.flatnonzero(self._inside[: len(self.trials)])
        keys = dict(zip(inside.tolist(), self._space.keys(self._unit[inside]), strict=True))
        return [self.trials[number] for number, key in keys.items() if key == keys[trial.number]]

    def observations(self) -> "Observations":
        """Trials with a loss in the order of `settled`, and the pruned ones as censored rows after them."""
        from hyppo.search.evidence import Observations, with_censored

        rows = self.settled()
        pruned = np.flatnonzero(self._pruned[: len(self.trials)])
        mean, std = self._mean[rows], self._std[rows]
        losses = Observations(self._unit[rows], mean, std, self._count[rows])
        if self._config.target == MEAN_LOSS:
            losses = self._without_blocks(rows, losses)
        else:
            of_size = at_size(self._count[rows], mean, self._alone[rows], self._config.ensemble_size)
            losses = replace(losses, mean=of_size)
        return with_censored(losses, self._unit[pruned])

    def _without_blocks(self, rows: IntArray, data: "Observations") -> "Observations":
        """The losses of the trials `rows`, which `data` holds, without the effects of folds or data seeds.

        A trial with one replica has seen the first fold or data seed only, and the contenders have seen others too.
        Folds always have effects; seeds only if the training function uses `replica.data_seed`, so their effects are
        removed only if they are clear. A fresh training has another data seed, but never another fold: the spread keeps
        the effects of data seeds, and loses those of folds. The losses do not show the mean effect of the
        data seeds that were used: it is an error that all means share, and so is the mean effect of some of the folds.

        The first losses of contenders are too low, since contenders are chosen by them. This looks like an effect of
        the first data seed in about half of the studies without any (42 and 53 % of 40 of 100 trainings of a function
        of two parameters, with normal noise of 0.1 and 0.5). To remove it makes estimates less optimistic: the interval
        covers in 88 and 90 % of these studies, and in 78 and 80 % if effects must be clear from the later replicas.
        """
        several = np.flatnonzero(self._count[rows] > 1)
        ranked = several[np.argsort(data.mean[several], kind="stable")]
        chosen = ranked[: min(max(FEWEST_BETTER, several.size // 2), MOST_BETTER)]
        block, folds = self._config.block_of, self._config.folds is not None
        blocks = fit_blocks([losses_of(self.trials[rows[i]]) for i in chosen], block)
        if blocks is None or not blocks.matter(folds):
            return data
        mean, std = data.mean.copy(), data.spread.copy()
        for i, row in enumerate(rows):
            own = blocks.off(losses_of(self.trials[row]), block)
            stats = summary(own.values(), self._config.score)
            if stats is not None:
                mean[i] = stats.mean
                if folds:
                    std[i] = np.nan if stats.std is None else stats.std
        if folds:
            return replace(data, mean=mean, spread=std, common=self._unseen(blocks), without="folds")
        return replace(data, mean=mean, common=float(blocks.covariance.mean()), without="data seeds")

    def _unseen(self, blocks: Blocks) -> float:
        """Variance of the mean effect of the folds that were used: that of k of n folds, drawn without replacement."""
        assert self._config.folds is not None
        return blocks.data * max(1.0 / len(blocks.index) - 1.0 / self._config.folds, 0.0)

    def outcomes(self) -> "Outcomes":
        """How the trials ended, those with a failure among them."""
        from hyppo.search.success import Outcomes

        rows = np.flatnonzero(np.isfinite(self._share[: len(self.trials)]))
        return Outcomes(self._unit[rows], self._share[rows])

    def known(self, risk: float = 0.0) -> "Known":
        """All that the search knows now."""
        from hyppo.search.known import Known

        return Known(
            self._space, self.observations(), self.pending_units(), self.taken, self.memory, risk, self.outcomes()
        )

    def pending_units(self) -> FloatArray:
        """Coordinates of the trials that wait for their first loss, (p, d)."""
        rows = np.flatnonzero(self._waiting[: len(self.trials)])
        return self._unit[rows]

    def units(self) -> FloatArray:
        """Coordinates of the trials in the space, (m, d)."""
        count = len(self.trials)
        return self._unit[:count][self._inside[:count]]
