"""Replicas that are copies of each other, or were validated on other rows: notices, and no average of other rows."""

import random

import numpy as np
import pytest

import hyppo
from hyppo.errors import StudyError
from hyppo.training.criterion import loss_of
from hyppo.training.predictions import Collection, combine

pytestmark = pytest.mark.timeout(60)
SPACE = hyppo.Space(x=hyppo.Real(0, 1))


def run(tmp_path, objective, capsys, **options):
    options = {"replicas": 3, "isolate": False} | options
    with hyppo.Study(SPACE, objective, log=tmp_path / "study.h5", **options) as study:
        study.run(trials=3, progress=False)
    return hyppo.load(tmp_path / "study.h5"), capsys.readouterr().err


def seeds_itself(replica):
    random.seed(42)
    return replica.params["x"] + random.random()


def test_copies_are_noticed_once(tmp_path, capsys):
    study, said = run(tmp_path, seeds_itself, capsys)
    assert said.count("have the same loss to the last digit") == 1
    assert "use replica.seed" in said
    assert study.best.spread == 0.0


def test_copies_of_one_trial_are_noticed_if_others_differ(tmp_path, capsys):
    """Adaptive replicas repeat one point only, as soon as its losses are equal; XGBoost has a seed by default."""
    with hyppo.Study(SPACE, seeds_itself, log=tmp_path / "study.h5", isolate=False, seed=0) as study:
        study.run(trials=25, progress=False)
        assert sorted(len(trial.replicas) for trial in study.trials)[-2:] == [1, 3]
    said = capsys.readouterr().err
    assert said.count("have the same loss to the last digit") == 1
    assert "all 3 trainings of trial" in said


def test_confirmations_that_are_copies_are_noticed(tmp_path, capsys):
    with hyppo.Study(SPACE, seeds_itself, log=tmp_path / "study.h5", isolate=False, seed=0, replicas=1) as study:
        study.run(trials=6, progress=False)
        assert "last digit" not in capsys.readouterr().err
        assert study.confirm(replicas=4, progress=False).spread == 0.0
    assert "all 4 trainings of trial" in capsys.readouterr().err


def test_accuracies_that_tie_are_no_copies(tmp_path, capsys):
    def accuracy(replica):
        return -round(replica.params["x"], 1)

    with hyppo.Study(SPACE, accuracy, log=tmp_path / "study.h5", isolate=False, seed=0) as study:
        study.run(trials=25, progress=False)
        assert max(len(trial.replicas) for trial in study.trials) == 3
    assert "last digit" not in capsys.readouterr().err


@pytest.mark.parametrize("equal", ["curves differ", "one trial", "best loss possible"])
def test_ties_by_chance_are_not(tmp_path, capsys, equal):
    """Replicas are no copies if they tie in one trial, in their losses alone, or at the same loss in every trial."""

    def steps(replica):
        if equal == "curves differ":
            replica.report(0, random.random())
            return 0.5
        if equal == "best loss possible":
            return 0.0
        return 0.5 if replica.trial == 0 else random.random()

    assert "last digit" not in run(tmp_path, steps, capsys)[1]


def with_rows(rows):
    def objective(replica):
        y = rows(replica)
        return hyppo.Result(random.random(), prediction=y + 0.1, targets=y)

    return objective


def test_other_validation_rows_are_noticed_and_not_averaged(tmp_path, capsys):
    y = np.arange(5.0)
    for name, rows in (
        ("drawn", lambda replica: np.random.default_rng(replica.seed).random(5)),
        ("order", lambda replica: np.roll(y, replica.index)),
    ):
        (tmp_path / name).mkdir()
        study, said = run(tmp_path / name, with_rows(rows), capsys)
        assert said.count("are not averaged") == 1
        with pytest.raises(StudyError, match="come in another order"):
            study.predictions(0)
    (tmp_path / "same").mkdir()
    study, said = run(tmp_path / "same", with_rows(lambda replica: y), capsys)
    assert "averaged" not in said
    np.testing.assert_allclose(study.predictions(0).mean, y + 0.1)


def test_folds_have_other_rows_by_design(tmp_path, capsys):
    objective = with_rows(lambda replica: np.full(4, float(replica.fold)))
    assert "averaged" not in run(tmp_path, objective, capsys, folds=3)[1]


def test_replicas_without_targets_are_averaged(tmp_path):
    for name, targets in (("a", None), ("b", np.ones(2))):
        kept = Collection()
        kept.add(np.ones(2), targets=targets)
        (tmp_path / name).mkdir()
        kept.save(tmp_path / name)
    assert combine([tmp_path / "a", tmp_path / "b"]).targets.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("prediction", "targets"), [((6, 1), (6,)), ((6,), (6, 1)), ((6, 1, 2), (6, 2))])
def test_axes_of_one_do_not_broadcast(prediction, targets):
    f, y = np.arange(np.prod(prediction), dtype=float).reshape(prediction), np.zeros(targets)
    assert loss_of(lambda f, y: np.sum((f - y) ** 2), f, y) == np.sum(f**2)


def test_labels_beside_classes_stay_as_they_are():
    assert loss_of(lambda f, y: f.shape == (4, 3) and y.shape == (4,), np.zeros((4, 3)), np.zeros(4)) == 1.0
