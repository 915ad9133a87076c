"""The memory of the search from one ask to the next.

Every trial carries the step that proposed it, and the steps of all trials make the memory: hyperparameters to start
from, the state of the local search, whose turn it is. The study file keeps each step as JSON, so that a resumed study
asks the same points as the uninterrupted one.

    version  written by   form of a step
    1        up to 0.1.0  no version; without the hyperparameters of the spread's process
    2        now
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hyppo.errors import StudyError

VERSION = 2


@dataclass(frozen=True)
class Step:
    """How a point was proposed; a step of the design, of chance or of the user leaves nothing to remember.

    Attributes
    ----------
    by : str
        "design", "gp", "rbf", "random", "added" or the name of a proposer.
    batch : int
        Points of the same ask before this one.
    """

    by: str
    batch: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON values, for the study file."""
        return {"by": self.by} | ({"batch": self.batch} if self.batch else {})


@dataclass(frozen=True)
class ModelStep(Step):
    """A step of a surrogate."""

    spread: tuple[float, ...] | None = None  # hyperparameters of the spread's process, None without one
    success: tuple[float, ...] | None = None  # of the probability of success, None if nothing failed

    def to_json(self) -> dict[str, Any]:
        state = {name: value for name, value in asdict(self).items() if name != "batch" and value is not None}
        lists = {name: list(value) for name, value in state.items() if isinstance(value, tuple)}
        return super().to_json() | {"version": VERSION} | state | lists


@dataclass(frozen=True)
class ProcessStep(ModelStep):
    """A step of the Gaussian process.

    Attributes
    ----------
    theta : tuple of float
        Its hyperparameters (see `hyppo.surrogates.gp`).
    fitted_at : int
        Points known when they were fitted.
    known_noise : bool
        Whether the noise is known from replicas; the last hyperparameter is then a factor on it.
    """

    by: str = "gp"
    theta: tuple[float, ...] = ()
    fitted_at: int = 0
    known_noise: bool = False


@dataclass(frozen=True)
class LocalStep(ModelStep):
    """A step of the local search.

    Attributes
    ----------
    radius : float
        Standard deviation of its candidates, as a fraction of each range.
    successes, failures : int
        Steps in a row that did, or did not, lower the least score.
    best : float
        Least score known at this step.
    """

    by: str = "rbf"
    radius: float = 0.0
    successes: int = 0
    failures: int = 0
    best: float = 0.0


def step_of(origin: Mapping[str, Any]) -> Step:
    """The step that JSON values describe, those of a study file of an older version too.

    Raises
    ------
    StudyError
        A file of a newer version, or a step that lacks something.

    Examples
    --------
    >>> step_of(ProcessStep(theta=(0.0, 1.0, -6.0), fitted_at=4).to_json())
    ProcessStep(by='gp', batch=0, spread=None, success=None, theta=(0.0, 1.0, -6.0), fitted_at=4, known_noise=False)
    """
    version = origin.get("version", 1)
    if not isinstance(version, int) or version > VERSION:
        raise StudyError(
            f"the study file holds steps of the search of version {version!r}, and this hyppo knows versions up to "
            f"{VERSION}: continue the study with the hyppo that wrote it, or a newer one"
        )
    by, batch = str(origin.get("by", "")), int(origin.get("batch", 0))
    if by not in ("gp", "rbf"):
        return Step(by, batch)
    try:
        spread, success = (
            None if told is None else tuple(float(value) for value in told)
            for told in (origin.get("spread"), origin.get("success"))
        )
        if by == "gp":
            theta = tuple(float(value) for value in origin["theta"])
            return ProcessStep(by, batch, spread, success, theta, int(origin["fitted_at"]), bool(origin["known_noise"]))
        radius, best = float(origin["radius"]), float(origin["best"])
        counts = int(origin["successes"]), int(origin["failures"])
        return LocalStep(by, batch, spread, success, radius, *counts, best)
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(
            f"the study file holds a step of the search by {by!r} that cannot be read ({type(error).__name__}: "
            f"{error}): {dict(origin)}; `hyppo.load` still reads the trials"
        ) from None


@dataclass(frozen=True)
class Memory:
    """All that an ask must know of earlier asks.

    Attributes
    ----------
    process, local : ProcessStep, LocalStep or None
        The last step of each.
    local_steps : int
        Steps of the local search so far.
    since_process : int
        Steps of the local search since the last one of the process.
    spread, success : tuple of float or None
        Last hyperparameters of the spread's process, and of the probability of success.
    """

    process: ProcessStep | None = None
    local: LocalStep | None = None
    local_steps: int = 0
    since_process: int = 0
    spread: tuple[float, ...] | None = None
    success: tuple[float, ...] | None = None

    def after(self, step: Step) -> "Memory":
        """The memory once `step` was taken.

        >>> Memory().after(LocalStep(radius=0.2)).after(Step("design")).local_steps
        1
        """
        if not isinstance(step, ModelStep):
            return self
        memory = replace(self, spread=step.spread or self.spread, success=step.success or self.success)
        if isinstance(step, ProcessStep):
            return replace(memory, process=step, since_process=0)
        assert isinstance(step, LocalStep)
        local_steps, since_process = self.local_steps + 1, self.since_process + 1
        return replace(memory, local=step, local_steps=local_steps, since_process=since_process)

    @staticmethod
    def of(steps: Iterable[Step]) -> "Memory":
        """The memory of steps in their order."""
        memory = Memory()
        for step in steps:
            memory = memory.after(step)
        return memory
