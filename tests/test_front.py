"""Trials that no other beats in loss and size, and the smallest network within the interval of the best."""

import math

import pytest

import hyppo
from hyppo.training.replica import Goal
from hyppo.trial import ReplicaRecord, Settled, State

SPACE = hyppo.Space(width=hyppo.Integer(1, 40, log=True), x=hyppo.Real(0, 1))


def train(replica):
    width, x = replica.params["width"], replica.params["x"]
    replica.log("parameters", 100 * width)
    replica.log("noisy", width + replica.index)
    return 1.0 / width + 0.3 * (x - 0.5) ** 2 + 0.01 * (replica.seed % 7)


@pytest.fixture(scope="module")
def study():
    study = hyppo.Study(SPACE, train, replicas=2, seed=1, surrogate="random", isolate=False)
    study.run(trials=25, progress=False)
    return study


def test_each_trial_is_on_the_front_or_beaten_by_one_that_is(study):
    front = study.front("loss", "metrics.parameters")
    sizes = {t.number: t.metrics["parameters"] for t in study.trials}
    values = {trial.number: (loss, sizes[trial.number]) for trial, loss, _ in study._estimates()}
    assert len(values) == 25
    on = {point.number: point.values for point in front}
    assert on == {number: values[number] for number in on}
    for number, (loss, size) in values.items():
        beaten = any(a <= loss and b <= size and (a, b) != (loss, size) for a, b in on.values())
        assert beaten != (number in on)
    assert [point.values[1] for point in front] == sorted(point.values[1] for point in front)
    assert {p.number for p in study.front("metrics.parameters", "loss")} == set(on)


def test_the_smallest_network_within_the_interval_of_the_best(study):
    front, best = study.front(), study.best
    within = {trial.number for trial, loss, _ in study._estimates() if loss <= best.interval[1]}
    least = min(study.trials[number].metrics["parameters"] for number in within)
    assert front.smallest in tuple(front)
    assert front.smallest.values[1] == least <= study.trials[best.number].metrics["parameters"]
    assert f"within the interval of the best: trial {front.smallest.number}" in str(front)
    assert study.front("metrics.seconds", "metrics.parameters").smallest is None


def test_networks_that_adaptive_replicas_trained_once_are_on_the_front():
    """Small networks are no contenders. Their estimates rest on few trainings, and their intervals tell so."""
    study = hyppo.Study(SPACE, train, seed=0, isolate=False)
    study.run(trainings=60, progress=False)
    front = study.front()
    once = [point for point in front if len(study.trials[point.number].replicas) == 1]
    assert min(t.params["width"] for t in study.trials) == front[0].params["width"] < 4
    assert len(once) >= 4
    widths = {point.number: point.intervals[0][1] - point.intervals[0][0] for point in front}
    low, high = study.best.interval
    assert min(widths[point.number] for point in once) > high - low
    covered = 0
    for point in front:
        width, x = point.params["width"], point.params["x"]
        covered += point.intervals[0][0] <= 1.0 / width + 0.3 * (x - 0.5) ** 2 + 0.03 <= point.intervals[0][1]
    assert covered >= 0.7 * len(front)


def test_intervals_are_those_of_the_recommendation_and_of_student(study):
    best = study.best
    own = {trial.number: (loss, interval) for trial, loss, interval in study._estimates()}
    loss, interval = own[best.number]
    assert (loss, *interval) == pytest.approx((best.estimate, *best.interval), rel=1e-9)
    point = study.front("loss", "metrics.noisy")[0]
    assert point.intervals[0] == own[point.number][1]
    # two replicas, whose values differ by 1: 6.3138 is the 95 % quantile of Student's t with one degree of freedom
    assert point.values[1] - point.intervals[1][0] == pytest.approx(6.3138 * 0.5, rel=1e-4)
    single = hyppo.Study(SPACE, train, replicas=1, seed=1, isolate=False)
    single.run(trials=4, progress=False)
    assert single.front()[0].intervals[1] == (-math.inf, math.inf)


def test_a_metric_that_is_better_when_higher_is_printed_in_its_own_sign():
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), replicas=1)
    for k in range(6):
        trial = study.ask()
        record = ReplicaRecord(
            0, trial.seeds[0], State.DONE, -0.5 - 0.05 * k, metrics={"parameters": k}, goal=Goal("val_acc", "max")
        )
        study._record(Settled(trial.number, (record,), closed=True))
    front = study.front()
    assert len(front) == 6
    assert all(point.values[0] < 0.0 for point in front)
    assert "val_acc 0." in str(front)
    assert "-0." not in str(front)


def test_what_is_no_column_is_refused(study):
    with pytest.raises(hyppo.StudyError, match=r"expected two of the columns \['loss', .*'metrics.parameters'.*'size'"):
        study.front("loss", "size")
    with pytest.raises(hyppo.StudyError, match="twice"):
        study.front("loss", "loss")
    with pytest.raises(hyppo.StudyError, match="no trial has a finite loss yet"):
        hyppo.Study(SPACE).front()


@pytest.mark.parametrize("worst", [5e5, 1e12, 1e300])
def test_the_interval_of_a_diverged_trial_ends_at_its_loss(worst):
    """The smallest network diverged, and is on the front as the smallest one."""
    study = hyppo.Study(SPACE, seed=0, replicas=1)
    for i, loss in enumerate((0.1747628, 0.1747629, 0.1747642, 0.17755, 0.31841, 0.40606)):
        study.add({"width": 5 + 5 * i, "x": 0.1 + 0.1 * i}, [loss])
    study.add({"width": 20, "x": 0.4}, [0.1747626, 0.1747627])
    diverged = study.add({"width": 1, "x": 0.9}, [worst]).number
    ((loss, (low, high)),) = [(loss, ends) for trial, loss, ends in study._estimates() if trial.number == diverged]
    assert low <= loss <= high == min(worst, 1e150)
    assert study.best.interval[1] < 1.0
