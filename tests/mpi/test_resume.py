"""Real trainings of several ranks that the job's end interrupts: the next job goes on with them, and rules see that."""

import signal

import pytest

import hyppo

from ..test_resume import epochs, told, written
from .test_mpi import MPICH, MPIEXEC, finish, start, until

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not MPIEXEC.exists(), reason="there is no mpiexec"),
]

# What is trained by three ranks, the first of which asks.
TOGETHER = {"HYPPO_DATA_PARALLEL": "2"}  # one replica on both
APART = {"REPLICAS": "2", "HYPPO_REPLICA_GROUPS": "2"}  # a replica on each


def job(folder, framework, name, sleep, environ):
    script, needed = written(framework, folder)
    return start(3, script, folder / name, sleep, **needed, **environ)


def trained(log):
    return [(r.index, r.seed, r.loss, r.curve) for t in hyppo.load(log).trials for r in t.replicas]


@pytest.mark.parametrize(
    ("framework", "environ"),
    [("lightning", TOGETHER), ("lightning", APART), ("keras on torch", TOGETHER), ("keras on torch", APART)],
)
def test_ranks_go_on_from_their_epoch_to_the_same_loss(tmp_path, framework, environ):
    pytest.importorskip("torch")
    code, out, errors = finish(job(tmp_path, framework, "whole.h5", 0.0, environ), 150)
    assert code == 0, out + errors
    log = tmp_path / "cut.h5"
    replicas = int(environ.get("REPLICAS", "1"))
    first = job(tmp_path, framework, "cut.h5", 0.5, environ)
    until(lambda: len(epochs(log)) >= 3 * replicas or first.poll() is not None, 90)
    first.send_signal(signal.SIGINT if MPICH else signal.SIGUSR1)  # Open MPI ends its ranks at an interrupt
    code, out, errors = finish(first)
    stays = "1 training stays" if replicas == 1 else f"{replicas} trainings stay"
    assert f"{stays} pending" in errors, errors
    assert 3 * replicas <= len(epochs(log)) < 8 * replicas
    assert len({path.parent for path in tmp_path.rglob("resume.*")}) == replicas
    code, out, errors = finish(job(tmp_path, framework, "cut.h5", 0.0, environ), 120)
    assert code == 0, out + errors
    assert sorted(epochs(log)) == sorted([*range(8)] * replicas)
    assert trained(log) == trained(tmp_path / "whole.h5")
    assert all(loss is not None for _, _, loss, _ in trained(log))
    assert not list(tmp_path.rglob("resume.*"))
    if replicas == 1:  # of two, the rule is not asked about the second once the first has its loss
        assert told(log)[-8:] == told(tmp_path / "whole.h5")


@pytest.mark.parametrize(("framework", "environ"), [("lightning", TOGETHER), ("lightning", APART)])
def test_ranks_whose_trial_is_given_up_stop_together(tmp_path, framework, environ):
    pytest.importorskip("torch")
    code, out, errors = finish(job(tmp_path, framework, "s.h5", 0.1, environ | {"GIVE_UP": "1"}), 120)
    assert code == 0, out + errors
    (trial,) = hyppo.load(tmp_path / "s.h5").trials
    assert trial.state == "pruned"
    assert {r.state for r in trial.replicas} == {"pruned"}
    assert 5 <= max(len(r.curve) for r in trial.replicas) < 8  # the replica that is ahead decides
    assert not list(tmp_path.rglob("resume.*"))
    assert not list(tmp_path.rglob("predictions*")), "passes over the validation data of what is given up"
