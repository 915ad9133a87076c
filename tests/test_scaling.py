"""The scaling benchmark in a small form, and what it rests on: batches, points ahead, trials as arrays."""

import cProfile
import dataclasses
import inspect
import json
import os
import pstats
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

import hyppo
from benchmarks.scaling import problem
from benchmarks.scaling.simulation import simulate
from hyppo.errors import StudyError
from hyppo.launch import surroundings
from hyppo.loop import Interrupt, Loop, Options, Session
from hyppo.search.columns import Columns
from hyppo.surrogates import gp
from hyppo.surrogates.pool import Pool

from .test_run import ByHand, Silent, quick

pytestmark = pytest.mark.timeout(120)


# -- batches ----------------------------------------------------------------------------------------------------------


def told(surrogate="auto", n=14, **arguments):
    study = hyppo.Study(problem.SPACE, seed=3, surrogate=surrogate, **arguments)
    for _ in range(n):
        trial = study.ask()
        study.tell(trial.number, [problem.noisy_loss(trial.params, seed) for seed in trial.seeds])
    return study


@pytest.mark.parametrize("surrogate", ["auto", "gp", "rbf", "random"])
def test_the_first_of_a_batch_is_what_a_single_ask_gives(surrogate):
    one, many = told(surrogate).ask(), told(surrogate).ask_batch(7)
    assert dataclasses.asdict(one) == dataclasses.asdict(many[0])


@pytest.mark.parametrize("surrogate", ["auto", "gp", "rbf", "random"])
def test_no_point_of_a_batch_comes_twice(surrogate):
    study = told(surrogate, replicas=1)
    study.ask_batch(40)
    points = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(points)) == len(points) == 54


def test_a_batch_of_the_design_goes_on_with_the_design():
    single = hyppo.Study(problem.SPACE, seed=1)
    params = [single.ask().params for _ in range(30)]
    assert [trial.params for trial in hyppo.Study(problem.SPACE, seed=1).ask_batch(30)] == params


def test_a_batch_ends_where_the_space_does():
    study = hyppo.Study(hyppo.Space(n=hyppo.Integer(1, 5)), replicas=1)
    assert len(study.ask_batch(9)) == 5
    assert Session(study).exhausted


def test_a_batch_is_one_append(tmp_path):
    path = tmp_path / "s.h5"
    with told(n=6, log=path, replicas=1) as study:
        study.ask_batch(5)
    assert len(hyppo.load(path).trials) == 11


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_count_is_checked(count):
    with pytest.raises(StudyError, match="count: expected an integer"):
        hyppo.Study(problem.SPACE).ask_batch(count)


def test_a_pool_with_points_added_is_the_process_with_them_appended():
    generator = np.random.default_rng(0)
    x, more, where = generator.random((40, 3)), generator.random((6, 3)), generator.random((25, 3))
    model = gp.condition(x, np.sin(5.0 * x.sum(axis=1)), np.array([-0.5, -0.3, -0.7, 0.2, -5.0]))
    pool = Pool(model, where, room=6)
    np.testing.assert_allclose(pool.prediction.std, model.predict(where).std, rtol=1e-10)
    for point in more:
        pool.add(point, 1.0)
    appended = model.append(more, model.predict_mean(more), np.ones(6))
    # The variance of the estimated mean stays as it was, which is little.
    np.testing.assert_allclose(pool.prediction.std, appended.predict(where).std, rtol=2e-2)
    np.testing.assert_allclose(pool.prediction.mean, appended.predict(where).mean, atol=1e-6)


def test_columns_follow_the_trials():
    study = told(n=9, replicas=2)
    columns = Columns(problem.SPACE)
    columns.update(study.trials)
    waiting = study.ask_batch(3)
    study.fail(waiting[0].number, "boom")
    study.tell(4, [1.5])
    columns.update(study.trials)
    fresh = Columns(problem.SPACE)
    fresh.update(study.trials)
    for ours, theirs in zip(vars(columns.observations()).values(), vars(fresh.observations()).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(columns.taken) == 12
    np.testing.assert_array_equal(
        columns.pending_units(), [problem.SPACE.encode(trial.params) for trial in waiting[1:]]
    )


# -- points ahead -----------------------------------------------------------------------------------------------------


class Ticking:
    """A clock on which every look takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def ahead(slots, **options):
    study = quick(replicas=1)
    workers = ByHand(list(range(slots)))
    loop = Loop(Session(study), workers, Options(**options), Silent(), Interrupt(), Ticking())
    loop._fill()
    workers.end(0)
    loop._collect()
    loop._fill()
    loop._ask_ahead()
    return study, loop


def test_points_are_asked_ahead_where_searches_take_long():
    study, loop = ahead(16, trials=100)
    assert len(loop.queue) == 4
    assert len(study.trials) == 16 + 1 + 4


def test_one_slot_never_has_points_ahead():
    study, loop = ahead(1, trials=100)
    assert len(loop.queue) == 0
    assert len(study.trials) == 2


def test_points_ahead_are_within_the_budget():
    study, _ = ahead(16, trials=18)
    assert len(study.trials) == 18


# -- the benchmark ----------------------------------------------------------------------------------------------------


def test_simulated_groups_are_busy(tmp_path):
    report = simulate(groups=32, seconds=600.0, trials=120, path=tmp_path / "s.h5")
    assert report.utilisation > 0.95
    assert report.spent["points"] == 120
    assert report.stale_most <= 32
    assert len(hyppo.load(tmp_path / "s.h5").trials) == 120


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_the_loop_does_for_a_training_does_not_grow_with_the_groups(replicas, monkeypatch):
    monkeypatch.setattr("benchmarks.scaling.simulation.load", lambda: None)

    def calls(groups):
        """Calls of the loop's functions, and of futures', for each training."""
        profile = cProfile.Profile()
        profile.runcall(simulate, groups, 600.0, 2 * groups, None, surrogate="random", replicas=replicas, free=True)
        counted = pstats.Stats(profile).stats.items()
        files = {inspect.getfile(Loop), inspect.getfile(Future)}
        return sum(row[1] for (file, *_), row in counted if file in files) / (2 * groups * replicas)

    assert calls(256) < 1.5 * calls(16)


def test_a_manager_that_costs_nothing_knows_every_loss():
    report = simulate(groups=8, seconds=1.0, trials=40, path=None, free=True)
    assert report.stale_most == 0
    assert report.utilisation == pytest.approx(1.0)


@pytest.mark.mpi
def test_sleeping_ranks(tmp_path):
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("needs the mpiexec of this environment")
    out = tmp_path / "out.json"
    environ = {k: v for k, v in os.environ.items() if not surroundings.LAUNCHER.match(k)}
    command = [str(mpiexec), "-n", "4", sys.executable, "-m", "benchmarks.scaling.sleepers", str(out)]
    command += ["--seconds", "0.1", "--trials", "30", "--surrogate", "random"]
    subprocess.run(command, check=True, timeout=90, env=environ, cwd=Path(__file__).parent.parent)
    report = json.loads(out.read_text())
    assert report["slots"] == 3
    assert report["trainings"] == 30
    assert report["fairness"] > 0.5


@pytest.mark.mpi
def test_the_way_of_a_replica_is_stamped(tmp_path):
    environ = {k: v for k, v in os.environ.items() if not surroundings.LAUNCHER.match(k)}
    command = [sys.executable, "-m", "benchmarks.scaling", "--out", str(tmp_path)]
    command += ["hops", "--ranks", "2", "--seconds", "0.05", "--trials", "8"]
    subprocess.run(command, check=True, timeout=90, env=environ, cwd=Path(__file__).parent.parent)
    report = json.loads((tmp_path / "hops-2.json").read_text())
    assert len(report) == 7
    median, mean, _ = report.pop("overhead")
    assert 0.0 < median < 1e3
    assert mean == pytest.approx(sum(stretch[1] for stretch in report.values()))
