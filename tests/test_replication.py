"""Replicate or explore."""

import numpy as np
import pytest
from scipy.stats import norm

from hyppo import Integer, Real, Space, Study
from hyppo.search.replicate import knowledge_gradient


@pytest.mark.parametrize(("gap", "movement"), [(0.0, 1.0), (0.5, 1.0), (2.0, 0.7), (3.0, 10.0)])
def test_knowledge_gradient_is_the_expected_gain(gap, movement):
    # E[max(0, t Z - gap)] by quadrature over Z ~ N(0, 1)
    z = np.linspace(-12, 12, 200_001)
    expected = np.trapezoid(np.maximum(movement * z - gap, 0.0) * norm.pdf(z), z)
    assert np.isclose(knowledge_gradient(np.array([gap]), np.array([movement]))[0], expected, rtol=1e-6)


def test_a_mean_that_cannot_move_gains_nothing():
    assert knowledge_gradient(np.array([1.0, 0.0]), np.zeros(2)).tolist() == pytest.approx([0.0, 0.0], abs=1e-11)


def drive(replicas, trainings, noise, seed=0):
    study = Study(Space(x=Real(-1, 1), y=Real(-1, 1)), replicas=replicas, seed=seed)
    generator = np.random.default_rng(seed)
    spent = 0
    while spent < trainings:
        trial = study.ask()
        spent += len(trial.seeds)
        true = trial.params["x"] ** 2 + trial.params["y"] ** 2
        study.tell(trial.number, true + noise * generator.standard_normal(len(trial.seeds)))
    return study


@pytest.mark.parametrize("seed", range(3))
def test_contenders_earn_replicas_and_bad_points_do_not(seed):
    study = drive((2, 6), 90, 0.1, seed)
    counts = np.array([len(t.replicas) for t in study.trials])
    true = np.array([t.params["x"] ** 2 + t.params["y"] ** 2 for t in study.trials])
    assert counts.min() == 2
    assert counts.max() <= 6
    assert counts.max() > 2
    assert true[counts > 2].mean() < true[counts == 2].mean()
    assert np.sum(counts - 2) <= counts.sum() / 3 + 1
    assert study.best.replicas >= 2


def test_fixed_replicas_stay_fixed():
    assert {len(t.replicas) for t in drive(3, 45, 0.1).trials} == {3}


def test_a_trial_with_pending_replicas_is_not_asked_again():
    study = Study(Space(n=Integer(1, 40)), replicas=(2, 4), seed=1)
    generator = np.random.default_rng(0)
    waiting = []
    for _ in range(60):
        trial = study.ask()
        assert trial.number not in [t.number for t in waiting]
        assert trial.seeds == study.trials[trial.number].seeds
        waiting.append(trial)
        if len(waiting) == 4:
            done = waiting.pop(0)
            study.tell(done.number, done.params["n"] * 0.1 + generator.standard_normal(len(done.seeds)))
    assert max(len(t.replicas) for t in study.trials) > 2
