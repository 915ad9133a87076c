"""Notices about replicas that are not independent trainings on the same data, as the statistics assume."""

from collections.abc import Sequence

from hyppo.training.replica import Outcome, Task
from hyppo.trial import Trial

COPIES = 2  # losses at which the replicas of a trial agree to the last bit, and none differ, before a notice
# Adaptive replicas train only one point again if its losses are equal: then so many trainings of it tell enough, if so
# many trials have a loss, nearly all another one.
EQUAL = 3
TRIALS = 5


class ReplicaChecks:
    """Each notice is given once a run. Cost per training: the replicas of its trial.

    Parameters
    ----------
    folds : int or None
        Of the study: with folds the replicas of a trial have other validation data by design.

    Examples
    --------
    >>> from hyppo.trial import ReplicaRecord, State
    >>> checks = ReplicaChecks(None)
    >>> copies = [Trial(n, {}, tuple(ReplicaRecord(r, r, State.DONE, loss=float(n)) for r in (0, 1))) for n in (0, 1)]
    >>> ended = [(Task(n, 1, 1, {}, "."), Outcome(float(n), None, 0, 1)) for n in (0, 1)]
    >>> [len(checks.notices(copies, [one], copies)) for one in ended]
    [0, 1]
    """

    def __init__(self, folds: int | None) -> None:
        # Loss -> a trial with copies; None once replicas of a trial differ, or the notice was given. Trials of one loss
        # count once: a metric that comes in steps, such as an accuracy of 1, is often equal without copies.
        self._copies: dict[float, int] | None = {}
        self._rows: dict[int, str] | None = None if folds else {}  # trial -> digest of its validation targets

    def notices(
        self, trials: Sequence[Trial], ended: Sequence[tuple[Task, Outcome]], known: Sequence[Trial]
    ) -> list[str]:
        """Notices about the trainings that have ended; their records are in `trials`.

        `known` are the trials of the study, which are others if `trials` have confirmations in place of replicas.
        """
        found = []
        for task, outcome in ended:
            if outcome.loss is None:
                continue
            texts = self._copied(trials[task.trial], known), self._other_rows(task, outcome)
            found += [text for text in texts if text]
        return found

    def _copied(self, trial: Trial, known: Sequence[Trial]) -> str:
        if self._copies is None:
            return ""
        records = [record for record in trial.replicas if record.loss is not None]
        losses = [record.loss for record in records if record.loss is not None]
        if len(losses) < 2:
            return ""
        curves = {tuple(record.curve) for record in records}
        if len(set(losses)) > 1 or len(curves) > 1:
            self._copies = None
            return ""
        self._copies.setdefault(losses[0], trial.number)
        if trial.pending:
            return ""
        if len(self._copies) >= COPIES:
            copies = f"the replicas of trials {' and '.join(map(str, sorted(self._copies.values())))} have"
        elif len(losses) >= EQUAL and _mostly_differ(known):
            copies = f"all {len(losses)} trainings of trial {trial.number} have"
        else:
            return ""
        self._copies = None
        return (
            f"{copies} the same loss to the last digit: if the training seeds itself (seed_everything, manual_seed, a "
            "random_state), or a library has a seed of its own (XGBoost, LightGBM, CatBoost, transformers and "
            "NeuralForecast do by default), use replica.seed there, since copies tell nothing of the spread; if it is "
            "deterministic, replicas=1 saves trainings"
        )

    def _other_rows(self, task: Task, outcome: Outcome) -> str:
        if self._rows is None or not outcome.rows:
            return ""
        if self._rows.setdefault(task.trial, outcome.rows) == outcome.rows:
            return ""
        self._rows = None
        return (
            f"the replicas of trial {task.trial} have other validation targets, or the same in another order: their "
            "predictions are not averaged; give the split and the validation data a fixed seed to have that"
        )


def _mostly_differ(trials: Sequence[Trial]) -> bool:
    """Whether losses rarely tie between trials, so that equal ones within a trial are no chance."""
    means = [trial.mean for trial in trials if trial.mean is not None]
    return len(means) >= TRIALS and len(set(means)) > 0.9 * len(means)
