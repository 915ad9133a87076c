"""`study.run`: a budget, the workers that there are, the loop between them, and what a stop leaves behind."""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import fields
from typing import Any

from hyppo import launch
from hyppo.errors import ObjectiveError, StudyError
from hyppo.launch.choose import evaluator_for, workers_for
from hyppo.loop import Interrupt, Loop, Options, Session
from hyppo.run.progress import Progress
from hyppo.study import Study
from hyppo.text import counted
from hyppo.trial import State


def run(
    study: Study,
    trials: int | None = None,
    trainings: int | None = None,
    time_limit: float | None = None,
    **options: Any,
) -> None:
    """Train until a budget is spent; see `Options` for the arguments.

    In a training process, and on every MPI rank but the first, this serves trainings instead and does not return. A
    stop that is asked by SIGTERM or SIGUSR1 ends the script here with exit code 0 and by Ctrl-C with 130, after the
    trainings that run were asked to end; at a prompt or in a notebook it returns. What did not finish stays pending,
    and the same call goes on with it.

    Raises
    ------
    StudyError
        No objective, no budget, or an argument that cannot be used.
    ObjectiveError
        The objective returns no loss, or every training has failed.
    LaunchError
        Processes that cannot be started or arranged as asked.

    Examples
    --------
    >>> import hyppo
    >>> study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: replica.params["x"] ** 2, replicas=1,
    ...                     isolate=False)
    >>> study.run(trials=4, progress=False)
    >>> len(study.trials)
    4
    """
    launch.attend()
    unknown = sorted(set(options) - {f.name for f in fields(Options)})
    if unknown:
        known = ", ".join(f.name for f in fields(Options))
        raise StudyError(f"run() does not know {', '.join(unknown)}; it takes {known}")
    chosen = Options(trials, trainings, time_limit, **options).overridden(os.environ)
    if study.objective is None:
        raise StudyError("this study has no objective to train: Study(space, train, ...), or use ask and tell")
    if chosen.trials is None and chosen.trainings is None and chosen.time_limit is None:
        raise StudyError("run() needs a budget: trials=, trainings= or time_limit= (seconds)")

    with ExitStack() as stack:
        stack.callback(study.close)  # whatever comes next, the study file is whole and free for others
        interrupt = stack.enter_context(Interrupt())
        view = stack.enter_context(Progress(study, chosen))
        session = Session(study)
        if chosen.retry_failed and (again := session.retry_failed()):
            view.say(f"{counted(again, 'failed training')} will be repeated")
        if _nothing_to_do(session, chosen):
            session.merge()
            view.say(f"nothing left to do: {_spent(study, chosen)}")
            _refuse_failures_alone(study)
            return
        if chosen.executor is not None and study.stopping is not None:
            raise StudyError("stopping: trainings on an executor cannot report; leave out executor= or stopping=")
        workers, plan = workers_for(study.objective, study.isolate, study.replicas[0], chosen, view.say, study.seed)
        stack.callback(workers.close)
        session.note(f"{socket.gethostname()}: {plan}")
        evaluator = evaluator_for(study.isolate)
        stack.callback(evaluator.close)
        loop = Loop(session, workers, chosen, view, interrupt, evaluator=evaluator)
        try:
            loop.go()
        except KeyboardInterrupt:
            if interrupt.asked is None:
                raise
        view.show(loop.status(), force=True)
        asked = interrupt.asked
        if asked is not None:
            pending = sum(len(t.pending) for t in study.trials)
            stay = "stays" if pending == 1 else "stay"
            view.say(
                f"stopped by {asked.name}; {counted(pending, 'training')} {stay} pending, and the same command goes on "
                "with them under the same numbers and seeds"
            )
        else:
            _refuse_failures_alone(study)
    if asked is not None and not hasattr(sys, "ps1"):
        # The run obeyed a batch system's warning, so that is no failure; a Ctrl-C must also stop a shell's `&&` chain.
        raise SystemExit(130 if asked is signal.SIGINT else 0)


def _refuse_failures_alone(study: Study) -> None:
    """Fail if no training of the study has succeeded: nothing that follows in the script could use it."""
    replicas = [r for t in study.trials for r in t.replicas]
    failed = [r.failure for r in replicas if r.failure is not None]
    if failed and not any(r.loss is not None for r in replicas):
        raise ObjectiveError(
            f"all {counted(len(failed), 'training')} of the study failed, the last with {failed[-1]}. Mend the cause "
            "and run again with retry_failed=True (hyppo run --retry-failed), which trains them again under their "
            "numbers"
        )


def _nothing_to_do(session: Session, options: Options) -> bool:
    trials = session.trials
    settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
    if options.trainings is not None and settled >= options.trainings:
        return True
    if any(t.pending for t in trials):
        return False
    return options.trials is not None and len(trials) >= options.trials and not session.undecided


def _spent(study: Study, options: Options) -> str:
    trials = study.trials
    settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
    goal = f"trials={options.trials}" if options.trials is not None else f"trainings={options.trainings}"
    return f"the log holds {counted(len(trials), 'trial')} with {counted(settled, 'training')}, {goal} was asked for"
