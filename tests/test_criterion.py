"""The criterion and the ensemble's loss: against numpy, through real trainings, and again from the log."""

import math
import os
import threading
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyppo
from hyppo.errors import ObjectiveError, StudyError
from hyppo.log.schema import ADDED
from hyppo.loop import Session
from hyppo.stats import LossStats
from hyppo.training.call import train
from hyppo.training.predictions import combine
from hyppo.training.replica import Replica, Task

TARGETS = np.linspace(0.0, 1.0, 12)[:, None]
N = 3


def rmse(prediction, targets):
    """No mean over examples: batches would not add up to it."""
    return float(np.sqrt(np.mean((prediction - targets) ** 2)))


def outputs(replica):
    """A trained network's prediction and its passes: the bias x, and noise that grows with w."""
    generator = np.random.default_rng(replica.seed)
    noise = replica.params["w"] * generator.normal(size=(1 + N, *TARGETS.shape))
    return TARGETS + replica.params["x"] + noise[0], [TARGETS + replica.params["x"] + one for one in noise[1:]]


def objective(replica):
    prediction, passes = outputs(replica)
    return hyppo.Result(rmse(prediction, TARGETS), prediction=prediction, passes=passes, targets=TARGETS)


def bare(replica):
    return replica.params["x"] ** 2


SPACE = hyppo.Space(x=hyppo.Real(0.0, 1.0), w=hyppo.Real(0.0, 1.0))


def study(tmp_path, function=objective, **kwargs):
    options = {"criterion": rmse, "target": "ensemble_loss", "surrogate": "random", "replicas": 3} | kwargs
    return hyppo.Study(SPACE, function, log=tmp_path / "study.h5", **options)


@given(st.lists(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), min_size=1, max_size=5))
def test_pooled_statistics_are_those_of_all(groups):
    together = [loss for group in groups for loss in group]
    pooled, whole = LossStats.pooled(LossStats.of(group) for group in groups), LossStats.of(together)
    assert pooled.n == whole.n
    scale = max(1.0, *map(abs, together))
    assert pooled.mean == pytest.approx(whole.mean, abs=1e-12 * scale)
    assert (pooled.std is None) == (whole.std is None)
    if whole.std is not None:
        assert pooled.std == pytest.approx(whole.std, abs=1e-7 * scale)
    assert LossStats.pooled([]) is None


@pytest.mark.parametrize("isolate", [True, False])
def test_ensemble_loss_and_single_losses(tmp_path, isolate):
    """In the study file is what numpy says of the predictions, whole, and not batch by batch."""
    with study(tmp_path, isolate=isolate) as one:
        one.run(trials=4, progress=False)
    for trial in one.trials:
        parts = [outputs(Replica(Task(trial.number, r.index, r.seed, trial.params, ""))) for r in trial.replicas]
        networks, passes = [f for f, _ in parts], [p for _, several in parts for p in several]
        mu = 0.5 * np.mean(networks, axis=0) + 0.5 * np.mean(passes, axis=0)
        assert trial.ensemble_loss == pytest.approx(rmse(mu, TARGETS), rel=1e-12)
        singles = [rmse(f, TARGETS) for f in networks + passes]
        assert trial.losses.n == len(singles) == 3 * (1 + N)
        assert trial.losses.mean == pytest.approx(np.mean(singles))
        assert trial.losses.std == pytest.approx(np.std(singles, ddof=1))
        low, high = trial.loss_interval
        assert (low + high) / 2 == pytest.approx(trial.ensemble_loss)
        assert high - low == pytest.approx(4 * trial.losses.std)
        assert trial.ensemble_loss == one.score(trial)
        assert trial.mean == pytest.approx(np.mean([rmse(f, TARGETS) for f in networks]))
    again = hyppo.load(tmp_path / "study.h5")
    assert again.trials == one.trials
    assert again.target == "ensemble_loss"
    best = again.best
    assert best.ensemble_loss == again.trials[best.number].ensemble_loss
    frame = again.to_frame()
    assert frame["ensemble_loss"].tolist() == [trial.ensemble_loss for trial in again.trials]


def test_the_target_decides_what_is_best(tmp_path):
    """Noise that the ensemble averages away is worth less to the mean prediction than to the mean loss."""
    points = {"noisy": {"x": 0.0, "w": 0.5}, "biased": {"x": 0.4, "w": 0.0}}
    numbers = {}
    for target in ("mean_loss", "ensemble_loss"):
        space = hyppo.Space(kind=hyppo.Choice(list(points)))

        def objective(replica):
            replica.params = points[replica.params["kind"]]
            prediction, _ = outputs(replica)
            return hyppo.Result(rmse(prediction, TARGETS), prediction=prediction, targets=TARGETS)

        one = hyppo.Study(
            space, objective, target=target, criterion=rmse, replicas=6, surrogate="random", isolate=False
        )
        one.run(trials=2, progress=False)
        numbers[target] = one.best.params["kind"]
    assert numbers == {"mean_loss": "biased", "ensemble_loss": "noisy"}


def test_a_resumed_study_needs_no_arrays(tmp_path):
    with study(tmp_path) as one:
        one.run(trials=2, progress=False)
        before = [trial.ensemble_loss for trial in one.trials]
    for file in tmp_path.rglob("predictions.npz"):
        file.unlink()
    with study(tmp_path) as two:
        two.run(trials=3, progress=False)
    assert [trial.ensemble_loss for trial in two.trials[:2]] == before
    assert two.trials[2].ensemble_loss is not None


def test_logged_beside_the_mean_loss(tmp_path):
    with study(tmp_path, target="mean_loss") as one:
        one.run(trials=1, progress=False)
    (trial,) = one.trials
    assert trial.ensemble_loss is not None
    assert one.score(trial) == trial.mean


def test_a_missing_criterion_is_an_error_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr("hyppo.training.criterion._with_default", set())  # as if hyppo_keras was not imported
    with pytest.raises(StudyError, match=r"needs criterion=f"):
        study(tmp_path, criterion=None)
    with pytest.raises(StudyError, match=r"target: expected one of \['mean_loss', 'ensemble_loss'\], got 'mean'"):
        study(tmp_path, target="mean")
    with pytest.raises(StudyError, match="criterion: expected a function"):
        study(tmp_path, criterion=3.0)
    lock = threading.Lock()
    with pytest.raises(StudyError, match="cannot be sent to a training process"):
        study(tmp_path, criterion=lambda f, y: lock.locked()).run(trials=1, progress=False)


def test_losses_without_predictions_are_refused(tmp_path):
    one = study(tmp_path)
    number = one.ask().number
    for tell in (lambda: one.tell(number, [1.0]), lambda: one.add({"x": 0.5, "w": 0.5}, 1.0)):
        with pytest.raises(StudyError, match="which a loss from elsewhere does not have"):
            tell()
    one.close()
    with pytest.raises(ObjectiveError, match="left no predictions"):
        study(tmp_path, bare).run(trials=1, progress=False)


def test_what_a_criterion_does_wrong_says_so(tmp_path):
    def failing(criterion, function=objective, target="ensemble_loss"):
        from hyppo.training.criterion import pack

        task = Task(0, 0, 1, {"x": 0.1, "w": 0.1}, str(tmp_path), 1, target, pack(criterion))
        return str(train(function, Replica(task)).failure)

    message = failing(lambda f, y: f - y)
    assert "with shapes (12, 1) and (12, 1) raised TypeError" in message
    assert "returns one number" in message

    def targetless(replica):
        return hyppo.Result(0.5, prediction=TARGETS)

    assert "needs the validation targets" in failing(rmse, targetless)
    with pytest.warns(UserWarning, match="needs the validation targets"):
        assert failing(rmse, targetless, "mean_loss") == "None"
    assert combine([tmp_path]).replicas == 1


def of_other_lengths(replica):
    """Replicas whose validation data differ in length."""
    prediction = np.full((10 + replica.index, 1), replica.params["x"])
    return hyppo.Result(replica.params["x"], prediction=prediction, targets=np.zeros_like(prediction))


def of_labels(replica):
    return hyppo.Result(0.5, prediction=np.full(4, replica.index), targets=np.zeros(4))


def mean_of_labels_raises(prediction, targets):
    if not np.array_equal(prediction, prediction.astype(int)):
        raise ValueError("continuous is not supported")
    return 0.25


@pytest.mark.parametrize("isolate", [False, True], ids=["in process", "child process"])
@pytest.mark.parametrize(
    ("function", "criterion", "words"),
    [(of_other_lengths, rmse, "targets in"), (of_labels, mean_of_labels_raises, "continuous is not supported")],
    ids=["shapes", "raises"],
)
def test_a_mean_prediction_without_a_loss_costs_no_training(tmp_path, capsys, isolate, function, criterion, words):
    with study(tmp_path, function, criterion=criterion, target="mean_loss", replicas=2, isolate=isolate) as one:
        one.run(trials=3, progress=False)
    said = capsys.readouterr().err
    assert said.count("mean prediction is unknown") == 1
    assert words in said
    again = hyppo.load(tmp_path / "study.h5")
    assert [trial.stats.n for trial in again.trials] == [2, 2, 2]
    assert [trial.ensemble_loss for trial in again.trials] == [None, None, None]


def slow_criterion(prediction, targets):
    time.sleep(0.3)
    return rmse(prediction, targets)


def test_trainings_go_on_while_the_criterion_is_evaluated(tmp_path):
    """Two slots: a slot trains the next replica while the mean prediction of the last trial is evaluated."""
    with study(tmp_path, criterion=slow_criterion, target="mean_loss", replicas=2) as one:
        one.run(trials=3, progress=False, workers=2)
    trials = hyppo.load(tmp_path / "study.h5").trials
    assert all(trial.ensemble_loss is not None for trial in trials)
    for trial in trials:
        mu = combine([Session(one).directory(trial.number, index) for index in range(2)]).mean
        assert trial.ensemble_loss == pytest.approx(rmse(mu, TARGETS), rel=1e-12)


def die(prediction, targets):
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        os._exit(3)  # only where no GPU is shown: the evaluation of the mean prediction
    return 0.25


def test_a_criterion_that_kills_its_process_costs_no_training(tmp_path, capsys):
    with study(tmp_path, criterion=die, target="mean_loss", replicas=1) as one:
        one.run(trials=2, progress=False)
    assert "exit code 3" in capsys.readouterr().err
    assert [trial.ensemble_loss for trial in one.trials] == [None, None]
    assert all(trial.mean is not None for trial in one.trials)


def without_metrics(trials):
    return [replace(t, replicas=tuple(replace(r, metrics={}) for r in t.replicas)) for t in trials]


def test_a_file_from_before_these_columns(tmp_path):
    """It is read, goes on, and holds the losses that come from then on."""
    with study(tmp_path, bare, target="mean_loss", criterion=None) as one:
        one.run(trials=2, progress=False)
    path = tmp_path / "study.h5"
    with h5py.File(path, "r+") as file:
        for name in (*ADDED, "replicas/metrics"):
            del file[name]
    assert without_metrics(hyppo.load(path).trials) == without_metrics(one.trials)
    with study(tmp_path, target="mean_loss") as two:
        two.run(trials=3, progress=False)
    again = hyppo.load(path)
    assert again.trials == two.trials
    assert without_metrics(again.trials[:2]) == without_metrics(one.trials)
    assert math.isfinite(again.trials[2].ensemble_loss)
