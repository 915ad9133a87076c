"""Real MPI processes: equal to serial, survives what a training does, nothing hangs, nothing is left over."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import hyppo
from hyppo.cli.slurm_script import Job
from hyppo.launch.surroundings import LAUNCHER
from hyppo.log import read_log
from hyppo.trial import Note

from ..workers_contract import CHECKS

MPIEXEC = Path(sys.executable).with_name("mpiexec")
if not MPIEXEC.exists():
    MPIEXEC = Path(shutil.which("mpiexec") or "mpiexec")

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.timeout(90),
    pytest.mark.skipif(not MPIEXEC.exists(), reason="there is no mpiexec"),
]

SCENES = Path(__file__).parent / "mpi_scripts.py"
TUNE = Path(__file__).parents[1] / "scripts" / "tune.py"
ENVIRON = {k: v for k, v in os.environ.items() if not LAUNCHER.match(k)}
ENVIRON |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ENVIRON |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


MPICH = not shutil.which("ompi_info", path=str(MPIEXEC.parent))


def start(ranks, *arguments, stdin=None, program=(sys.executable,), **environ):
    return subprocess.Popen(
        [str(MPIEXEC), "-n", str(ranks), *map(str, program), *map(str, arguments)],
        env=ENVIRON | environ,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(job, seconds=60.0):
    """(exit code, stdout, stderr) of a job that must end within `seconds`."""
    try:
        out, errors = job.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        ranks = family(job.pid)
        job.kill()
        for one in ranks:
            one.kill()
        out, errors = job.communicate()
        raise AssertionError(f"the job hangs\n{out}\n{errors}") from None
    return job.returncode, out, errors


def family(pid):
    return psutil.Process(pid).children(recursive=True)


def gone(processes, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        left = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        if not left:
            return True
        time.sleep(0.05)
    return False


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def trials_of(log):
    return [(t.number, t.params, [(r.index, r.seed, r.loss) for r in t.replicas]) for t in hyppo.load(log).trials]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    log = tmp_path_factory.mktemp("serial") / "s.h5"
    subprocess.run([sys.executable, str(TUNE), str(log), "5"], check=True, timeout=60, env=ENVIRON)
    return trials_of(log)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_one_group_gives_the_trials_of_a_serial_run(tmp_path, serial, ranks):
    code, out, errors = finish(
        start(ranks, TUNE, tmp_path / "s.h5", 5, HYPPO_TRIAL_GROUPS="1", HYPPO_REPLICA_GROUPS="1")
    )
    assert code == 0, errors
    assert out == "5 trials\n"  # once, on rank 0
    assert trials_of(tmp_path / "s.h5") == serial
    assert ("idle" in errors) == (ranks > 2)


def test_all_ranks_train_by_default(tmp_path):
    code, out, errors = finish(start(4, "-m", "hyppo", "run", TUNE, "--trials", 6, tmp_path / "s.h5"))
    assert (code, out) == (0, "6 trials\n"), errors
    assert "4 ranks on 1 node: rank 0 asks, 3 train as 2 trial groups of 2 and 1 replica groups" in errors
    assert all(t.state == "done" and len(t.replicas) == 2 for t in hyppo.load(tmp_path / "s.h5").trials)


def test_all_ranks_run_a_module_after_m(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "size.py").write_text("TRIALS = 4\n")
    (tmp_path / "project" / "tune.py").write_text("from .size import TRIALS\n" + TUNE.read_text())
    words = ("-m", "hyppo", "run", "-m", "project.tune", tmp_path / "s.h5")
    code, out, errors = finish(start(3, *words, PYTHONPATH=str(tmp_path)))
    assert (code, out) == (0, "4 trials\n"), errors
    assert "3 ranks on 1 node: rank 0 asks, 2 train" in errors


@pytest.mark.parametrize(("ranks", "manager"), [(3, "dedicated"), (2, "shared")])
def test_contract(tmp_path, ranks, manager):
    code, out, errors = finish(start(ranks, SCENES, "contract", tmp_path, HYPPO_MANAGER=manager))
    assert code == 0, errors
    assert out.split() == [word for check in CHECKS for word in ("passed", check.__name__)]


def test_a_run_on_several_nodes_says_that_a_study_without_a_file_leaves_its_folders_there(tmp_path):
    code, _, errors = finish(start(2, SCENES, "two_nodes", tmp_path))
    assert code == 0, errors
    assert errors.count("2 ranks on 2 nodes") == 2
    assert errors.count("this study has no log=") == 1
    assert "left on 1 other node" in errors
    assert errors.index("this study has no log=") < errors.rindex("2 ranks on 2 nodes"), "of the study with a file"


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="mounts another folder for one rank")
def test_a_rank_that_does_not_see_the_folder_of_the_study_says_so(tmp_path):
    rank = tmp_path / "rank"
    private = f'exec unshare -m sh -c \'mount -t tmpfs none {tmp_path} && exec "$@"\' - "$@"'
    rank.write_text(f'#!/bin/sh\n[ "$PMI_RANK$OMPI_COMM_WORLD_RANK" = 0 ] || {private}\nexec "$@"\n')
    rank.chmod(0o755)
    job = start(3, TUNE, tmp_path / "s.h5", 2, program=[rank, sys.executable])
    code, _, errors = finish(job)
    assert code == 0, errors
    assert errors.count(f"does not see {tmp_path}/s.h5.journal") == 1, errors
    assert "Give the study a log= in a folder that all nodes share" in errors


def test_reports_of_a_data_parallel_group_count_once_where_rank_0_leads_one(tmp_path):
    code, out, errors = finish(start(4, SCENES, "first_rank_leads", tmp_path))
    assert code == 0, errors
    assert out.splitlines() == ["[(0, 0, 1.0), (0, 1, 0.5), (1, 0, 1.0), (1, 1, 0.5)]", "[9.0, 9.0]"]


def test_a_training_that_dies_leaves_the_job_alone(tmp_path):
    code, out, errors = finish(start(3, SCENES, "deaths", tmp_path))
    assert (code, out) == (0, "trials 7\n"), errors
    kinds = {t.params["do"]: t.replicas[0].failure for t in hyppo.load(tmp_path / "s.h5").trials}
    assert kinds.pop("square") is None
    assert {do: failure.type for do, failure in kinds.items()} == {
        "exit": "Exited",
        "segfault": "Killed",
        "kill": "Killed",
        "raise": "Diverged",
        "nan": "NonFiniteLoss",
        "hang": "TimedOut",
    }
    assert "in _raise" in kinds["raise"].traceback
    printed = next((tmp_path / "s.h5.d").glob("trial-*/replica-00/output.txt"))
    assert printed.read_text()


def test_bad_manners_are_survived(tmp_path):
    code, out, errors = finish(start(3, SCENES, "manners", tmp_path, PWD=str(Path.cwd())))
    assert (code, out) == (0, "trials 10\n"), errors
    kinds = {t.params["do"]: t.replicas[0] for t in hyppo.load(tmp_path / "s.h5").trials}
    assert {do for do, replica in kinds.items() if replica.loss == 1.0} == {
        "fork", "mpi", "print", "chdir", "reseed", "daemon"
    }  # fmt: skip
    assert {do: replica.failure.type for do, replica in kinds.items() if replica.failure} == {
        "huge": "ObjectiveError",
        "long_message": "Diverged",
        "leak": "OutOfMemory",
        "close_all": "Killed",
    }
    daemon = int(next((tmp_path / "s.h5.d").glob("*/*/pid")).read_text())
    assert not psutil.pid_exists(daemon) or gone([psutil.Process(daemon)])
    draws = {r.seed: r.loss for t in hyppo.load(tmp_path / "other.h5").trials for r in t.replicas}
    assert draws == {seed: random.Random(seed % 2**32).random() for seed in draws}


def test_the_first_rank_trains_where_it_is_asked_to(tmp_path):
    code, out, errors = finish(start(3, SCENES, "shared", tmp_path, HYPPO_OUTPUT="relay"))
    assert code == 0, errors
    assert "rank 0 asks and trains, 3 train as" in errors
    assert "rank 0 asks, 2 train as" in errors
    before, after = out.split("rank 0 is ")
    first, after = after.split("\n", 1)
    parents = [line.split()[-1] for line in before.splitlines() if "child of" in line]
    assert len(parents) == 6
    assert first in parents
    assert len(set(parents)) == 3
    later = {line.split()[-1] for line in after.splitlines() if "child of" in line}
    assert later
    assert first not in later
    _, events = read_log(tmp_path / "s.h5")
    assert any("rank 0 asks and trains" in event.text for event in events if isinstance(event, Note))


def test_further_runs_and_studies_find_the_ranks_still_there(tmp_path):
    code, out, errors = finish(start(3, SCENES, "again", tmp_path))
    assert (code, out.splitlines()) == (0, ["first 4", "second 3 {2.0}"]), errors


def test_trial_groups_work_on_trials_of_their_own(tmp_path):
    code, _, errors = finish(start(5, SCENES, "groups", tmp_path))
    assert code == 0, errors
    folder = tmp_path / "s.h5.d"
    workers = [{path.read_text() for path in folder.glob(f"trial-{n:05d}/*/pid")} for n in (0, 1)]
    assert all(len(pids) == 2 for pids in workers)
    assert not workers[0] & workers[1]


def test_data_parallel_ranks_meet_their_own_group(tmp_path):
    pytest.importorskip("torch")
    code, out, errors = finish(start(4, SCENES, "together", tmp_path, HYPPO_MANAGER="shared"), 85)
    assert (code, out) == (0, "losses [3.0, 3.0, 3.0, 3.0]\n"), errors
    met = [sorted(p.read_text() for p in d.glob("rank-*")) for d in (tmp_path / "s.h5.d").glob("trial-*/replica-*")]
    assert all(len(texts) == 2 and texts[0] == texts[1] for texts in met)  # one seed, one port
    assert len({texts[0].split()[1] for texts in met}) == 4  # a port is not used twice


def test_a_rank_that_dies_fails_the_training_of_its_group_alone(tmp_path):
    code, _, errors = finish(start(5, SCENES, "neighbours", tmp_path))
    assert code == 0, errors
    trials = hyppo.load(tmp_path / "s.h5").trials
    assert [t.state for t in trials] == ["failed", "done", "done", "done", "done", "done"]
    assert trials[0].replicas[0].failure.type == "Exited"
    assert trials[0].replicas[0].end < trials[1].replicas[0].end  # it died while the other group trained
    pids = [
        [int((tmp_path / f"s.h5.d/trial-{t.number:05d}/replica-00/rank-{rank}").read_text()) for rank in (0, 1)]
        for t in trials
    ]
    groups = {tuple(pair) for pair in pids}
    assert tuple(pids[1]) in {tuple(pair) for pair in pids[2:]}  # the same two processes as before
    assert len(groups) == 3  # the other group's first two, those that replaced them, and the neighbours


def test_the_first_failure_of_a_group_is_kept_and_the_loss_of_its_first_rank_counts(tmp_path):
    pytest.importorskip("torch")
    code, _, errors = finish(start(3, SCENES, "one_rank_raises", tmp_path))
    assert code == 0, errors
    first, second = (trial.replicas[0] for trial in hyppo.load(tmp_path / "s.h5").trials)
    assert str(first.failure) == "ValueError: no such file on this rank"
    assert (second.loss, second.failure) == (1.0, None)


def test_an_objective_that_no_rank_can_have_is_refused(tmp_path):
    code, _, errors = finish(start(2, SCENES, "refused", tmp_path))
    assert code != 0
    assert "define it at the top level" in errors


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("scene", ["error_on_a_rank", "error_with_mpi_started"])
def test_an_error_outside_a_training_aborts_with_its_traceback(tmp_path, rank, scene):
    began = time.monotonic()
    job = start(3, SCENES, scene, tmp_path, BAD_RANK=str(rank))
    code, _, errors = finish(job, 30)
    assert code != 0
    assert f"rank {rank} failed outside a training" in errors
    assert "KeyError: 'no such data set'" in errors
    assert time.monotonic() - began < 20.0


def test_an_error_after_the_run_aborts(tmp_path):
    code, _, errors = finish(start(2, SCENES, "error_after_the_run", tmp_path))
    assert code != 0
    assert "KeyError: 'nothing to plot'" in errors


def test_the_exit_code_of_the_script_is_that_of_the_job(tmp_path):
    assert finish(start(2, SCENES, "exit_code", tmp_path))[0] == 3


def test_a_script_may_finalise_mpi_itself(tmp_path):
    code, out, errors = finish(start(3, SCENES, "finalize", tmp_path))
    assert (code, out) == (0, "finalized\n"), errors


def test_a_message_wakes_a_rank_that_sleeps(tmp_path):
    code, out, errors = finish(start(2, SCENES, "bell", tmp_path))
    assert code == 0, errors
    assert "heard 0 wake up True" in out


@pytest.mark.parametrize("script", ["-", "/dev/stdin"])
def test_a_script_that_only_the_first_rank_is_given_is_refused(script):
    job = start(3, script, stdin=subprocess.PIPE)
    job.stdin.write("import hyppo\nhyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), abs).run(trials=1)\n")
    code, _, errors = finish(job, 20.0)
    assert code != 0
    assert errors.count("LaunchError: the script comes from standard input") == 1, errors


def test_a_number_of_workers_says_that_the_ranks_count(tmp_path):
    code, _, errors = finish(start(3, TUNE, tmp_path / "s.h5", 2, HYPPO_WORKERS="4"))
    assert code == 0, errors
    assert "workers=4 has no effect under MPI: the ranks make 2 trainings at a time; for 4, start 5 ranks" in errors


def test_ranks_that_wait_are_idle(tmp_path):
    job = start(3, SCENES, "idle", tmp_path)
    assert job.stdout.readline() == "idle\n"
    ranks = [p for p in family(job.pid) if str(SCENES) in p.cmdline() and "hyppo.launch.child" not in p.cmdline()]
    children = [p for p in family(job.pid) if "hyppo.launch.child" in p.cmdline()]
    assert len(ranks) == 3
    assert len(children) == 2

    def used():
        return sum(sum(p.cpu_times()[:2]) for p in ranks + children)

    def share(seconds):
        before, began = used(), time.monotonic()
        time.sleep(seconds)
        return (used() - before) / (time.monotonic() - began)

    # All five together; on a busy machine one of them may still be starting at first.
    assert min(share(1.1) for _ in range(3)) < 0.05
    assert finish(job)[0] == 0


@pytest.mark.parametrize("victim", ["mpiexec", "rank 0", "rank 1"])
def test_a_killed_job_leaves_nothing_behind(tmp_path, victim):
    job = start(3, SCENES, "busy", tmp_path)
    until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    everyone = family(job.pid)
    children = [p for p in everyone if "hyppo.launch.child" in p.cmdline()]
    assert len(children) == 2
    if victim == "mpiexec":
        job.kill()
    else:
        parents = {p.ppid() for p in children}
        ranks = {p.pid for p in everyone if str(SCENES) in p.cmdline()}
        leader = next(iter(parents)) if victim == "rank 1" else next(iter(ranks - parents))
        os.kill(leader, signal.SIGKILL)
    assert finish(job, 15)[0] != 0
    assert gone(everyone)


def test_a_stop_is_clean_and_the_same_command_goes_on(tmp_path, serial):
    log = tmp_path / "s.h5"
    one_group = {"HYPPO_TRIAL_GROUPS": "1", "HYPPO_REPLICA_GROUPS": "1"}
    job = start(2, TUNE, log, 5, 0.3, **one_group)
    until(lambda: log_has(log, 3))
    job.send_signal(signal.SIGINT if MPICH else signal.SIGUSR1)  # Open MPI ends its ranks at an interrupt
    code, _, errors = finish(job, 20)
    assert code == (130 if MPICH else 0), errors
    assert f"stopped by {'SIGINT' if MPICH else 'SIGUSR1'}" in errors
    assert "Traceback" not in errors
    assert 3 <= sum(r.loss is not None for t in hyppo.load(log).trials for r in t.replicas) < 10
    assert finish(start(2, TUNE, log, 5, **one_group))[0] == 0
    assert trials_of(log) == serial


def test_jobs_that_the_warning_kills_after_the_run_are_requeued(tmp_path):
    job = start(5, SCENES, "idle", tmp_path)
    assert job.stdout.readline() == "idle\n"
    job.send_signal(signal.SIGUSR1)
    code = finish(job, 20)[0]
    script = Job(["tune.py"], 3600, "/home/me", sys.executable, "tune", ranks_per_node=4, mpi="mpiexec").script()
    assert f"1:{code}" in re.search(r"case .*\n\s*(.*)\) ;;", script)[1].split(" | ")


def log_has(log, number):
    try:
        return sum(r.loss is not None for t in hyppo.load(log).trials for r in t.replicas) >= number
    except hyppo.LogError:
        return False


def test_trials_given_up_stop_on_every_rank_of_their_group(tmp_path):
    code, out, errors = finish(start(5, SCENES, "pruning", tmp_path))
    assert (code, out) == (0, "pending 0\n"), errors
    trials = hyppo.load(tmp_path / "s.h5").trials
    assert len(trials) == 12
    pruned = {t.number for t in trials if t.state is hyppo.State.PRUNED}
    assert 2 <= len(pruned) <= 10
    stopped = {tuple(map(int, path.name.split("-")[1:])) for path in tmp_path.glob("stopped-*")}
    assert {(trial, rank) for trial, _, rank in stopped} == {(trial, rank) for trial in pruned for rank in (0, 1)}
    for trial in trials:
        whole = [len(r.curve) == 12 for r in trial.replicas]
        assert all(whole) == (trial.number not in pruned)
