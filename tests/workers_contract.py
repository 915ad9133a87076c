"""Contract of every `hyppo.loop.Workers`. Each check gets fresh workers that train `objectives.perform`."""

import time

import pytest

from hyppo.loop import Stopped
from hyppo.training.replica import Failure, Outcome, Task

from .objectives import perform

__all__ = ["CHECKS", "perform"]


def task(do, x=0.0, trial=0, index=0, seed=7, folder="."):
    return Task(trial, index, seed, {"do": do, "x": x}, str(folder))


def until(workers, done, seconds=30.0):
    """Wait on workers until `done()`."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"nothing came within {seconds} s"
        workers.wait(0.1)


def train(workers, its_task, slot=0, seconds=30.0):
    future = workers.submit(its_task, slot)
    until(workers, future.done, seconds)
    return future.result()


def check_outcome(workers):
    before = time.time()
    outcome = train(workers, task("square", x=3.0))
    assert isinstance(outcome, Outcome)
    assert (outcome.loss, outcome.failure) == (9.0, None)
    assert before - 1 < outcome.start <= outcome.end < time.time() + 1
    assert outcome.curve == ((0, 1.0), (1, 0.5))
    assert outcome.host


def check_exception_is_an_outcome(workers):
    failure = train(workers, task("raise")).failure
    assert isinstance(failure, Failure)
    assert (failure.type, failure.message) == ("Diverged", "gradient is a NaN")
    assert "in _raise" in failure.traceback


def check_not_a_number_is_a_failure(workers):
    outcome = train(workers, task("nan"))
    assert outcome.loss is None
    assert outcome.failure.type == "NonFiniteLoss"


def check_seeded_by_the_replica(workers):
    first, other, again = (train(workers, task("draw", seed=seed)).loss for seed in (5, 6, 5))
    assert first == again != other


def check_every_slot_trains(workers):
    slots = range(len(workers.groups))
    for _ in range(2):
        futures = [workers.submit(task("sleep", x=0.05, trial=slot), slot) for slot in slots]
        until(workers, lambda futures=futures: all(future.done() for future in futures))
        assert [future.result().loss for future in futures] == [0.0 for _ in slots]


def check_wait_is_short_when_idle(workers):
    start = time.monotonic()
    workers.wait(0.1)
    assert time.monotonic() - start < 1.0
    assert workers.reports() == []


def check_stop_leaves_a_training_unsettled(workers):
    future = workers.submit(task("patient", trial=3, index=1), 0)
    if type(workers).__name__ == "LocalProcesses":
        reports = []
        until(workers, lambda: reports.extend(workers.reports()) or reports)
        assert (reports[0].trial, reports[0].index, reports[0].loss) == (3, 1, 1.0)
    workers.request_stop()
    until(workers, future.done)
    with pytest.raises(Stopped):
        future.result()


def check_halt_ends_one_training(workers):
    if type(workers).__name__ == "OnExecutor":
        return  # its trainings do not hear
    asked = task("patient", trial=3, index=1)
    workers.request_stop(asked)  # does not run yet: nothing to end
    reports = []

    def hear():
        reports.extend(workers.reports())
        if reports:
            workers.request_stop(asked)

    workers.on_report(hear)
    future = workers.submit(asked, 0)
    until(workers, lambda: hear() or future.done())
    with pytest.raises(Stopped) as stopped:
        future.result()
    assert stopped.value.outcome.curve[0] == (0, 1.0)
    assert train(workers, task("square", x=2.0)).loss == 4.0  # the next one is not asked


def check_close_ends_a_training(workers):
    workers.submit(task("sleep", x=0.3), 0)
    start = time.monotonic()
    workers.close()
    assert time.monotonic() - start < 5.0


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]
