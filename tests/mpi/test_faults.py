"""Killed at random moments: what was acknowledged is kept, nothing counts twice, and the rest comes as it would have.

HYPPO_LONG=1 kills each victim fifty times.
"""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

import hyppo
from hyppo.seeds import seed_for

from .test_mpi import ENVIRON, MPICH, MPIEXEC, SCENES, TUNE, family, finish, gone, start, trials_of, until

LONG = os.environ.get("HYPPO_LONG") == "1"
KILLS = 50 if LONG else 1  # of each victim
VICTIMS = ("training", "worker", "manager", "mpiexec", "job")
ONE_GROUP = {"HYPPO_TRIAL_GROUPS": "1", "HYPPO_RETRIES": "3"}

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.timeout(3600 if LONG else 120),
    pytest.mark.skipif(not MPIEXEC.exists(), reason="there is no mpiexec"),
]


def settled(log):
    """What a reader sees: (trial, replica) -> seed, loss and time of each training that ended."""
    try:
        trials = hyppo.load(log).trials
    except hyppo.LogError:
        return {}
    return {(t.number, r.index): (r.seed, r.loss, r.end) for t in trials for r in t.replicas if r.state != "pending"}


def kill(processes):
    for one in processes:
        try:
            os.kill(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def interrupted(log, ranks, victim):
    """One start of the job, until a while after it has got on, `victim` is killed."""
    before = settled(log)
    job = start(ranks, TUNE, log, 100_000, 0.05, **ONE_GROUP)
    until(lambda: len(settled(log)) > len(before) or job.poll() is not None)
    assert job.poll() is None, finish(job)
    time.sleep(random.uniform(0.0, 0.4))
    everyone = family(job.pid)
    children = [p for p in everyone if "hyppo.launch.child" in p.cmdline()]
    workers = [p for p in everyone if p.pid in {child.ppid() for child in children}]
    manager = [p for p in everyone if str(TUNE) in p.cmdline() and p not in workers + children]
    known = settled(log)
    if victim == "training":
        kill([random.choice(children)])
        until(lambda: len(settled(log)) > len(known) + 2 or job.poll() is not None)
        assert job.poll() is None, finish(job)  # the job goes on
        known = settled(log)
        everyone = family(job.pid)
    if victim in ("training", "job"):
        kill(random.sample([*everyone, psutil.Process(job.pid)], len(everyone) + 1))
    elif victim == "mpiexec":
        job.kill()
    else:
        assert len(manager) == 1
        kill([random.choice(workers)] if victim == "worker" else manager)
    assert finish(job, 20)[0] != 0
    assert gone(everyone)
    return known


@pytest.mark.parametrize("ranks", [2, 4] if LONG else [2])
def test_killed_at_random_moments(tmp_path, ranks):
    log = tmp_path / "s.h5"
    for victim in VICTIMS * KILLS:
        known = interrupted(log, ranks, victim)
        assert known.items() <= settled(log).items(), f"lost at the kill of {victim}"
    known = settled(log)
    number = len(hyppo.load(log).trials) + 2
    code, out, errors = finish(start(ranks, TUNE, log, number, **ONE_GROUP))
    assert (code, out) == (0, f"{number} trials\n"), errors
    assert known.items() <= settled(log).items()
    trials = hyppo.load(log).trials
    assert [t.number for t in trials] == list(range(number))
    assert all([r.seed for r in t.replicas] == [seed_for(3, t.number, i) for i in range(2)] for t in trials)
    assert all(r.state == "done" for t in trials for r in t.replicas)
    if ranks == 2:  # one training at a time: the whole study is as if nothing had happened
        command = [sys.executable, str(TUNE), str(tmp_path / "serial.h5"), str(number)]
        subprocess.run(command, check=True, timeout=600, env=ENVIRON)
        assert trials_of(log) == trials_of(tmp_path / "serial.h5")


@pytest.mark.skipif(not MPICH, reason="the launcher of Open MPI has other processes")
def test_ranks_end_when_their_launchers_were_killed(tmp_path):
    job = start(3, SCENES, "busy", tmp_path)
    until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    everyone = family(job.pid)
    launchers = [p for p in everyone if "hydra" in p.name()]
    assert launchers
    kill([*launchers, psutil.Process(job.pid)])
    assert gone([p for p in everyone if p not in launchers], 20.0)
    job.communicate(timeout=20)


@pytest.mark.parametrize("call", ["Barrier()", "recv(source=1)"])
def test_a_call_after_the_run_that_waits_for_other_ranks_says_why(tmp_path, call):
    job = start(2, SCENES, "waits_for_ranks", tmp_path, CALL=call.split("(")[0])
    line = job.stderr.readline()
    while "has waited" not in line:
        assert line, "the job has ended"
        line = job.stderr.readline()
    assert f"MPI.COMM_WORLD.{call}" in line
    assert "they serve trainings until this script ends" in line
    everyone = family(job.pid)
    kill([*everyone, psutil.Process(job.pid)])
    job.communicate(timeout=20)
