"""Arguments of a run, and the environment that overrides them."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from hyppo.errors import StudyError


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of `study.run`.

    Parameters
    ----------
    trials, trainings : int, optional
        Trials, or replicas, in all: those in the log, failed and added ones count, retries do not.
    time_limit : float, optional
        Seconds of this call after which nothing new is started; what runs is finished.
    trial_groups, replica_groups, data_parallel : int, optional
        How MPI ranks are divided; what is left out is chosen.
    manager : {"dedicated", "shared"}, optional
        Whether the first rank only asks, or trains as well; by default it does where a GPU would idle otherwise.
    replica_timeout, stall_timeout : float, optional
        Seconds that a training may take, and that it may go without a report, before it is killed and has failed.
    memory_limit : float, optional
        GB that a training process may hold before it is killed and has failed (Linux).
    retries : int
        Further tries of a replica whose process died or was killed for taking too long, with the same seed.
    grace : float
        Seconds that trainings get to end by themselves once a stop is asked.
    threads : int, optional
        Compute threads of each training process; by default one under MPI, and alone what the CPUs allow.
    workers : int, optional
        Training processes without MPI (default 1), or trainings at a time on an executor.
    executor : concurrent.futures.Executor, optional
        Where to train instead.
    progress : bool
        Show how it goes, on stderr.
    output : {"relay", "file"}, optional
        Where what trainings print goes: to stdout with a prefix (default alone), or to `output.txt` in the replica's
        directory (default under MPI).
    """

    trials: int | None = None
    trainings: int | None = None
    time_limit: float | None = None
    trial_groups: int | None = None
    replica_groups: int | None = None
    data_parallel: int | None = None
    manager: str | None = None
    replica_timeout: float | None = None
    stall_timeout: float | None = None
    memory_limit: float | None = None
    retries: int = 0
    grace: float = 30.0
    threads: int | None = None
    workers: int | None = None
    executor: Executor | None = None
    progress: bool = True
    output: str | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "trainings", "trial_groups", "replica_groups", "data_parallel", "threads", "workers"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise StudyError(f"{name}: expected an integer of at least 1, got {value!r}")
        for name in ("time_limit", "replica_timeout", "stall_timeout", "memory_limit"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                unit = "GB" if name == "memory_limit" else "seconds"
                raise StudyError(f"{name}: expected {unit}, more than 0, got {value!r}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise StudyError(f"retries: expected an integer of at least 0, got {self.retries!r}")
        if isinstance(self.grace, bool) or not isinstance(self.grace, int | float) or not self.grace >= 0:
            raise StudyError(f"grace: expected seconds, at least 0, got {self.grace!r}")
        if self.manager not in (None, "dedicated", "shared"):
            raise StudyError(f"manager: expected 'dedicated' or 'shared', got {self.manager!r}")
        if self.output not in (None, "relay", "file"):
            raise StudyError(f"output: expected 'relay' or 'file', got {self.output!r}")

    def overridden(self, environ: Mapping[str, str]) -> "Options":
        """The same with what `HYPPO_TRIALS`, `HYPPO_TIME_LIMIT`, ... say instead.

        >>> Options(trials=60).overridden({"HYPPO_TRIALS": "5", "HYPPO_GRACE": "1.5"}).trials
        5
        """
        changes: dict[str, Any] = {}
        for name, kind in OVERRIDES.items():
            text = environ.get(f"HYPPO_{name.upper()}")
            if text is None or text == "":
                continue
            try:
                changes[name] = kind(text)
            except ValueError:
                raise StudyError(f"HYPPO_{name.upper()}: expected {kind.__name__}, got {text!r}") from None
        return replace(self, **changes)


def switch(text: str) -> bool:
    """A yes or no from the environment."""
    if text.lower() not in ("0", "1", "true", "false", "yes", "no", "on", "off"):
        raise ValueError(text)
    return text.lower() in ("1", "true", "yes", "on")


OVERRIDES: dict[str, Callable[[str], Any]] = {
    "trials": int,
    "trainings": int,
    "time_limit": float,
    "trial_groups": int,
    "replica_groups": int,
    "data_parallel": int,
    "manager": str,
    "replica_timeout": float,
    "stall_timeout": float,
    "memory_limit": float,
    "retries": int,
    "grace": float,
    "threads": int,
    "workers": int,
    "progress": switch,
    "output": str,
}
