"""Ensembles of different size compare fairly, and a recommendation for their loss is confirmed by new ensembles."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import hyppo
from hyppo.analysis.confirmation import in_short, recommendation_confirmed
from hyppo.errors import StudyError
from hyppo.search.ensembles import at_size, ensemble_stats
from hyppo.stats import LossStats
from hyppo.training.replica import Goal, Replica, Task
from hyppo.trial import ReplicaRecord

pytestmark = pytest.mark.timeout(120)
TARGETS = np.linspace(0.0, 1.0, 40)
SPACE = hyppo.Space(bias=hyppo.Real(0.0, 1.0), noise=hyppo.Real(0.25, 0.35))


def mse(prediction, targets):
    return float(np.mean((prediction - targets) ** 2))


def network(replica):
    """A network that is wrong by a bias, and by noise that averaging removes."""
    noise = np.random.default_rng(replica.seed).standard_normal(TARGETS.size)
    return TARGETS + replica.params["bias"] + replica.params["noise"] * noise


def train(replica):
    prediction = network(replica)
    return hyppo.Result(mse(prediction, TARGETS), prediction=prediction, targets=TARGETS)


def study(**arguments):
    given = {"criterion": mse, "target": "ensemble_loss", "surrogate": "random", "isolate": False, "replicas": 4}
    return hyppo.Study(SPACE, train, **(given | arguments))


def predictions(trial, records):
    tasks = (Task(trial.number, r.index, r.seed, dict(trial.params), "") for r in records)
    return [network(Replica(task)) for task in tasks]


def test_a_squared_error_at_another_size_is_the_mean_over_all_ensembles_of_that_size():
    generator = np.random.default_rng(0)
    networks = TARGETS + 0.2 + 0.3 * generator.standard_normal((6, TARGETS.size))
    whole, single = mse(networks.mean(axis=0), TARGETS), np.mean([mse(f, TARGETS) for f in networks])
    for size in (1, 2, 3, 5, 6):
        subsets = itertools.combinations(networks, size)
        expected = np.mean([mse(np.mean(some, axis=0), TARGETS) for some in subsets])
        found = at_size(np.array([6]), np.array([whole]), np.array([single]), size)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_network_gets_the_usual_gain():
    size, loss = np.array([8, 8, 1]), np.array([1.0, 1.1, 2.0])
    found = at_size(size, loss, np.array([2.0, 2.1, 2.0]), 8)
    np.testing.assert_allclose(found, [1.0, 1.1, 1.0])
    np.testing.assert_allclose(at_size(np.array([1, 1]), loss[:2], loss[:2], 8), loss[:2])  # nothing is known of it


def test_dropout_passes_of_a_single_network_are_an_average_already():
    records = [
        ReplicaRecord(i, 0, loss=1.0, end=float(i), losses=LossStats(11, 1.0, 0.1), ensemble_loss=ensemble)
        for i, ensemble in enumerate([0.6, 0.5, 0.45])
    ]
    # alone 0.6, together 0.45: 0.15 = c (1 - 1/3)
    assert ensemble_stats(records, 6).mean == pytest.approx(0.45 - 0.225 * (1 / 3 - 1 / 6))


def test_the_search_sees_ensembles_of_one_size():
    """Expected: bias^2 + noise^2 / 8, of trials with one to eight networks."""
    errors = []
    for seed in (3, 4, 9, 10):
        one = study(replicas=(1, 8), seed=seed)
        one.run(trainings=80, progress=False)
        known = one._known()
        trials = known.settled_trials()
        counts = np.array([t.stats.n for t in trials])
        assert counts.min() < 3 < counts.max()
        expected = np.array([t.params["bias"] ** 2 + t.params["noise"] ** 2 / 8 for t in trials])
        seen = known.observations().mean
        bare = np.array([t.ensemble_loss for t in trials])
        few = counts < 3
        assert np.mean(np.abs(seen - expected)[few]) < 0.6 * np.mean(np.abs(bare - expected)[few])
        errors.append(np.mean((seen - expected)[few]))
    assert abs(np.mean(errors)) < 0.02


@pytest.mark.parametrize("isolate", [False, True])
def test_a_confirmation_is_a_new_ensemble(isolate, tmp_path):
    path = tmp_path / "study.h5"
    one = study(log=path, isolate=isolate)
    one.enqueue({"bias": 0.9, "noise": 0.3}, name="baseline")
    one.run(trials=6, progress=False)
    best = one.best
    found = one.confirm(replicas=4, against="baseline", progress=False)
    trial = one.trials[found.number]
    new = predictions(trial, trial.confirmations)
    assert found.ensemble_loss == pytest.approx(mse(np.mean(new, axis=0), TARGETS), rel=1e-9)
    assert found.losses == pytest.approx([mse(f, TARGETS) for f in new])
    assert found.interval[0] < found.ensemble_loss < found.interval[1]
    assert found.predicted == best.interval
    assert one.best == best
    assert found.versus.difference < 0.0
    assert found.versus.probability > 0.99
    assert "for the mean prediction of 4 networks (from 4 networks with a mean loss of" in found.text
    again = hyppo.load(path)
    again._criterion = mse
    assert recommendation_confirmed(again, again.best) == found
    assert "loss of their ensemble" in in_short(found, Goal("loss"), one.config)
    assert again.compare("best", "baseline") == found.versus


def test_more_confirmations_than_the_ensemble_has_networks():
    """Of nine new networks the loss is that expected of three, for which the interval was predicted."""
    one = study(replicas=3)
    one.run(trials=5, progress=False)
    found = one.confirm(replicas=9, progress=False)
    trial = one.trials[found.number]
    new = predictions(trial, trial.confirmations)
    expected = np.mean([mse(np.mean(some, axis=0), TARGETS) for some in itertools.combinations(new, 3)])
    assert found.ensemble_loss == pytest.approx(expected, rel=1e-9)
    assert "for the mean prediction of 3 networks (from 9 networks" in found.text


def test_an_ensemble_without_a_loss_is_no_confirmation():
    one = study(replicas=2)
    one.run(trials=3, progress=False)
    number = one.confirm(replicas=2, progress=False).number
    trial = one.trials[number]
    unknown = tuple(replace(r, ensemble_loss=None) for r in trial.confirmations)
    one._history.trials[number] = replace(trial, confirmations=unknown)
    assert recommendation_confirmed(one, one.best) is None
    with pytest.raises(StudyError, match=r"loss of the mean prediction of the confirmations .* is unknown"):
        one.confirm(replicas=2, progress=False)
