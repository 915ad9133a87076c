"""The input and the result of a training.

The user's function gets a `Replica`, once per replica and data-parallel rank. The result is an `Outcome`: a loss or a
failure, never both.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hyppo.arguments import number, whole
from hyppo.config import ENSEMBLE_LOSS, MEAN_LOSS
from hyppo.errors import ObjectiveError, StudyError
from hyppo.stats import LossStats
from hyppo.text import one_line
from hyppo.training.criterion import Criterion, pack, unpack
from hyppo.training.node_lock import node_lock

NON_FINITE = "NonFiniteLoss"  # the type of the failure of a training that ended, with a loss of NaN or infinity
MEASURED = ("seconds", "memory", "gpu_memory")  # metrics that every training has, if the system provides them
# State of an interrupted training, in its directory; deleted once it is settled. Another resume.* is the user's.
RESUME = "resume." + 16 * "[0-9a-f]" + "*"

Report = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a training, if it is more than a loss.

    Parameters
    ----------
    loss : float
        Lower is better. Like every number here it may be a scalar of numpy, torch, JAX or TensorFlow.
    prediction : array, optional
        Output of the trained network on the validation data, shape (examples, ...).
    passes : iterable of arrays, optional
        Monte-Carlo-dropout passes over the same data, each shaped as `prediction`; consumed one at a time.
    targets : array, optional
        Validation targets, for the loss of the replicas' mean prediction.
    metrics : mapping of str to float, optional
        Further numbers of this training, as `Replica.log` takes them.

    Raises
    ------
    ObjectiveError
        The loss is not a number; NaN and infinity are numbers, but the training then counts as failed.

    Examples
    --------
    >>> Result(0.25, metrics={"epochs": 12}).metrics
    {'epochs': 12}
    """

    loss: float
    prediction: Any = None
    passes: Iterable[Any] | None = None
    targets: Any = None
    metrics: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", number("loss", self.loss, finite=False, error=ObjectiveError))


@dataclass(frozen=True, slots=True)
class Goal:
    """The metric that serves as the loss of a study, and whether lower or higher is better.

    Examples
    --------
    >>> Goal("val_accuracy", "max").shown(-0.75)
    0.75
    """

    metric: str
    mode: str = "min"

    @property
    def sign(self) -> float:
        """loss = sign * metric."""
        return -1.0 if self.mode == "max" else 1.0

    def shown(self, loss: float) -> float:
        """A loss in the metric's own sign."""
        return -loss if self.mode == "max" else loss

    def interval(self, low: float, high: float) -> tuple[float, float]:
        """An interval of losses in the metric's own sign."""
        return (-high, -low) if self.mode == "max" else (low, high)


@dataclass(frozen=True, slots=True)
class Task:
    """One training to do: everything a worker needs, picklable and small."""

    trial: int
    index: int
    seed: int
    params: Mapping[str, Any]
    directory: str
    attempt: int = 1
    target: str = MEAN_LOSS
    criterion: bytes | None = None  # packed
    data_seed: int = 0
    fold: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a replica has no loss: the type, message and traceback of the exception."""

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type

    @property
    def line(self) -> str:
        """Type and message on one line: messages of libraries may fill pages."""
        return one_line(str(self))

    @staticmethod
    def of(error: BaseException) -> "Failure":
        text = "".join(traceback.format_exception(error))
        try:
            message = str(error)
        except Exception:  # an error whose own __str__ raises; the traceback has the same words
            message = "<exception str() failed>"
        return Failure(type(error).__name__, message, text)

    @staticmethod
    def of_loss(loss: float) -> "Failure":
        """A training that ended, with a loss of NaN or infinity."""
        return Failure(NON_FINITE, f"the loss is {loss}: the training diverged, or its metric is not defined here")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one training ended.

    `start` and `end` are unix seconds around the user's function, measured on the machine that ran it; `curve` has the
    reports, as (step, loss). `losses` are the values of the study's criterion for the predictions of the trained
    network and of its dropout passes; `criterion` (packed) is the training's own one if the study has none.
    `pruned`: the study's rule stopped its trial early, so it has neither a loss nor a failure.
    `metrics` are further numbers by name: the measured `seconds` and peak `memory` (bytes), and all logged numbers.
    `goal` says which metric the loss is, if a callback monitored one. `whole`: a callback knows that this training was
    complete, although it may have read `should_stop` as true. `rows` is a digest of the validation targets that are
    kept with the predictions.
    """

    loss: float | None
    failure: Failure | None
    start: float
    end: float
    curve: tuple[tuple[int, float], ...] = ()
    host: str = ""
    losses: LossStats | None = None
    criterion: bytes | None = None
    pruned: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    goal: Goal | None = None
    whole: bool = False
    rows: str = ""

    @property
    def diverged(self) -> bool:
        """Whether the training ended by itself, with a loss that is not finite."""
        return self.failure is not None and self.failure.type == NON_FINITE


class Replica:
    """One independent training of a trial's point.

    Attributes
    ----------
    params : dict
        The point, as native Python values.
    seed : int
        Seed of this replica, in [0, 2^31); `random`, numpy and every imported framework are seeded with it already.
    data_seed : int
        Seed for the data, in [0, 2^31): the same for replica r of every trial. Use it for splits and augmentation, so
        that trials are compared on the same data.
    fold : int or None
        Under `Study(folds=k)`, the fold to validate on: replica r has fold r mod k.
    trial, index : int
        Number of the trial, and of the replica within it.
    directory : pathlib.Path
        Folder of this replica, created on first use; its files stay beside the study file.
    devices : tuple of int
        GPUs of this rank; empty on a CPU.
    rank, world_size : int
        Rank among the data-parallel ranks of this training, and their number; (0, 1) without data parallelism.
    attempt : int
        1 on the first try; a retry keeps number, index and seed.
    target : {"mean_loss", "ensemble_loss"}
        The loss that the study minimises.
    criterion : callable or None
        The study's criterion: the loss of predictions on all validation data.
    losses : LossStats or None
        Losses of the kept predictions by `criterion`.
    no_losses : Exception or None
        Why there are none, if the target needs them.
    metrics : dict
        The numbers given to `log`, and after a fit with a callback its metrics, the monitored one included.
    fits : int
        Number of fits with a callback that have ended in this training.

    Examples
    --------
    >>> replica = Replica(Task(trial=0, index=0, seed=7, params={"lr": 0.1}, directory="."))
    >>> replica.report(0, 0.5)
    >>> replica.curve
    [(0, 0.5)]
    """

    def __init__(
        self,
        task: Task,
        *,
        devices: tuple[int, ...] = (),
        rank: int = 0,
        world_size: int = 1,
        on_report: Report | None = None,
        stop_asked: Callable[[], bool] | None = None,
    ) -> None:
        self.params: dict[str, Any] = dict(task.params)
        self.seed = task.seed
        self.trial = task.trial
        self.index = task.index
        self.attempt = task.attempt
        self.target = task.target
        self.data_seed = task.data_seed
        self.fold = task.fold
        self.losses: LossStats | None = None
        self.no_losses: Exception | None = None
        self._packed = task.criterion
        self.devices = devices
        self.rank = rank
        self.world_size = world_size
        self.curve: list[tuple[int, float]] = []
        self.metrics: dict[str, float] = {}
        self.result: Result | None = None
        self.fits = 0
        self.goal: Goal | None = None
        self.whole = False
        self.rows = ""
        self._directory = Path(task.directory)
        self._on_report = on_report
        self._stop_asked = stop_asked

    def __repr__(self) -> str:
        return f"Replica(trial={self.trial}, index={self.index}, seed={self.seed}, params={self.params})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Replica":
        """The replica itself: a copy of a network or data set that holds it belongs to the same training."""
        return self

    def __copy__(self) -> "Replica":
        other = Replica.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __getstate__(self) -> dict[str, Any]:
        """The state for a checkpoint or a data loader's process, without the connection to the run.

        Such a copy reports to no run, and `should_stop` stays false.
        """
        own = vars(self) | {"_on_report": None, "_stop_asked": None}
        own.pop("criterion", None)  # made from its packed form
        return own

    @cached_property
    def criterion(self) -> Criterion | None:
        return None if self._packed is None else unpack(self._packed)

    @property
    def own_criterion(self) -> bytes | None:
        """The criterion that the training found by itself, packed, if the study has none."""
        return None if self._packed is not None or self.criterion is None else pack(self.criterion)

    @property
    def location(self) -> Path:
        """The path of `directory`, which may not exist yet."""
        return self._directory

    @property
    def directory(self) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory

    def report(self, step: int, loss: float) -> None:
        """Report the progress of the training: `loss` after `step` (an epoch, or another increasing count).

        Raises
        ------
        StudyError
            `step` is not a whole number, or `loss` not a number; NaN and infinity are numbers.
        """
        point = (whole("report(step, loss): step", step), number("report(step, loss): loss", loss, finite=False))
        self.curve.append(point)
        if self._on_report is not None:
            self._on_report(*point)

    def log(self, name: str, value: float) -> None:
        """Store a further number of this training beside its loss; if a name is logged again, the last number counts.

        It becomes `trial.metrics[name]`, the mean over the replicas, and the column `metrics.<name>` of
        `study.to_frame()` and `hyppo export`. NaN and infinity are not kept.

        Parameters
        ----------
        name : str
            Not "seconds", "memory" or "gpu_memory", which are measured for every training.
        value : float

        Raises
        ------
        StudyError
            A name that is empty or taken, or a value that is not a number.

        Examples
        --------
        >>> replica = Replica(Task(trial=0, index=0, seed=7, params={}, directory="."))
        >>> replica.log("val_accuracy", 0.75)
        >>> replica.metrics
        {'val_accuracy': 0.75}
        """
        if not isinstance(name, str) or not name or name in MEASURED:
            raise StudyError(f"log(name, value): expected a name that is not one of {MEASURED}, as text; got {name!r}")
        try:
            self.metrics[name] = number(f"log({name!r}, value)", value, finite=False)
        except StudyError as error:
            raise StudyError(f"{error}; write text, lists and other objects to a file in replica.directory") from None

    @contextmanager
    def node_lock(self, name: str) -> Iterator[None]:
        """A lock `name` that one training of the study per node holds at a time, for preparing shared data.

        Examples
        --------
        >>> replica = Replica(Task(trial=0, index=0, seed=7, params={}, directory="study.h5.d/trial-00000/replica-00"))
        >>> with replica.node_lock("download"):
        ...     pass
        """
        study = self._directory.absolute().parent.parent
        with node_lock(f"{study}\0{name}"):
            yield

    @property
    def should_stop(self) -> bool:
        """Whether this training should end soon: the walltime is nearly over, or a rule stops the trial early."""
        return self._stop_asked is not None and self._stop_asked()

    def store_result(self, result: Result) -> None:
        """Store the result of a fit, for callbacks that cannot return it. The last fit of a training counts."""
        self.result = result
        self.fits += 1


def check_target(replica: Replica) -> None:
    """Fail before training starts if the target cannot be computed.

    Raises
    ------
    ObjectiveError
        The target is the ensemble loss, and there is no criterion.
    """
    if replica.target == ENSEMBLE_LOSS and replica.criterion is None:
        raise ObjectiveError(
            'target="ensemble_loss" needs Study(..., criterion=f): the loss f(mean prediction, targets) as a number; '
            "only hyppo_keras has a default, the compiled loss"
        )
