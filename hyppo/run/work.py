"""One run: start the workers, run the loop on them, and handle a stop."""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import Any

from hyppo.errors import LaunchError, ObjectiveError, StudyError
from hyppo.launch.choose import evaluator_for, workers_for
from hyppo.loop import Interrupt, Loop, Options, Session, Status
from hyppo.run.progress import Progress
from hyppo.text import counted
from hyppo.trial import State


def options_of(method: str, **options: Any) -> Options:
    """The arguments of a run, with those of the environment.

    Raises
    ------
    StudyError
        An argument that `Options` does not have, or an invalid value.
    """
    known = [f.name for f in fields(Options)]
    if unknown := sorted(set(options) - set(known)):
        raise StudyError(f"{method}() does not know {', '.join(unknown)}; it takes {', '.join(known)}")
    return Options(**options).overridden(os.environ)


def work(session: Session, options: Options) -> None:
    """Run the trainings of the session until the budget is spent.

    Raises
    ------
    StudyError
        Options that contradict each other.
    ObjectiveError
        The objective returns no loss, or the first trainings have failed with the same error.
    LaunchError
        Processes cannot be started or divided as requested.
    """
    study, config = session.study, session.config
    assert study.objective is not None
    with ExitStack() as stack:
        stack.callback(study.close)  # after any error, the study file is complete and free for others
        interrupt = stack.enter_context(Interrupt())
        view = stack.enter_context(Progress(study, options, session.confirms))
        if options.retry_failed and (again := session.retry_failed()):
            view.say(f"{counted(again, 'failed training')} will be repeated")
        if _nothing_to_do(session, options):
            session.merge()
            view.say(f"nothing left to do: {_spent(session, options)}")
            _say_if_all_failed(session, view)
            return
        if options.executor is not None and config.stopping is not None:
            raise StudyError("stopping: trainings on an executor cannot report; leave out executor= or stopping=")
        workers, plan = workers_for(
            study.objective,
            study.isolate,
            config.replicas[0],
            options,
            view.say,
            config.seed,
            log=study.log,
        )
        stack.callback(workers.close)
        session.note(f"{socket.gethostname()}: {plan}")
        if session.is_edited() and any(t.stats is not None for t in session.trials):
            view.say(
                "this study goes on with a training function that was edited; if its losses do not compare with the "
                "former ones, give it another file"
            )
        session.plan(options)
        evaluator = None
        if session.evaluates:
            evaluator = evaluator_for(study.isolate)
            stack.callback(evaluator.close)
        loop = Loop(session, workers, options, view, interrupt, evaluator=evaluator)
        view.show(loop.status())
        try:
            loop.go()
        except KeyboardInterrupt:
            if interrupt.asked is None:
                raise
        except (ObjectiveError, LaunchError):
            view.show(_at_end(loop), force=True)
            raise
        view.show(_at_end(loop), force=True)
        asked = interrupt.asked
        if asked is not None:
            pending = sum(len(t.pending) for t in session.trials)
            stay = "stays" if pending == 1 else "stay"
            view.say(
                f"stopped by {asked.name}; {counted(pending, 'training')} {stay} pending; the same command continues "
                "with the same numbers and seeds"
                if pending
                else f"stopped by {asked.name} between trainings; the same command continues"
            )
        else:
            _say_if_all_failed(session, view)
    if asked is not None and not hasattr(sys, "ps1"):
        # Obeying a batch system's warning is no failure, but a Ctrl-C must also stop a shell's `&&` chain.
        raise SystemExit(130 if asked is signal.SIGINT else 0)


def _at_end(loop: Loop) -> Status:
    """The state after the run: trainings that have not ended are ended now, and stay pending."""
    return replace(loop.status(), running=())


def _say_if_all_failed(session: Session, view: Progress) -> None:
    replicas = [r for t in session.trials for r in t.replicas]
    failed = [r.failure for r in replicas if r.failure is not None]
    if failed and not any(r.loss is not None for r in replicas):
        view.say(
            f"{'the training' if len(failed) == 1 else f'all {len(failed)} trainings'} of the study failed, the last "
            f"with {failed[-1].line}. Fix the cause and run again with retry_failed=True (hyppo run --retry-failed), "
            "which repeats them with the same numbers"
        )


def _nothing_to_do(session: Session, options: Options) -> bool:
    trials = session.trials
    settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
    if options.trainings is not None and settled >= options.trainings:
        return True
    if any(t.pending for t in trials):
        return False
    return options.trials is not None and len(trials) >= options.trials and not session.undecided


def _spent(session: Session, options: Options) -> str:
    trials = session.trials
    settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
    goal = f"trials={options.trials}" if options.trials is not None else f"trainings={options.trainings}"
    return f"the study has {counted(len(trials), 'trial')} with {counted(settled, 'training')}, {goal} was asked for"
