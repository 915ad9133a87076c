"""The settings of a study: their valid values and defaults."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyppo.arguments import native, number, one_of, quoted, whole
from hyppo.errors import StudyError

if TYPE_CHECKING:
    from hyppo.search.propose import Proposer
    from hyppo.stopping import Rule

SURROGATES = ("auto", "gp", "rbf", "random")
MEAN, MEDIAN, TRIMMED = SCORES = ("mean", "median", "trimmed")
WORDS = {MEAN: "mean", MEDIAN: "median", TRIMMED: "trimmed mean"}
MEAN_LOSS, ENSEMBLE_LOSS = TARGETS = ("mean_loss", "ensemble_loss")
CONFIRMATION = 1_000_000  # index of the first training of `study.confirm`, larger than any index in a search
PROBE = (1.0, 2.0, 4.0, 7.0, 11.0, 16.0, 22.0)  # losses whose score tells one function from another
DEFAULT_REPLICAS = (1, 8)  # trainings of a point if the user does not say: one, and more of the contenders


def named(trial: int, index: int) -> str:
    """A training by the numbers of its trial and replica, in messages.

    >>> named(7, 3), named(7, CONFIRMATION + 3)
    ('trial 7 replica 3', 'trial 7 confirmation 3')
    """
    return f"trial {trial} " + (f"replica {index}" if index < CONFIRMATION else f"confirmation {index - CONFIRMATION}")


def word_of(score: "str | Callable[[Sequence[float]], float]") -> str:
    """The word for a score in texts: "mean", "median", "trimmed mean", or "score" for a function."""
    return WORDS[score] if isinstance(score, str) else "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a study, checked.

    Attributes
    ----------
    seed : int
        Root seed.
    risk : float
        Weight of the spread in the score, at least 0.
    surrogate : str or Proposer
        Chooses new points.
    target : str
        MEAN_LOSS or ENSEMBLE_LOSS.
    replicas : (int, int)
        The fewest and the most trainings of a point.
    required : int
        Trainings that a point must have to be recommended, as long as others have as many.
    stopping : Rule or None
        Stops trials early.
    folds : int or None
        Number of folds of the data, at least 2.
    score : str or callable
        The summary of a trial's losses: one of SCORES, or a function of them.
    feasible : callable or None
        feasible(params) -> bool: whether a point is part of the space.

    Raises
    ------
    StudyError
        A value that a setting cannot have.

    Examples
    --------
    >>> Config(risk=1).risk, Config.of(replicas=5).replicas, Config.of(replicas=(2, 8)).required
    (1.0, (5, 5), 2)
    """

    seed: int = 0
    risk: float = 0.0
    surrogate: "str | Proposer" = "auto"
    target: str = MEAN_LOSS
    replicas: tuple[int, int] = DEFAULT_REPLICAS
    required: int = 1
    stopping: "Rule | None" = None
    folds: int | None = None
    score: "str | Callable[[Sequence[float]], float]" = MEAN
    feasible: Callable[[dict[str, Any]], bool] | None = None

    def __post_init__(self) -> None:
        from hyppo.stopping import rule_of

        if self.feasible is not None and not callable(self.feasible):
            raise StudyError(f"feasible: expected a function of the parameters, got {quoted(self.feasible)}")

        surrogate = self.surrogate
        for name, value in {
            "seed": whole("seed", self.seed, least=0),
            "risk": number("risk", self.risk, least=0),
            "surrogate": surrogate
            if callable(getattr(surrogate, "propose", None))
            else one_of("surrogate", surrogate, SURROGATES),
            "target": one_of("target", self.target, TARGETS),
            "replicas": _range_of(self.replicas),
            "required": whole("required", self.required, least=1),
            "stopping": rule_of(self.stopping),
            "score": _score_of(self.score),
            "folds": None if self.folds is None else whole("folds", self.folds, least=2),
        }.items():
            object.__setattr__(self, name, value)

    @staticmethod
    def of(*, replicas: int | tuple[int, int] | None = None, **settings: Any) -> "Config":
        """The settings as users give them: `replicas` may be one number, or None for the default."""
        if replicas is None:
            return Config(**settings)
        fewest, most = _range_of(replicas)
        return Config(replicas=(fewest, most), required=fewest, **settings)

    def to_json(self) -> dict[str, Any]:
        """The settings that a study file keeps; the root seed is in its header."""
        return {
            "replicas": list(self.replicas),
            "required": self.required,
            "risk": self.risk,
            "surrogate": self.surrogate if isinstance(self.surrogate, str) else type(self.surrogate).__qualname__,
            "target": self.target,
        } | self._added()

    def _added(self) -> dict[str, Any]:
        """Settings that earlier versions do not know, unless they have their defaults."""
        added: dict[str, Any] = {} if self.folds is None else {"folds": self.folds}
        if self.score != MEAN:
            added["score"] = self.score if isinstance(self.score, str) else _described(self.score)
        return added

    @staticmethod
    def from_json(seed: int, kept: Mapping[str, Any]) -> "Config":
        """The settings that `to_json` kept, in this version or an earlier one.

        A proposer and a score of the user's own are not kept: "auto" and "mean" stand in for them.
        """
        fewest, most = kept["replicas"]
        surrogate = kept["surrogate"]
        return Config(
            seed=seed,
            risk=kept["risk"],
            surrogate=surrogate if surrogate in SURROGATES else "auto",
            target=kept.get("target", MEAN_LOSS),
            replicas=(fewest, most),
            required=kept["required"],
            folds=kept.get("folds"),
            score=kept["score"] if kept.get("score") in SCORES else MEAN,
        )

    @property
    def other_score(self) -> bool:
        """Whether another number than their mean stands for the losses of a trial; the ensemble's loss has no score."""
        return self.score != MEAN and self.target == MEAN_LOSS

    def quantity(self, metric: str) -> str:
        """The name of the number that the study minimises and estimates, for losses that are this metric.

        >>> [Config(score=score).quantity("val_loss") for score in ("mean", "median", max)]
        ['val_loss', 'median val_loss', 'score of val_loss']
        """
        if self.target == ENSEMBLE_LOSS:
            return "ensemble loss"
        if not self.other_score:
            return metric
        return f"{word_of(self.score)} {metric}" if isinstance(self.score, str) else f"score of {metric}"

    @property
    def ensemble_size(self) -> int:
        """The size at which ensembles are compared: as many networks as a point is given at most."""
        return self.replicas[1]

    def block_of(self, index: int) -> int:
        """The block of a replica or confirmation: its fold, or without folds its index."""
        fold = self.fold_of(index)
        return index if fold is None else fold

    def fold_of(self, index: int) -> int | None:
        """The fold of the replica or confirmation of this index."""
        return None if self.folds is None else index % CONFIRMATION % self.folds


def lost_score(kept: Mapping[str, Any]) -> str | None:
    """The name of the function that was the score of a study with these settings, for which the mean stands in."""
    score = kept.get("score", MEAN)
    if score in SCORES:
        return None
    return str(score["function"]) if isinstance(score, dict) else "a function"


def _described(score: Callable[[Sequence[float]], float]) -> dict[str, Any]:
    """A function in a study file: its name, and a value by which another function of the same name is noticed."""
    name = str(getattr(score, "__qualname__", None) or type(score).__name__)
    return {"function": name, "value": float(f"{float(score(list(PROBE))):.9g}")}


def _score_of(score: Any) -> Any:
    """The score, tried if it is a function."""
    if not callable(score):
        return one_of("score", score, SCORES)
    try:
        number("score([1.0, 2.0, 4.0])", score([1.0, 2.0, 4.0]))
        number(f"score({list(PROBE)})", score(list(PROBE)))
    except Exception as error:  # whatever a user's function raises
        raise StudyError(f"score: expected a function of a list of losses that returns a number: {error}") from error
    return score


def _range_of(replicas: Any) -> tuple[int, int]:
    """(fewest, most) of a number or a pair."""
    value = native(replicas)
    pair = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    try:
        fewest, most = (whole("replicas", r, least=1) for r in pair)
        if fewest <= most:
            return fewest, most
    except (StudyError, ValueError):
        pass
    raise StudyError(f"replicas: expected a number of at least 1, or (fewest, most), got {quoted(replicas)}")
