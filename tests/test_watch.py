"""`hyppo watch`: from the file alone, in a real terminal (tmux) and without one."""

import os
import shutil
import subprocess
import sys
import time

import pytest

import hyppo
from hyppo.cli.watch import Watched
from hyppo.training.replica import Goal
from hyppo.trial import Planned, ReplicaRecord, Settled, State
from tests.studies import hostile_study, small_study

RUN = """
import time
import hyppo

def train(replica):
    time.sleep(0.25)
    if replica.trial == 2:
        raise MemoryError("no [bold]memory[/bold] left")
    return replica.params["x"] + 0.01 * (replica.seed % 7)

study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log="study.h5", replicas=2, isolate=False)
if __name__ == "__main__":
    study.run(trials=TRIALS, progress=False)
"""


@pytest.fixture
def running(tmp_path):
    """Start a study of so many trials in a process of its own; gives its file."""
    started = []

    def start(trials):
        (tmp_path / "tune.py").write_text(RUN.replace("TRIALS", str(trials)))
        process = subprocess.Popen([sys.executable, "tune.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        started.append(process)
        return tmp_path / "study.h5"

    start.processes = started
    yield start
    for process in started:
        process.kill()
        process.wait()


def test_lines_without_a_terminal_end_with_the_run(running):
    path = running(6)
    wait_for(path.exists)
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", "watch", path, "--interval", "0.3"],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    lines = run.stdout.splitlines()
    assert len(lines) >= 2
    assert "6 of 6 trials, 12 trainings (2 failed), 0 pending" in lines[-1]
    assert f"recommended: trial {hyppo.load(path).best.number}" in lines[-1]
    assert run.stderr == ""


def test_a_file_that_is_no_study_ends_it(tmp_path):
    (tmp_path / "tune.py").write_text("print(1)")
    for path in (tmp_path / "tune.py", tmp_path):
        command = [sys.executable, "-m", "hyppo", "watch", path]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert run.returncode == 2
        assert "name a study file" in run.stderr
        assert run.stdout == ""


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


@pytest.fixture
def tmux(tmp_path):
    """A tmux server of this test's own; tmux("send-keys", ...) drives it."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: apt-get install tmux")
    socket = tmp_path / "tmux.socket"
    environ = {key: value for key, value in os.environ.items() if key != "TMUX"}

    def call(*arguments):
        command = ["tmux", "-u", "-f", os.devnull, "-S", str(socket), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, env=environ, check=True).stdout

    yield call
    subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True, timeout=20)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (180, 50)])
def test_a_terminal_is_redrawn_and_left_clean(tmux, running, width, height):
    path = running(400)
    wait_for(path.exists)
    tmux("new-session", "-d", "-x", width, "-y", height, "env", "PS1=ready$ ", "bash", "--norc", "--noprofile")
    tmux("send-keys", "echo before", "Enter")

    def pane():
        return tmux("capture-pane", "-p", "-J")

    wait_for(lambda: "before" in pane())
    tmux("send-keys", f"{sys.executable} -m hyppo watch {path} --interval 0.3", "Enter")
    wait_for(lambda: "failed: trial 2 replica 1" in pane() and "recommended: trial" in pane())
    first = pane()
    wait_for(lambda: pane() != first)
    lines = pane().rstrip("\n").splitlines()
    assert len(lines) <= height
    assert max(len(line.rstrip()) for line in lines) <= width
    text = "\n".join(lines)
    for part in ("study.h5", "running", "of 400 trials", "trainings a minute", "left", "best mean", "replica",
                 "no [bold]memory[/bold] left"):  # fmt: skip
        assert part in text, text
    tmux("send-keys", "C-c")
    wait_for(lambda: pane().rstrip().endswith("ready$"))
    after = pane()
    assert "before" in after
    assert "trains or waits" not in after
    assert "Traceback" not in after
    assert "of 400 trials" in after  # the last state, as one line
    assert tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").strip() == "0 1"
    tmux("send-keys", "echo typed", "Enter")
    wait_for(lambda: "\ntyped" in pane())


def test_a_picture_fits_and_shows_text_only(tmp_path):
    hostile_study(tmp_path / "study.h5")
    view = Watched(tmp_path / "study.h5")
    view.look()
    for width, height in ((80, 24), (60, 12), (200, 60)):
        lines = view.lines(width, height)
        assert len(lines) <= height
        assert all(line.plain.isprintable() for line in lines)


def test_a_metric_that_is_better_when_higher_rises(tmp_path):
    goal = Goal("val_acc", "max")
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=tmp_path / "study.h5", replicas=1) as study:
        for accuracy in (0.5, 0.7, 0.9):
            trial = study.ask()
            replica = trial.replicas[0]
            done = ReplicaRecord(replica.index, replica.seed, State.DONE, loss=-accuracy, goal=goal)
            study._record(Settled(trial.number, (done,)))
    view = Watched(tmp_path / "study.h5")
    view.look()
    assert "▁▄█  best mean 0.9" in [line.plain for line in view.lines(80, 24)]


def test_a_recommendation_that_is_not_new_says_of_how_many_trainings_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[Watched.__module__], "BEST_SHARE", 1e-9)  # the next one is due much later
    path = tmp_path / "study.h5"
    view = Watched(path)
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=path, replicas=2) as study:
        study.tell(study.ask().number, [0.5, 0.6])
        view.look()
        assert "; recommended: trial 0," in view.line()
        study.tell(study.ask().number, [0.1, 0.2])
        view.look()
        assert "; recommended after 2 trainings: trial 0," in view.line()
    view.look()
    assert "; recommended: trial 1," in view.line()


def test_what_is_new_is_followed(tmp_path):
    path = tmp_path / "study.h5"
    view = Watched(path)
    view.look()
    assert "does not exist" in view.line()
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log=path, replicas=3) as study:
        study.tell(study.ask().number, [0.5])
        view.look()
        assert "1 trial, 1 training (0 failed), 0 pending" in view.line()
        assert not view.ended
        study.ask()
        view.look()
        assert "1 trial, 1 training (0 failed), 3 pending" in view.line()
    assert not view.ended, "it closed after the last look, which has not seen the end"
    view.look()
    assert view.ended
    path.unlink()
    small_study(path)
    view.look()
    view.look()  # the first look found another study in the place of the one before
    assert "24 trials" in view.line()


def test_time_left_is_said_for_a_goal(tmp_path):
    path = small_study(tmp_path / "study.h5", trials=40, replicas=1)
    view = Watched(path, trials=80)
    view.look()
    text = "\n".join(line.plain for line in view.lines(80, 24))
    assert "40 of 80 trials" in text
    assert "left" in text


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"trials": 60}, 55),
        ({"trainings": 150}, 40),
        ({"trials": 60, "trainings": 150}, 40),
        ({"trials": 44, "trainings": 900}, 11),
        ({"trials": 40, "trainings": 150}, 40),
        ({"trials": 60, "trainings": 110}, 0),
        ({}, 0),
    ],
)
def test_a_run_ends_at_the_first_of_its_goals(given, left, tmp_path):
    """40 trials and 110 trainings have ended."""
    view = Watched(small_study(tmp_path / "study.h5", trials=40, replicas=3), **given)
    view.look()
    assert view._left() == pytest.approx(left)


def test_the_budget_is_that_of_the_last_run(tmp_path):
    """Trials, trainings, a time limit, confirmations: from the file alone, and a flag overrides them."""
    path = tmp_path / "study.h5"

    def text(**given):
        view = Watched(path, **given)
        view.look()
        return " ".join(" ".join(line.plain for line in view.lines(200, 40)).split())

    def train(replica):
        time.sleep(0.05)
        return replica.params["x"]

    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log=path, replicas=1, isolate=False) as study:
        study.run(trials=3, progress=False)
        assert "3 of 3 trials, 3 trainings (0 failed)" in text()
        study.run(trainings=5, time_limit=600, progress=False)
        assert "5 trials, 5 of 5 trainings (0 failed)" in text()
        assert "5 of 80 trials, 5 trainings (0 failed)" in text(trials=80)
        assert "left" in text(trials=80)
        study.confirm(replicas=2, progress=False)
        assert "5 trainings (0 failed), 0 pending, 2 of 2 confirmations" in text()
    with hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log=path, replicas=1, isolate=False) as study:
        study._record(Planned({"time_limit": 3600.0}, time.time()))
        assert "about 59:5" in text()
        study._record(Planned({"trials": 500}, time.time()))
        assert "5 of 500 trials" in text()
        assert "left" in text()


def test_lines_end_if_the_run_is_killed(running):
    path = running(400)
    wait_for(lambda: path.exists() and any(t.mean is not None for t in hyppo.load(path).trials))
    watching = subprocess.Popen(
        [sys.executable, "-m", "hyppo", "watch", path, "--interval", "0.3"], stdout=subprocess.PIPE, text=True
    )
    try:
        first = watching.stdout.readline()
        assert "is gone" not in first
        running.processes[-1].kill()  # nobody waits for it: a process that has ended, and is still listed
        rest, _ = watching.communicate(timeout=60)
    finally:
        watching.kill()
    process = running.processes[-1].pid
    last = rest.splitlines()[-1]
    assert f"cut short: its process ({process} on " in last
    study = hyppo.load(path)
    replicas = [r for t in study.trials for r in t.replicas]
    assert f"{sum(r.state is not hyppo.State.PENDING for r in replicas)} trainings" in last, "the last state"
    view = Watched(path)
    view.look()
    view.look()
    assert view.ended
    with hyppo.Study(study.space, log=path, replicas=2) as again:
        again.ask()
        view.look()
        assert not view.ended, "another process goes on with the study"
        assert "is gone" not in view.line()
