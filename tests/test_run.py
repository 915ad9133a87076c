"""The loop: budgets, what goes first, retries, stops and going on; and the script as users start it."""

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

import hyppo
from hyppo.errors import LaunchError, ObjectiveError, StudyError
from hyppo.launch import surroundings
from hyppo.loop import Interrupt, Loop, Options, Session
from hyppo.run import run
from hyppo.training.replica import Failure, Outcome

from .objectives import perform

pytestmark = pytest.mark.timeout(60)

SCRIPT = Path(__file__).parent / "scripts" / "tune.py"
ENVIRON = {k: v for k, v in os.environ.items() if not surroundings.LAUNCHER.match(k)}


def square(replica):
    return replica.params["x"] ** 2 + 0.01 * (replica.seed % 7)


def quick(objective=square, **arguments):
    arguments = {"replicas": 2, "isolate": False, "surrogate": "random"} | arguments
    return hyppo.Study(hyppo.Space(x=hyppo.Real(-1, 1)), objective, **arguments)


def replicas_of(study):
    return [(t.number, r.index, r.seed, str(r.state)) for t in study.trials for r in t.replicas]


def trained(study):
    return sum(r.state != "pending" for t in study.trials for r in t.replicas)


class ByHand:
    """Workers whose trainings end when a test says so."""

    def __init__(self, groups):
        self.groups = groups
        self.running = {}
        self.order = []

    def submit(self, task, slot):
        assert slot not in self.running
        future = Future()
        self.running[slot] = (task, future)
        self.order.append((slot, task.trial, task.index))
        return future

    def end(self, slot, loss=1.0, failure=None):
        _, future = self.running.pop(slot)
        future.set_result(Outcome(None if failure else loss, failure, 0.0, 1.0))

    def wait(self, timeout):
        if self.running:
            self.end(min(self.running))

    def reports(self):
        return []

    def request_stop(self, task=None):
        pass

    def on_report(self, callback):
        pass

    def close(self):
        pass


class Silent:
    """Shows nothing, and keeps the notices."""

    def __init__(self):
        self.notices = []

    def say(self, text):
        self.notices.append(text)

    def failed(self, task, outcome):
        pass

    def show(self, status, force=False):
        pass


def loop(study, workers, **options):
    return Loop(Session(study), workers, Options(**options), Silent(), Interrupt())


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_trials_are_counted_in_all(tmp_path):
    quick(log=tmp_path / "s.h5").run(trials=3, progress=False)
    study = quick(log=tmp_path / "s.h5")
    study.run(trials=5, progress=False)
    assert len(study.trials) == 5
    study.run(trials=5, progress=False)
    assert len(study.trials) == 5


def test_trainings_are_counted_exactly():
    study = quick(replicas=3)
    study.run(trainings=7, progress=False)
    assert trained(study) == 7
    study.run(trainings=7, progress=False)
    assert trained(study) == 7


def test_added_and_failed_trials_count():
    study = quick(lambda replica: 1.0 / 0.0)
    study.add({"x": 0.5}, [1.0])
    study.run(trials=4, progress=False)
    assert [str(t.state) for t in study.trials] == ["done", "failed", "failed", "failed"]
    assert study.trials[1].replicas[0].failure.type == "ZeroDivisionError"


def test_a_run_ends_when_the_first_trainings_fail_alike():
    study = quick(lambda replica: 1.0 / 0.0, replicas=1)
    with pytest.raises(ObjectiveError, match=r"5 trainings have failed with the same error.*ZeroDivisionError"):
        study.run(trials=50, progress=False)
    assert len(study.trials) == 5
    with pytest.raises(ObjectiveError, match=r"6 trainings have failed with the same error"):
        study.run(trials=50, progress=False)  # those in the log count
    study.run(trials=8, same_failures=0, progress=False)
    assert len(study.trials) == 8


def test_failures_that_differ_or_follow_a_success_end_no_run():
    differ = quick(lambda replica: [][replica.trial] if replica.trial % 2 else {}[replica.trial], replicas=1)
    differ.run(trials=8, progress=False)
    assert len(differ.trials) == 8
    after = quick(lambda replica: 1.0 / (replica.trial == 0), replicas=1)
    after.run(trials=12, progress=False)
    assert [str(t.state) for t in after.trials] == ["done"] + ["failed"] * 11


def test_failed_trainings_are_trained_again_under_their_numbers(tmp_path, capsys):
    data = tmp_path / "data.txt"

    def train(replica):
        return float(data.read_text()) + replica.seed

    def study():
        return quick(train, replicas=2, log=tmp_path / "s.h5")

    with pytest.raises(ObjectiveError, match="same error"):
        study().run(trials=3, same_failures=6, progress=False)
    before = hyppo.load(tmp_path / "s.h5").trials
    data.write_text("1.0")
    study().run(trials=3, progress=False)
    said = capsys.readouterr().err
    assert re.search("nothing left to do.*all 6 trainings of the study failed.*retry_failed", said, re.S)
    study().run(trials=3, retry_failed=True, progress=False)
    assert "6 failed trainings will be repeated" in capsys.readouterr().err
    after = hyppo.load(tmp_path / "s.h5").trials
    assert [(t.number, t.params) for t in after] == [(t.number, t.params) for t in before]
    assert [(r.seed, r.loss, r.attempts) for t in after for r in t.replicas] == [
        (r.seed, 1.0 + r.seed, 2) for t in before for r in t.replicas
    ]


def test_a_training_that_fails_after_a_stop_was_asked_stays_pending():
    interrupt = Interrupt()

    def train(replica):
        if replica.trial == 2:
            interrupt.asked = signal.SIGTERM
            raise SystemExit("what a framework makes of the signal")
        return 1.0

    from hyppo.launch.local import InProcess
    from hyppo.loop import Session

    study = quick(train, replicas=1)
    Loop(Session(study), InProcess(train), Options(trials=9, grace=0.1), Silent(), interrupt).go()
    assert [str(t.state) for t in study.trials] == ["done", "done", "pending"]


def test_a_hang_up_asks_for_a_stop_unless_it_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.asked is signal.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.asked is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("isolate", [False, True])
def test_a_pool_that_a_training_forks_ends_with_the_training(tmp_path, isolate):
    """Many short ones: a pool ends its workers while they start, and then waits for them."""
    train = """
    import multiprocessing

    def train(replica):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return float(sum(pool.map(abs, [-1, 2])))
    """
    study = f"hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, isolate={isolate})"
    done = python(write(tmp_path, train, f"study = {study}\nstudy.run(trials=40)\nprint(study.trials[1].mean)"))
    assert (done.returncode, done.stdout) == (0, "3.0\n"), done.stderr


@pytest.mark.parametrize("isolate", [False, True])
def test_a_stop_reaches_the_training_and_spares_the_processes_that_it_forked(tmp_path, isolate):
    """A terminal and a batch system signal all; a training needs its workers until it has saved its state."""
    train = """
    import multiprocessing, pathlib

    def train(replica):
        workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,)) for _ in "ab"]
        for worker in workers:
            worker.start()
        pathlib.Path("ready").touch()
        while not replica.should_stop:
            time.sleep(0.05)
        time.sleep(0.5)
        alive = [worker.is_alive() for worker in workers]
        for worker in workers:
            worker.terminate()
            worker.join()
        pathlib.Path("left").write_text(f"{alive} {[worker.exitcode for worker in workers]}")
    """
    study = f"hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log='s.h5', isolate={isolate})"
    script = write(tmp_path, train, f"study = {study}\nstudy.run(trials=2)")
    running = subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=ENVIRON, start_new_session=True
    )
    end = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < end:
        time.sleep(0.05)
    main = psutil.Process(running.pid)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        for process in (main, *main.children(recursive=True)):
            process.send_signal(number)
        time.sleep(0.05)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert errors.count("SIGINT: no new trainings") == 1
    assert "stopped by SIGINT; 1 training stays pending" in errors
    assert (tmp_path / "left").read_text() == "[True, True] [-15, -15]"


def test_groups_of_ranks_are_not_made_without_mpi(tmp_path):
    train = "def train(replica):\n    return replica.world_size"
    run = "study.run(trials=1, data_parallel=4, trial_groups=2, replica_groups=1)\nprint(study.trials[0].mean)"
    done = python(write(tmp_path, train, run))
    assert done.stdout == "1.0\n"
    assert "trial_groups=2, data_parallel=4: no effect without MPI" in done.stderr
    assert "start 9 or more ranks" in done.stderr


def test_random_code_at_the_top_level_is_the_same_in_every_training_process(tmp_path):
    top = "import numpy\nsplit = int(numpy.random.permutation(10**6)[0])\ndef train(replica):\n    return float(split)"
    script = write(tmp_path, top, "study.run(trials=int(sys.argv[1]), workers=2)", log=tmp_path / "s.h5")
    for trials in (2, 4):
        assert python(script, trials).returncode == 0
    losses = {r.loss for t in hyppo.load(tmp_path / "s.h5").trials for r in t.replicas}
    assert len(losses) == 1


@pytest.mark.parametrize("guarded", [False, True])
def test_a_script_that_changes_its_directory_trains_where_it_went(tmp_path, guarded):
    leave = "os.makedirs('results', exist_ok=True); os.chdir('results')"
    train = "def train(replica):\n    open(f'trained-{replica.trial}', 'x').close()\n    return 1.0"
    script = write(
        tmp_path,
        f"import os\n{'' if guarded else leave}\n{train}",
        f"{leave if guarded else ''}\nstudy.run(trials=2)",
        log=tmp_path / "s.h5",
    )
    done = python(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["trained-0", "trained-1"]


@pytest.mark.parametrize(
    ("top", "named"),
    [
        ("split = random.random(), numpy.random.rand()", "numpy, random"),
        ("split = numpy.random.seed(0), numpy.random.rand()", None),
        ("split = numpy.random.default_rng(0).random()", None),
        ("import sklearn.neural_network", None),  # an import that draws
        ("sys.modules['odd'] = object(); import odd", None),  # an entry of sys.modules may be any object
    ],
)
def test_a_notice_names_the_unseeded_generators_that_a_script_draws_from(tmp_path, top, named):
    top = f"import numpy, random\n{top}\ndef train(replica):\n    return 0.0"
    for end in ("study.run(trials=2)", "if __name__ == '__main__':\n    study.run(trials=2, workers=2)"):
        said = python(write(tmp_path, top, end)).stderr
        assert said.count("random numbers at its top level") == (named is not None)
        assert named is None or f"({named})" in said


@pytest.mark.parametrize(
    ("ruling", "shown"),
    [("'ignore'", 1), ("'error'", 1), ("'default'", 1), ("'ignore', category=hyppo.HyppoWarning", 0)],
)
@pytest.mark.parametrize("isolate", [True, False])
def test_notices_of_trainings_are_shown_whatever_the_script_does_with_warnings(tmp_path, ruling, shown, isolate):
    train = f"""
        import warnings
        warnings.filterwarnings({ruling})

        def train(replica):
            replica.report(0, 0.5)
            return -0.5
    """
    end = f"""
        if __name__ == "__main__":
            study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, replicas=1, isolate={isolate})
            study.run(trials=3)
            print([trial.mean for trial in study.trials])
    """
    done = python(write(tmp_path, train, end))
    assert done.stderr.count("Reports are losses too") == shown
    assert done.stdout.strip().endswith("[-0.5, -0.5, -0.5]")


@pytest.mark.parametrize("made", ["outside", "inside"])
def test_a_notice_names_the_generators_of_the_script_that_trainings_draw_from(tmp_path, made):
    inside = "    rng = numpy.random.default_rng(replica.seed)\n" if made == "inside" else ""
    top = f"import numpy\nrng = numpy.random.default_rng(0)\ndef train(replica):\n{inside}    return rng.random()"
    losses = []
    for stops in ([6], [3, 6]):  # the second study goes on in another process
        for trials in stops:
            script = write(tmp_path, top, f"study.run(trials={trials})", log=tmp_path / f"{len(stops)}.h5")
            said = python(script).stderr
            assert said.count("train(replica) draws from `rng`, made outside of it") == (made == "outside")
        losses.append([trial.mean for trial in hyppo.load(tmp_path / f"{len(stops)}.h5").trials])
    assert (losses[0] == losses[1]) == (made == "inside")


def test_a_package_of_a_cluster_that_draws_at_its_import_is_not_the_script(tmp_path):
    folder = tmp_path / "modules" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "drawing.py").write_text("import random\nrandom.random()\n")
    script = write(tmp_path, "import drawing\ndef train(replica):\n    return 0.0", "study.run(trials=2)")
    done = python(script, env=ENVIRON | {"PYTHONPATH": str(folder)})
    assert done.returncode == 0
    assert "random numbers at its top level" not in done.stderr


def test_one_training_of_a_node_at_a_time_prepares_data(tmp_path):
    train = """
        def train(replica):
            path = replica.directory.parent.parent / "data.bin"
            with replica.node_lock("download"):
                if not path.exists():
                    with open(path, "wb") as file:
                        for _ in range(10):
                            file.write(bytes(1000))
                            file.flush()
                            time.sleep(0.05)
            return float(path.stat().st_size)
    """
    script = write(tmp_path, textwrap.dedent(train), "study.run(trials=4, workers=3)", log=tmp_path / "s.h5")
    assert python(script).returncode == 0
    assert {trial.mean for trial in hyppo.load(tmp_path / "s.h5").trials} == {10_000.0}


def test_a_time_limit_stops_asking_and_finishes_what_runs():
    study = quick(lambda replica: time.sleep(0.05) or 1.0)
    start = time.monotonic()
    study.run(time_limit=0.5, progress=False)
    assert 0.4 < time.monotonic() - start < 5.0
    assert 3 <= trained(study) <= 12


def test_the_first_budget_that_is_spent_ends_the_run():
    study = quick()
    study.run(trials=50, trainings=4, time_limit=100, progress=False)
    assert (len(study.trials), trained(study)) == (2, 4)


def test_workers_without_processes_are_a_notice(capsys):
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda r: r.params["x"], isolate=False)
    for trainings, workers, times in ((2, None, 0), (4, 1, 0), (6, 2, 1)):
        study.run(trainings=trainings, workers=workers, progress=False)
        assert capsys.readouterr().err.count("workers=2 has no effect: with isolate=False") == times


def test_an_exhausted_space_ends_a_run_of_trials(capsys):
    study = hyppo.Study(hyppo.Space(n=hyppo.Integer(1, 3)), lambda r: float(r.params["n"]), replicas=2, isolate=False)
    study.run(trials=8, progress=False)
    assert (len(study.trials), trained(study)) == (3, 6)
    assert "the space is exhausted: each of its 3 points was tried" in capsys.readouterr().err


def test_a_budget_of_trainings_goes_on_in_an_exhausted_space():
    study = hyppo.Study(hyppo.Space(n=hyppo.Integer(1, 3)), lambda r: float(r.params["n"]), replicas=1, isolate=False)
    study.run(trainings=8, progress=False)
    assert {t.params["n"] for t in study.trials} == {1, 2, 3}
    assert trained(study) == 8


def test_an_error_of_one_slot_keeps_what_ended_on_the_others():
    class OneBreaks(ByHand):
        def wait(self, timeout):
            self.end(0, loss=0.5)
            self.running.pop(1)[1].set_exception(LaunchError("no process can be started"))
            self.end(2, loss=0.25)

    study = quick(replicas=3)
    with pytest.raises(LaunchError, match="no process can be started"):
        loop(study, OneBreaks([0, 0, 0]), trials=1).go()
    assert [r.loss for r in study.trials[0].replicas] == [0.5, None, 0.25]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs a budget"),
        ({"trials": 0}, "trials: expected an integer of at least 1"),
        ({"trials": 2.5}, "trials: expected an integer"),
        ({"time_limit": -1}, "time_limit: expected seconds"),
        ({"trials": 2, "retries": -1}, "retries"),
        ({"trials": 2, "output": "paper"}, "expected one of .'relay', 'file'"),
        ({"trials": 2, "trails": 3}, "does not know trails"),
        ({"trials": 2, "replica_timeout": 3}, "cannot be killed"),
    ],
)
def test_arguments_are_checked_before_anything_runs(arguments, words):
    study = quick()
    with pytest.raises(StudyError, match=words):
        study.run(**arguments)
    assert study.trials == ()


def test_a_study_without_an_objective_cannot_run():
    with pytest.raises(StudyError, match="no objective"):
        hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1))).run(trials=1)


def test_the_environment_overrides(monkeypatch):
    monkeypatch.setenv("HYPPO_TRIALS", "2")
    study = quick()
    study.run(trials=50, progress=False)
    assert len(study.trials) == 2
    monkeypatch.setenv("HYPPO_TRIALS", "many")
    with pytest.raises(StudyError, match="HYPPO_TRIALS: expected int, got 'many'"):
        study.run(trials=50)


# -- order ------------------------------------------------------------------------------------------------------------


def test_pending_replicas_go_first_under_their_number_and_seed():
    study = quick(replicas=2)
    asked = [study.ask(), study.ask()]
    before = replicas_of(study)
    workers = ByHand([0])
    loop(study, workers, trials=3).go()
    assert workers.order[:4] == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    assert [r[:3] for r in replicas_of(study)[:4]] == [r[:3] for r in before]
    assert [t.number for t in asked] == [0, 1]
    assert len(study.trials) == 3


def test_a_point_is_asked_only_when_a_slot_is_free():
    study = quick(replicas=1)
    known = []
    ask = study._ask
    study._ask = lambda *order: known.append(sum(t.mean is not None for t in study.trials)) or ask(*order)
    loop(study, ByHand([0]), trials=4).go()
    assert known == [0, 1, 2, 3]


def test_trial_groups_keep_to_their_own_trials():
    study = quick(replicas=4)
    workers = ByHand([0, 0, 1, 1])
    one = loop(study, workers, trials=4)
    one._fill()
    assert workers.order == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    workers.end(2)
    one._collect()
    one._fill()
    assert workers.order[-1] == (2, 1, 2)


def test_nobody_waits_at_the_end_of_a_trial():
    study = quick(replicas=3)
    workers = ByHand([0, 0, 1, 1])
    one = loop(study, workers, trials=2)
    one._fill()
    for slot in (2, 3, 2):  # the second group is through with its trial
        workers.end(slot)
        one._collect()
        one._fill()
    # Nothing is left of its own, and no new trial is to be asked: it takes what the first group has not begun.
    assert workers.order[-1] == (3, 0, 2) or workers.order[-1] == (2, 0, 2)
    assert len(workers.running) == 3


def test_losses_that_wait_together_are_settled_together():
    study = quick(replicas=4)
    workers = ByHand([0, 0, 0, 0])
    batches = []
    one = loop(study, workers, trials=1)
    settle = one.session.settle
    one.session.settle = lambda outcomes, *losses: batches.append(len(outcomes)) or settle(outcomes, *losses)
    one._fill()
    for slot in (0, 1, 2):
        workers.end(slot)
    one._collect()
    assert batches == [3]


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_death_is_tried_again_with_the_same_seed():
    study = quick(replicas=1)
    workers = ByHand([0])
    one = loop(study, workers, trials=1, retries=2)
    one._fill()
    seeds = []
    for kind in ("Killed", "TimedOut"):
        seeds.append(workers.running[0][0].seed)
        workers.end(0, failure=Failure(kind, "gone"))
        one._collect()
        assert study.trials[0].state == "pending"
        one._fill()
    seeds.append(workers.running[0][0].seed)
    assert workers.running[0][0].attempt == 3
    workers.end(0, failure=Failure("Killed", "gone"))
    one._collect()
    assert study.trials[0].state == "failed"
    assert study.trials[0].replicas[0].attempts == 3
    assert len(set(seeds)) == 1


@pytest.mark.parametrize("kind", ["NonFiniteLoss", "ValueError"])
def test_what_would_come_again_is_not_tried_again(kind):
    study = quick(replicas=1)
    workers = ByHand([0])
    one = loop(study, workers, trials=1, retries=2)
    one._fill()
    workers.end(0, failure=Failure(kind, "nan"))
    one._collect()
    assert study.trials[0].state == "failed"


def test_an_objective_that_returns_no_loss_is_an_error_and_logged():
    study = quick(lambda replica: "low")
    with pytest.raises(ObjectiveError, match="return the loss as a float"):
        study.run(trials=5, progress=False)
    assert study.trials[0].replicas[0].failure.type == "ObjectiveError"
    assert trained(study) == 1


def test_an_objective_that_worked_once_goes_on():
    study = quick(lambda replica: "low" if replica.trial == 1 else 0.0)
    study.run(trials=3, progress=False)
    assert [str(t.state) for t in study.trials] == ["done", "failed", "done"]


def test_a_process_that_dies_costs_one_replica():
    space = hyppo.Space(do=hyppo.Choice(["exit", "square"]), x=hyppo.Real(0, 1))
    study = hyppo.Study(space, perform, replicas=1, surrogate="random")
    study.run(trials=6, progress=False)
    assert {(t.params["do"], str(t.state)) for t in study.trials} == {("exit", "failed"), ("square", "done")}


def test_run_with_an_executor():
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        study = quick(isolate=True)
        study.run(trials=4, executor=executor, progress=False)
    assert trained(study) == 8


def test_an_objective_that_no_executor_can_have_is_refused():
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        study = quick(lambda replica, pool=executor: 0.0)
        with pytest.raises(LaunchError, match="define it at the top level"):
            study.run(trials=4, executor=executor, progress=False)


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    quick().run(trials=1, progress=False)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


def test_the_same_losses_in_a_process_of_its_own_and_in_this_one():
    one, other = quick(isolate=True), quick(isolate=False)
    for study in (one, other):
        study.run(trials=3, progress=False)
    assert [t.mean for t in one.trials] == [t.mean for t in other.trials]


# -- scripts ----------------------------------------------------------------------------------------------------------


def python(*arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 50, "env": ENVIRON} | options
    return subprocess.run([sys.executable, *map(str, arguments)], **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What the script's study is when nothing disturbs it."""
    log = tmp_path_factory.mktemp("whole") / "s.h5"
    done = python(SCRIPT, log, 6)
    assert done.returncode == 0, done.stderr
    return hyppo.load(log).trials


def same(trials, others):
    assert [(t.number, t.params) for t in trials] == [(t.number, t.params) for t in others]
    assert [(r.index, r.seed, r.loss) for t in trials for r in t.replicas] == [
        (r.index, r.seed, r.loss) for t in others for r in t.replicas
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_stop_is_clean_and_the_same_command_goes_on(tmp_path, uninterrupted, number):
    log = tmp_path / "s.h5"
    running = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(log), "6", "0.2"], stderr=subprocess.PIPE, text=True, env=ENVIRON
    )
    wait_for_trainings(log, 3)
    running.send_signal(number)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == (130 if number == signal.SIGINT else 0), errors
    assert f"stopped by {number.name}" in errors
    assert "Traceback" not in errors
    cut = hyppo.load(log)
    assert 3 <= trained(cut) < 12
    assert all(r.loss is None or r.loss < 1e6 for t in cut.trials for r in t.replicas)  # no half-trained loss
    assert f"{sum(not t.pending for t in cut.trials)} of 6 trials" in errors.splitlines()[-2]
    assert python(SCRIPT, log, 6).returncode == 0
    same(hyppo.load(log).trials, uninterrupted)


def wait_for_trainings(log, number, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if trained(hyppo.load(log)) >= number:
                return
        except hyppo.LogError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"no {number} trainings within {seconds} s")


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    script = write(tmp_path, "def train(replica):\n    time.sleep(60)", "study.run(trials=4)", log=tmp_path / "s.h5")
    running = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True, env=ENVIRON)
    wait_for_asks(tmp_path / "s.h5")
    running.send_signal(signal.SIGINT)
    time.sleep(0.7)
    assert running.poll() is None  # 30 s of grace
    start = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert time.monotonic() - start < 8.0
    assert running.returncode == 130
    assert "Traceback" not in errors


def wait_for_asks(log, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if hyppo.load(log).trials:
                time.sleep(0.5)
                return
        except hyppo.LogError:
            pass
        time.sleep(0.05)
    raise AssertionError("nothing was asked")


def test_killed_and_taken_up_again(tmp_path, uninterrupted):
    log = tmp_path / "s.h5"
    running = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(log), "6", "0.2"], stderr=subprocess.DEVNULL, env=ENVIRON
    )
    wait_for_trainings(log, 3)
    running.kill()
    running.wait()
    assert python(SCRIPT, log, 6).returncode == 0
    same(hyppo.load(log).trials, uninterrupted)


def write(folder, train, end, log=None, name="script.py"):
    path = folder / name
    path.write_text(
        "import os, sys, time\nimport hyppo\n\n"
        f"{textwrap.dedent(train)}\n\n"
        "study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, replicas=1, surrogate='random', "
        f"log={str(log) if log else None!r})\n{textwrap.dedent(end)}\n"
    )
    return path


TRAIN = """
def train(replica):
    return replica.params["x"]
"""


@pytest.mark.parametrize(
    ("train", "end"),
    [
        (TRAIN, "if __name__ == '__main__':\n    study.run(trials=3)\n    print(len(study.trials))"),
        (TRAIN, "study.run(trials=3)\nprint(len(study.trials))"),
        (TRAIN, "study.add({'x': 0.5}, [1.0])\nstudy.run(trials=3)\nprint(len(study.trials))"),
        ("if __name__ == '__main__':\n    def train(replica):\n        return 0.5\nelse:\n    train = None",
         "if __name__ == '__main__':\n    study.run(trials=3)\n    print(len(study.trials))"),
        ("def make(a):\n    return lambda replica: a\ntrain = make(2.0)",
         "study.run(trials=3)\nprint(len(study.trials))"),
        ("import functools\ndef both(a, replica):\n    return a\ntrain = functools.partial(both, 1.0)",
         "study.run(trials=3)\nprint(len(study.trials))"),
        ("class Train:\n    def __call__(self, replica):\n        return 1.0\ntrain = Train()",
         "if __name__ == '__main__':\n    study.run(trials=3)\n    print(len(study.trials))"),
        (TRAIN, "if __name__ == '__main__':\n    study.run(trials=2)\n"
         "    study.run(trials=3)\n    print(len(study.trials))"),
    ],
    ids=["guarded", "unguarded", "touched before", "defined under the guard", "closure", "partial", "object", "twice"],
)  # fmt: skip
def test_scripts(tmp_path, train, end):
    script = write(tmp_path, train, end, log=tmp_path / "s.h5")
    done = python(script)
    assert (done.returncode, done.stdout.split()) == (0, ["3"]), done.stderr
    assert all(t.state == "done" for t in hyppo.load(tmp_path / "s.h5").trials)


def test_a_script_started_by_name_with_a_spawned_pool(tmp_path):
    write(
        tmp_path,
        """
        import multiprocessing
        def half(x):
            return x / 2
        def train(replica):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.apply(half, (replica.params["x"],))
        """,
        "if __name__ == '__main__':\n    study.run(trials=1)\n    print(study.trials[0].state)",
        name="tuning.py",
    )
    done = python("-m", "tuning", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["done"]), done.stderr


def test_a_script_on_standard_input(tmp_path):
    text = write(tmp_path, TRAIN, "study.run(trials=2)\nprint(len(study.trials))").read_text()
    done = python("-", input=text)
    assert (done.returncode, done.stdout.split()) == (0, ["2"]), done.stderr


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_a_script_whose_standard_streams_are_closed(tmp_path, closed):
    log = tmp_path / "s.h5"
    redirections = " ".join(f"{number}>&-" for number in closed)
    run = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirections}', sys.executable, str(SCRIPT), str(log), "2"],
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert replicas_of(hyppo.load(log))


def test_a_study_inside_a_training(tmp_path):
    script = write(
        tmp_path,
        """
        def inner(replica):
            return replica.params["y"]
        def train(replica):
            space = hyppo.Space(y=hyppo.Real(1, 2))
            nested = hyppo.Study(space, inner, replicas=1, surrogate="random", seed=replica.seed)
            nested.run(trials=2, progress=False)
            return min(t.mean for t in nested.trials)
        """,
        "study.run(trials=2)\nprint([str(t.state) for t in study.trials])",
    )
    done = python(script)
    assert done.stdout.splitlines()[-1] == "['done', 'done']", done.stderr


def test_what_a_training_prints_is_relayed_with_a_prefix(tmp_path):
    script = write(tmp_path, "def train(replica):\n    print('loss is', 1)\n    return 1.0", "study.run(trials=1)")
    assert python(script).stdout == "[trial 0 replica 0] loss is 1\n"


def test_what_a_training_pickles_loads_in_the_script(tmp_path):
    script = write(
        tmp_path,
        """
        import pickle
        class Net:
            pass
        def train(replica):
            (replica.directory / "net").write_bytes(pickle.dumps(Net()))
            return 1.0
        """,
        """
        if __name__ == '__main__':
            study.run(trials=1)
            net = pickle.loads((hyppo.loop.Session(study).directory(0, 0) / "net").read_bytes())
            print(type(net) is Net)
        """,
    )
    done = python(script)
    assert done.stdout.split() == ["True"], done.stderr


def test_a_training_sends_functions_of_the_script_to_processes_that_do_not_run_it(tmp_path):
    """As joblib and dask do, by cloudpickle."""
    script = write(
        tmp_path,
        """
        import subprocess, sys
        import cloudpickle
        OFFSET = 1.0
        def shifted(x):
            return x + OFFSET
        def train(replica):
            call = "import pickle, sys; print(pickle.load(sys.stdin.buffer)(2.0))"
            sent = cloudpickle.dumps(shifted)
            return float(subprocess.run([sys.executable, "-c", call], input=sent, capture_output=True).stdout)
        """,
        """
        if __name__ == '__main__':
            study.run(trials=1)
            print(study.best.mean)
        """,
    )
    done = python(script)
    assert done.stdout.split() == ["3.0"], done.stderr


def test_hyppo_run_overrides_and_passes_arguments_on(tmp_path):
    log = tmp_path / "s.h5"
    done = python("-m", "hyppo", "run", "--trials", 2, SCRIPT, log, 50)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 trials\n"
    assert len(hyppo.load(log).trials) == 2


def test_hyppo_run_shows_a_scripts_own_error(tmp_path):
    script = tmp_path / "wrong.py"
    script.write_text("value = {}\nvalue['missing']\n")
    done = python("-m", "hyppo", "run", script)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "KeyError: 'missing'"
    assert "typer" not in done.stderr


def test_a_failure_is_shown_with_its_traceback(tmp_path):
    script = write(tmp_path, "def train(replica):\n    raise ValueError('no data')", "study.run(trials=2)")
    done = python(script)
    assert done.returncode == 0
    assert "trial 0 replica 0 failed: ValueError: no data" in done.stderr
    assert "in train" in done.stderr


def test_run_is_public():
    with pytest.raises(StudyError, match="budget"):
        run(quick())


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    from hyppo.run import progress

    monkeypatch.setattr(progress, "INCUMBENT_AFTER", 0.0)
    quick().run(trials=3, trainings=6)
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"hyppo: 3 of 3 trials, 6 of 6 trainings in \d+ s; incumbent: trial \d, [\d.e-]+ ± [\d.e-]+ \(x=\S+\)", last
    )


def test_no_line_is_shown_twice(capsys):
    """The last line of a run may be due just before its end, which shows it in any case."""
    from hyppo.loop.protocols import Status
    from hyppo.run.progress import Progress

    with Progress(quick(), Options(trials=3)) as progress:
        for settled in (2, 3, 3):
            progress.show(Status(3, settled, 2 * settled, 0, (), 1.0), force=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" trials")[0] for line in lines] == ["hyppo: 2 of 3", "hyppo: 3 of 3"]


def test_quiet(capsys):
    quick().run(trials=2, progress=False)
    assert capsys.readouterr() == ("", "")


def test_failures_are_counted_and_the_first_is_shown_even_when_quiet(capsys):
    quick(lambda replica: 1.0 / 0.0, replicas=1).run(trials=3, progress=False)
    shown = capsys.readouterr().err
    assert "all 3 trainings of the study failed" in shown
    assert shown.count("failed: ZeroDivisionError") == 1
    assert "Traceback" in shown


def test_a_panel_on_a_terminal(tmp_path):
    script = write(
        tmp_path,
        """
        def train(replica):
            for step in range(4):
                replica.report(step, 0.5)
                time.sleep(0.3)
            print("[bold]done")
            return 0.25
        """,
        "study.run(trials=2)",
    )
    reader, terminal = os.openpty()
    running = subprocess.Popen([sys.executable, str(script)], stdout=terminal, stderr=terminal, env=ENVIRON)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(reader, 65536)
        except OSError:  # the other end of a terminal that is gone
            break
    os.close(reader)
    assert running.wait(20) == 0
    text = shown.decode()
    for words in ("╭─", "2 of 2 trials, 2 trainings", "replica 0", ", loss 0.5", "[bold]done"):
        assert words in text


class WordlessError(Exception):
    """An error with a mistake in its own `__str__`."""

    def __str__(self):
        return "at epoch " + 3


def fail_without_words(replica):
    if replica.index:
        raise WordlessError
    return 0.5


@pytest.mark.parametrize("isolate", [False, True], ids=["in process", "child process"])
def test_an_error_without_words_fails_its_replica_alone(tmp_path, isolate):
    with quick(fail_without_words, log=tmp_path / "study.h5", isolate=isolate) as study:
        study.run(trials=2, progress=False)
    for trial in study.trials:
        good, bad = trial.replicas
        assert good.loss == 0.5
        assert bad.failure.type == "WordlessError"
        assert "raise WordlessError" in bad.failure.traceback


def test_a_stop_at_the_end_of_a_training_leaves_nothing_pending(capsys):
    def train(replica):
        os.kill(os.getpid(), signal.SIGTERM)
        return replica.params["x"]

    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, isolate=False)
    with pytest.raises(SystemExit) as stop:
        study.run(trials=3, progress=False)
    assert stop.value.code == 0
    assert [len(trial.pending) for trial in study.trials] == [0]
    assert "stopped by SIGTERM between trainings; the same command continues\n" in capsys.readouterr().err
