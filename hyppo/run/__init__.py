"""`study.run`: train until a budget is spent."""

import json
import os
import sys
from typing import Any

from hyppo import launch
from hyppo.errors import StudyError
from hyppo.loop import Session
from hyppo.loop.options import CONFIRM
from hyppo.run.work import options_of, work
from hyppo.study import Study
from hyppo.text import encodable


def run(
    study: Study,
    trials: int | None = None,
    trainings: int | None = None,
    time_limit: float | None = None,
    **options: Any,
) -> None:
    """Train until a budget is spent; see `Options` for the arguments.

    In a training process, and on every MPI rank but the first, this serves trainings instead and does not return. A
    stop first asks the running trainings to end. Then the script exits here, with code 0 after SIGTERM or SIGUSR1, and
    with 130 after Ctrl-C; at a prompt or in a notebook, `run` returns instead. Unfinished trainings stay pending, and
    the same call continues with them.

    Raises
    ------
    StudyError
        No objective, no budget, or an invalid argument.
    ObjectiveError
        The objective returns no loss, or every training has failed.
    LaunchError
        Processes cannot be started or divided as requested.

    Examples
    --------
    >>> import hyppo
    >>> study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: replica.params["x"] ** 2, replicas=1,
    ...                     isolate=False)
    >>> study.run(trials=4, progress=False)
    >>> len(study.trials)
    4
    """
    launch.serve_if_worker()
    launch.refuse_ranks_of_torchrun()
    if (asked := os.environ.get(CONFIRM)) is not None:
        from hyppo.run.confirm import confirm

        print(encodable(str(confirm(study, **json.loads(asked), **options)), sys.stdout.encoding))
        raise SystemExit(0)
    chosen = options_of("run", trials=trials, trainings=trainings, time_limit=time_limit, **options)
    if study.objective is None:
        raise StudyError("this study has no objective to train: Study(space, train, ...), or use ask and tell")
    if chosen.trials is None and chosen.trainings is None and chosen.time_limit is None:
        raise StudyError("run() needs a budget: trials=, trainings= or time_limit= (seconds)")
    work(Session(study), chosen)
