"""Replicate or explore."""

import math
import random

import numpy as np
import pytest

from hyppo import Integer, Real, Space, Study
from hyppo.search.budget import Left
from hyppo.search.replicate import EXPLORED, EXPLORED_SHARE, SETTLED, SHARE, due

SQUARE = Space(x=Real(-1, 1), y=Real(-1, 1))


def bowl(params):
    return params["x"] ** 2 + params["y"] ** 2


def drive(replicas, trainings, noise, seed=0, true=bowl, space=SQUARE, **options):
    """Ask and tell one loss for each seed until so many trainings are spent."""
    study = Study(space, replicas=replicas, seed=seed, **options)
    spent = 0
    while spent < trainings:
        trial = study.ask()
        spent += len(trial.seeds)
        losses = [true(trial.params) + noise * random.Random(s).gauss(0, 1) for s in trial.seeds]
        study.tell(trial.number, losses)
    return study


def counts(study):
    return np.array([len(t.replicas) for t in study.trials])


def further_replicas(trainings, left=lambda points, spent: Left()):
    """How many of so many trainings are further replicas, and how many trainings came before the first one."""
    further = begin = 0
    for spent in range(trainings):
        more = due(spent - further, spent, further, 1, left(spent - further, spent), exhausted=False)
        begin = begin if further or more else spent + 1
        further += more
    return further, begin


def test_the_share_of_further_replicas():
    further, begin = further_replicas(200)
    assert further == pytest.approx(SHARE * (200 - EXPLORED), abs=1.0)
    assert begin == pytest.approx(EXPLORED + 1 / SHARE, abs=1.0)
    assert further_replicas(EXPLORED)[0] == 0
    assert due(50, 70, 20, 8, Left(trials=0), exhausted=False) == 8
    assert due(50, 50 + int(SETTLED * 50), int(SETTLED * 50), 8, Left(trials=0), exhausted=False) == 0
    assert due(9, 90, 81, 2, Left(), exhausted=True) == 2


@pytest.mark.parametrize(
    "left", [lambda points, spent: Left(trainings=30 - spent), lambda points, spent: Left(trials=30 - points)]
)
def test_under_a_small_known_budget_contenders_are_replicated_earlier(left):
    further, begin = further_replicas(30, left)
    assert begin == pytest.approx(EXPLORED_SHARE * 30 + 1 / SHARE, abs=1.0)
    assert further == pytest.approx(SHARE * (1 - EXPLORED_SHARE) * 30, abs=1.0)


@pytest.mark.parametrize("replicas", [None, (2, 6)])
def test_contenders_earn_replicas_and_bad_points_do_not(replicas):
    study = drive(replicas, 70, 0.1)
    fewest, most = study.replicas
    asked, true = counts(study), np.array([bowl(t.params) for t in study.trials])
    assert asked.min() == fewest
    assert fewest + 1 < asked.max() <= most
    assert true[asked > fewest].mean() < true[asked == fewest].mean()
    assert (asked - fewest).sum() <= SHARE * (asked.sum() - EXPLORED) + 1
    assert study.best.replicas >= 2


def test_without_noise_next_to_nothing_is_repeated():
    for seed in range(3):
        assert (counts(drive(None, 50, 0.0, seed)) - 1).sum() <= 2


def test_one_equal_loss_is_no_proof_that_there_is_no_noise():
    """A metric in steps, such as the accuracy on few examples, may be the same in two trainings of a point."""
    study = Study(SQUARE, seed=0)
    for _ in range(80):
        trial = study.ask()
        (index,) = (replica.index for replica in trial.pending)
        # The first two trainings of a point are equal, and the others have noise.
        lucky = random.Random(trial.seeds[0] if index > 1 else trial.number).gauss(0, 1)
        study.tell(trial.number, [bowl(trial.params) + 0.1 * lucky])
    further = counts(study) - 1
    assert further.max() > 2  # the point whose first two are equal is trained again
    assert further.sum() > 10


def test_fixed_replicas_stay_fixed():
    assert set(counts(drive(3, 45, 0.1))) == {3}
    assert set(counts(drive(1, 45, 0.1))) == {1}


def test_a_trial_with_pending_replicas_is_not_asked_again():
    study = Study(Space(n=Integer(1, 40)), seed=1)
    waiting = []
    for _ in range(60):
        trial = study.ask()
        assert trial.number not in [t.number for t in waiting]
        assert trial.seeds == study.trials[trial.number].seeds
        waiting.append(trial)
        if len(waiting) == 4:
            done = waiting.pop(0)
            study.tell(done.number, [done.params["n"] * 0.1 + random.Random(s).gauss(0, 1) for s in done.seeds])
    assert counts(study).max() > 1


@pytest.mark.parametrize("pending", [8, 64])
def test_a_batch_holds_new_points_and_contenders(pending):
    study = drive(None, 60, 0.1)
    before = counts(study).sum()
    batch = study.ask_batch(pending)
    assert len({t.number for t in batch}) == len(batch)
    assert sum(len(t.seeds) for t in batch) == pending == counts(study).sum() - before
    known = [t for t in batch if t.stats is not None]
    assert 0 < len(known) < len(batch)
    assert (counts(study) - 1).sum() <= SHARE * counts(study).sum() + 1


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_a_point_that_stands_alone_is_trained_again_and_recommended(noise):
    """One training of it is far better than its neighbours tell, and so are its replicas: it is no luck."""
    space, alone = Space(n=Integer(0, 39)), 9

    def loss(params):
        return ((params["n"] - 30) / 40) ** 2 - 0.4 * (params["n"] == alone)

    covered = 0
    for seed in range(4):
        best = drive(None, 90, noise, seed, loss, space).best
        assert best.params == {"n": alone}
        assert best.replicas >= 3
        covered += best.interval[0] <= loss(best.params) <= best.interval[1]
    assert covered >= 3


def test_a_single_lucky_training_is_not_recommended():
    """One training of one point is as good as the best; its further trainings tell that this was luck."""
    space, lucky = Space(n=Integer(0, 39)), []

    def train(params, seed):
        first = params["n"] == 9 and not lucky
        if first:
            lucky.append(seed)
        return ((params["n"] - 30) / 40) ** 2 + 0.05 * random.Random(seed).gauss(0, 1) - 0.4 * first

    study = Study(space, seed=1)
    spent = 0
    while spent < 90:
        trial = study.ask()
        spent += len(trial.seeds)
        study.tell(trial.number, [train(trial.params, s) for s in trial.seeds])
    again = next(t for t in study.trials if t.params["n"] == 9)
    assert len(again.replicas) >= 2
    assert abs(study.best.params["n"] - 30) <= 5


def noisy(replica):
    return bowl(replica.params) + random.Random(replica.seed).gauss(0, 0.1)


def test_a_budget_of_trials_asks_them_and_then_settles_the_contenders(capsys):
    study = Study(SQUARE, noisy, isolate=False, seed=1)
    study.run(trials=25, progress=False)
    asked = counts(study)
    assert len(asked) == 25
    assert asked.max() <= 8
    assert 10 < (asked - 1).sum() <= SETTLED * 25
    assert "contenders are trained again" in capsys.readouterr().err
    study.run(trials=25, progress=False)
    assert counts(study).tolist() == asked.tolist()
    assert "nothing left to do" in capsys.readouterr().err


def test_a_budget_of_trials_costs_no_more_without_noise():
    study = Study(SQUARE, lambda replica: bowl(replica.params), isolate=False)
    study.run(trials=25, progress=False)
    assert len(study.trials) == 25
    assert (counts(study) - 1).sum() <= 3


def test_the_contenders_of_a_small_budget_of_trainings_get_further_replicas():
    study = Study(SQUARE, noisy, isolate=False, seed=1)
    study.run(trainings=30, progress=False)
    assert counts(study).sum() == 30
    assert (counts(study) - 1).sum() == pytest.approx(SHARE * (1 - EXPLORED_SHARE) * 30, abs=1.0)
    assert study.best.replicas >= 2


def test_a_small_space_is_settled():
    study = Study(Space(n=Integer(0, 5)), lambda r: 0.1 * r.params["n"] + random.Random(r.seed).gauss(0, 0.2),
                  isolate=False, seed=2)  # fmt: skip
    study.run(trials=30, progress=False)
    assert len(study.trials) == 6
    assert 1 < counts(study).max() <= 8


def test_failures_and_a_penalty_of_the_spread():
    def true(params):
        return math.nan if params["x"] > 0.5 else bowl(params)

    study = drive(None, 60, 0.1, true=true, risk=1.0)
    assert counts(study).max() > 1
    assert study.best.params["x"] <= 0.5
    best = study.best
    assert best.interval[0] <= best.estimate <= best.interval[1]
    assert abs(best.estimate - bowl(best.params)) < 0.25


def test_the_recommendation_reads_as_a_person_would_say_it():
    study = drive(None, 60, 0.1)
    best = study.best
    lines = str(best).splitlines()
    low, high = best.interval
    assert lines[1] == f"expected loss {best.estimate:.5g} (90 % interval {low:.4g} to {high:.4g})"
    assert lines[2] == f"observed {best.mean:.5g} ± {best.spread:.3g} over {best.replicas} trainings"
    assert best.failed == 0
