"""Arguments of a run, and the environment that overrides them.

Every argument that the command line and the environment may set is one field of `Options`: its metadata holds its type,
its bounds and its help. The options of `hyppo run` and the variables `HYPPO_TRIALS`, ... are made from the fields.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hyppo.arguments import number, one_of, whole
from hyppo.errors import StudyError

CONFIRM = "HYPPO_CONFIRM"  # arguments of `study.confirm` as JSON: `study.run` confirms instead of searching
BUDGET = "Budget"
RANKS = "MPI ranks"
FAULTS = "Faults"


def _option(
    default: Any,
    kind: type,
    help: str,
    panel: str | None = None,
    *,
    least: int | None = None,
    above: int | None = None,
    unit: str = "",
    words: tuple[str, ...] = (),
) -> Any:
    """A field: `kind` is int, float, str or bool, `panel` the heading in the help of `hyppo run`."""
    bounds = {"least": least, "above": above, "unit": unit, "words": words}
    return field(default=default, metadata={"kind": kind, "help": help, "panel": panel, **bounds})


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of `study.run`.

    Parameters
    ----------
    trials, trainings : int, optional
        Trials, or replicas, in all: those in the log, failed and added ones count, retries do not.
    time_limit : float, optional
        Seconds of this call after which nothing new is started; running trainings are finished.
    trial_groups, replica_groups, data_parallel : int, optional
        Division of the MPI ranks; numbers left out are chosen.
    manager : {"dedicated", "shared"}, optional
        Whether the first rank only asks, or trains as well; by default it trains if a GPU would idle otherwise.
    replica_timeout, stall_timeout : float, optional
        Seconds that a training may take, and that it may go without a report, before it is killed and has failed.
    memory_limit : float, optional
        GB that a training process may hold before it is killed and has failed (Linux).
    retries : int
        Further tries of a replica whose process died or was killed for taking too long, with the same seed.
    retry_failed : bool
        Train failed replicas of earlier runs again first, under their numbers and seeds.
    same_failures : int
        The run ends if so many trainings have failed with the same error before any has succeeded; 0 goes on
        regardless.
    grace : float
        Seconds that trainings get to end by themselves once a stop is asked.
    threads : int, optional
        Compute threads of each training process; by default one under MPI, and alone all CPUs.
    workers : int, optional
        Training processes without MPI (default 1), or trainings at a time on an executor.
    executor : concurrent.futures.Executor, optional
        Executor to train on instead.
    progress : bool
        Show how it goes, on stderr.
    output : {"relay", "file"}, optional
        Destination of the output of trainings: stdout with a prefix, or to `output.txt` in the replica's directory
        (default under MPI). By default alone it goes to both, and a line that another training of this run has printed
        before is not printed again.

    Raises
    ------
    StudyError
        A value that an argument cannot have.
    """

    trials: int | None = _option(None, int, "Trials in all, those in the log counted.", BUDGET, least=1)
    trainings: int | None = _option(None, int, "Trainings in all, those in the log counted.", BUDGET, least=1)
    time_limit: float | None = _option(
        None, float, "Seconds after which nothing new is started.", BUDGET, above=0, unit="seconds"
    )
    trial_groups: int | None = _option(None, int, "Trials at a time.", RANKS, least=1)
    replica_groups: int | None = _option(None, int, "Replicas of a trial at a time.", RANKS, least=1)
    data_parallel: int | None = _option(None, int, "Ranks that train one replica together.", RANKS, least=1)
    manager: str | None = _option(
        None,
        str,
        "Whether rank 0 only asks ('dedicated') or trains as well ('shared'): by default it trains if a GPU would idle "
        "otherwise.",
        RANKS,
        words=("dedicated", "shared"),
    )
    replica_timeout: float | None = _option(
        None, float, "Seconds after which a training is killed.", FAULTS, above=0, unit="seconds"
    )
    stall_timeout: float | None = _option(
        None, float, "Seconds without a report after which a training is killed.", FAULTS, above=0, unit="seconds"
    )
    memory_limit: float | None = _option(
        None, float, "GB above which a training is killed.", FAULTS, above=0, unit="GB"
    )
    retries: int = _option(0, int, "Further tries if a training's process died or hung.", FAULTS, least=0)
    retry_failed: bool = _option(False, bool, "Train failed replicas of earlier runs again first.", FAULTS)
    same_failures: int = _option(
        5, int, "End the run if so many trainings fail alike before any succeeds; 0: never.", FAULTS, least=0
    )
    grace: float = _option(
        30.0, float, "Seconds that trainings get to end by themselves.", FAULTS, least=0, unit="seconds"
    )
    threads: int | None = _option(None, int, "Compute threads of a training process.", RANKS, least=1)
    workers: int | None = _option(None, int, "Training processes, without MPI.", RANKS, least=1)
    executor: Executor | None = None
    progress: bool = _option(True, bool, "Show how it goes.")
    output: str | None = _option(
        None, str, "Output of trainings: 'relay' to stdout, or 'file' in their directory.", words=("relay", "file")
    )

    def __post_init__(self) -> None:
        for its in fields(self):
            value, about = getattr(self, its.name), its.metadata
            if not about or about["kind"] is bool or (value is None and its.default is None):
                continue
            if about["kind"] is int:
                value = whole(its.name, value, about["least"])
            elif about["kind"] is float:
                value = number(its.name, value, about["least"], about["above"], unit=about["unit"], finite=False)
            else:
                value = one_of(its.name, value, about["words"])
            object.__setattr__(self, its.name, value)

    def overridden(self, environ: Mapping[str, str]) -> "Options":
        """The same with the values of `HYPPO_TRIALS`, `HYPPO_TIME_LIMIT`, ... if they are set.

        >>> Options(trials=60).overridden({"HYPPO_TRIALS": "5", "HYPPO_GRACE": "1.5"}).trials
        5
        """
        changes: dict[str, Any] = {}
        for name in OVERRIDES:
            text = environ.get(f"HYPPO_{name.upper()}")
            if not text:
                continue
            kind = OVERRIDES[name]["kind"]
            try:
                changes[name] = _switch(text) if kind is bool else kind(text)
            except ValueError:
                raise StudyError(f"HYPPO_{name.upper()}: expected {kind.__name__}, got {text!r}") from None
        return replace(self, **changes)


def _switch(text: str) -> bool:
    """A yes or no from the environment."""
    if text.lower() not in ("0", "1", "true", "false", "yes", "no", "on", "off"):
        raise ValueError(text)
    return text.lower() in ("1", "true", "yes", "on")


# Options that the command line and the environment may set: name -> type, bounds and help.
OVERRIDES: Mapping[str, Mapping[str, Any]] = {its.name: its.metadata for its in fields(Options) if its.metadata}
